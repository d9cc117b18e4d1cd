#!/usr/bin/env python3
"""Writes router/text/unicode_tables.cc from the Unicode 16.0.0 database.

    python3 -m venv VENV && VENV/bin/pip install unicodedata2==16.0.0 tokenizers==0.23.3
    VENV/bin/python tools/unicode/make_tables.py

Character classes (letter, mark, number, white space) are those of Unicode 16.0, which the split regex
of `tokenizers` uses. Its NFC is older: characters younger than Unicode 9.0 have no combining class and
no composition there. Unicode never changes these properties of an assigned character, so its NFC is
that of 16.0 without the younger characters; this script asks `tokenizers` which those are.
"""

import pathlib
import sys

import unicodedata2 as ud
from tokenizers import normalizers

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "router/text/unicode_tables.cc"
# White_Space of Unicode 16.0 (PropList.txt), which is what \s means to the split regex.
WHITE_SPACE = (list(range(0x9, 0xE)) + [0x20, 0x85, 0xA0, 0x1680] + list(range(0x2000, 0x200B))
               + [0x2028, 0x2029, 0x202F, 0x205F, 0x3000])
NFC, NFD = normalizers.NFC(), normalizers.NFD()
# A mark with a low and one with a high combining class, both of Unicode 1.1: U+0334 (1), U+0345 (240).
LOW_MARK, HIGH_MARK = "\u0334", "\u0345"
HANGUL_FIRST, HANGUL_LAST = 0xAC00, 0xD7A3
HEADER = """// Written by tools/unicode/make_tables.py from Unicode {version}; do not edit.
// clang-format off

#include "router/text/unicode_tables.h"

namespace deltaserve::unicode {{
"""


def code_points():
    return (cp for cp in range(0x110000) if not 0xD800 <= cp <= 0xDFFF)


def ranges_of(value_of):
    """[(first, last, value)] of the maximal runs of code points with one value that is not None."""
    runs = []
    for cp in code_points():
        value = value_of(cp)
        if value is None:
            continue
        if runs and runs[-1][1] == cp - 1 and runs[-1][2] == value:
            runs[-1][1] = cp
        else:
            runs.append([cp, cp, value])
    return runs


def char_class(cp):
    if cp in WHITE_SPACE:
        return "kSpace"
    return {"L": "kLetter", "M": "kMark", "N": "kNumber"}.get(ud.category(chr(cp))[0])


def combining_class(cp):
    """The canonical combining class of `cp` in `tokenizers`: 0 where it leaves the order alone."""
    value = ud.combining(chr(cp))
    if value == 0:
        return 0
    text = "a" + (chr(cp) + LOW_MARK if value > 1 else HIGH_MARK + chr(cp))
    return value if NFD.normalize_str(text) == ud.normalize("NFD", text) else 0


def canonical(cp):
    """The single-step canonical decomposition of `cp`, without Hangul, as a list; else None."""
    if HANGUL_FIRST <= cp <= HANGUL_LAST:
        return None
    mapping = ud.decomposition(chr(cp))
    if not mapping or mapping.startswith("<") or NFD.normalize_str(chr(cp)) == chr(cp):
        return None
    return [int(part, 16) for part in mapping.split()]


def is_nfc_inert(cp, seconds):
    """True where a text made of such code points only is its own NFC."""
    char = chr(cp)
    return (combining_class(cp) == 0 and cp not in seconds and NFC.normalize_str(char) == char
            and not 0x1161 <= cp <= 0x1175 and not 0x11A8 <= cp <= 0x11C2)


def emit(lines, row_type, name, rows):
    lines.append(f"\nconstexpr {row_type} {name}Data[] = {{")
    line = ""
    for row in rows:
        if len(line) + len(row) + 1 > 110:
            lines.append(line)
            line = ""
        line += row + ","
    lines += [line, "};", f"constinit const std::span<const {row_type}> {name}({name}Data);"]


def main():
    if ud.unidata_version != "16.0.0":
        sys.exit(f"unicodedata2 has Unicode {ud.unidata_version}, this script wants 16.0.0: "
                 "pip install unicodedata2==16.0.0")
    decompositions = {cp: parts for cp in code_points() if (parts := canonical(cp))}
    assert all(len(parts) <= 2 for parts in decompositions.values())
    compositions = sorted((parts[0], parts[1], cp) for cp, parts in decompositions.items()
                          if len(parts) == 2 and NFC.normalize_str(chr(cp)) == chr(cp))
    seconds = {second for _, second, _ in compositions}
    classes = ranges_of(char_class)
    combining = ranges_of(lambda cp: combining_class(cp) or None)
    inert_not = ranges_of(lambda cp: None if is_nfc_inert(cp, seconds) else "")
    lines = [HEADER.format(version=ud.unidata_version).rstrip("\n")]
    emit(lines, "ClassRange", "kClassRanges",
         [f"{{0x{a:x},0x{b:x},C::{value}}}" for a, b, value in classes])
    emit(lines, "CombiningRange", "kCombiningRanges",
         [f"{{0x{a:x},0x{b:x},{value}}}" for a, b, value in combining])
    emit(lines, "CodePointRange", "kNotInertRanges",
         [f"{{0x{a:x},0x{b:x}}}" for a, b, _ in inert_not])
    emit(lines, "Decomposition", "kDecompositions",
         [f"{{0x{cp:x},0x{parts[0]:x},0x{parts[1] if len(parts) == 2 else 0:x}}}"
          for cp, parts in sorted(decompositions.items())])
    emit(lines, "Composition", "kCompositions",
         [f"{{0x{a:x},0x{b:x},0x{cp:x}}}" for a, b, cp in compositions])
    text = "\n".join(lines).replace("unicode {\n", "unicode {\n\nusing C = CharClass;\n", 1)
    OUTPUT.write_text(text + "\n\n}  // namespace deltaserve::unicode\n", encoding="ascii")
    print(f"{OUTPUT.name}: {len(classes)} class ranges, {len(combining)} combining ranges, "
          f"{len(inert_not)} ranges not inert, {len(decompositions)} decompositions, "
          f"{len(compositions)} compositions")


if __name__ == "__main__":
    main()
