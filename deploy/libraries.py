"""What programs need of this machine's packages: the libraries that they link, Open MPI's plugins and texts, the
packages' notices. For deploy/container/collect and deploy/bundle.
"""

import functools
import pathlib
import re
import subprocess
import sysconfig

TRIPLET = sysconfig.get_config_var("MULTIARCH")
PLUGINS = (f"/usr/lib/{TRIPLET}/openmpi/lib/openmpi3/*.so", f"/usr/lib/{TRIPLET}/pmix2/lib/pmix/*.so")
OF_FABRICS = re.compile(r"/lib(ucp|fabric|psm|psm2|psm_infinipath|ibverbs|rdmacm|oshmem)\.so")
OF_FILES = re.compile(r"/mca_(io|fs|fbtl|fcoll|sharedfp)_")
OPENED_BY_NAME = (f"/usr/lib/{TRIPLET}/libgcc_s.so.1", f"/usr/lib/{TRIPLET}/libpmix.so.2")
OPEN_MPI_TEXTS = ("/usr/share/openmpi", "/etc/openmpi")


@functools.cache
def libraries_of(file, may_lack=None):
    """Paths of all that `file` links, directly or not. What is missing has to match the pattern `may_lack`."""
    text = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    lacking = [name for name in re.findall(r"(\S+) => not found", text) if not (may_lack and may_lack.match(name))]
    if lacking:
        raise SystemExit(f"{file} links {', '.join(lacking)}, and this machine has no such library")
    return re.findall(r"(/\S+) \(0x", text)


def open_mpi_plugins():
    """Those for worlds over TCP and shared memory (pml ob1): not of fabrics, files and OpenSHMEM."""
    found = []
    for pattern in PLUGINS:
        plugins = [file for file in sorted(pathlib.Path("/").glob(pattern.lstrip("/")))
                   if not OF_FILES.search(str(file)) and
                   not any(OF_FABRICS.search(library) for library in libraries_of(file))]
        if not plugins:
            raise SystemExit(f"nothing is {pattern}; install the package openmpi-bin")
        found += plugins
    return found


def files_below(path):
    """`path` itself where it is a file."""
    path = pathlib.Path(path)
    return [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]


def compiled_in(build):
    """Notices of kernels that a build folder of the preset cuda compiled in (tools/cmake/flashinfer.cmake)."""
    return sorted(pathlib.Path(build).glob("flashinfer/*/*.dist-info/licenses/LICENSE"))


def notices_of(files):
    """(a line "package version" each, copyright files) of the packages that installed `files`."""
    owners = subprocess.run(["dpkg-query", "-S", *map(str, sorted(files))], capture_output=True, text=True,
                            check=False).stdout  # files that no package has, as links made at installation, are left out
    packages = sorted({name for line in owners.splitlines() for name in line.partition(": /")[0].split(", ")})
    listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *packages], capture_output=True,
                            text=True, check=True).stdout
    notices = [pathlib.Path("/usr/share/doc", line.split()[0], "copyright") for line in listed.splitlines()]
    return listed, sorted({notice for notice in notices if notice.is_file()})
