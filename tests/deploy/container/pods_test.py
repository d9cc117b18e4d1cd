#!/usr/bin/python3
"""Builds the image with buildah and rehearses the pods of deploy/kubernetes with it on one machine: names,
variables and addresses as a LeaderWorkerSet gives them, commands, users and mounts as the manifests say.

    pods_test.py BIN_DIR     BIN_DIR holds deltaserve-chat, which asks from outside
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kubernetes")]
import pods  # noqa: E402
import rehearsal  # noqa: E402
import render  # noqa: E402
from pod import Pod, image_environment  # noqa: E402
from rehearsal import run, tell  # noqa: E402

PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap", "ssh-keygen": "openssh-client"}
BASE, IMAGE = "localhost/debian:12", "localhost/deltaserve:rehearsal"
BUILD_S = 3600
LEADER, WORKER, ROUTER, ALONE = "world-0", "world-0-1", "router", "world-cpu"
ADDRESSES = {LEADER: "10.77.0.1", WORKER: "10.77.0.2", ROUTER: "10.77.0.3", ALONE: "10.77.0.4"}
DOMAIN = "world.deltaserve"
LAUNCHER, MPI_WORKER = "world-launcher.world.deltaserve.svc", "world-worker-0.world.deltaserve.svc"
# What this machine has not: GPUs, and memory for a large model.
SMALLER = {"--device=cuda": None, "--ranks-per-host=8": "--ranks-per-host=2", "--kv-memory=16G": "--kv-memory=64M",
           "--kv-memory=4G": "--kv-memory=64M", "--kv-memory=1G": "--kv-memory=64M", "--slots=64": "--slots=4",
           "--slots=16": "--slots=4"}
ENTRY = "/opt/deltaserve/entry"
BIN = pathlib.Path()  # from the command line


def make_base(folder):
    """A Debian without an engine or a registry: from its packages."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return
    start = time.monotonic()
    run("debootstrap", "--variant=minbase", "bookworm", folder / "rootfs", timeout_s=BUILD_S)
    run("tar", "--create", "--file", folder / "rootfs.tar", "--directory", folder / "rootfs", ".", timeout_s=600)
    (folder / "Containerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
    run("buildah", "build", "--isolation", "chroot", "--tag", BASE, folder, timeout_s=600)
    tell(f"base image in {time.monotonic() - start:.0f} s")


def make_image():
    with tempfile.TemporaryDirectory(prefix="deltaserve-base-", dir="/var/tmp") as folder:
        make_base(pathlib.Path(folder))
    start = time.monotonic()
    text = run(rehearsal.ROOT / "deploy" / "container" / "build", "--tool", "buildah", "--base", BASE, "--tag", IMAGE,
               timeout_s=BUILD_S)
    tell(f"{text.strip().splitlines()[-1]}, built in {time.monotonic() - start:.0f} s")


def arguments_of(template):
    """The manifest's, smaller."""
    return [changed for changed in (SMALLER.get(word, word) for word in template.spec["containers"][0]["args"])
            if changed is not None]


def hook_of(template):
    return template.spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]


class PodsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="deltaserve-pods-", dir="/var/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.container = run("buildah", "from", "--pull-never", IMAGE).strip()
        cls.addClassCleanup(run, "buildah", "rm", cls.container)
        cls.root = run("buildah", "mount", cls.container).strip()
        # As container runtimes make them, to mount on.
        pathlib.Path(cls.root, "etc/hosts").touch()
        pathlib.Path(cls.root, "etc/mpi").mkdir()
        cls.environment = image_environment(IMAGE)
        cls.templates = cls.templates_of("gpu-hosts")
        cls.make_keys()
        names = "".join(f"{address} {name}.{DOMAIN} {name}\n" for name, address in ADDRESSES.items())
        cls.hosts_file = cls.folder / "hosts"
        cls.hosts_file.write_text(names + f"127.0.0.1 localhost\n{ADDRESSES[LEADER]} deltaserve-world {LAUNCHER}\n"
                                  f"{ADDRESSES[WORKER]} {MPI_WORKER}\n")
        for name, address in ADDRESSES.items():
            # The holder of a host keeps the pipes open: no output is waited for.
            subprocess.run([rehearsal.ADD_HOST, name, address, rehearsal.DEMO_MODEL], check=True, timeout=30)

    @classmethod
    def templates_of(cls, overlay):
        """{role of its pods: template}"""
        objects = render.render(rehearsal.ROOT / "deploy" / "kubernetes" / "overlays" / overlay)
        return {template.spec["containers"][0]["args"][0]: template for one in objects
                for template in pods.pods_of(one)}

    @classmethod
    def make_keys(cls):
        """The Secret, by the command of docs/kubernetes.md, as a kubelet mounts it for fsGroup 1000."""
        keys = cls.folder / "ssh"
        keys.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deltaserve", "-f", keys / "id")
        for file in keys.iterdir():
            os.chown(file, 0, 1000)
            file.chmod(0o440)

    def start(self, name, template, lws=None):
        sources = {"model": rehearsal.DEMO_MODEL, "ssh": self.folder / "ssh"}
        pod = Pod(name, self.root, template, self.hosts_file, sources,
                  {**self.environment, **(lws or {})}, [ENTRY, *arguments_of(template)], self.folder / f"{name}.log")
        self.addCleanup(pod.kill)
        return pod

    def start_group(self):
        """Leader and worker as a LeaderWorkerSet names them; in the order that needs the leader to wait."""
        lws = {"LWS_LEADER_ADDRESS": f"{LEADER}.{DOMAIN}", "LWS_GROUP_SIZE": "2"}
        leader = self.start(LEADER, self.templates["leader"], {**lws, "LWS_WORKER_INDEX": "0"})
        time.sleep(2)
        return leader, self.start(WORKER, self.templates["worker"], {**lws, "LWS_WORKER_INDEX": "1"})

    def ask(self):
        return rehearsal.ask([BIN / "deltaserve-chat"], f"{ADDRESSES[ROUTER]}:50051")

    def tearDown(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}", flush=True)

    def test_group_of_two_pods_serves_dies_whole_serves_again_and_drains(self):
        router = self.start(ROUTER, self.templates["router"])
        start = time.monotonic()
        leader, worker = self.start_group()
        self.ask()
        tell(f"an answer {time.monotonic() - start:.1f} s after the group's first pod")
        for pod in (router, leader, worker):
            code, text = pod.execute("touch", "/opt/deltaserve/new")
            self.assertIn("Read-only file system", text)
            self.assertEqual((code, pod.execute("id", "-u")), (1, (0, "1000\n")))

        start = time.monotonic()
        worker.kill()
        code = leader.process.wait(60)
        self.assertNotEqual(code, 0)
        tell(f"the leader ended with {code}, {time.monotonic() - start:.1f} s after the worker's pod")
        leader, worker = self.start_group()
        self.ask()
        tell(f"an answer {time.monotonic() - start:.1f} s after it, of the group made anew; the router ran on")

        for pod, role in ((router, "router"), (leader, "leader"), (worker, "worker")):
            start = time.monotonic()
            code = pod.stop(hook_of(self.templates[role]), 60)
            tell(f"{role}: code {code}, {time.monotonic() - start:.1f} s after the stop began")
            self.assertEqual(code, 0)

    def test_one_pod_serves_and_drains(self):
        alone = self.templates_of("cpu")
        hosts = self.hosts_file.read_text()
        self.hosts_file.write_text(hosts.replace(f"{ADDRESSES[LEADER]} deltaserve-world",
                                                 f"{ADDRESSES[ALONE]} deltaserve-world"))
        self.addCleanup(self.hosts_file.write_text, hosts)
        router = self.start(ROUTER, alone["router"])
        start = time.monotonic()
        world = self.start(ALONE, alone["leader"])
        self.ask()
        tell(f"an answer {time.monotonic() - start:.1f} s after a world's only pod")
        self.assertEqual(world.stop(hook_of(alone["leader"]), 60), 0)
        self.assertEqual(router.stop(hook_of(alone["router"]), 60), 0)

    def test_an_mpijob_serves_and_drains(self):
        """With the Secret, the hostfile and the variables that the MPI operator gives."""
        keys, hostfile = self.folder / "mpi-ssh", self.folder / "mpi"
        shutil.copytree(self.folder / "ssh", keys)
        (keys / "id").rename(keys / "id_rsa")
        (keys / "id.pub").rename(keys / "id_rsa.pub")
        for file in keys.iterdir():
            file.chmod(0o644)
        hostfile.mkdir()
        (hostfile / "hostfile").write_text(f"{LAUNCHER} slots=1\n{MPI_WORKER} slots=1\n")
        templates = self.templates_of("mpijob")
        variables = {"OMPI_MCA_orte_keep_fqdn_hostnames": "true", "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
                     "OMPI_MCA_orte_default_hostfile": "/etc/mpi/hostfile", "OMPI_MCA_orte_set_default_slots": "1"}
        router = self.start(ROUTER, templates["router"])
        started = {}
        for name, role in ((WORKER, "worker"), (LEADER, "leader")):
            template = templates[role]
            own = {one["name"]: one["value"] for one in template.spec["containers"][0]["env"]}
            pod = Pod(name, self.root, template, self.hosts_file, {"model": rehearsal.DEMO_MODEL},
                      {**self.environment, **own, **(variables if role == "leader" else {})},
                      [ENTRY, *arguments_of(template)], self.folder / f"mpi-{name}.log",
                      [(keys, "/etc/deltaserve/ssh"), (hostfile, "/etc/mpi")])
            self.addCleanup(pod.kill)
            started[role] = pod
        self.ask()
        self.assertEqual(started["leader"].stop(hook_of(templates["leader"]), 60), 0)
        self.assertEqual(started["worker"].stop(hook_of(templates["worker"]), 60), 0)
        self.assertEqual(router.stop(hook_of(templates["router"]), 60), 0)

    def test_a_group_with_another_key_is_refused(self):
        lws = {"LWS_LEADER_ADDRESS": f"{LEADER}.{DOMAIN}", "LWS_GROUP_SIZE": "2"}
        worker = self.start(WORKER, self.templates["worker"], lws)
        strangers = self.folder / "other"
        strangers.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", strangers / "id")
        for file in strangers.iterdir():
            os.chown(file, 0, 1000)
            file.chmod(0o440)
        template = self.templates["leader"]
        arguments = ["--wait=3" if word == "--wait=600" else word for word in arguments_of(template)]
        pod = Pod(LEADER, self.root, template, self.hosts_file, {"model": rehearsal.DEMO_MODEL, "ssh": strangers},
                  {**self.environment, **lws}, [ENTRY, *arguments], self.folder / "other.log")
        self.addCleanup(pod.kill)
        self.assertEqual(pod.process.wait(60), 69)
        self.assertIn(f"host {WORKER}.{DOMAIN}: not reached", (self.folder / "other.log").read_text())
        self.assertIsNone(worker.process.poll())


def main():
    global BIN
    if sys.argv[1] != "--inside":
        rehearsal.need(PROGRAMS)
        make_image()  # here: the machine below has no way out
        done = subprocess.run([rehearsal.MACHINE, sys.executable, __file__, "--inside", *sys.argv[1:]], check=False)
        if done.returncode == rehearsal.SKIPPED:
            print("SKIPPED: no machine of its own could be made; why is above")
        return done.returncode
    BIN = pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    sys.exit(main())
