"""One-line templates, each asking one question of the language. VARIABLES are what all of them see."""

VARIABLES = {
    "s": "Hello, World", "u": "ünï ΑΣ 東京🚀", "e": "", "i": 7, "n": -3, "f": 2.5, "z": 0, "t": True, "no": None,
    "l": [3, 1, 2], "m": ["b", "A", "c", "a"], "d": {"a": 1, "b": {"c": [1, 2]}, "items": "key"},
    "nested": [{"a": 1, "n": "x"}, {"a": 3, "n": "Y"}, {"n": "z"}], "big": 12345678901234567890,
    "odd": "a<b>&'\"\n\t\\\u0007\u200b\u00e9", "floats": [1.0, 1e16, 1e-5, -0.0, 0.1, 1e22, 123456789.125, 1.5e-7],
}

PRINTING = """
s|u|e|i|n|f|z|t|no|l|m|d|nested|big|odd|floats|[odd]|(1,)|()|(1, 2)|[]|{}|{'a': (1,)}|[none, true]|1e16|1e15|1.0|-0.0
0.0001|0.00001|1e-7|123456789012345680.0|0.1 + 0.2|1e308 * 10|-1e308 * 10|2 ** 100|range(5)|range(1, 9, 2)|d.items()
d.keys()|d.values()|["it's"]|['say "x"']|["both ' \\""]|['\\u200b\\x07\\x7f\\xa0\\xad']|['\\U0001F680']|missing|[missing]
{'k': missing}|namespace(a=1, b='x')|[s|safe]|'a' 'b' "c"|1_000|0x1F|0o17|0b101|1_0.5_0|1e3|'\\x41\\101\\n\\q'|{1: 2, true: 3}
""".replace("\n", "|").strip("|").split("|")
PRINTING = [p for p in PRINTING if p and p != "safe]" and p != "[s"] + ["[s|safe]"]

OPERATORS = """
1 + 2;;1 - 2;;2 * 3;;7 / 2;;6 / 3;;7 // 2;;-7 // 2;;7 // -2;;7 % 3;;-7 % 3;;7 % -3;;7.5 % 2;;-7.5 % 2;;7.5 // 2;;-7.5 // 2;;2 ** 10;;2 ** -1
2 ** 0.5;;-2 ** 2;;2 ** 3 ** 2;;-i;;+i;;-t;;not e;;not s;;i + f;;t + 1;;t + t;;'a' + 'b';;'a' * 3;;3 * 'a';;'a' * -1;;[1] + [2];;[1] * 2
(1,) + (2,);;'a' + 1;;1 + 'a';;[1] + (2,);;none + 1;;missing + 1;;1 + missing;;-missing;;-s;;1 / 0;;1 // 0;;1 % 0;;1.0 / 0;;0 ** -1;;s * s
s ~ i ~ no ~ missing;;1 ~ 2;;l ~ d;;'a' ~ 1 + 2;;1 + 2 ~ 'a';;1 == 1.0;;1 == true;;'a' == 'a';;[1] == [1];;(1,) == [1];;{'a': 1} == {'a': 1}
missing == missing;;missing == none;;none == none;;1 != 2;;1 < 2;;2 <= 2;;3 > 2;;3 >= 4;;'a' < 'b';;'B' < 'a';;[1, 2] < [1, 3];;(1,) < (1, 2)
1 < 'a';;none < 1;;missing < 1;;l < d;;1 < 2 < 3;;3 > 2 > 2;;1 < 2 == 2;;1 in l;;9 in l;;'a' in d;;'z' in d;;'ell' in s;;'' in s;;1 in s
missing in l;;1 in missing;;missing in s;;'a' not in l;;1 not in l;;1 in 5;;'a' in d.keys();;('a', 1) in d.items();;2 in range(5);;no in [none]
1 and 2;;0 and 1 / 0;;0 or 'x';;1 or 1 / 0;;e or no;;not 1 == 2;;not not 1;;1 if t else 2;;1 if e else 2;;1 if e;;(1 if e) is defined
1 if 2 if 0 else 3 else 4;;'%s' % 1;;'%s %s' % (1, 'b');;'%d' % 3.7;;'%5.1f|' % 2.25;;'%-5s|' % 'a';;'%05d' % 42;;'%+d' % 5;;'%x %X %o' % (255, 255, 8)
'%r' % 'a';;'%s' % [1];;'%(a)s' % {'a': 1};;'%%';;'%% %d' % 1;;'%s' % (1, 2);;'%s %s' % 1;;'%d' % 'a';;'%e' % 12345.678;;'%g' % 0.00001;;'%c' % 65
'%s' % missing;;'%5s' % u;;'%.2s' % s;;'%*d' % (5, 3);;1e400;;9007199254740993 + 0;;i // 2 * 2 + i % 2;;1.5 // 0.5;;3 in (1, 2, 3);;l[0] + l[-1]
true and false or true;;[] or {} or 'x';;1 - 1 - 1;;2 * 3 + 4 * 5;;(2 + 3) * 4;;7 - -3;;1.0 == 1;;0.1 + 0.2 == 0.3;;big + 1;;big * 2;;-big // 7
"""

