#!/usr/bin/env python3
"""Writes what `tokenizers` makes of hard strings with the fixture tokenizer and variants of it.

    python3 -m venv VENV && VENV/bin/pip install tokenizers==0.23.3 unicodedata2==16.0.0
    VENV/bin/python tests/data/tokenizer/make_corpus.py

Writes beside itself:
  corpus.jsonl    {"text", "ids", "decoded", "skipped"}: encoding, its decoding, and that without specials
  decode.jsonl    {"ids", "decoded", "skipped"}: random ids, most of them not whole UTF-8
  variants.jsonl  {"name", "patch", "cases": [{"text", "ids"}]}: the same of tokenizer.json under a patch
                  (RFC 6902: add, replace, remove)
"""

import copy
import json
import pathlib
import random

import unicodedata2 as ud
from tokenizers import Tokenizer

FOLDER = pathlib.Path(__file__).resolve().parent
SPACES = ([chr(c) for c in range(0x9, 0xE)] + list("\x20\x85\xa0\u1680")
          + [chr(c) for c in range(0x2000, 0x200B)] + list("\u2028\u2029\u202f\u205f\u3000"))
NOT_SPACES = list("\x00\x1c\x1d\x1e\x1f\u180e\u200b\u200c\u200d\u2060\ufeff")
# Many marks of two combining classes by turns: their order within a class must stay.
MANY_MARKS = "".join(chr(0x300 + i) + chr(0x316 + i % 4) for i in range(0x15))
CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d"]
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K_PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++(?!\S)|\s*[\r\n]|\s")
OWN_CHARACTERS_PATTERN = r"[é–\-'’]|(?i:[km]s?|_x)|[\]\\a-c#]+?|\P{L}{2,}|(\S)(?=\s)|\S"


def added_contents(data):
    return [token["content"] for token in data["added_tokens"]]


