#!/usr/bin/python3
"""How worlds end: world_end_test.py MPIRUN PROBE runs world_probe under mpirun and looks on.

Each case: one rank of three comes to its end; mpirun must fail, all processes must be gone within
seconds, and stderr must name the rank that is the cause on every rank that followed.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest

MPIRUN, PROBE = sys.argv[1:3]
RANKS = 3
SECONDS = 20  # for a start, two seconds of silence and a slow machine
HOST = socket.gethostname()


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class WorldEndTest(unittest.TestCase):

    def run_world(self, mode, victim):
        """Returns (exit code of mpirun, lines of last words by rank, all of stderr)."""
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, TMPDIR=folder)
            begin = time.monotonic()
            process = subprocess.Popen(
                [MPIRUN, "-n", str(RANKS), PROBE, mode, str(victim)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                self.fail(f"{mode} of rank {victim}: still there after {SECONDS} s\n{out}\n{err}")
            pids = [int(pid) for pid in re.findall(r"rank \d+ pid (\d+)", out)]
            self.assertEqual(len(pids), RANKS, out + err)
            while any(is_running(pid) for pid in pids) and time.monotonic() < begin + SECONDS:
                time.sleep(0.05)
            for pid in pids:
                self.assertFalse(is_running(pid), f"pid {pid} survives")
        words = {}
        for line in err.splitlines():
            match = re.match(rf"deltaserve-worker: rank (\d+) on {re.escape(HOST)}: (.*)", line)
            if match:
                words.setdefault(int(match[1]), []).append(match[2])
        for rank, lines in words.items():
            self.assertEqual(len(lines), 1, f"rank {rank} speaks twice: {lines}")
        return process.returncode, {rank: lines[0] for rank, lines in words.items()}, err

    def check_followers(self, victim, words, cause, err):
        """Whoever speaks names the victim. mpirun may kill a survivor before it could speak, but
        the first to see the end never is."""
        followers = [rank for rank in words if rank != victim]
        self.assertTrue(followers, err)
        for rank in followers:
            self.assertRegex(words[rank],
                             rf"^ends with rank {victim} on {re.escape(HOST)}: .*{cause}", err)

    def test_a_rank_killed_while_idle_is_named(self):
        for victim in range(RANKS):
            with self.subTest(victim=victim):
                code, words, err = self.run_world("kill-idle", victim)
                self.assertNotEqual(code, 0)
                self.assertNotIn(victim, words)
                self.check_followers(victim, words, "killed or crashed", err)

    def test_a_rank_killed_in_a_collective_is_named(self):
        for victim in range(RANKS):
            with self.subTest(victim=victim):
                code, words, err = self.run_world("kill-collective", victim)
                self.assertNotEqual(code, 0)
                self.check_followers(victim, words, "killed or crashed", err)

    def test_a_rank_stopped_while_idle_is_named(self):
        for victim in (0, 2):
            with self.subTest(victim=victim):
                code, words, err = self.run_world("stop-idle", victim)
                self.assertNotEqual(code, 0)
                self.check_followers(victim, words, "nothing heard from it for 2s", err)

    def test_a_rank_that_gives_up_tells_its_cause_and_exit_code(self):
        for victim in (0, 1):
            with self.subTest(victim=victim):
                code, words, err = self.run_world("die", victim)
                self.assertEqual(code, 72, err)
                self.assertEqual(words[victim], "plan after step 4: step is 6, expected 5")
                self.check_followers(victim, words, "step is 6", err)

    def test_a_step_that_hangs_ends_by_the_watchdog(self):
        code, words, err = self.run_world("hang", 1)
        self.assertEqual(code, 70, err)
        self.assertRegex(words[1], r"^step 9 has run for \d+(\.\d+)?s, 1s allowed$")
        self.check_followers(1, words, "step 9 has run", err)

    def test_a_drained_world_ends_in_silence(self):
        code, words, err = self.run_world("stop", -1)
        self.assertEqual(code, 0, err)
        self.assertEqual(words, {})
        self.assertEqual(err, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