LOOKUPS = """
s[0];;s[-1];;s[99];;u[4];;u[-1];;u[2:6];;u[::-1];;s[1:4];;s[:-1];;s[::2];;s[5:1:-1];;s[-5:];;s[:99];;l[0];;l[9];;l['a'];;l[1:];;l[::-1];;l[0:3:2]
d.a;;d['a'];;d.zz;;d['zz'];;d.zz.y;;d['zz']['y'];;d.items;;d['items'];;d.b.c[1];;d.b['c'].0;;d.get('a');;d.get('zz');;d.get('zz', 5);;d.get('zz').x
no.x;;no['x'];;no.x.y;;i.x;;i[0];;missing.x;;missing['x'];;s.x;;s['upper']();;'a'['x'];;l.append;;l.append(1);;l.append is defined;;d.pop('a');;d.update({})
d.__class__;;s.__len__;;s.__class__.__mro__;;[].__class__ is defined;;nested[0].a;;nested[2].a;;nested[-1]['n'];;nested.0.n;;(1, 2)[0];;(1, 2, 3)[1:]
l[1.0];;l[true];;l[none];;d[1];;d[[1]];;missing[1:];;no[1:];;d[1:];;i[1:];;range(9)[2];;range(9)[2:5];;range(9)[::-2];;range(9)[-1];;l[::0];;l['0']
nested|map(attribute='a')|list;;d.items()[0];;d.items()|list;;d.keys()|list;;d.values()|list;;d|list;;s.upper;;i.real;;f.is_integer();;d.b.c.count(1)
l.index(1);;l.index(9);;l.count(3);;(1, 2).index(2);;d.copy();;l.copy();;l.sort();;raise_exception('boom');;raise_exception(5);;raise_exception();;s();;i();;none()
d.a.b.c;;d.b.c.d;;{'a': 1}.a;;{'a': {'b': 2}}.a.b;;[1, 2, 3][1];;'abc'[1];;'abc'.1;;'%s'|format(1);;dict(a=1).a;;dict([('x', 2)])['x'];;dict({'q': 1}, r=2)
namespace(a=1).a;;namespace(a=1).b;;namespace(a=1)['a'];;namespace({'x': 1}).x;;namespace(_a=1);;range(2, 5)|list;;range(10**6);;range(3, 0, -1)|list;;range('a')
"""