def plain_strings():
    return [
        "", "a", " ", "  ", "Hello world", " Hello World!", "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
        "w048 7tuijk dsdfhu", "   Hello", "\t\n", "\n\n\n", "ied 4 ½ months", "Cửa Việt", "!!!!!!",
        "The capital of France is Paris.", "for i in range(10):\n    print(i)\n", "a\r\nb\r\n\r\nc\rd\n\re",
        " \r\n \r\n x", "x \n", "x  \n  y", "\n x", " \n\n  x", "foo\t\tbar \t baz", "...\n\n...", "!?\r\n\r\n ok",
        " 's", "''s", "'’s", "x'S'T'Re'vE'M'Ll'D", "can’t won`t it´s", "'ſ", "x'ſ y'ſ", "'\ufb05", "'ß", "'K",
        "1234567890", "12.5%", "３４５ ٣٤٥ ४५६ ⅷⅨ ①②③ ½¾ ²³ 〇一二 𝟘𝟙𝟚", "1\u0301 2\u20e3", "n\u0303o\u0308",
        "\u0301start", " \u0301x", "!\u0301x", "\n\u0301x", "1\u0301x", "\u0301", "\u0301\u0302 \u0303!",
        "नमस्ते दुनिया", "தமிழ் மொழி", "สวัสดีชาวโลก", "שָׁלוֹם", "اَلسَّلَامُ", "ភាសាខ្មែរ", "မြန်မာ", "བོད་སྐད་",
        "ကြိုဆို", "ᠮᠣᠩᠭᠣᠯ\u180eᠪ", "አማርኛ", "ᏣᎳᎩ", "ქართული", "Հայերեն", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "𐌰𐌱𐌲", "𒀀𒀁", "𓀀𓁐", "𞤀𞤣𞤤𞤢𞤥",
        "👨‍👩‍👧‍👦", "🏳️‍🌈🏴‍☠️", "👋🏽👋🏿", "🇩🇪🇯🇵🇺🇳", "❤️♥️1️⃣#️⃣", "☺︎☺️", "😀😁😂 😀 x😀y", "🤷🏻‍♀️\n", "\U0010ffff\ufffd\ufffe",
        "가각힣 \u1100\u1161 \u1100\u1161\u11a8 \u1112\u1175\u11c2 \u1100\uac00\u11a8", "\uac00\u11a7 \uac01\u11a8 \u1161\u11a8",
        "\u212b \u2126 \u212a \u0958 \u0915\u093c \u2adc \ufb1d \u0344 \u0f73 \u0f43 \u1fbe \u1fef", "e\u0301 é E\u0302\u0301",
        "a\u0323\u0302 a\u0302\u0323 \u1ead", "a\u0315\u0300\u05ae\u0300b", "a\u0345\u0300 \u03b1\u0345\u0301 \u1fb4",
        "\u0344\u0344 \u0301\u0308 q\u0307\u0323", "a\u0334\u0301 \u0cc6\u0cc2 \u0cc6\u0cc2\u0cd5 \u0dd9\u0dcf\u0dca \u09c7\u09be",
        "\u1b05\u1b35 \U00011131\U00011127 \U000115b8\U000115af \U0001d15e \U0001d1bb\U0001d165", "\u304b\u3099 \u30cf\u309a が ぱ",
        "\uf900\ufa0e\ufa30 \U0002f800", "\U000105d2\u0307 \u0061\U00010d69\u0323 \u08d4\u0897\u0316", "ﬀ ﬁ ﬅ ŉ ǆ ㌀ ㎏ ℃",
        "naïve café — “quoted” ‘single’ …", "x=1;y+=2 && z!=3 || !w", "<html><body class=\"a\">&nbsp;</body></html>",
        "C:\\path\\to\\file.txt", "https://example.com/?q=a%20b&c=d#e", "\x00\x01\x02\x7f\x80\x9f", "a\u00adb", "a\u2028b\u2029c",
        "ABCdefGHI camelCase snake_case kebab-case SCREAMING_CASE", "\ufeffBOM", "a\u200bb\u200cc\u200dd\u2060e",
        "a" * 300, " " * 300, "\n" * 300, "\t" * 50 + "x", " " * 50 + "x", "!" * 300, "1" * 300, "\u0301" * 300,
        "ab" * 200, "the " * 100, "我" * 100, "é" * 100, "e\u0301" * 100, " \n" * 100, "\r\n" * 100, "👨‍👩‍👧‍👦" * 20,
        "a\u0305\u0300 a\u0300\u0305 a\u0316\u0323 o\u0305\u0323\u0302", "".join("a" + m for m in MANY_MARKS),
        "a" + MANY_MARKS + MANY_MARKS[::-1], "a" + "\u0301\u0323" * 150, "\u1100\u1161\u11a8" * 60, "<" * 100, "<|" * 60, "<|im_end|" * 10,
    ]


def whitespace_strings():
    strings = []
    for c in SPACES + NOT_SPACES:
        strings += [c, f"a{c}b", f"a{c}{c}b", f"{c}!", f"1{c}\n{c}2", f" {c} x"]
    return strings


def contraction_strings():
    strings = []
    for c in CONTRACTIONS:
        forms = {c, c.upper(), c.capitalize(), c[0] + c[1:].upper()}
        strings.append(" ".join(f"it'{form}" for form in sorted(forms)))
        strings += [f"'{c}x", f" '{c} ", f"''{c}", f"1'{c}2", f"'{c}'{c.upper()}", f"é'{c}\u0301"]
    return strings


def added_token_strings(data):
    strings = []
    contents = added_contents(data)
    for i, content in enumerate(contents):
        other = contents[(i + 7) % len(contents)]
        strings += [content, f"a{content}b {content} c{other}{content}", f" {content}\n", content[:-1],
                    content[0] + content, content.upper()]
    strings += ["<|im_start|>user\nHi there!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHello.",
                "e<|im_end|>\u0301", "\u1100<think>\u1161", "'<think>s", "it'<think>s", "  <think>  ", "\n<think>\n",
                "<<think>>", "<think</think>", "<tts_text_bos><tts_text_bos_single>", "<tts_text_bos_",
                "<|\u200bim_end|>", "<|im_end|>" * 30]
    return strings


def points_by_class():
    classes = {}
    for cp in range(0x110000):
        if not 0xD800 <= cp <= 0xDFFF:
            classes.setdefault(ud.category(chr(cp)), []).append(cp)
    return classes


