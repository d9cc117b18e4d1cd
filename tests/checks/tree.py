#!/usr/bin/python3
"""Refuses files that break the rules of the tree: too long, badly named, or holding what only its
author can use (unfinished-work marks, paths of one machine).

    tree.py [ROOT]      checks the files git tracks; prints file:line: message; exit 1 if there is any
"""

import pathlib
import re
import subprocess
import sys

MOST_LINES = 600
CODE = {".h", ".cc", ".cu", ".cuh", ".py", ".cmake", ".proto", ".sh", ".in", ""}
TEXT = CODE | {".md", ".txt", ".json", ".yaml", ".yml", ".jinja"}
GENERATED = re.compile(r"(^|/)unicode_tables[^/]*$")
DATA = re.compile(r"^tests/(data|fixtures)/")  # written by scripts, read by tests
OWN = re.compile(r"^tests/checks/")            # these files name what they refuse
DRAWER_NAMES = re.compile(r"(^|[/_.-])(utils?|helpers?|common|misc|manager)([/_.-]|$)", re.IGNORECASE)
MARKS = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "finish it or open an issue instead of a mark"),
    (re.compile(r"\bfor now\b", re.IGNORECASE), "say what is, not what will change"),
    (re.compile(r"(?<![\w.~$}])/(work|root)/"), "a path of one machine"),
    (re.compile(r"(?<![\w.~$}])/tmp/lead\b"), "a path of one machine"),
]


def errors_of_name(path):
    if DRAWER_NAMES.search(path):
        yield (path, 1, "a file or folder is named for what it holds, not utils, helpers, common, misc "
                        "or manager")


def errors_of_text(path, text):
    lines = text.splitlines()
    suffix = pathlib.PurePosixPath(path).suffix
    if suffix in CODE and not GENERATED.search(path) and len(lines) > MOST_LINES:
        yield (path, MOST_LINES + 1, f"{len(lines)} lines; cut it into files of one reason to change each, "
                                     f"at most {MOST_LINES} lines")
    if suffix in (".h", ".cuh") and "#pragma once" not in text:
        yield (path, 1, "a header needs #pragma once")
    for number, line in enumerate(lines, 1):
        for pattern, remedy in MARKS:
            match = pattern.search(line)
            if match:
                yield (path, number, f"\"{match.group(0)}\": {remedy}")


def check(root, paths):
    """All refusals of the files `paths` below `root`, as (file, line, message)."""
    found = []
    for path in paths:
        found.extend(errors_of_name(path))
        file = root / path
        if DATA.match(path) or OWN.match(path) or file.suffix not in TEXT or not file.is_file():
            continue
        try:
            found.extend(errors_of_text(path, file.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            found.append((path, 1, "a text file that is not UTF-8"))
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], check=True, capture_output=True)
    found = check(root, [path for path in listed.stdout.decode().split("\0") if path])
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