METHODS = """
s.upper();;s.lower();;s.title();;s.capitalize();;s.swapcase();;u.upper();;u.lower();;u.title();;'ß'.upper();;'ŉ'.upper();;'İ'.lower();;'ǆ'.title();;'ΑΣΑ'.lower()
' a '.strip();;' a '.lstrip();;' a '.rstrip();;'xxaxx'.strip('x');;'xyaxy'.lstrip('yx');;'\\u3000a\\xa0'.strip();;'a\\n\\n'.rstrip('\\n');;' a'.strip('');;' a'.strip(none)
'a b  c'.split();;'a,b,,c'.split(',');;'a b c'.split(' ', 1);;'a b c'.split(maxsplit=1);;' a b '.split(none, 1);;'a'.split('');;''.split();;''.split(',');;'a--b'.split('--')
'a b c'.rsplit(' ', 1);;' a  b c '.rsplit(none, 1);;'a,b'.rsplit(',');;'a\\nb\\r\\nc\\x0bd\\u2028e\\n'.splitlines();;'a\\nb'.splitlines(true);;''.splitlines();;'\\n'.splitlines()
s.startswith('He');;s.startswith('x');;s.startswith(('x', 'He'));;s.startswith('el', 1);;s.startswith('l', 2, 3);;s.startswith(['H']);;s.startswith(1);;s.endswith('ld');;s.endswith(('a', 'd'))
s.replace('l', 'L');;s.replace('l', 'L', 1);;'aaa'.replace('a', '');;'ab'.replace('', '-');;'ab'.replace('', '-', 2);;u.replace('ü', 'ue');;s.replace('l');;s.replace('l', 1);;s.replace('l', 'L', count=1)
s.find('o');;s.find('zz');;s.find('o', 5);;u.find('東');;s.rfind('o');;s.index('W');;s.index('zz');;s.rindex('l');;s.count('l');;s.count('');;s.count('l', 4);;'aaaa'.count('aa');;u.find('', 3)
','.join(['a', 'b']);;','.join([1]);;','.join('abc');;''.join(m);;','.join(d);;','.join(missing);;','.join(5);;'12'.isdigit();;'a1'.isalnum();;'²'.isdigit();;'½'.isnumeric();;'é'.isalpha()
''.isdigit();;' '.isspace();;'A'.isupper();;'aB'.islower();;'Ab Cd'.istitle();;'a'.isascii();;'é'.isascii();;'a_1'.isidentifier();;'1a'.isidentifier();;'a\\n'.isprintable();;'a'.center(5);;'ab'.center(5, '*')
'a'.ljust(3) ~ '|';;'a'.rjust(3);;'a'.rjust(3, 'xy');;'42'.zfill(5);;'-42'.zfill(5);;'a.b.c'.partition('.');;'a.b.c'.rpartition('.');;'abc'.partition('.');;'abc'.rpartition('.');;'prefix-x'.removeprefix('prefix-')
'x.py'.removesuffix('.py');;'a\\tb'.expandtabs(4);;'{} {}'.format(1, 'b');;'{1} {0}'.format(1, 2);;'{a}'.format(a=5);;'{0.a}'.format(d);;'{0[a]}'.format(d);;'{:>6}|{:<6}|{:^6}'.format('a', 'b', 'c')
'{:05d} {:+d} {:x} {:,}'.format(42, 5, 255, 1234567);;'{:.2f} {:e} {:g} {:%}'.format(3.14159, 12345.678, 0.0001, 0.5);;'{!r} {!s}'.format('a', 'b');;'{{}}'.format();;'{}'.format();;'{x}'.format(1);;'{'.format()
'{:.3}'.format('abcdef');;'{:*^9}'.format('mid');;'{:{w}}'.format('a', w=4) ~ '|';;'{0.__class__}'.format(s);;'{}'.format(none);;'{:5}'.format(none);;'{:d}'.format('a');;'{:s}'.format(1);;'{a}'.format_map({'a': 2})
s.upper(1);;s.foo();;s.encode;;'a'.islower() and 'b';;(1).bit_length();;loop;;loop.index;;s.strip(1);;s.split(1);;s.split(',', 'a');;'ab' in s.lower();;s.lower().split('o')[0][::-1]
"""

