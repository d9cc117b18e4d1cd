#!/usr/bin/python3
"""deploy/slurm in a real Slurm of two nodes, on one machine: slurmctld on a machine of its own, each slurmd on
a host of it. Jobs are submitted as docs/slurm.md says.

    slurm_test.py BIN_DIR
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.dont_write_bytecode = True
import rehearsal  # noqa: E402
from rehearsal import run, tell, wait_until  # noqa: E402

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
NODES = {"node-1": "10.77.0.1", "node-2": "10.77.0.2"}
DRAIN_S, REQUEUE_S = 60, 120
BIN = pathlib.Path()  # from the command line

CONF = """
ClusterName=rehearsal
SlurmctldHost=machine(10.77.0.254)
AuthType=auth/munge
AuthInfo=socket={run}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
JobRequeue=1
MinJobAge=600
SlurmdPort=17001
StateSaveLocation={run}/state
SlurmctldPidFile={run}/slurmctld.pid
SlurmctldLogFile={run}/slurmctld.log
SlurmdSpoolDir={run}/spool-%n
SlurmdPidFile={run}/slurmd-%n.pid
SlurmdLogFile={run}/slurmd-%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


class Slurm:
    """Daemons on this machine and its hosts; they end with the machine."""

    def __init__(self, folder):
        self._daemons = []
        self.folder = folder  # on no /tmp: hosts have one of their own
        nodes = "\n".join(f"NodeName={name} NodeHostname={name} NodeAddr={address} CPUs=4 RealMemory=2000"
                          for name, address in NODES.items())
        (folder / "slurm.conf").write_text(CONF.format(run=folder, nodes=nodes))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        for name in ["state", *(f"spool-{node}" for node in NODES)]:
            (folder / name).mkdir()
        for name, address in NODES.items():
            # Its holder keeps the pipes open: no output is waited for.
            subprocess.run([rehearsal.ADD_HOST, name, address, rehearsal.ROOT, BIN], check=True, timeout=30)
        self._start_munge()
        self._start(["slurmctld", "-D", "-i"], "slurmctld")
        for name in NODES:
            self._start([*self.on(name), "slurmd", "-D", "-N", name], f"slurmd-{name}")
        wait_until("both nodes idle", lambda: run("sinfo", "-h", "-o", "%t %D").split() == ["idle", "2"], 60)

    def on(self, node):
        """The way to a node, as a prefix of commands."""
        holder = pathlib.Path("/run/hosts", node).read_text().strip()
        return ["nsenter", "--target", holder, "--net", "--uts", "--ipc", "--mount"]

    def _start_munge(self):
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._start(["munged", "--foreground", "--force", f"--key-file={key}",
                     f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid",
                     f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed"], "munge")
        wait_until("munge's socket", (self.folder / "munge.socket").exists, 20)

    def _start(self, command, name):
        with open(self.folder / f"{name}.out", "wb") as log:
            self._daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def end(self):
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(20)

    def submit(self, script, *options, **variables):
        """A job's number. The folder of submission is where logs and address files go."""
        as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        environment = {**os.environ, **as_root, "DELTASERVE_BIN": str(BIN), **variables}
        text = run("sbatch", "--parsable", *options, rehearsal.ROOT / "deploy" / "slurm" / script,
                   cwd=self.folder, env=environment)
        return text.strip()

    def job(self, number):
        """{field: value} of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", run("scontrol", "show", "job", number)))

    def signal_batch(self, number, name):
        run("scancel", "--batch", f"--signal={name}", number)

    def await_end(self, number, timeout_s):
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        return wait_until(f"the end of job {number}",
                          lambda: (lambda job: job if job["JobState"] in ended else None)(self.job(number)), timeout_s)

    def address(self, name, not_this=None):
        """What the address file holds once it is another than `not_this`."""
        file = self.folder / f"deltaserve-{name}.address"

        def read():
            text = file.read_text().strip() if file.exists() else ""
            return text if text != not_this else ""

        return wait_until(f"{file.name} of a {name} that is ready", read, REQUEUE_S)

    def logs(self):
        return "".join(f"--- {file.name}\n{file.read_text(errors='replace')[-6000:]}"
                       for file in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out")))


WORLD = ("--ntasks-per-node=2", "--time=10")
MODEL = {"DELTASERVE_MODEL": str(rehearsal.DEMO_MODEL), "DELTASERVE_NETWORK": "10.77.0.0/24",
         "DELTASERVE_FLAGS": "--kv-memory 64M --slots 4 --drain-timeout 20"}


class SlurmTest(unittest.TestCase):
    """One Slurm for all: the tests leave no job behind."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="deltaserve-slurm-", dir="/var/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        start = time.monotonic()
        cls.slurm = Slurm(cls.folder)
        cls.addClassCleanup(cls.slurm.end)
        tell(f"two nodes are idle after {time.monotonic() - start:.1f} s")

    def setUp(self):
        self.addCleanup(self.end_jobs)

    def end_jobs(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            print(self.slurm.logs(), flush=True)
        run("scancel", "--user=root")
        wait_until("no job left", lambda: run("squeue", "-h") == "", 60)
        for file in self.folder.glob("*.address"):
            file.unlink()

    def ask(self, router):
        return rehearsal.ask([BIN / "deltaserve-chat"], router)

    def assert_ended(self, number, state, code):
        job = self.slurm.await_end(number, DRAIN_S)
        self.assertEqual((job["JobState"], job["ExitCode"]), (state, code))

    def test_world_and_router_serve_through_losses_and_drain(self):
        start = time.monotonic()
        world = self.slurm.submit("world.sbatch", *WORLD, **MODEL)
        router = self.slurm.submit("router.sbatch", "--time=10", DELTASERVE_ROUTER_LISTEN="0.0.0.0:50051",
                                   DELTASERVE_ROUTER_FLAGS="--drain-timeout 20")
        first = self.slurm.address("world")
        self.slurm.address("router")
        node = self.slurm.job(router)["BatchHost"]
        at = f"{NODES[node]}:50051"
        self.ask(at)
        tell(f"an answer {time.monotonic() - start:.1f} s after both were submitted")

        lost = time.monotonic()
        holder = self.slurm.on("node-2")
        run(*holder, "sh", "-c", "kill -9 $(grep -l deltaserve-work /proc/[0-9]*/comm | cut -d / -f 3 | tail -n 1)")
        second = self.slurm.address("world", first)
        self.ask(at)
        tell(f"an answer {time.monotonic() - lost:.1f} s after a rank was killed, of the job queued again")
        self.assertEqual(self.slurm.job(world)["Restarts"], "1")

        lost = time.monotonic()
        self.slurm.signal_batch(world, "USR2")  # what --signal sends before the time limit
        self.slurm.address("world", second)
        self.ask(at)
        tell(f"an answer {time.monotonic() - lost:.1f} s after the signal before the time limit")
        self.assertEqual(self.slurm.job(world)["Restarts"], "2")

        for job in (router, world):
            self.slurm.signal_batch(job, "USR1")
            self.assert_ended(job, "COMPLETED", "0:0")
        self.assertEqual(list(self.folder.glob("*.address")), [])
        for name in NODES:
            self.assertEqual(run(*self.slurm.on(name), "sh", "-c", "ls /dev/shm"), "")

    def test_time_limit_drains_and_queues_again(self):
        world = self.slurm.submit("world.sbatch", *WORLD, "--time=1", "--signal=B:USR2@15", **MODEL)
        first = self.slurm.address("world")
        self.slurm.address("world", first)
        self.assertEqual(self.slurm.job(world)["Restarts"], "1")
        self.slurm.signal_batch(world, "USR1")
        self.assert_ended(world, "COMPLETED", "0:0")

    def test_srun_starts_a_world_too(self):
        world = self.slurm.submit("world.sbatch", *WORLD, DELTASERVE_LAUNCH="srun", **MODEL)
        router = self.slurm.submit("router.sbatch", "--time=10", "--nodelist=node-1",
                                   DELTASERVE_ROUTER_LISTEN="0.0.0.0:50051")
        self.slurm.address("router")
        self.ask(f"{NODES['node-1']}:50051")
        for job in (router, world):
            self.slurm.signal_batch(job, "USR1")
            self.assert_ended(job, "COMPLETED", "0:0")

    def test_what_cannot_work_is_told_and_not_queued_again(self):
        for variables, message in (({"DELTASERVE_MODEL": ""}, "DELTASERVE_MODEL is not set"),
                                   ({"DELTASERVE_MODEL": "/nowhere"}, "one of them cannot read"),
                                   ({"DELTASERVE_LAUNCH": "ssh"}, "DELTASERVE_LAUNCH is \"ssh\""),
                                   ({"DELTASERVE_FLAGS": "--slots many"}, "--slots")):
            with self.subTest(message):
                job = self.slurm.submit("world.sbatch", *WORLD, **{**MODEL, **variables})
                self.assert_ended(job, "FAILED", "64:0")
                self.assertIn(message, (self.folder / f"deltaserve-world-{job}.log").read_text())


def main():
    global BIN
    if sys.argv[1] != "--inside":
        rehearsal.need(PROGRAMS)
        done = subprocess.run([rehearsal.MACHINE, sys.executable, __file__, "--inside", *sys.argv[1:]], check=False)
        if done.returncode == rehearsal.SKIPPED:
            print("SKIPPED: no machine of its own could be made; why is above")
        return done.returncode
    BIN = pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    sys.exit(main())
