#!/usr/bin/python3
"""What every binary owes: --help, --version with a build id, and a refused flag, in one form.

    binaries.py BINARY...       prints each failure; exit 1 if there is any
"""

import pathlib
import re
import subprocess
import sys

USAGE = 64
DESCRIPTION_COLUMN = 36  # of --help: kernels/base/flags.cc
UNKNOWN_FLAG = "--no-such-flag=7"


def run(binary, *arguments):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60)


def errors(binary):
    name = pathlib.Path(binary).name
    if not name.startswith("deltaserve-"):
        yield f"{name}: the name does not begin with deltaserve-"
    version = run(binary, "--version")
    pattern = re.escape(name) + r" \d+\.\d+\.\d+ \(build \S+\)\n"
    if version.returncode != 0 or not re.fullmatch(pattern, version.stdout) or version.stderr:
        yield f"{name} --version: code {version.returncode}, {version.stdout!r} {version.stderr!r}"
    help_ = run(binary, "--help")
    if help_.returncode != 0 or help_.stderr or "--version" not in help_.stdout:
        yield f"{name} --help: code {help_.returncode}, {help_.stdout!r} {help_.stderr!r}"
    lines = help_.stdout.splitlines() + [""]
    for line, after in zip(lines, lines[1:]):
        flag = re.match(r"  (?:-\w,)?(--[\w-]+)", line)
        wrapped = after.startswith(" " * DESCRIPTION_COLUMN)
        if flag and not line[DESCRIPTION_COLUMN:].strip() and not wrapped:
            yield f"{name} --help: {flag.group(1)} has no description"
    refused = run(binary, UNKNOWN_FLAG)
    if (refused.returncode != USAGE or refused.stdout or not refused.stderr.startswith(name + ": ") or
            not refused.stderr.endswith("; see --help\n")):
        yield f"{name} {UNKNOWN_FLAG}: code {refused.returncode}, {refused.stdout!r} {refused.stderr!r}"


def main():
    found = [error for binary in sys.argv[1:] for error in errors(binary)]
    for error in found:
        print(error)
    return 1 if found or len(sys.argv) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