FILTERS = """
s|upper;;s|lower;;s|title;;'a-b (c)'|title;;s|capitalize;;' a '|trim;;'xax'|trim('x');;i|trim;;no|upper;;s|length;;l|length;;d|length;;i|length;;missing|length;;no|length;;s|count
l|first;;l|last;;[]|first;;[]|last;;s|first;;s|last;;missing|first;;missing|last;;d|first;;d|last;;range(3)|last;;l|map('string')|last;;i|first;;l|join;;l|join(',');;m|join(d='-');;nested|join(',', attribute='n')
missing|join;;i|join;;s|join('.');;d|join(',');;[1, none, 'a', 2.5]|join('|');;l|join(1);;missing|default('x');;no|default('x');;no|default('x', true);;e|d('x', boolean=true);;missing|default;;s|default(1)
l|sort;;m|sort;;m|sort(case_sensitive=true);;l|sort(reverse=true);;l|sort(true);;nested|sort(attribute='n');;nested|sort(attribute='a');;[1, 'a']|sort;;d|sort;;s|sort|join;;[[2, 1], [1, 5]]|sort;;nested|sort(attribute='n,a')
[none, 1]|sort;;l|unique|list;;['a', 'A', 'b']|unique|list;;['a', 'A']|unique(true)|list;;[1, 1.0, true]|unique|list;;nested|unique(attribute='n')|list;;[[1]]|unique|list;;l|min;;l|max;;m|min;;[]|min;;nested|max(attribute='n')
l|sum;;[]|sum;;[0.5, 1]|sum;;['a']|sum;;nested|map(attribute='n')|list;;nested|sum(attribute='a');;[[1], [2]]|sum(start=[]);;l|reverse|list;;s|reverse;;d|reverse|list;;i|reverse;;missing|reverse|list;;(1, 2)|reverse|list
d|items|list;;l|items|list;;missing|items|list;;no|items|list;;d|dictsort;;{'b': 1, 'A': 2}|dictsort;;{'b': 1, 'A': 2}|dictsort(true);;{'b': 1, 'a': 2}|dictsort(by='value');;{'b': 1, 'a': 2}|dictsort(false, 'x');;l|dictsort
'42'|int;;'4.7'|int;;'x'|int;;'x'|int(5);;' 12 '|int;;'0x1f'|int(base=16);;'0x1f'|int(0, 16);;'101'|int(0, 2);;none|int;;missing|int;;2.9|int;;-2.9|int;;true|int;;'1_000'|int;;'1e3'|int;;[]|int;;'inf'|int;;'-5'|int;;'٣'|length
'4.5'|float;;'x'|float;;'x'|float(1.5);;3|float;;none|float;;'inf'|float;;'1e5'|float;;missing|float;;' 2.5 '|float;;i|abs;;n|abs;;-2.5|abs;;'a'|abs;;true|abs;;2.5|round;;3.5|round;;2.567|round(2);;2.51|round(1, 'floor');;2.5|round(0, 'ceil')
7|round;;1234.5|round(-2);;2.5|round(method='x');;'a'|round;;2.675|round(2);;0.5|round;;1.5|round|int;;i|string;;no|string;;d|string;;missing|string;;l|string|length;;l|list;;s|list;;d|list;;missing|list;;i|list;;'a'|list|string
'<a>'|e;;'<a>'|escape;;'<a>'|e|e;;'<a>'|forceescape|forceescape;;'<a>'|safe;;'<a>'|safe + '<b>';;'<b>' + '<a>'|safe;;'<a>'|safe ~ '<b>';;['<a>'|safe, '<b>']|join;;('<a>'|safe) * 2;;('<a>'|safe)[0];;('<a>'|safe).upper() + '&'
('<a>'|safe)|upper + '&';;('<a>'|safe)|trim + '&';;('<a>'|safe)|string + '&';;('<a>'|safe).replace('a', '<');;('<a>'|safe)|replace('a', '<') + '&';;('%s'|safe) % '<';;('{}'|safe).format('<');;(','|safe).join(['<', '>'|safe]);;('<a> <b>'|safe).split()[0] + '&'
('<a>'|safe)|tojson;;[('<a>'|safe)];;5|safe + '&';;none|safe;;('<'|safe) == '<';;('<a>'|safe) is string;;('<a>'|safe) is escaped;;'<' in ('<a>'|safe);;('a'|safe) + 1;;{'k': '<'|safe}|tojson;;'<'|safe|length;;('<a>'|safe)|title + '&'
s|replace('l', 'L');;s|replace('l', 'L', 1);;i|replace('7', '8');;s|replace('l');;'a'|replace('', 'x');;'a\\nb'|indent;;'a\\nb'|indent(2);;'a\\nb'|indent(2, true);;'a\\n\\nb'|indent(2, blank=true);;'a\\nb'|indent('> ');;'a\\nb'|indent(first=true);;5|indent
''|indent;;'a\\n'|indent(2) ~ '|';;s|center(20) ~ '|';;s|truncate(5);;s|truncate(5, true, leeway=0);;'one two three four'|truncate(10);;'one two three four'|truncate(10, end='…');;'a b  c'|wordcount;;'%s-%s'|format(1, 2);;'%(a)s'|format(a=3)
l|batch(2)|list;;l|batch(2, 0)|list;;l|slice(2)|list;;l|slice(2, 'x')|list;;nested|groupby('a')|list;;nested|groupby('a', default=0)|list;;(nested|groupby('n'))[0].grouper;;(nested|groupby('n'))[0].list;;d|attr('a');;d|attr('items') is callable;;s|attr('upper')
l|map('string')|list;;m|map('upper')|join;;nested|map(attribute='a', default=0)|list;;nested|map(attribute='n')|map('lower')|list;;l|map|list;;l|map('nope')|list;;l|map('default', 1)|list;;missing|map('upper')|list;;['a,b']|map('replace', ',', ';')|list;;l|map(attribute='x')|list
l|select('odd')|list;;l|select|list;;[0, 1, '', 'a']|select|list;;l|reject('odd')|list;;l|reject('equalto', 1)|list;;l|select('gt', 1)|list;;l|select('nope')|list;;nested|selectattr('a')|list;;nested|selectattr('a', 'defined')|list;;nested|selectattr('a', 'equalto', 3)|list
nested|rejectattr('a')|list;;nested|rejectattr('n', 'in', ['x'])|list;;nested|selectattr('n', 'eq', 'Y')|map(attribute='a')|first;;nested|selectattr()|list;;nested|selectattr('b.c')|list;;5|select|list;;l|select('divisibleby', 2)|list;;nested|selectattr('a', 'ge', 1)|list
s|nofilter;;s is notest;;'x' if true else s|nofilter;;s|from_json if false;;l|random if false;;s|upper('x');;s|join(x=1);;l|length|string|length;;s|lower|upper|title;;l|first|string * 3;;-5|abs;;(-5)|abs;;'a' ~ 'b'|upper
"""

