#!/usr/bin/python3
"""Refuses an include or a CMake link that goes against the layers of the tree.

Each folder with sources is one library. FOLDERS says which others it may use; what is not in the table
is refused, a new folder too, so that a new edge is a decision and not an accident.

    layering.py [ROOT]      prints each refusal as file:line: message; exit 1 if there is any
"""

import pathlib
import re
import sys

BASE = ["kernels/base"]
TENSOR = BASE + ["kernels/tensor"]
KERNELS = TENSOR + ["kernels"]
WORKER_LOW = KERNELS + ["worker/comm", "worker/checkpoint", "worker/cache"]
LAYERS = WORKER_LOW + ["worker/layers"]
MODELS = LAYERS + ["worker/models"]
ENGINE = MODELS + ["worker/engine", "proto"]
PROTO = ["proto", "proto_grpc"]
DEVICES = ["kernels/cpu", "kernels/cuda"]

# folder -> the folders it may include and link. Its own files always. The folder proto holds two
# libraries: proto (messages, errors), and proto_grpc, which is whatever GRPC_HEADER matches.
FOLDERS = {
    "proto": [],
    "proto_grpc": ["proto"],
    "kernels/base": [],
    "kernels/tensor": BASE,
    "kernels": TENSOR,
    "kernels/reference": KERNELS,
    "kernels/cpu": KERNELS,
    "kernels/cuda": KERNELS,
    "worker/comm": KERNELS,
    "worker/checkpoint": KERNELS,
    "worker/cache": KERNELS + ["worker/checkpoint"],
    "worker/layers": WORKER_LOW,
    "worker/models": LAYERS,
    "worker/engine": MODELS + ["proto"],
    "worker/replay": ENGINE,
    "worker/service": ENGINE + PROTO,
    "worker/metrics": ENGINE,
    "worker": ENGINE + PROTO + DEVICES + ["worker/replay", "worker/service", "worker/metrics"],
    "router/text/template": BASE,
    "router/text": BASE + ["proto", "router/text/template"],
    "router/worlds": BASE + PROTO + ["router/text"],
    "router/service": BASE + PROTO + ["router/text", "router/worlds"],
    "router/http": BASE + PROTO + ["router/text", "router/worlds", "router/service"],
    "router": BASE + PROTO + ["router/text", "router/worlds", "router/service", "router/http"],
    "tools": ENGINE + PROTO + DEVICES + [
        "worker/replay", "worker/service", "worker/metrics", "worker", "router/text", "router/worlds",
        "router/service"],
    "tools/cmake": [],
    "tools/eval": BASE + PROTO + ["router/text", "tools"],
    "tools/bench": ENGINE + DEVICES + ["worker", "tools"],
    "tools/bench_serve": BASE + PROTO + ["tools"],
    "tools/train": [],
}

# A folder that is another compilation of its parent's sources, and belongs to it.
PART_OF = {"kernels/cuda/shim": "kernels/cuda", "kernels/cuda/shim/flashinfer": "kernels/cuda"}

# What tests may use beside the folder they test and what that one may use.
TEST_EXTRA = ["kernels/reference"]
TEST_ANY = ["tests/fuzz", "tests/system", "tests/tools"]  # of any part or of whole programs, so any folder

GRPC_HEADER = re.compile(r"\.grpc\.pb\.h$|^proto/grpc_")

