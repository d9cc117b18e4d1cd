#!/usr/bin/python3
"""Tests of the checks: each refusal is provoked once in a small tree, and a right tree passes."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.dont_write_bytecode = True
import binaries  # noqa: E402
import kernel_table  # noqa: E402
import layering  # noqa: E402
import tree  # noqa: E402

HERE = pathlib.Path(__file__).parent


class TreeCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return path


class LayeringTest(TreeCase):
    def setUp(self):
        super().setUp()
        self.write("kernels/base/check.h", "#pragma once\n")
        self.write("kernels/ops.h", '#pragma once\n#include "kernels/base/check.h"\n')
        self.write("kernels/CMakeLists.txt", "deltaserve_library(DEPS kernels_base)\n")
        self.write("worker/comm/communicator.h", '#pragma once\n#include "kernels/ops.h"\n')
        self.write("worker/comm/CMakeLists.txt", "deltaserve_library(DEPS kernels)\n")

    def messages(self):
        return [f"{path}:{line}: {message}" for path, line, message in layering.check(self.root)]

    def refused(self, *parts):
        found = self.messages()
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_a_right_tree_passes(self):
        self.write("tests/worker/comm/x_test.cc",
                   '#include "worker/comm/communicator.h"\n#include "kernels/ops.h"\n#include <mpi.h>\n')
        self.assertEqual(self.messages(), [])

    def test_the_shim_is_a_part_of_the_folder_whose_kernels_it_runs(self):
        self.write("kernels/cuda/launch.h", '#pragma once\n#include "kernels/cuda/shim/fibers.h"\n')
        self.write("kernels/cuda/shim/fibers.h", '#pragma once\n#include "kernels/ops.h"\n')
        self.write("kernels/cuda/CMakeLists.txt", "deltaserve_library(DEPS kernels)\n")
        self.write("kernels/cuda/shim/CMakeLists.txt", "deltaserve_library(DEPS kernels)\n")
        self.assertEqual(self.messages(), [])
        self.write("kernels/cuda/shim/a.cc", '#include "worker/comm/communicator.h"\n')
        self.refused("kernels/cuda/shim/a.cc:1:", "kernels/cuda may not use worker/comm")

    def test_an_include_upwards_is_refused_with_its_line(self):
        self.write("kernels/ops.cc", '#include "kernels/ops.h"\n\n#include "worker/comm/communicator.h"\n')
        self.refused("kernels/ops.cc:3:", "kernels may not use worker/comm")

    def test_the_router_may_not_include_the_worker(self):
        self.write("router/text/a.cc", '#include "worker/comm/communicator.h"\n')
        self.refused("router/text/a.cc:1:", "may not use worker/comm")

    def test_the_router_may_not_include_kernels_but_their_base(self):
        self.write("router/text/CMakeLists.txt", "deltaserve_library(DEPS kernels_base)\n")
        self.write("router/text/a.cc", '#include "kernels/base/check.h"\n#include "kernels/ops.h"\n')
        self.refused("router/text/a.cc:2:", "may not use kernels")

    def test_only_tests_may_include_the_reference(self):
        self.write("kernels/reference/ref.h", "#pragma once\n")
        self.write("tests/kernels/cpu/a_test.cc", '#include "kernels/reference/ref.h"\n')
        self.write("worker/layers/a.cc", '#include "kernels/reference/ref.h"\n')
        self.refused("worker/layers/a.cc:1:", "may not use kernels/reference")

    def test_the_engine_may_not_include_grpc_in_any_form(self):
        self.write("proto/grpc_status.h", "#pragma once\n")
        self.write("worker/engine/CMakeLists.txt", "deltaserve_library(DEPS proto)\n")
        self.write("worker/engine/a.cc",
                   '#include <grpcpp/grpcpp.h>\n#include "proto/grpc_status.h"\n'
                   '#include "deltaserve/v1/world.grpc.pb.h"\n#include "deltaserve/v1/params.pb.h"\n')
        found = self.messages()
        self.assertEqual([message.split(":")[1] for message in found], ["1", "2", "3"], found)

    def test_mpi_stays_in_comm(self):
        self.write("worker/layers/a.cc", "#include <mpi.h>\n")
        self.refused("worker/layers/a.cc:1:", "<mpi.h>")

    def test_tests_of_a_layer_may_not_reach_above_it(self):
        self.write("tests/kernels/a_test.cc", '#include "worker/comm/communicator.h"\n')
        self.refused("tests/kernels/a_test.cc:1:", "may not use worker/comm")

    def test_system_tests_may_use_all(self):
        self.write("tests/system/a_test.cc", '#include "worker/comm/communicator.h"\n#include <mpi.h>\n')
        self.assertEqual(self.messages(), [])

    def test_a_link_upwards_is_refused_with_its_line(self):
        self.write("kernels/CMakeLists.txt", "# worker_comm\ndeltaserve_library(DEPS\n  kernels_base\n"
                                             "  worker_comm)\n")
        self.refused("kernels/CMakeLists.txt:4:", "kernels may not link worker/comm")

    def test_an_include_needs_its_link(self):
        self.write("worker/comm/CMakeLists.txt", "deltaserve_library(DEPS absl::status)\n")
        self.refused("worker/comm/communicator.h:2:", "does not link kernels")

    def test_the_name_of_a_binary_is_no_link(self):
        self.write("router/CMakeLists.txt", "deltaserve_binary(worker SOURCES main.cc DEPS kernels_base)\n")
        self.assertEqual(self.messages(), [])
        self.write("router/CMakeLists.txt", "deltaserve_binary(router SOURCES main.cc DEPS worker)\n")
        self.refused("router/CMakeLists.txt:1:", "router may not link worker")

    def test_an_unknown_folder_is_refused(self):
        self.write("kernels/fast/a.cc", "int x;\n")
        self.refused("kernels/fast", "not in the table")

    def test_an_include_not_from_the_root_is_refused(self):
        self.write("worker/comm/a.cc", '#include "communicator.h"\n')
        self.refused("worker/comm/a.cc:1:", 'from the root: "worker/comm/communicator.h"')

    def test_an_include_of_nothing_is_refused(self):
        self.write("worker/comm/a.cc", '#include "worker/comm/gone.h"\n')
        self.refused("worker/comm/a.cc:1:", "does not exist")

    def test_the_script_fails_and_prints(self):
        self.write("kernels/ops.cc", '#include "worker/comm/communicator.h"\n')
        ran = subprocess.run([HERE / "layering.py", self.root], capture_output=True, text=True)
        self.assertEqual(ran.returncode, 1)
        self.assertIn("kernels/ops.cc:1: kernels may not use worker/comm", ran.stdout)


class TreeTest(TreeCase):
    def refused(self, path, text, *parts):
        found = tree.check(self.root, [self.write(path, text)])
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, str(found[0]))

    def passes(self, path, text):
        self.assertEqual(tree.check(self.root, [self.write(path, text)]), [])

    def test_length(self):
        self.passes("kernels/a.cc", "int x;\n" * 600)
        self.refused("kernels/b.cc", "int x;\n" * 601, "601 lines")
        self.passes("router/text/unicode_tables.cc", "int x;\n" * 5000)
        self.passes("docs/long.md", "x\n" * 5000)

    def test_names(self):
        for path in ("kernels/utils.cc", "worker/common/a.cc", "worker/string_util.cc", "tests/test_helpers.py"):
            self.refused(path, "int x;\n", "named for what it holds")
        self.passes("worker/commons_house.cc", "int x;\n")

    def test_marks_of_unfinished_work(self):
        self.refused("kernels/a.cc", "int x;\n// TODO: y\n", "TODO", ", 2,")
        self.refused("docs/a.md", "It is slow for now.\n", "for now")
        self.passes("kernels/b.cc", "int todo; // methodology\n")

    def test_paths_of_one_machine(self):
        self.refused("deploy/a", "cd /work/main\n", "machine")
        self.refused("docs/a.md", "see `/root/x`\n", "machine")
        self.passes("docs/b.md", "see https://host/work/x, docs/work/y and $HOME/work/x\n")

    def test_header_guard(self):
        self.refused("kernels/a.h", "int x;\n", "#pragma once")

    def test_data_may_hold_anything(self):
        self.passes("tests/data/lines.txt", "TODO /root/x\n")


class BinariesTest(TreeCase):
    HELP = (f"{'  -h,--help':36}Print this\n{'  --version':36}Show it\n"
            f"{'  --ranks INT:INT in [1 - 64]=2':36}ranks\n"
            f"  --moe TEXT:{{replicated,sharded}}=sharded\n{'':36}cut of experts\n")

    def binary(self, help_text=HELP, build="(build abc-dirty)", code=64, refusal="deltaserve-x: no; see --help"):
        path = self.root / self.write("deltaserve-x", f"""#!/bin/sh