JSON = """
s;;u;;i;;f;;t;;no;;l;;d;;nested;;odd;;floats;;big;;(1, 2);;[];;{};;{'a': []};;missing;;[missing];;{1: 2, none: 3, true: 4, 1.5: 5};;{(1, 2): 3};;range(3);;d.items();;1e16;;1e400;;-1e400;;'\\x7f\\u2028';;'<>&\\''
"""
JSON_CALLS = """
d|tojson(indent=2);;nested|tojson(indent=4);;d|tojson(indent='--');;d|tojson(indent=0);;d|tojson(indent=none);;d|tojson(indent=true);;u|tojson(ensure_ascii=true);;u|tojson(true);;odd|tojson(ensure_ascii=True);;{'b': 1, 'a': 2}|tojson(sort_keys=true)
d|tojson(separators=(',', ':'));;d|tojson(indent=2, separators=(' ,', ' :'));;d|tojson(separators=','));;{'b': 1, 2: 3}|tojson(sort_keys=true);;[]|tojson(indent=2);;{'a': {}}|tojson(indent=2);;d|tojson(wrong=1);;{'é': 'é'}|tojson;;{'é': 'é'}|tojson(ensure_ascii=true);;d|tojson(indent=-1);;d|tojson(indent=1.5)
d|tojson ~ s;;d|tojson|length;;(d|tojson)[0];;[d|tojson]|first;;namespace(a=1)|tojson;;[1, [2, {'a': [3]}]]|tojson(indent=1)
"""

TEST_NAMES = ["defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping",
              "sequence", "iterable", "callable", "escaped", "lower", "upper", "odd", "even"]
TEST_VALUES = ["s", "i", "f", "t", "no", "l", "d", "(1, 2)", "missing", "range(3)", "d.items()", "l|map('upper')", "s.upper",
               "raise_exception", "namespace()", "'a'|safe", "0", "false", "''", "namespace", "d.zz"]
