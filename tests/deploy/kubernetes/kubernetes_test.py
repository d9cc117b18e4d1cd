#!/usr/bin/python3
"""deploy/kubernetes as it is passes the checker, and each planted mistake is caught by its name.

    kubernetes_test.py BIN_DIR
"""

import copy
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import check
import render
import rules
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu-hosts", "mpijob")
BIN = pathlib.Path()  # from the command line


def objects_of(overlay):
    """What a cluster with all of it holds."""
    folders = (KUBERNETES / "overlays" / overlay, KUBERNETES / "model", KUBERNETES / "monitoring")
    return [one for folder in folders for one in render.render(folder)]


class At:
    """An object by kind and name, and a path into it: "spec.ports.0.name"."""

    def __init__(self, name, path):
        self.name = name
        *self.steps, self.last = [int(step) if step.isdigit() else step.replace("|", ".")
                                  for step in path.split(".")]

    def parent(self, objects):
        here = next(one for one in objects if rules.name_of(one) == self.name)
        for step in self.steps:
            here = here[step]
        return here


def put(name, path, value):
    at = At(name, path)

    def plant(objects):
        at.parent(objects)[at.last] = value
    return plant


def rename(name, path, new):
    at = At(name, path)

    def plant(objects):
        parent = at.parent(objects)
        parent[new] = parent.pop(at.last)
    return plant


def remove(name, path):
    at = At(name, path)

    def plant(objects):
        del at.parent(objects)[at.last]
    return plant


def argument(name, path, old, new):
    at = At(name, path)

    def plant(objects):
        arguments = at.parent(objects)[at.last]
        arguments[arguments.index(old)] = new
    return plant


ROUTER = "Deployment/deltaserve-router"
ROUTER_POD = "spec.template.spec."
WORLD = "Deployment/deltaserve-world"
GROUP = "LeaderWorkerSet/world"
LEADER = "spec.leaderWorkerTemplate.leaderTemplate.spec."
WORKER = "spec.leaderWorkerTemplate.workerTemplate.spec."
CONTAINER = "containers.0."

