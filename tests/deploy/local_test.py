#!/usr/bin/python3
"""deploy/local, whole: a world and a router of built binaries, an answer, and how they end.

    local_test.py BIN_DIR
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).parents[2]
LOCAL = ROOT / "deploy" / "local"
BIN = pathlib.Path()  # from the command line
DEADLINE_S = 90


class Local:
    """One run of deploy/local, in a process group of its own as a terminal would give it."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([LOCAL, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        self.killer = threading.Timer(DEADLINE_S, self.process.kill)
        self.killer.start()
        self.lines = []

    def read_until(self, pattern):
        """The match of the first line that holds `pattern`; fails at the end of the output."""
        for line in self.process.stdout:
            self.lines.append(line)
            match = re.search(pattern, line)
            if match:
                return match
        raise AssertionError(f"no {pattern!r} in {''.join(self.lines)}")

    def end(self):
        """Exit code and all that was printed."""
        self.lines.extend(self.process.stdout)
        self.process.stdout.close()
        code = self.process.wait()
        self.killer.cancel()
        return code, "".join(self.lines)


def processes_of(folder):
    """Command lines of live processes that name `folder`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if folder in command:
                found.append(command)
    return found


class LocalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.folder.name) / "model"
        subprocess.run([BIN / "deltaserve-make_checkpoint", "--shape", "tiny-dense", "--output", cls.model],
                       check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def start(self, *flags):
        local = Local(self.model, "--ranks", 2, "--port", 0, "--bin", BIN, *flags)
        self.addCleanup(lambda: local.process.poll() is None and local.process.kill())
        ready = local.read_until(r"ready: router at (\S+), logs in (\S+)")
        return local, ready.group(1), ready.group(2)

    def chat(self, address):
        return subprocess.run([BIN / "deltaserve-chat", "--router", address, "--prompt", "Hello",
                               "--max-tokens", "8"], capture_output=True, timeout=60)

    def test_answers_and_ends_with_control_c(self):
        local, address, run_folder = self.start("--slots", "4", "--kv-memory=64M")
        answer = self.chat(address)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertNotEqual(answer.stdout.strip(), b"")
        os.killpg(local.process.pid, signal.SIGINT)
        code, output = local.end()
        self.assertEqual(code, 0, output)
        self.assertIn("stopping", output)
        self.assertEqual(processes_of(run_folder), [])
        self.assertFalse(pathlib.Path(run_folder).exists())

    def test_a_lost_rank_ends_everything_and_leaves_the_logs(self):
        local, _, run_folder = self.start()
        # The ranks alone have the address file among their arguments and no mpirun before it.
        ranks = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit() and
                 self.is_rank(entry, run_folder)]
        self.assertEqual(len(ranks), 2)
        os.kill(max(ranks), signal.SIGKILL)
        code, output = local.end()
        self.assertEqual(code, 1, output)
        self.assertIn("the world ended by itself", output)
        self.assertEqual(processes_of(run_folder), [])
        self.assertTrue((pathlib.Path(run_folder) / "world.log").exists())
        subprocess.run(["rm", "-rf", run_folder], check=True)

    def is_rank(self, entry, run_folder):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return command[0].endswith("deltaserve-worker") and any(run_folder in word for word in command)

    def test_a_refused_worker_flag_is_shown(self):
        local = Local(self.model, "--ranks", 2, "--port", 0, "--bin", BIN, "--moe=all")
        code, output = local.end()
        self.assertEqual(code, 1, output)
        self.assertIn("--moe", output)
        run_folder = re.search(r"logs: (\S+)", output).group(1)
        self.assertEqual(processes_of(run_folder), [])
        subprocess.run(["rm", "-rf", run_folder], check=True)

    def test_bad_arguments_are_refused_by_name(self):
        for arguments, code, part in (
                ([self.model], 64, '--ranks is ""'),
                ([self.model, "--ranks", "two"], 64, '--ranks is "two"'),
                ([self.model, "--ranks", "2", "--port", "x"], 64, '--port is "x"'),
                (["--ranks", "2", "/nowhere"], 66, 'MODEL is "/nowhere"'),
                ([self.model, "/nowhere", "--ranks", "2"], 64, "one MODEL only"),
                ([self.model, "--ranks", "2", "--bin", "/nowhere"], 66, '--bin is "/nowhere"')):
            ran, output = Local(*arguments).end()
            self.assertEqual(ran, code, output)
            self.assertIn(part, output)


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
