"""Random one-line templates, for differences that nobody thought of."""

ATOMS = ["s", "u", "e", "i", "n", "f", "z", "t", "no", "l", "m", "d", "nested", "missing", "1", "0", "-3", "2.5", "'ab'",
         "'É'", "\"it's\"", "true", "none", "[1, 2]", "(1, 'a')", "{'a': 1, 'b': [2]}", "[]", "{}", "''", "'<&>'|safe",
         "range(4)", "'  x y  '", "d.items()", "l|map('string')|list", "1e16"]
FILTERS = ["upper", "lower", "trim", "length", "string", "list", "first", "last", "join(',')", "tojson", "int", "float",
           "default('D')", "default('D', true)", "sort", "unique|list", "reverse|list", "map('upper')|list", "safe", "e",
           "title", "capitalize", "replace('a', 'b')", "items|list", "dictsort", "sum", "min", "max", "abs", "round(1)",
           "select('string')|list", "reject('none')|list", "indent(2)", "tojson(indent=2)", "tojson(ensure_ascii=true)",
           "wordcount", "center(9)", "batch(2)|list", "slice(2)|list", "map(attribute='a')|list", "count",
           "selectattr('a')|list", "truncate(3)", "attr('a')", "join", "forceescape", "string|length"]
TESTS = ["defined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "true", "false", "undefined",
         "integer", "float", "odd", "even", "lower", "upper", "callable", "escaped", "in l", "eq 1", "divisibleby 2", "in s",
         "gt 0", "sameas none"]
METHODS = [".upper()", ".strip()", ".split()", ".split('a')", ".items()|list", ".get('a')", ".keys()|list", ".title()",
           ".startswith('a')", ".find('b')", ".replace('a', 'x')", ".rstrip('b ')", ".splitlines()", "[0]", "[-1]", "['a']",
           "[1:]", "[::-1]", "[:2]", ".a", ".b.c", ".isdigit()", ".count('a')", ".partition('b')", ".rsplit(' ', 1)",
           ".join(['x', 'y'])", ".format(1, a=2)", ".capitalize()", ".zfill(5)", ".values()|list", ".append(1)", ".pop()",
           ".islower()", ".swapcase()", ".lstrip()", ".index('b')", ".endswith(('b', 'c'))"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]


def expression(rng, depth=0):
    kind = rng.random()
    if depth > 3 or kind < 0.2:
        return rng.choice(ATOMS)
    inner = lambda: expression(rng, depth + 1)
    if kind < 0.42:
        return f"({inner()})|{rng.choice(FILTERS)}"
    if kind < 0.55:
        return f"({inner()}){rng.choice(METHODS)}"
    if kind < 0.75:
        return f"({inner()} {rng.choice(BINARY)} {inner()})"
    if kind < 0.83:
        return f"({inner()}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
    if kind < 0.89:
        return f"({inner()} if {inner()} else {inner()})"
    if kind < 0.93:
        return f"[{inner()}, {inner()}]"
    if kind < 0.95:
        return f"{{'k': {inner()}, {rng.choice(['1', 'true', 's', '(1, 2)'])}: {inner()}}}"
    if kind < 0.97:
        return f"{rng.choice(['not ', '-', '+'])}{inner()}"
    return f"'%{rng.choice(['s', 'd', '5.2f', 'r', '-4s|', 'x', 'g', 'e', '05d'])}' % ({inner()},)"


def statement(rng, depth=0):
    kind = rng.random()
    space = lambda: rng.choice(["", " ", "\n", "  ", "\n  ", "x", " y\n"])
    open_tag = lambda: rng.choice(["{%", "{%-", "{%+"])
    close_tag = lambda: rng.choice(["%}", "-%}", "+%}"])
    name = lambda: rng.choice(["a", "b", "s", "l"])
    if depth > 2 or kind < 0.4:
        return space() + rng.choice(["{{", "{{-"]) + " " + expression(rng, 2) + " " + rng.choice(["}}", "-}}"]) + space()
    body = lambda: "".join(statement(rng, depth + 1) for _ in range(rng.randrange(1, 3)))
    if kind < 0.55:
        return (f"{space()}{open_tag()} if {expression(rng, 2)} {close_tag()}{body()}"
                f"{open_tag()} else {close_tag()}{body()}{open_tag()} endif {close_tag()}{space()}")
    if kind < 0.7:
        test = f" if {expression(rng, 3)}" if rng.random() < 0.3 else ""
        loop = rng.choice(["{{ loop.index }}", "{{ loop.last }}", "{{ loop.previtem }}", "", "{% break %}",
                           "{% if loop.first %}{% continue %}{% endif %}", "{{ loop.length }}", "{{ loop.nextitem }}"])
        return (f"{space()}{open_tag()} for {name()} in {expression(rng, 2)}{test} {close_tag()}{loop}{body()}"
                f"{open_tag()} else {close_tag()}{body()}{open_tag()} endfor {close_tag()}{space()}")
    if kind < 0.85:
        return f"{space()}{open_tag()} set {name()} = {expression(rng, 2)} {close_tag()}{space()}"
    if kind < 0.9:
        return f"{open_tag()} set {name()} {close_tag()}{body()}{open_tag()} endset {close_tag()}"
    if kind < 0.94:
        return (f"{open_tag()} macro q({name()}, k={expression(rng, 3)}) {close_tag()}{body()}{open_tag()} endmacro "
                f"{close_tag()}{{{{ q({expression(rng, 3)}) }}}}")
    if kind < 0.97:
        return f"{open_tag()} filter {rng.choice(['upper', 'trim', 'length'])} {close_tag()}{body()}{open_tag()} endfilter {close_tag()}"
    return rng.choice(["{# note #}", "{#- note -#}", "  {# note #}\n", "{% raw %} {{ x }} {% endraw %}"])


def snippet(rng):
    if rng.random() < 0.6:
        return "{{ " + expression(rng) + " }}"
    return "".join(statement(rng) for _ in range(rng.randrange(1, 5)))