def random_strings(rng, data):
    classes = points_by_class()
    names = sorted(classes)
    # Characters that NFC moves or joins, and those of the marks' classes, more often than chance gives.
    changing = [cp for cp in range(0x110000) if not 0xD800 <= cp <= 0xDFFF
                and ud.normalize("NFD", chr(cp)) != chr(cp) and not 0xAC00 <= cp <= 0xD7A3]
    marks = classes["Mn"] + classes["Mc"]
    ascii_text = [chr(c) for c in range(0x20, 0x7F)]
    pools = [
        lambda: chr(rng.choice(classes[rng.choice(names)])),
        lambda: chr(rng.choice(classes[rng.choice(["Lu", "Ll", "Lo", "Mn", "Nd", "Zs", "Po", "So"])])),
        lambda: ud.normalize(rng.choice(["NFC", "NFD"]), chr(rng.choice(changing))) + chr(rng.choice(marks)),
        lambda: rng.choice("aeiouAEIOU") + "".join(chr(rng.choice(marks)) for _ in range(rng.randint(1, 4))),
        lambda: rng.choice(ascii_text),
        lambda: rng.choice(SPACES + ["\r\n", "\n", " ", " "]),
        lambda: chr(rng.choice([rng.randint(0x1100, 0x11FF), rng.randint(0xAC00, 0xD7A3)])),
        lambda: rng.choice(["'s", "'S", "'LL", "'ve", "'ſ", "’s", "it's"]),
        lambda: rng.choice(added_contents(data)),
        lambda: rng.choice(["the", " and", " of", "ing", "er", "Hello", "我", "東京", "안녕", "Привет", "नम"]),
    ]
    strings = []
    for i in range(260):
        chosen = pools if i % 3 == 0 else rng.sample(pools, 2)
        strings.append("".join(rng.choice(chosen)() for _ in range(rng.randint(1, 24))))
    return strings


def patched(data, patch):
    result = copy.deepcopy(data)
    for operation in patch:
        *parents, last = operation["path"].strip("/").split("/")
        target = result
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        if operation["op"] == "remove":
            del target[int(last) if isinstance(target, list) else last]
        elif isinstance(target, list) and operation["op"] == "add":
            target.insert(len(target) if last == "-" else int(last), operation["value"])
        else:
            target[int(last) if isinstance(target, list) else last] = operation["value"]
    return result


def replace(path, value):
    return {"op": "replace", "path": path, "value": value}


def flag_patch(data, flags, contents=("<think>", "</think>", "<tool_call>")):
    """Sets flags of some added tokens."""
    all_contents = added_contents(data)
    return [replace(f"/added_tokens/{all_contents.index(content)}/{flag}", value)
            for content in contents for flag, value in flags.items()]


