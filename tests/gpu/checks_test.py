#!/usr/bin/python3
"""tests/run --gpu without a GPU: its comparisons over the CPU, and what it tells of parts that fail.

    checks_test.py BIN_DIR
"""

import array
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import goldens  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path()  # from the command line
LISTING = """Running main() from a file
CudaDeviceTest.
  Opens
CpuDeviceTest.
  SaysThatThereIsNoCudaDevice
Devices/RowsTest.
  Gathers/0  # GetParam() = "cpu_1_thread"
  Gathers/1  # GetParam() = "cuda"
  Gathers/2  # GetParam() = "cuda_libraries"
  Gathers/3  # GetParam() = "cuda_shim"
Devices/CudaAttentionTest.
  Splits/0  # GetParam() = "cuda"
  Splits/1  # GetParam() = "cuda_libraries"
  Splits/2  # GetParam() = "cuda_shim"
Shapes/ExpertsTest.
  Agrees/7  # GetParam() = ("cuda_libraries", 16-byte object <01-00>, BF16)
Isas/LinearTest.
  Agrees/avx2  # GetParam() = "avx2"
"""
KERNELS_TEST = f"""#!/bin/sh
if [ "$1" = --gtest_list_tests ]; then
cat <<'LIST'
{LISTING}LIST
exit
fi
echo '[  PASSED  ] 3 tests.'
echo '[  FAILED  ] 1 test, listed below:'
echo '[  FAILED  ] Cases/RmsNormTest.IsTheReference/cuda_1, where GetParam() = x'
exit 1
"""
NOTHING_RAN = "#!/bin/sh\necho '[  PASSED  ] 0 tests.'\n"
PASSES = "#!/bin/sh\necho '[  PASSED  ] 3 tests.'\n"


class GoldensTest(unittest.TestCase):
    def test_two_ranks_of_the_cpu_are_within_its_tolerances(self):
        self.assertEqual(goldens.check(BIN, "cpu", 2, models=("moe-fused",)), [])

    def test_refuses_what_is_far_off(self):
        _, rows = goldens.expected_rows("dense-tied")
        row = rows[-1][-1]
        best = row.index(max(row))
        tolerance = goldens.TOLERANCES["cuda"]
        self.assertEqual(goldens.compare(row, row, tolerance, best, "x")[0], [])
        doubled = array.array("f", (2 * value for value in row))
        one_off = array.array("f", row)
        one_off[7] += 100
        no_number = array.array("f", row)
        no_number[7] = float("nan")
        for name, other, token, part in (("scaled", doubled, best, "typical error"),
                                         ("one element", one_off, best, "largest error"),
                                         ("not a number", no_number, best, "largest error"),
                                         ("another token", row, (best + 1) % len(row), "was chosen")):
            found = goldens.compare(other, row, tolerance, token, "x")[0]
            self.assertTrue(any(part in line for line in found), (name, found))


class GpuTestsTest(unittest.TestCase):
    def test_finds_a_gpus_tests_by_their_device_and_not_by_their_name(self):
        loader = importlib.machinery.SourceFileLoader("checks", str(ROOT / "tests/gpu/checks"))
        checks = importlib.util.module_from_spec(importlib.util.spec_from_loader("checks", loader))
        loader.exec_module(checks)
        self.assertEqual(checks.gpu_tests(LISTING),
                         ["CudaDeviceTest.Opens", "Devices/RowsTest.Gathers/1", "Devices/CudaAttentionTest.Splits/0",
                          "Devices/CudaAttentionTest.Splits/1", "Shapes/ExpertsTest.Agrees/7"])


class ChecksTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "bundle/bin").mkdir(parents=True)
        (self.folder / "path").mkdir()

    def program(self, path, text):
        file = self.folder / path
        file.write_text(text)
        file.chmod(0o755)

    def run_checks(self, *arguments):
        return subprocess.run([ROOT / "tests/run", "--gpu", "--bundle", self.folder / "bundle", "--output",
                               self.folder / "logs", *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, "PATH": f"{self.folder / 'path'}:{os.environ['PATH']}"})

    def test_no_gpu_is_a_failure_of_its_own(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n")
        ran = self.run_checks()
        self.assertEqual(ran.returncode, 69, ran.stdout)
        self.assertIn("no GPU here", ran.stderr)

    def test_every_part_is_told_of_whatever_came_before(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'GPU 0: X'\n")
        self.program("path/compute-sanitizer", NOTHING_RAN)
        self.program("bundle/bin/tests_kernels_test", KERNELS_TEST)
        for name in ("tests_system_test", "tests_system_demo_model_test"):
            self.program(f"bundle/bin/{name}", PASSES)
        for name in ("deltaserve-generate", "deltaserve-bench_ops"):
            self.program(f"bundle/bin/{name}", "#!/bin/sh\nexit 3\n")
        ran = self.run_checks("--parts", "ops,goldens,memcheck,report,worlds")
        self.assertEqual(ran.returncode, 1, ran.stderr)
        result = ran.stdout.partition("== result\n")[2]
        for part, state in (("ops", "FAILED"), ("goldens", "FAILED"), ("memcheck", "FAILED"), ("report", "FAILED"),
                            ("worlds", "passed")):
            self.assertRegex(result, rf"(?m)^ +{part} +{state} in ")
        self.assertIn("Cases/RmsNormTest.IsTheReference/cuda_1", ran.stdout)
        self.assertIn("no test passed", ran.stdout)

    def test_what_is_not_there_is_named(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'GPU 0: X'\n")
        ran = self.run_checks()
        self.assertEqual(ran.returncode, 66)
        self.assertIn("deltaserve-generate", ran.stderr)
        self.assertEqual(self.run_checks("--parts", "ops,speed").returncode, 64)


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
