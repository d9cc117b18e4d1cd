#!/usr/bin/python3
"""tests/run --gpu without a GPU: its comparisons over the CPU, and what it tells of parts that fail.

    checks_test.py BIN_DIR
"""

import argparse
import array
import concurrent.futures
import fnmatch
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
import children  # noqa: E402
import goldens  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path()  # from the command line
LOADER = importlib.machinery.SourceFileLoader("checks", str(ROOT / "tests/gpu/checks"))
CHECKS = importlib.util.module_from_spec(importlib.util.spec_from_loader("checks", LOADER))
LOADER.exec_module(CHECKS)
LISTING = """Running main() from a file
CudaHostTest.
  AHostThatHasAllPasses
CudaDeviceTest.
  CopiesAndNamesItself
  ABuildWithoutItNamesTheRemedy
CudaDeviceDeathTest.
  AnotherThreadMayNotUseIt
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
# A gtest of these, of which some fail, skip themselves or die.
BAD_GTEST = f"""#!/usr/bin/python3
import os, sys
BAD = True
if sys.argv[1] == "--gtest_list_tests":
    print('''{LISTING}''')
    sys.exit()
names = open(sys.argv[1].partition("=")[2]).read().strip().partition("=")[2].split(":")
failed = [name for name in names if BAD and "Splits/0" in name]
skipped = [name for name in names if BAD and "Agrees/7" in name]
for name in names:
    print("[ RUN      ]", name, flush=True)
    if BAD and "Rows" in name:
        os.abort()
    if name not in failed + skipped:
        print("[       OK ]", name, "(0 ms)")
print("[  PASSED  ]", len(names) - len(failed) - len(skipped), "tests.")
for word, those in (("SKIPPED ", skipped), ("FAILED  ", failed)):
    if those:
        print("[  " + word + "]", len(those), "tests, listed below:")
    for name in those:
        print("[  " + word + "] " + name + ", where GetParam() = x")
