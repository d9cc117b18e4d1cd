#!/usr/bin/python3
"""What each CUDA kernel needs of a processor, as the build found it, against docs/gpu/kernels.md.

    kernel_table.py BUILD           exit 1 where the table is another, with what differs
    kernel_table.py BUILD --spills  exit 1 where a kernel spills registers and the table does not say so
    kernel_table.py BUILD --write   writes the table

BUILD is a build folder of the preset cuda, whose compiles leave OBJECT.ptxas files
(tools/cmake/nvcc_keep_resources.py).
"""

import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / "docs/gpu/kernels.md"
HEAD = """# Kernels

What each kernel of `kernels/cuda` needs, as `ptxas` says for sm_90a; written by `tests/checks/kernel_table.py BUILD --write` and checked
by `tests/run --cuda`. A build fails where a kernel spills registers (bytes stored and loaded) and its row here does not say so.
Shared memory is that of static arrays; what a launch adds is in the file. Nothing here was measured on a GPU.

| kernel | file | registers | shared bytes | stack bytes | spilled bytes |
|---|---|---|---|---|---|
"""

Kernel = collections.namedtuple("Kernel", "name file registers shared stack spilled")

COMPILING = re.compile(r"Compiling entry function '([^']+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def short_name(name):
    """Without namespaces and parameters: Kernel<(int)8, float>. Of a library's: namespace::Kernel."""
    if match := re.match(r"(?:void )?((?:flashinfer|cutlass)::[\w:]+)", name):
        return match.group(1)
    name = re.sub(r"\(anonymous namespace\)::|deltaserve::cuda::|^void ", "", name)
    depth = 0
    for i, c in enumerate(name):
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0:
            name = name[:i]
            break
    return re.sub(r"\((?:int|bool|long)\)", "", name).replace("__nv_bfloat16", "bf16")


def parse(text, file):
    """The kernels of one OBJECT.ptxas; names still mangled."""
    found = []
    name, stack, spilled = None, 0, 0
    for line in text.splitlines():
        if match := COMPILING.search(line):
            name, stack, spilled = match.group(1), 0, 0
        elif match := STACK.search(line):
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        elif name and (match := USED.search(line)):
            shared = SHARED.search(line)
            found.append(Kernel(name, file, int(match.group(1)), int(shared.group(1)) if shared else 0,
                                stack, spilled))
            name = None
    return found


def demangled(kernels):
    if not kernels:
        return []
    names = subprocess.run(["c++filt"], input="\n".join(k.name for k in kernels), text=True,
                           capture_output=True, check=True).stdout.splitlines()
    in_order = sorted(((short_name(name), name, k) for k, name in zip(kernels, names)),
                      key=lambda all_of: (all_of[2].file, *all_of[:2]))
    count = collections.Counter((short, k.file) for short, _, k in in_order)
    seen = collections.Counter()
    found = []
    for short, _, k in in_order:
        seen[short, k.file] += 1
        number = f" ({seen[short, k.file]} of {count[short, k.file]})" if count[short, k.file] > 1 else ""
        found.append(k._replace(name=short + number))
    return found


def row(k):
    return f"| `{k.name}` | {k.file} | {k.registers} | {k.shared} | {k.stack} | {k.spilled} |"


def listed_spills(table):
    """(name, file) -> bytes that the table says are spilled."""
    rows = re.findall(r"^\| `(.+)` \| (\S+) \| \d+ \| \d+ \| \d+ \| (\d+) \|$", table, re.MULTILINE)
    return {(name, file): int(spilled) for name, file, spilled in rows}


def unlisted_spills(kernels, table):
    listed = listed_spills(table)
    return [k for k in kernels if k.spilled > listed.get((k.name, k.file), 0)]


def main():
    build = pathlib.Path(sys.argv[1])
    kernels = []
    for file in sorted((build / "kernels/cuda").rglob("*.cu.o.ptxas")):
        kernels.extend(parse(file.read_text(), file.name.removesuffix(".o.ptxas")))
    kernels = demangled(kernels)
    if not kernels:
        print(f"{build} holds no .ptxas file: build it with the preset cuda and nvcc")
        return 1
    written = TABLE.read_text() if TABLE.exists() else ""
    table = HEAD + "".join(row(k) + "\n" for k in kernels)
    if "--write" in sys.argv:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(table)
        return 0
    for k in unlisted_spills(kernels, written):
        print(f"{k.file}: {k.name} spills {k.spilled} bytes: use fewer registers, or list it in {TABLE.name} "
              "by --write")
    if "--spills" in sys.argv:
        return 1 if unlisted_spills(kernels, written) else 0
    if table != written:
        old, new = set(written.splitlines()), set(table.splitlines())
        print("docs/gpu/kernels.md is another table; write it by tests/checks/kernel_table.py BUILD --write")
        for line in sorted(new - old):
            print("+", line)
        for line in sorted(old - new):
            print("-", line)
        return 1
    print(table[table.index("| kernel"):])
    return 0


if __name__ == "__main__":
    sys.exit(main())