FUNCTIONS = ["l|map('upper')", "s.upper", "raise_exception", "namespace"]
TESTS = """
i is divisibleby(7);;i is divisibleby 2;;i is eq 7;;i is equalto(8);;i is ne 8;;i is gt 3;;i is ge 7;;i is lt 3;;i is le 7;;i is greaterthan 3;;i is lessthan(3);;i is sameas 7;;t is sameas true;;1 is sameas true;;no is sameas none
'a' is in ['a'];;'a' is in('abc');;'upper' is filter;;'nope' is filter;;'defined' is test;;i is not none;;not i is none;;i is not divisibleby 2;;i is defined and s is string;;i is odd == true;;i is eq(7) and 1;;i is none or 5;;s is string|string
d.a is defined;;d.zz is defined;;d.zz.y is defined;;missing.x is defined;;d is mapping and d.a is number;;(i > 3) is true;;i > 3 is true;;i is divisibleby;;i is defined(1);;i is none is none;;s is upper;;'ABC' is upper;;'é' is lower;;'' is lower;;1 is lower
"""

STATEMENTS = r"""
{% for x in l %}{{ x }}{% endfor %};;{% for x in [] %}a{% else %}b{% endfor %};;{% for x in missing %}a{% else %}b{% endfor %};;{% for x in i %}a{% endfor %};;{% for x in no %}a{% endfor %};;{% for x in s %}{{ x }}.{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %};;{% for k in d %}{{ k }}{% endfor %};;{% for a, b in [1] %}{% endfor %};;{% for a, b in [[1]] %}{% endfor %};;{% for a, b in [[1, 2, 3]] %}{% endfor %};;{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %};;{% for a, in [[1]] %}{{ a }}{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %};;{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %};;{% for x in l %}{{ loop.depth }}{{ loop.nope }}{{ loop }}{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}/{{ loop.length }}{% else %}none{% endfor %};;{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %};;{% for x in l|map('string') %}{{ loop.length }}{{ x }}{{ loop.last }}{% endfor %};;{% for x in l %}{% for y in m %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %};;{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{{ loop.index }}{% endfor %};;{% break %};;{% for x in l %}{% macro q() %}{% break %}{% endmacro %}{% endfor %};;{% for x in l %}{% set b %}{{ x }}{% break %}{% endset %}{% endfor %}done;;{% for x in [1] %}{% else %}{% break %}{% endfor %}
{% set x = 1 %}{% for y in l %}{% set x = y %}{{ x }}{% endfor %}{{ x }};;{% set ns = namespace(x=1) %}{% for y in l %}{% set ns.x = ns.x + y %}{% endfor %}{{ ns.x }};;{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }};;{% if e %}{% set i = 2 %}{% endif %}{{ i }};;{% for y in [1] %}{{ i }}{% endfor %}{% set i = 2 %}{{ i }};;{% for y in [1, 2] %}{{ q }}{% set q = y %}{% endfor %}
{% set a, b = 1, 2 %}{{ a }}{{ b }};;{% set a = b = 1 %};;{% set a %}x{{ i }}{% endset %}{{ a }}{{ a is string }};;{% set a | upper %}x{% endset %}{{ a }};;{% set a | replace('x', 'y') | upper %}xz{% endset %}{{ a }};;{% set 1 = 2 %};;{% set a.b = 2 %};;{% set s.x = 1 %};;{% set true = 1 %};;{% set (a, b) = (1, 2) %}{{ a + b }};;{% set a, b = [1] %};;{% set a = 1, 2 %}{{ a }}
{% set d.a = 5 %};;{% set n2 = namespace() %}{% set n2.a, n2.b = 1, 2 %}{{ n2.a + n2.b }};;{% set n2 = namespace() %}{% set n2._a = 1 %};;{% set n2 = namespace(a=1) %}{% set n2.me = n2 %}{{ n2 }};;{% set n2 = namespace(a=[]) %}{% set n2.a = n2.a + [1] %}{{ n2.a }};;{% set loop = 1 %}{{ loop }};;{% for x in l %}{% set loop = 1 %}{% endfor %};;{% set x %}{% set y = 1 %}{% endset %}{{ y }}
{% macro q(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ q(1) }}{{ q(1, 3) }}{{ q(b=4, a=5) }}{{ q() }};;{% macro q(a) %}{{ a }}{% endmacro %}{{ q(1, 2) }};;{% macro q(a) %}{{ a }}{% endmacro %}{{ q(b=1) }};;{% macro q(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ q(1, 2, x=3) }};;{% macro q(a, b=a) %}{{ b }}{% endmacro %}{{ q(7) }};;{% macro q() %}{{ caller }}{{ caller is defined }}{% endmacro %}{{ q() }};;{% macro q(a, a) %}{% endmacro %}
{% macro q(a=1, b) %}{% endmacro %};;{% macro q() %}{{ zz }}{% endmacro %}{% set zz = 3 %}{{ q() }};;{% macro q(n) %}{{ n }}{% if n > 0 %}{{ q(n - 1) }}{% endif %}{% endmacro %}{{ q(3) }};;{% macro q() %}<b>{% endmacro %}{{ q() + '<' }}{{ q() is string }};;{{ q }}{% macro q() %}{% endmacro %};;{% macro q(a, b) %}{% endmacro %}{{ q }}{{ q.name }}{{ q.arguments }}{{ q.catch_kwargs }}{{ q.nope }};;{% macro q() %}{% set x = 5 %}{% endmacro %}{{ q() }}{{ x }}
{% for x in l %}{% macro q() %}{{ x }}{% endmacro %}{{ q() }}{% endfor %}{{ q }};;{% macro a() %}{% macro b() %}in{% endmacro %}{{ b() }}{% endmacro %}{{ a() }};;{% macro q(x) %}{{ x }}{% endmacro %}{{ q(*[1]) }}{{ q(**{'x': 2}) }}{{ q(x=1, **{'x': 2}) }};;{% macro q(l) %}{% for x in l %}{{ loop.index }}{% endfor %}{% endmacro %}{{ q([5, 6]) }};;{{ s.split(*[',']) }};;{{ range(**{}) }};;{{ dict(a=1, a=2) }};;{% macro loop() %}L{% endmacro %}{{ loop() }}
{% if i == 7 %}a{% elif i == 8 %}b{% else %}c{% endif %};;{% if missing %}a{% elif s %}b{% endif %};;{% if 1 if t else 0 %}a{% endif %};;{% if (1 if t else 0) %}a{% endif %};;{% if %}a{% endif %};;{% if t %}a;;{% endif %};;{% if t %}a{% endfor %};;{% nope %};;{% if t: %}a{% endif %};;{% for x in l: %}{{ x }}{% endfor %};;{% if t, e %}a{% endif %};;{% else %};;{% if t %}{% set zz = 1 %}{% else %}{% set yy = 2 %}{% endif %}{{ zz }}{{ yy }}
{% filter upper %}a{{ s }}{% endfilter %};;{% filter replace('a', 'b')|upper %}aac{% endfilter %};;{% filter nope %}a{% endfilter %};;{% filter length %}abc{% endfilter %};;{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }};;{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }};;{% with i = 1, j = i %}{{ i }}{{ j }}{% endwith %};;{% generation %}a{{ s }}{% set zz = 1 %}{% endgeneration %}{{ zz }};;{% for x in l %}{% generation %}{{ loop.index }}{{ x }}{% endgeneration %}{% endfor %}
{% if t %}{{ s|nope }}{% endif %};;{% if e %}{{ s|nope }}{% endif %};;{% if e %}{% for x in l %}{{ s|nope }}{% endfor %}{% endif %};;{% if e %}{{ s is nope }}{% endif %};;{% if s|nope %}{% endif %};;{% if e and s|nope %}{% endif %};;{% for x in (l|nope if e else l) %}{{ x }}{% endfor %};;{% raw %}{{ x }}{% if %}{% endraw %};;{%- raw -%}  a {%- endraw -%}  b;;{% raw %}a;;{# open;;{{ 'open }};;{{ 1 +;;{{ (1 };;{{ 1) }};;{{ [1 };;{{ }};;{{ 1 2 }};;{{ a b }}
{{ 1 if }};;{{ is }};;{{ not }};;{{ 'a' is }};;{{ a. }};;{{ a.1b }};;{{ a| }};;{{ |upper }};;{{ a[ }};;{{ a[1:2, 3] }};;{{ f(a=1, 2) }};;{{ f(**d, *l) }};;{{ @ }};;{{ a ! b }};;{{ a = b }};;{{ a ; b }};;{{ "\u00e9\x41" }};;{{ "\x4" }};;{{ 00 }};;{{ 07 }};;{{ 1. }};;{{ .5 }};;{{ 1.e3 }};;{{ 1e }};;{{ 1_ }};;{{ 0x }};;{{ -1|abs }};;{{ - 1 }};;{{ not not t }};;{{ (((1))) }};;{{ [1,] }};;{{ (1,) }};;{{ {'a': 1,} }};;{{ [,] }};;{{ f(1,) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S') }};;{{ strftime_now('%d %b %Y, %A %B %j %p %I %y %-d %%') }};;{{ strftime_now('%f|%z|%Z|') }};;{{ strftime_now('') }};;{{ strftime_now(5) }};;{{ strftime_now('é %Y') }};;{{ strftime_now(format='%H') }};;{{ True }}{{ False }}{{ None }}{{ TRUE }};;{{ none is none }}{{ None is none }};;{{ 'a''b' }};;{{ "a" 'b' }};;{{ 1 }}{{ 2 }};;{{ é }}{% set é = 1 %}{{ é }};;{% set _x = 1 %}{{ _x }}
"""