sys.exit(len(failed))
"""
GOOD_GTEST = BAD_GTEST.replace("BAD = True", "BAD = False")
# Runs what it is given, and notes the words before it.
SANITIZER = """#!/bin/bash
echo "${@:1:$#-2}" >> "$(dirname "$0")/../sanitizer.log"
"${@: -2}"
code=$?
[[ "$2" == racecheck ]] || echo "========= ERROR SUMMARY: 0 errors"
exit $code
"""


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
        self.assertEqual(CHECKS.gpu_tests(LISTING),
                         ["CudaDeviceTest.CopiesAndNamesItself", "CudaDeviceDeathTest.AnotherThreadMayNotUseIt",
                          "Devices/RowsTest.Gathers/1", "Devices/CudaAttentionTest.Splits/0",
                          "Devices/CudaAttentionTest.Splits/1", "Shapes/ExpertsTest.Agrees/7"])


def is_running(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


class ChildrenTest(unittest.TestCase):
    def run_child(self, script, seconds):
        """Keeps the ids that the script printed."""
        with tempfile.TemporaryFile("w+") as output:
            try:
                children.run(["bash", "-mc", script], output, time.monotonic() + seconds)
            finally:
                output.seek(0)
                self.pids = [int(pid) for pid in re.findall(r"(?m)^\d+$", output.read())]

    def assert_gone(self, count):
        self.assertEqual(len(self.pids), count)
        for pid in self.pids:
            self.assertFalse(is_running(pid), pid)

    def test_nothing_outlives_the_deadline_whatever_its_group(self):
        with self.assertRaises(subprocess.TimeoutExpired):
            self.run_child("bash -mc 'sleep 300 & echo $!; wait' & echo $!; wait", 1)
        self.assert_gone(2)

    def test_nothing_outlives_the_program(self):
        self.run_child("sleep 300 & echo $!", 60)
        self.assert_gone(1)


class RealProgramsTest(unittest.TestCase):
    """What the programs of this build say of the command lines that a GPU would get. Flags are judged before the device is
    opened."""

    def setUp(self):
        if CHECKS.find_gpus():
            self.skipTest("here they would run")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "bin").mkdir()
        for program in [*BIN.glob("deltaserve-*"), *(BIN.parent / "tests").glob("tests_*_test")]:
            (self.folder / "bin" / program.name).symlink_to(program)
        environment = dict(os.environ)
        self.addCleanup(lambda: os.environ.update(environment))
        self.checks = CHECKS.Checks(argparse.Namespace(bundle=self.folder, output=self.folder / "logs", seconds=100,
                                                       total_seconds=100))

    @staticmethod
    def at_once(function, arguments):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(function, arguments))

    def assert_lacks_a_gpu_only(self, text, where):
        self.assertRegex(text, "this build has no CUDA device|has no NVIDIA driver|no GPU that this process may use", where)
        self.assertNotRegex(text, "it means nothing|not expected|not in range|Could not convert", where)

    def test_goldens_lack_a_gpu_only(self):
        models, goldens.MODELS = goldens.MODELS, ("dense-tied",)
        try:
            parts = ("goldens", "libraries", "tp2-mpi", "tp2-nccl")
            for part, refused in zip(parts, self.at_once(self.checks.run, parts), strict=True):
                self.assertEqual(len(refused), 1, refused)
                self.assert_lacks_a_gpu_only(refused[0], part)
        finally:
            goldens.MODELS = models

    def test_the_report_lacks_a_gpu_only(self):
        self.assertNotEqual(self.checks.run("report"), [])
        self.assert_lacks_a_gpu_only((self.folder / "logs/report.log").read_text(), "report")

    def test_worlds_lack_a_gpu_only(self):
        # Of each command line one: a world, one with flags of its own, the demo model's, a generator, a worker alone.
        names = ("FirstAndLast/KilledRankTest.EndsTheWorldWithItsRootCause/0",
                 "SoakTest.NothingLeaksSticksOrDiffersUnderAMixedLoad",
                 "GenerateLinesTest.RulesBindTheAnswer",
                 "ReplayTest.AWorldOfTwoRanksComesAgainAndADamagedWeightIsNamed",
                 "BadStartTest.AnAddressInUseIsNamedByItsFlag",
                 "DemoModelTest.ThinksCallsAToolAndEndsByItself")

        def run(name):
            program = "tests_system_demo_model_test" if name.startswith("DemoModel") else "tests_system_test"
            return self.checks.system_tests("one", self.checks.tests / program, [name])

        for name, refused in zip(names, self.at_once(run, names), strict=True):
            self.assertEqual(len(refused), 1, refused)
            log = refused[0].rpartition("; ")[2]
            self.assert_lacks_a_gpu_only(pathlib.Path(log).read_text(), name)

    def listing(self, program):
        done = subprocess.run([self.checks.tests / program, "--gtest_list_tests"], capture_output=True, text=True, check=True)
        return [name for name, _ in CHECKS.listed(done.stdout)]

    def test_tests_that_are_named_are_there(self):
        names = self.listing("tests_system_test") + self.listing("tests_system_demo_model_test")
        for pattern in CHECKS.NOT_FOR_A_GPU:
            self.assertTrue(any(fnmatch.fnmatch(name, pattern) for name in names), pattern)
        self.assertLessEqual(set(CHECKS.OF_THE_DEVICE), set(self.listing("tests_kernels_test")))


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
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, env=self.environment())

    def command(self, *arguments):
        return [ROOT / "tests/run", "--gpu", "--bundle", self.folder / "bundle", "--output", self.folder / "logs", *arguments]

    def environment(self):
        return {**os.environ, "PATH": f"{self.folder / 'path'}:{os.environ['PATH']}"}

    def test_no_gpu_is_a_failure_of_its_own(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n")
        ran = self.run_checks()
        self.assertEqual(ran.returncode, 69, ran.stdout)
        self.assertIn("no GPU here", ran.stderr)

    def programs(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'GPU 0: X'\n")
        self.program("path/compute-sanitizer", SANITIZER)
        for name in ("tests_kernels_test", "tests_system_test", "tests_system_demo_model_test"):
            self.program(f"bundle/bin/{name}", BAD_GTEST if name == "tests_kernels_test" else GOOD_GTEST)
        for name in ("deltaserve-generate", "deltaserve-bench_ops"):
            self.program(f"bundle/bin/{name}", "#!/bin/sh\nexit 3\n")

    def test_every_part_is_told_of_whatever_came_before(self):
        self.programs()
        ran = self.run_checks("--parts", "ops,goldens,memcheck,report,worlds")
        self.assertEqual(ran.returncode, 1, ran.stderr)
        result = ran.stdout.partition("== result\n")[2]
        for part, state in (("ops", "FAILED"), ("goldens", "FAILED"), ("memcheck", "FAILED"), ("report", "FAILED"),
                            ("worlds", "passed")):
            self.assertRegex(result, rf"(?m)^ +{part} +{state} in ", ran.stdout)

    def test_a_suite_that_dies_takes_no_other_with_it_and_one_that_skips_has_not_passed(self):
        self.programs()
        ran = self.run_checks("--parts", "ops")
        self.assertEqual(ran.returncode, 1)
        for line in ("3 of 6 tests passed, in 5 processes, of which 3 did not end well",
                     "Devices/RowsTest: code -6; it ended in Devices/RowsTest.Gathers/1; ",
                     "Devices/CudaAttentionTest: code 1; 1 of 2 passed; failed: Devices/CudaAttentionTest.Splits/0; ",
                     "Shapes/ExpertsTest: 0 of 1 passed; skipped: Shapes/ExpertsTest.Agrees/7; "):
            self.assertIn(line, ran.stdout)

    def test_sanitizers_run_what_provokes_no_error_by_itself(self):
        self.programs()
        ran = self.run_checks("--parts", "memcheck,racecheck")
        self.assertIn("1 of 4 tests passed, in 3 processes", ran.stdout)
        self.program("bundle/bin/tests_kernels_test", GOOD_GTEST)
        ran = self.run_checks("--parts", "memcheck,racecheck")
        self.assertIn("== memcheck\n   4 of 4 tests passed, in 3 processes, of which 0 did not end well\n   passed in ",
                      ran.stdout)
        self.assertIn("Devices/RowsTest: it did not say SUMMARY: 0; ", ran.stdout)
        words = set((self.folder / "sanitizer.log").read_text().splitlines())
        self.assertEqual(words, {"--tool memcheck --report-api-errors no --error-exitcode 9",
                                 "--tool racecheck --error-exitcode 9"})

    def test_what_time_did_not_allow_is_named(self):
        self.programs()
        ran = self.run_checks("--parts", "ops,goldens", "--total-seconds", "0")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("not done in", ran.stdout)
        self.assertIn("not run, as time was over: dense-tied, ", ran.stdout)

    def test_a_signal_ends_it_with_all_that_it_started(self):
        self.programs()
        self.program("bundle/bin/tests_kernels_test", "#!/bin/sh\necho $$\nexec sleep 300\n")
        log = self.folder / "logs/ops/list.log"
        with subprocess.Popen(self.command("--parts", "ops"), stdout=subprocess.DEVNULL, env=self.environment()) as running:
            patience = time.monotonic() + 60
            while time.monotonic() < patience and not (log.exists() and log.read_text().endswith("\n")):
                time.sleep(0.01)
            running.terminate()
            self.assertEqual(running.wait(60), 128 + signal.SIGTERM)
        self.assertFalse(is_running(int(log.read_text())))

    def test_what_is_not_there_is_named(self):
        self.program("path/nvidia-smi", "#!/bin/sh\necho 'GPU 0: X'\n")
        ran = self.run_checks()
        self.assertEqual(ran.returncode, 66)
        self.assertIn("deltaserve-generate", ran.stderr)
        self.assertEqual(self.run_checks("--parts", "ops,speed").returncode, 64)


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