def extra_token(data, content, **flags):
    number = flags.pop("number", 0)  # of the tokens that the same patch adds before
    token = {"id": len(data["model"]["vocab"]) + len(data["added_tokens"]) + number, "content": content,
             "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"op": "add", "path": "/added_tokens/-", "value": dict(token, **flags)}]


def extra_merges(rng, data):
    """Further splits of known tokens at random ranks: several pairs then give one token."""
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    tokens = sorted(token for token in vocab if 3 <= len(token) <= 6)
    patch = []
    for token in rng.sample(tokens, 60):
        cut = rng.randrange(1, len(token))
        left, right = token[:cut], token[cut:]
        if left in vocab and right in vocab:
            patch.append({"op": "add", "path": f"/model/merges/{rng.randrange(len(merges))}",
                          "value": [left, right]})
    return patch


def without_merges(data, tokens):
    """Takes away what makes `tokens`; nothing else is made of them."""
    merges = data["model"]["merges"]
    assert not any(token in pair for token in tokens for pair in merges)
    indices = [i for i, pair in enumerate(merges) if "".join(pair) in tokens]
    assert len(indices) == len(tokens)
    return [{"op": "remove", "path": f"/model/merges/{i}"} for i in sorted(indices, reverse=True)]


def variants(rng, data, strings):
    regex = "/pre_tokenizer/pretokenizers/0/pattern/Regex"
    spaced = ["a <think> b", "a  \u3000<think>\n\t</think> \u200b <tool_call>  x", "<think> <think>", "  <think>",
              "<think>  ", "a<think>b</think>c", " \n<think><think> \r\n</think>", "\u00a0<think>\u0085x"]
    accents = ["caf\u00e9", "cafe\u0301", "un cafe\u0301 noir", "cafe\u0301\u0323", "xcaf\u00e9x", "CAF\u00c9", "cafe\u0323\u0301"]
    unmerged = without_merges(data, ["\u0120capital", "\u0120France"])
    countries = ["The capital of France is", " capital", "capital", " France France"]
    return [
        ("tokens without a merge", unmerged, countries),
        ("tokens without a merge, ignore_merges", unmerged + [replace("/model/ignore_merges", True)], countries),
        ("lstrip", flag_patch(data, {"lstrip": True}), spaced),
        ("rstrip", flag_patch(data, {"rstrip": True}), spaced),
        ("lstrip and rstrip", flag_patch(data, {"lstrip": True, "rstrip": True}), spaced),
        ("rstrip before a token that begins with space",
         flag_patch(data, {"rstrip": True}) + extra_token(data, " x", lstrip=True),
         spaced + ["<think>   x", "<think> x  x", "a x<think>  x"]),
        ("normalized", flag_patch(data, {"normalized": True}), spaced),
        ("normalized composed", extra_token(data, "caf\u00e9", normalized=True), accents),
        ("normalized decomposed", extra_token(data, "cafe\u0301", normalized=True), accents),
        ("raw decomposed", extra_token(data, "cafe\u0301"), accents),
        ("added token that begins and one that goes on like another",
         extra_token(data, "<thi") + extra_token(data, "<think>\n\n</think>", number=1),
         ["<think>\n\n</think>", "<think>\n\n</think", "<think", "<thin<think>", "<thi<thi"]),
        ("added token beyond the byte alphabet", extra_token(data, "\u6f22 \u5b57"), ["a\u6f22 \u5b57b", "\u6f22\u5b57"]),
        ("no normalizer", [replace("/normalizer", None)], accents + strings),
        ("sequence of NFC", [replace("/normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}]})], accents),
        ("no post-processor", [replace("/post_processor", None)], ["Hello world"]),
        ("ignore_merges", [replace("/model/ignore_merges", True)], strings),
        ("merges as text", [replace("/model/merges", [" ".join(pair) for pair in data["model"]["merges"]])],
         strings[:20]),
        ("several merges for one token", extra_merges(rng, data), strings),
        ("Qwen2's pattern", [replace(regex, QWEN2_PATTERN)], strings),
        ("cl100k's pattern", [replace(regex, CL100K_PATTERN)], strings + ["x'K 'ſ 'S'Ll", "12345678"]),
        ("a pattern that names characters", [replace(regex, OWN_CHARACTERS_PATTERN)],
         strings + ["aébc–-’’d Ks\u212aS kſ _X_x ]\\#"]),
    ]


def write_lines(name, rows):
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    (FOLDER / name).write_text(text, encoding="ascii")
    print(f"{name}: {len(rows)} lines, {len(text)} bytes")


def decodings(tokenizer, ids):
    return {"decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "skipped": tokenizer.decode(ids, skip_special_tokens=True)}


def main():
    rng = random.Random(20261121)
    data = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_str(json.dumps(data))
    mixed = random_strings(rng, data)
    strings = (plain_strings() + whitespace_strings() + contraction_strings() + added_token_strings(data)
               + mixed)
    rows = []
    for text in dict.fromkeys(strings):
        ids = tokenizer.encode(text).ids
        rows.append({"text": text, "ids": ids, **decodings(tokenizer, ids)})
    write_lines("corpus.jsonl", rows)

    rows = []
    for i in range(200):
        highest = 256 if i % 2 == 0 else tokenizer.get_vocab_size()
        ids = [rng.randrange(highest) for _ in range(rng.randint(1, 20))]
        rows.append({"ids": ids, **decodings(tokenizer, ids)})
    write_lines("decode.jsonl", rows)

    rows = []
    common = plain_strings()[:60] + mixed[:60]
    for name, patch, texts in variants(rng, data, common):
        other = Tokenizer.from_str(json.dumps(patched(data, patch)))
        rows.append({"name": name, "patch": patch,
                     "cases": [{"text": text, "ids": other.encode(text).ids} for text in texts]})
    write_lines("variants.jsonl", rows)


if __name__ == "__main__":
    main()