case "$1" in
  --help) printf '%s' '{help_text}' ;;
  --version) echo 'deltaserve-x 0.1.0 {build}' ;;
  *) echo '{refusal}' >&2; exit {code} ;;
esac
""")
        path.chmod(0o755)
        return list(binaries.errors(str(path)))

    def test_a_right_binary_passes(self):
        self.assertEqual(self.binary(), [])

    def test_each_debt_is_named(self):
        for settings, part in (
                ({"build": ""}, "--version"),
                ({"help_text": f"{'  --ranks INT':36}ranks\n"}, "--help"),
                ({"help_text": self.HELP + "  --bare\n"}, "--bare has no description"),
                ({"code": 1}, "code 1"),
                ({"refusal": "no"}, "'no")):
            found = self.binary(**settings)
            self.assertEqual(len(found), 1, (settings, found))
            self.assertIn(part, found[0])


PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN10deltaserve4cuda12_GLOBAL__N_13OneILi8E13__nv_bfloat16EEvPT0_' for 'sm_90a'
ptxas info    : Function properties for _ZN10deltaserve4cuda12_GLOBAL__N_13OneILi8E13__nv_bfloat16EEvPT0_
    16 bytes stack frame, 32 bytes spill stores, 48 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 16 bytes cumulative stack size, 128 bytes smem
ptxas info    : Compiling entry function '_ZN10deltaserve4cuda12_GLOBAL__N_13TwoEPf' for 'sm_90a'
ptxas info    : Function properties for _ZN10deltaserve4cuda12_GLOBAL__N_13TwoEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 13 registers, used 0 barriers
"""