WHITESPACE = [
    "a {{ 1 }} b", "a {{- 1 -}} b", "a\n{{ 1 }}\nb", "a\n  {{- 1 }}\n  b", "a\n  {% if t %}\n  b\n  {% endif %}\n  c\n",
    "  {% if t %}x{% endif %}  \n y", "a\n  {%+ if t %}b{% endif +%}\nc", "a {%- if t -%} b {%- endif -%} c", "{% if t %}\n\nb{% endif %}\n\n",
    "{# c #}\nb", "a\n  {# c #}\nb", "a {#- c -#} b", "a\n  {#+ c +#}\nb", "x {# c #} y", "{% set q = 1 %}\n{{ q }}\n", "a\r\nb\rc\n", "a\n\n", "a\n", "\n", "",
    "{{ 'a\nb' }}", "{{\n1\n}}\n\nx", "\u3000{%- if t %}a{% endif %}", "a\u00a0{%- if t -%}\u2003b{% endif %}", "{%if t%}a{%endif%}", "{%-if t-%} a {%-endif-%} b",
    "{{1}}{{2}}\n{{3}}", "a\n\t{% if t %}\n\tb\n\t{% endif %}\nc", "{% for x in l %}\n  {{ x }}\n{% endfor %}\nend", "{% for x in l -%}\n  {{ x }}\n{%- endfor %}\nend",
    "  {% raw %}  a\n  {% endraw %}\n  b", "a {%- raw %} b {% endraw -%} c", "x\n  {% raw -%}  a  {%- endraw %}\ny", "{{ '{{' }}{{ '%}' }}", "{ { } } {% if t %}}{% endif %}",
    "a{", "a{ {{ 1 }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': '}}'} }}", "{{- '' }}  x", "x  {{ '' -}}  y", "{% if t -%}\n a\n{%- endif %}\n\n\nb", "\n\n  {% set a = 1 %}\n\n  {{ a }}",
    "{#\nmany\nlines\n#}x", "a #} b", "a %} b }} c", "{{ 1 -}}\n\n{{- 2 }}", "{% if t %} {% endif %}|", "  {{ 1 }}", "\n  {%- if t %}\n  a\n  {%- endif %}", "a{% if t %}\n{% endif %}b",
    "{% set x %}\n a\n{% endset %}[{{ x }}]", "{% macro q() %}\n a\n{% endmacro %}[{{ q() }}]", "{% macro q() -%}\n a\n{%- endmacro %}[{{ q() }}]", "a\n  {{ 1 }}\n", "{{ 1 }}\n\n", "{%- set a = 1 -%}\n\n a",
]


def parts(text):
    return [part for line in text.strip("\n").split("\n") for part in line.split(";;") if part.strip()]


def printed(text):
    return ["{{ " + part.strip() + " }}" for part in parts(text)]


SOURCES = (["{{ " + p + " }}" for p in PRINTING] + printed(OPERATORS) + printed(LOOKUPS) + printed(METHODS) + printed(FILTERS)
           + ["{{ (" + p.strip() + ")|tojson }}" for p in parts(JSON)] + printed(JSON_CALLS) + printed(TESTS)
           + ["{{ (" + value + ") is " + name + " }}" for name in TEST_NAMES for value in TEST_VALUES
              # The case of a function's text is that of an address.
              if name not in ("lower", "upper") or value not in FUNCTIONS]
           + parts(STATEMENTS) + WHITESPACE)