# header -> the folders (and tests of them) that may include it.
SYSTEM_HEADERS = {
    "grpcpp/": [name for name, may_use in FOLDERS.items() if "proto_grpc" in may_use] + ["proto_grpc"],
    "mpi.h": ["worker/comm", "worker", "tools"],
    "nccl.h": ["worker/comm"],
    "cuda": ["kernels/cuda", "worker/comm"],
    "CLI/": ["kernels/base", "worker", "router", "tools"],
    "prometheus/": ["worker/metrics"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
TARGET_CALL = re.compile(
    r"deltaserve_(library|binary|tests|mpi_tests)\s*\(([^)]*)\)", re.MULTILINE)
TOP = ("kernels", "worker", "router", "tools", "proto", "tests")
SOURCES = {".h", ".cc", ".cu", ".cuh"}


def folder_of(path):
    """The library that a repository path belongs to: the folder where its file lies."""
    if GRPC_HEADER.search(path):
        return "proto_grpc"
    if path.startswith("deltaserve/v1/"):
        return "proto"
    folder = str(pathlib.PurePosixPath(path).parent)
    return PART_OF.get(folder, folder)


def tested_folder(folder):
    """tests/worker/comm -> worker/comm; None where `folder` holds no tests."""
    return folder[len("tests/"):] if folder.startswith("tests/") else None


def allowed(folder):
    """Folders that `folder` may use, itself included; None where anything may be used; KeyError where unknown."""
    tested = tested_folder(folder)
    if tested is None:
        return {folder, *FOLDERS[folder]}
    if any(folder == any_folder or folder.startswith(any_folder + "/") for any_folder in TEST_ANY):
        return None
    while tested not in FOLDERS:  # tests/kernels/cpu/attention tests kernels/cpu
        if "/" not in tested:
            raise KeyError(tested)
        tested = tested.rsplit("/", 1)[0]
    reach = {folder, tested, *FOLDERS[tested], *TEST_EXTRA}
    if tested == "proto":
        reach.add("proto_grpc")  # the folder's other library
    if tested.startswith("kernels"):
        reach.update(KERNELS, DEVICES)  # one suite of op tests, over devices
    if tested.startswith("worker"):
        reach.update(KERNELS, DEVICES)
    return reach


def include_errors(root, path, links):
    """Refusals of the includes of one file. links: folder -> folders its library links, with all they link."""
    folder = folder_of(path)
    try:
        reach = allowed(folder)
    except KeyError:
        yield (path, 1, f"folder {folder} is not in the table of tests/checks/layering.py; put it there "
                        "with the folders it may use")
        return
    tested = tested_folder(folder)
    for number, line in enumerate((root / path).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(2)
        for prefix, users in SYSTEM_HEADERS.items():
            if target.startswith(prefix) and (tested or folder) not in users and reach is not None:
                yield (path, number, f"{folder} may not include <{target}>; only {', '.join(users)}")
        if match.group(1) == "<":
            continue
        if target.startswith("deltaserve/v1/"):
            target_folder = folder_of(target)
        elif target.split("/")[0] in TOP:
            target_folder = folder_of(target)
            if not (root / target).exists():
                yield (path, number, f'"{target}" does not exist')
                continue
        elif (root / folder / target).exists():
            yield (path, number, f'include "{target}" from the root: "{folder}/{target}"')
            continue
        else:
            continue
        shares_tests = tested is not None and target_folder.startswith("tests/")
        if reach is not None and target_folder not in reach and not shares_tests:
            yield (path, number, f"{folder} may not use {target_folder}: \"{target}\"")
        elif folder in links and target_folder != folder and target_folder not in links[folder]:
            yield (path, number, f"{folder} includes \"{target}\" but its CMakeLists.txt does not link "
                                 f"{target_folder.replace('/', '_')}")


def read_links(root):
    """(folder -> [(line, kind, linked folder)]) from each CMakeLists.txt below the source folders."""
    libraries = {name.replace("/", "_"): name for name in FOLDERS}
    links = {}
    for top in TOP:
        for file in sorted((root / top).rglob("CMakeLists.txt")):
            folder = folder_of(file.relative_to(root).as_posix())
            text = re.sub(r"#[^\n]*", lambda m: " " * len(m.group(0)), file.read_text())
            for call in TARGET_CALL.finditer(text):
                words = list(re.finditer(r"[A-Za-z_0-9:]+", call.group(2)))
                for word in words[1:] if call.group(1) == "binary" else words:  # after its name
                    linked = libraries.get(word.group(0))
                    if linked is not None:
                        line = text.count("\n", 0, call.start(2) + word.start()) + 1
                        links.setdefault(folder, []).append((line, call.group(1), linked))
    return links


def closure(direct):
    """folder -> every folder its library reaches by links."""
    reached = {}
    for folder in direct:
        seen, todo = set(), [folder]
        while todo:
            for after in direct.get(todo.pop(), []):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        reached[folder] = seen
    return reached


def check(root):
    """All refusals of the tree at `root`, as (file, line, message)."""
    found = []
    links = read_links(root)
    for folder, items in links.items():
        for line, _, linked in items:
            try:
                reach = allowed(folder)
            except KeyError:
                reach = set()
            if reach is not None and linked not in reach:
                found.append((f"{folder}/CMakeLists.txt", line, f"{folder} may not link {linked}"))
    direct = {"proto_grpc": ["proto"]}
    for top in TOP:
        for file in (root / top).rglob("CMakeLists.txt"):
            folder = str(file.parent.relative_to(root))
            if folder in FOLDERS and folder != "proto":
                direct[folder] = [item[2] for item in links.get(folder, [])
                                  if item[1] in ("library", "binary")]
    reached = closure(direct)
    for top in TOP:
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCES:
                found.extend(include_errors(root, file.relative_to(root).as_posix(), reached))
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    found = check(root)
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
