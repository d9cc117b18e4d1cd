#!/usr/bin/env python3
"""Writes router/text/template/unicode_tables.cc: what Python's str methods know of each code point.

    python3.11 tools/unicode/make_python_tables.py

Chat templates are compared with jinja2 on Python 3.11, whose database is Unicode 14.0.0; the tables are asked of
its own str methods, so they need nothing but that interpreter.
"""

import pathlib
import sys
import unicodedata

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "router/text/template/unicode_tables.cc"
FINAL_SIGMA = "\u03c2"
HEADER = """// Written by tools/unicode/make_python_tables.py from Unicode {version}; do not edit.
// clang-format off

#include "router/text/template/unicode_tables.h"

namespace deltaserve::jinja {{
"""


def code_points():
    return (cp for cp in range(0x110000) if not 0xD800 <= cp <= 0xDFFF)


def properties(cp):
    """The bits of Property in unicode_tables.h, less the cases."""
    char = chr(cp)
    return (char.isspace() | (not char.isprintable()) << 1 | char.isalpha() << 2 | char.isdecimal() << 3
            | char.isdigit() << 4 | char.isnumeric() << 5 | ("a" + char).isidentifier() << 6)


def cases(cp):
    """The bits of Case in unicode_tables.h."""
    char = chr(cp)
    is_cased = (char + "\u03a3").lower()[-1] == FINAL_SIGMA
    is_ignored = not is_cased and ("A" + char + "\u03a3").lower()[-1] == FINAL_SIGMA
    is_title = not char.isupper() and char.istitle()
    return char.isupper() | char.islower() << 1 | is_title << 2 | is_cased << 3 | is_ignored << 4


def mapping(cp):
    """How far upper, lower and title case are from `cp`, where each is one character."""
    char = chr(cp)
    moves = []
    for text in (char.upper(), char.lower(), char.title()):
        moves.append(ord(text) - cp if len(text) == 1 else 0)
    return tuple(moves)


def expansions():
    for cp in code_points():
        char = chr(cp)
        for kind, text in ((0, char.upper()), (1, char.lower()), (2, char.title())):
            if len(text) > 1:
                yield cp, kind, [ord(c) for c in text] + [0] * (3 - len(text))


def ranges_of(value_of, nothing):
    """[first, last, stride, value]: code points first, first + stride, ... last; stride 1 or 2."""
    found = []
    for cp in code_points():
        value = value_of(cp)
        if value == nothing:
            continue
        for row in reversed(found[-2:]):
            step = cp - row[1]
            if row[3] == value and step in (1, 2) and row[2] in (0, step):
                row[1], row[2] = cp, step
                break
        else:
            found.append([cp, cp, 0, value])
    # A range of stride 2 may hold another between its members; the search looks at both.
    return [(first, last, stride or 1, value) for first, last, stride, value in found]


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
    if unicodedata.unidata_version != "14.0.0":
        sys.exit(f"this Python has Unicode {unicodedata.unidata_version}, this script wants 14.0.0: run it with "
                 "Python 3.11")
    lines = [HEADER.format(version=unicodedata.unidata_version).rstrip("\n")]
    emit(lines, "PropertyRange", "kPropertyRanges",
         [f"{{0x{a:x},0x{b:x},{s},{v}}}" for a, b, s, v in ranges_of(properties, 0)])
    emit(lines, "PropertyRange", "kCaseRanges",
         [f"{{0x{a:x},0x{b:x},{s},{v}}}" for a, b, s, v in ranges_of(cases, 0)])
    emit(lines, "MappingRange", "kMappingRanges",
         [f"{{0x{a:x},0x{b:x},{s},{v[0]},{v[1]},{v[2]}}}"
          for a, b, s, v in ranges_of(mapping, (0, 0, 0))])
    emit(lines, "Expansion", "kExpansions",
         [f"{{0x{cp:x},{kind},{{0x{t[0]:x},0x{t[1]:x},0x{t[2]:x}}}}}" for cp, kind, t in expansions()])
    OUTPUT.write_text("\n".join(lines) + "\n\n}  // namespace deltaserve::jinja\n", encoding="ascii")


if __name__ == "__main__":
    main()