# overlay, mistake, what the one line that tells it has to say
MISTAKES = (
    ("cpu", rename(ROUTER, ROUTER_POD + CONTAINER + "livenessProbe", "livenesProbe"),
     r"router: .*livenesProbe"),
    ("cpu", put(ROUTER, ROUTER_POD + CONTAINER + "readinessProbe.failureThreshold", "2"),
     r"failureThreshold: '2' is not of type 'integer'"),
    ("gpu-hosts", put(GROUP, "spec.leaderWorkerTemplate.restartPolicy", "RecreateGroup"), r"restartPolicy: "),
    ("mpijob", rename("MPIJob/world", "spec.slotsPerWorker", "slotsPerWorkers"), r"slotsPerWorkers"),
    ("cpu", put("Service/deltaserve-world", "spec.selector.deltaserve|io/role", "rank0"),
     r"Service/deltaserve-world: its selector matches no pod"),
    ("cpu", put("Service/deltaserve-router", "spec.ports.0.targetPort", "grcp"),
     r"Service/deltaserve-router: port grcp is none of"),
    ("cpu", put("PodDisruptionBudget/deltaserve-router", "spec.selector.matchLabels.app|kubernetes|io/component",
                "routers"), r"PodDisruptionBudget/deltaserve-router: selector .* matches no pod"),
    ("cpu", put(ROUTER, "spec.selector", {"matchLabels": {"app": "router"}}), r"does not match its own pods"),
    ("cpu", put("NetworkPolicy/deltaserve-world", "spec.ingress.0.ports.0.port", "http"),
     r"NetworkPolicy/deltaserve-world: port http is none"),
    ("cpu", put("PodMonitor/deltaserve-world", "spec.podMetricsEndpoints.0.port", "metric"),
     r"PodMonitor/deltaserve-world: port metric is none"),
    ("cpu", put("HorizontalPodAutoscaler/deltaserve-router", "spec.scaleTargetRef.name", "router"),
     r"there is no Deployment/router"),
    ("cpu", put(ROUTER, "spec.replicas", 2), r"replicas: each apply would undo"),
    ("cpu", argument(ROUTER, ROUTER_POD + CONTAINER + "args", "--world=deltaserve-world:50052",
                     "--world=deltaserve-wold:50052"), r"--world=deltaserve-wold:50052: there is no such Service"),
    ("cpu", put(ROUTER, ROUTER_POD + CONTAINER + "livenessProbe.grpc.port", 50052),
     r"livenessProbe: port 50052 is not"),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "startupProbe.grpc.service", "redy"),
     r"startupProbe: there is no health service \"redy\""),
    ("cpu", remove(WORLD, ROUTER_POD + CONTAINER + "readinessProbe.grpc.service"),
     r"readinessProbe: it does not ask"),
    ("gpu-hosts", put(GROUP, WORKER + CONTAINER + "readinessProbe.tcpSocket.port", "sshd"),
     r"readinessProbe: the container has no port sshd"),
    ("cpu", remove(WORLD, ROUTER_POD + CONTAINER + "startupProbe"), r"startupProbe: "),
    ("cpu", argument(ROUTER, ROUTER_POD + CONTAINER + "args", "--listen=0.0.0.0:50051", "--listen=127.0.0.1:50051"),
     r"--listen=127.0.0.1:50051: it has to be 0.0.0.0:50051"),
    ("cpu", argument(WORLD, ROUTER_POD + CONTAINER + "args", "--port=50052", "--port=50053"),
     r"--port=50053: it has to be 50052"),
    ("cpu", put(ROUTER, ROUTER_POD + CONTAINER + "image", "deltaserve:latest"), r"image deltaserve:latest: pin"),
    ("cpu", put(ROUTER, ROUTER_POD + CONTAINER + "image", "deltaserve"), r"image deltaserve: pin"),
    ("cpu", argument(WORLD, ROUTER_POD + CONTAINER + "args", "--slots=16", "--num-slots=16"),
     r"deltaserve-worker has no flag --num-slots"),
    ("cpu", argument(ROUTER, ROUTER_POD + CONTAINER + "args", "--drain-timeout=300", "300"), r"300: write flags as"),
    ("cpu", argument(ROUTER, ROUTER_POD + CONTAINER + "args", "--drain-timeout=300", "--drain-timeout=5m"),
     r"--drain-timeout"),
    ("cpu", argument(WORLD, ROUTER_POD + CONTAINER + "args", "leader", "lead"), r"role \"lead\" is none of"),
    ("gpu-hosts", argument(GROUP, LEADER + CONTAINER + "args", "--network=10.0.0.0/8", "--network=eth0"),
     r"--network is eth0: a network has a length"),
    ("mpijob", put("MPIJob/world", "spec.mpiReplicaSpecs.Worker.template.spec.containers.0.env.0.name",
                   "DELTASERVE_SSH_KEYS"), r"variable DELTASERVE_SSH_KEYS"),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "volumeMounts.0.name", "models"), r"there is no volume models"),
    ("cpu", put(WORLD, ROUTER_POD + "volumes.0.persistentVolumeClaim.claimName", "model"),
     r"there is no claim model"),
    ("gpu-hosts", put(GROUP, LEADER + "volumes.1.secret.secretName", "ssh"), r"no command makes a Secret ssh"),
    ("gpu-hosts", put(GROUP, WORKER + "volumes.1.secret.items.1.path", "id_rsa.pub"),
     r"world worker: /etc/deltaserve/ssh/id.pub: no Secret is mounted there"),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "volumeMounts.0.readOnly", False), r"mounted read-only"),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "volumeMounts.1.mountPath", "/var/tmp"),
     r"/tmp: the root folder is read-only"),
    ("cpu", put(ROUTER, ROUTER_POD + "securityContext.runAsUser", 0), r"it has to run as 1000"),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "securityContext.readOnlyRootFilesystem", False), r"read-only root"),
    ("cpu", remove(WORLD, ROUTER_POD + "automountServiceAccountToken"), r"automountServiceAccountToken"),
    ("cpu", put(WORLD, ROUTER_POD + "terminationGracePeriodSeconds", 300),
     r"terminationGracePeriodSeconds: a drain may need 320"),
    ("cpu", remove(ROUTER, ROUTER_POD + CONTAINER + "lifecycle"), r"preStop: "),
    ("cpu", put(WORLD, ROUTER_POD + CONTAINER + "resources.requests.memory", "3Gi"),
     r"memory 3Gi: 5\.\d Gi are needed, by deltaserve-plan"),
    ("mpijob", put("MPIJob/world", "spec.mpiReplicaSpecs.Worker.replicas", 4), r"5 ranks"),
    ("gpu-hosts", argument(GROUP, LEADER + CONTAINER + "args", "--ranks-per-host=8", "--ranks-per-host=4"),
     r"8 of nvidia.com/gpu for 4 ranks"),
    ("gpu-hosts", argument(GROUP, LEADER + CONTAINER + "args", "--kv-memory=16G", "--kv-memory=32G"),
     r"gpu-memory: a rank needs 8\d\.\d GB"),
    ("gpu-hosts", put(GROUP, LEADER + CONTAINER + "startupProbe.failureThreshold", 60),
     r"startupProbe: 600 s, and loading may take"),
)


class ManifestsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.checker = check.Checker(BIN)
        cls.objects = {overlay: objects_of(overlay) for overlay in OVERLAYS}

    def test_what_is_there_has_no_mistake(self):
        for overlay in OVERLAYS:
            with self.subTest(overlay):
                self.assertEqual(self.checker.errors(self.objects[overlay]), [])

    def test_every_planted_mistake_is_told(self):
        for overlay, plant, message in MISTAKES:
            with self.subTest(message):
                objects = copy.deepcopy(self.objects[overlay])
                plant(objects)
                found = self.checker.errors(objects)
                self.assertTrue(any(re.search(message, line) for line in found), found)

    def test_commands_of_the_documentation_make_what_is_made_by_hand(self):
        text = (ROOT / "docs" / "kubernetes.md").read_text()
        for kind, name in rules.MADE_BY_HAND:
            self.assertRegex(text, rf"kubectl .*create {kind.lower()} generic {name}\b")

    def test_renders_as_kubectl_does(self):
        if shutil.which("kubectl") is None:
            self.skipTest("no kubectl on PATH; what is checked is what tests/deploy/kubernetes/render.py renders")
        for folder in [KUBERNETES / "overlays" / overlay for overlay in OVERLAYS] + [
                KUBERNETES / "model", KUBERNETES / "monitoring"]:
            with self.subTest(folder.name):
                done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, check=True)
                self.assertEqual({rules.name_of(one): one for one in yaml.safe_load_all(done.stdout)},
                                 {rules.name_of(one): one for one in render.render(folder)})


class RenderTest(unittest.TestCase):
    def malformed(self, kustomization, resource=""):
        with tempfile.TemporaryDirectory() as folder:
            at = pathlib.Path(folder)
            (at / "kustomization.yaml").write_text(kustomization)
            (at / "a.yaml").write_text(resource)
            with self.assertRaises(render.Malformed) as caught:
                render.render(at)
            return str(caught.exception)

    def test_refuses_what_it_would_not_render(self):
        self.assertIn("patches", self.malformed("kind: Kustomization\nresources: []\npatches: []\n"))
        self.assertIn("kind", self.malformed("kind: Kustomization\nresources: [a.yaml]\n", "kind: A\nkind: B\n"))
        self.assertIn("b.yaml", self.malformed("kind: Kustomization\nresources: [b.yaml]\n"))


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
