#!/usr/bin/python3
"""Runs a compile of nvcc with what ptxas says of each kernel kept beside the object, not printed.

    nvcc_keep_resources.py COMMAND...       -Xptxas=-v among it; writes OBJECT.ptxas where -o OBJECT is

tests/checks/kernel_table.py reads those files. Everything else that the command says is passed on.
"""

import pathlib
import subprocess
import sys

OF_PTXAS = ("ptxas info", "    ")  # its lines on a kernel, and those that go on


def main():
    command = sys.argv[1:]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    kept, passed_on = [], []
    of_ptxas = False
    for line in done.stderr.splitlines(keepends=True):
        of_ptxas = line.startswith(OF_PTXAS[0]) or (of_ptxas and line.startswith(OF_PTXAS[1]))
        (kept if of_ptxas else passed_on).append(line)
    sys.stderr.write("".join(passed_on))
    if done.returncode == 0 and "-c" in command and "-o" in command:
        target = command[command.index("-o") + 1]
        pathlib.Path(target + ".ptxas").write_text("".join(kept))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
