#!/usr/bin/python3
"""The entry point of the image: which hosts a leader finds, and what it refuses; deploy/container/build likewise."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

CONTAINER = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "container"
WORLD = "#!/bin/sh\nprintf '%s\\n' \"$@\" \"hostfile:$OMPI_MCA_orte_default_hostfile\"\n"


class EntryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        shutil.copy(CONTAINER / "entry", self.folder)
        (self.folder / "world").write_text(WORLD)
        (self.folder / "world").chmod(0o755)
        for name in ("id", "id.pub"):
            (self.folder / name).write_text("key\n")

    def run_entry(self, *arguments, **variables):
        return subprocess.run([self.folder / "entry", *arguments], capture_output=True, text=True, timeout=30,
                              env={"PATH": os.environ["PATH"], "TMPDIR": str(self.folder),
                                   "DELTASERVE_SSH_KEY": str(self.folder / "id"), **variables}, check=False)

    def hosts_of(self, **variables):
        """What deploy/world is given as --hosts."""
        done = self.run_entry("leader", "/model", "--ranks-per-host=2", **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        words = done.stdout.splitlines()
        self.assertEqual(words[-3:], ["/model", "--ranks-per-host=2", "hostfile:"])
        self.assertIn("--max-losses", words)
        return words[words.index("--hosts") + 1]

    def test_a_leader_finds_the_hosts_of_its_group(self):
        hostfile = self.folder / "hostfile"
        hostfile.write_text("# launcher first\nworld-launcher.world.ns.svc slots=1\n"
                            "world-worker-0.world.ns.svc slots=1\n")
        for variables, hosts in (
                ({"LWS_LEADER_ADDRESS": "world-3.world.ns", "LWS_GROUP_SIZE": "3"},
                 "world-3.world.ns,world-3-1.world.ns,world-3-2.world.ns"),
                ({"LWS_LEADER_ADDRESS": "world-0.world.ns", "LWS_GROUP_SIZE": "1"}, "world-0.world.ns"),
                ({"OMPI_MCA_orte_default_hostfile": str(hostfile)},
                 "world-launcher.world.ns.svc,world-worker-0.world.ns.svc"),
                ({}, subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip())):
            with self.subTest(hosts):
                self.assertEqual(self.hosts_of(**variables), hosts)

    def test_a_leader_of_several_hosts_knows_their_key_and_no_other(self):
        self.hosts_of(LWS_LEADER_ADDRESS="world-0.world.ns", LWS_GROUP_SIZE="2")
        self.assertEqual((self.folder / "deltaserve/known_hosts").read_text(), "* key\n")
        config = (self.folder / "deltaserve/ssh_config").read_text()
        self.assertIn("StrictHostKeyChecking yes", config)
        self.assertIn(f"IdentityFile {self.folder}/id\n", config)

    def test_what_cannot_work_is_refused_by_name(self):
        group = {"LWS_LEADER_ADDRESS": "world-0.world.ns", "LWS_GROUP_SIZE": "2"}
        for arguments, variables, message in (
                (["leader", "/model"], {**group, "LWS_GROUP_SIZE": "two"}, 'LWS_GROUP_SIZE is "two"'),
                (["leader", "/model"], {**group, "DELTASERVE_SSH_KEY": "/nowhere"}, "DELTASERVE_SSH_KEY is /nowhere"),
                (["worker"], {"DELTASERVE_SSH_KEY": "/nowhere"}, "DELTASERVE_SSH_KEY is /nowhere"),
                (["worker", "--slots=4"], {}, "worker takes no arguments"),
                (["drain"], {}, "drain takes the seconds"),
                (["serve"], {}, 'role is "serve"'),
                ([], {}, 'role is ""')):
            with self.subTest(message):
                done = self.run_entry(*arguments, **variables)
                self.assertEqual((done.returncode, message in done.stderr), (64, True), done.stderr)

    def test_the_build_refuses_what_it_does_not_know(self):
        for arguments, message in ((["--preset", "rocm"], '--preset is "rocm"'), (["--preset", "cuda"], "needs --base"),
                                   (["--tool", "make"], '--tool is "make"'), (["--tag"], "--tag needs a value"),
                                   (["image"], "unknown argument image")):
            with self.subTest(message):
                done = subprocess.run([CONTAINER / "build", *arguments], capture_output=True, text=True, timeout=30,
                                      check=False)
                self.assertEqual((done.returncode, message in done.stderr), (64, True), done.stderr)


if __name__ == "__main__":
    unittest.main()
