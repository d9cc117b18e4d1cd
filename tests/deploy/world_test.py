#!/usr/bin/python3
"""deploy/world, whole, with an mpirun that does as the test says: restarts, ends, signals, the address file."""

import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).parents[2]
DEADLINE_S = 60

MPIRUN = """#!/bin/bash
[[ "$1" == --version ]] && { echo "mpirun (Open MPI) 4.1.4"; exit 0; }
cd "$(dirname "$0")/.."
echo "$*" >>commands
echo "$TMPDIR" >>folders
number=$(wc -l <commands)
trap 'echo drained >>signals; exit 0' USR1
trap 'echo ended >>signals; exit 1' TERM
source "./run$number" || source ./run
"""

PLAN = """#!/bin/sh
[ "$2" = --fingerprint ] && { echo f00d; exit 0; }
echo '{"weights_total": {"bytes_a_rank": 1}, "kv_memory": 1, "slots": 1, "kv_bytes_per_token": 1,
       "state_bytes_per_sequence": 1, "kv_concurrency": [{"context": 1}]}'
"""

READY = "echo 10.0.0.1:50052\n"
STAY = READY + "while :; do sleep 0.05; done\n"
LOST = "echo 'deltaserve-worker: rank 1 on here: its disk is gone' >&2\nexit 70\n"


class WorldTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.address = self.folder / "world.address"
        self.write("bin/mpirun", MPIRUN)
        self.write("bin/deltaserve-worker", "#!/bin/sh\necho deltaserve-worker 1 '(build test)'\n")
        self.write("bin/deltaserve-plan", PLAN)
        (self.folder / "model").mkdir()

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *flags):
        process = subprocess.Popen(
            [ROOT / "deploy/world", self.folder / "model", "--hosts", "localhost:2", "--bin", self.folder / "bin",
             "--address-file", self.address, "--network", "127.0.0.0/8", "--allow-run-as-root", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})
        killer = threading.Timer(DEADLINE_S, process.kill)
        killer.start()
        self.addCleanup(killer.cancel)
        self.addCleanup(process.kill)
        return process

    def end(self, process):
        """Exit code and output; the address file is gone, whatever the end."""
        output = process.communicate()[0]
        self.assertFalse(self.address.exists(), output)
        self.assertEqual(self.leftovers(), [])
        return process.returncode, output

    def leftovers(self):
        """Folders of this test's worlds: TMPDIR of its mpiruns names them."""
        named = self.folder / "folders"
        folders = set(named.read_text().split()) if named.exists() else []
        return [folder for folder in folders if pathlib.Path(folder).exists()]

    def await_address(self, process):
        while not self.address.exists():
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        return self.address.read_text()

    def starts(self):
        return len((self.folder / "commands").read_text().splitlines())

    def test_a_lost_world_starts_again_and_tells_why(self):
        self.write("run1", READY + "sleep 0.2\n" + LOST)
        self.write("run", STAY)
        process = self.start()
        self.assertEqual(self.await_address(process), "10.0.0.1:50052\n")
        while self.starts() < 2:
            time.sleep(0.01)
        self.await_address(process)
        process.send_signal(signal.SIGTERM)
        code, output = self.end(process)
        self.assertEqual(code, 0, output)
        self.assertIn("root cause: rank 1 on here: its disk is gone\ndeploy/world: starting again in 1 s", output)

    def test_gives_up_after_as_many_losses_as_told(self):
        self.write("run", READY + LOST)
        code, output = self.end(self.start("--max-losses", "2"))
        self.assertEqual((code, self.starts()), (70, 2), output)
        self.assertIn("2 losses within 10 minutes: giving up", output)

    def test_a_configuration_error_is_no_loss(self):
        self.write("run", "echo 'deltaserve-worker: --moe is all; use tp or ep; see --help' >&2\nexit 64\n")
        code, output = self.end(self.start())
        self.assertEqual((code, self.starts()), (64, 1), output)
        self.assertIn("root cause: --moe is all; use tp or ep", output)

    def test_signals_drain_it(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            self.write("run", STAY)
            process = self.start()
            self.await_address(process)
            process.send_signal(number)
            code, output = self.end(process)
            self.assertEqual(code, 0, output)
            self.assertIn("draining", output)
        self.assertEqual((self.folder / "signals").read_text(), 4 * "drained\n")

    def test_a_second_signal_ends_it_now(self):
        self.write("run", "trap '' USR1\n" + STAY)
        process = self.start()
        self.await_address(process)
        process.send_signal(signal.SIGTERM)
        while "draining" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGTERM)
        code, output = self.end(process)
        self.assertEqual(code, 70, output)
        self.assertEqual((self.folder / "signals").read_text(), "ended\n")

    def test_one_that_starts_is_ended_at_once(self):
        self.write("run", "while :; do sleep 0.05; done\n")
        process = self.start()
        while not (self.folder / "commands").exists():
            time.sleep(0.01)
        time.sleep(0.2)  # its traps
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 0)
        self.assertEqual((self.folder / "signals").read_text(), "ended\n")

    def test_one_that_never_is_ready_is_lost(self):
        self.write("run", "while :; do sleep 0.05; done\n")
        code, output = self.end(self.start("--start-timeout", "1", "--max-losses", "1"))
        self.assertEqual(code, 70, output)
        self.assertIn("root cause: not ready after --start-timeout=1 s", output)

    def test_an_address_file_that_cannot_be_written_ends_it(self):
        self.write("run", STAY)
        self.address = self.folder / "nowhere" / "world.address"
        code, output = self.end(self.start())
        self.assertEqual(code, 64, output)
        self.assertIn(f"--address-file is {self.address}: No such file", output)

    def test_mpirun_does_not_outlive_it(self):
        self.write("run", STAY)
        process = self.start()
        self.await_address(process)
        process.kill()
        process.communicate()
        while not (self.folder / "signals").exists():
            time.sleep(0.01)
        self.assertEqual((self.folder / "signals").read_text(), "ended\n")
        self.assertEqual(len(self.leftovers()), 1)  # a killed program removes nothing
        again = self.start()  # but the next one does
        while self.starts() < 2:
            time.sleep(0.01)
        again.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(again)[0], 0)
        self.assertEqual(len(set((self.folder / "folders").read_text().split())), 1)

    def test_two_of_one_command_do_not_meet(self):
        self.write("run", STAY)
        both = [self.start(), self.start()]
        while not (self.folder / "commands").exists() or self.starts() < 2:
            time.sleep(0.01)
        self.assertEqual(len(self.leftovers()), 2)
        for process in both:
            process.send_signal(signal.SIGTERM)
        for process in both:
            process.communicate()
            self.assertEqual(process.returncode, 0)
        self.assertEqual(self.leftovers(), [])

    def test_print_starts_nothing(self):
        code, output = self.end(self.start("--print"))
        self.assertEqual(code, 0, output)
        self.assertIn("mpirun -np 2 --host localhost:2", output)
        self.assertFalse((self.folder / "commands").exists())


if __name__ == "__main__":
    unittest.main()