class KernelTableTest(TreeCase):
    def setUp(self):
        super().setUp()
        self.kernels = kernel_table.demangled(kernel_table.parse(PTXAS, "a.cu"))

    def test_the_table_has_what_ptxas_said(self):
        self.assertEqual([kernel_table.row(k) for k in self.kernels],
                         ["| `One<8, bf16>` | a.cu | 64 | 128 | 16 | 80 |", "| `Two` | a.cu | 13 | 0 | 0 | 0 |"])

    def test_kernels_of_libraries_are_told_apart_by_number(self):
        lines = "".join(f"Compiling entry function '_ZN10flashinfer6KernelILj{tile}EEEvi' for 'sm_90a'\nUsed {tile} registers\n"
                        for tile in (64, 16))
        kernels = kernel_table.demangled(kernel_table.parse(lines, "a.cu"))
        self.assertEqual([(k.name, k.registers) for k in kernels],
                         [("flashinfer::Kernel (1 of 2)", 16), ("flashinfer::Kernel (2 of 2)", 64)])

    def test_a_spill_is_refused_unless_the_table_lists_as_much(self):
        def refused(table):
            return [k.name for k in kernel_table.unlisted_spills(self.kernels, table)]

        self.assertEqual(refused(""), ["One<8, bf16>"])
        self.assertEqual(refused("| `One<8, bf16>` | b.cu | 64 | 128 | 16 | 80 |"), ["One<8, bf16>"])
        self.assertEqual(refused("| `One<8, bf16>` | a.cu | 64 | 128 | 16 | 79 |"), ["One<8, bf16>"])
        self.assertEqual(refused("| `One<8, bf16>` | a.cu | 64 | 128 | 16 | 80 |"), [])

    def test_a_compile_keeps_what_ptxas_said_and_passes_the_rest_on(self):
        script = HERE.parents[1] / "tools/cmake/nvcc_keep_resources.py"
        said = self.root / "said"
        said.write_text(PTXAS + "a.cu(3): warning: something\n    and where\n")
        compiler = self.root / "compiler"
        compiler.write_text(f"#!/bin/sh\ncat {said} >&2\nexit $STATUS\n")
        compiler.chmod(0o755)
        target = self.root / "a.cu.o"

        def run(status):
            return subprocess.run([script, compiler, "-c", "a.cu", "-o", target], text=True, capture_output=True,
                                  env={"PATH": "/usr/bin:/bin", "STATUS": str(status)}, check=False)

        failed = run(3)
        self.assertEqual(failed.returncode, 3)
        self.assertFalse(pathlib.Path(f"{target}.ptxas").exists())
        done = run(0)
        self.assertEqual(done.stderr, "a.cu(3): warning: something\n    and where\n")
        self.assertEqual(pathlib.Path(f"{target}.ptxas").read_text(), PTXAS)


if __name__ == "__main__":
    unittest.main()
