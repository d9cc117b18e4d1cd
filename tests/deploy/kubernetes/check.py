#!/usr/bin/python3
"""Checks the manifests of deploy/kubernetes without a cluster.

    check.py BIN_DIR PATH...    each PATH the folder of a kustomization, or a file of rendered objects; all
                                of them are one cluster's. Prints what is wrong; exit 1 if anything is
"""

import pathlib
import sys

import programs
import render
import rules
import schema
import sizes
from pods import pods_of


class Checker:
    def __init__(self, bin_folder):
        self._programs = programs.Programs(bin_folder)
        self._schemas = schema.Schemas(programs.ROOT / "tests" / "data" / "kubernetes_schemas")

    def errors(self, objects):
        """What is wrong with the objects of one cluster, as lines. The rules assume what schemas demand, so
        that they are asked only of objects that pass them."""
        found = [f"{rules.name_of(one)}: {path}: {message}" for one in objects
                 for path, message in self._schemas.errors(one)]
        return found or [f"{where}: {message}" for where, message in self._rule_errors(objects)]

    def _rule_errors(self, objects):
        pods = [pod for one in objects for pod in pods_of(one)]
        yield from rules.names_are_unique(objects)
        yield from rules.services_reach_pods(objects, pods)
        yield from rules.selectors_hit_pods(objects, pods)
        yield from rules.policies_name_ports(objects, pods)
        yield from rules.scaled_objects_exist(objects)
        yield from rules.worlds_are_served(objects, pods)
        for pod in pods:
            yield from self._pod_errors(pod, objects)
        for one in objects:
            of_one = [pod for pod in pods_of(one) if pod.is_world()]
            if of_one:
                yield from self._world_errors(one, of_one)

    def _pod_errors(self, pod, objects):
        refused = list(self._command_errors(pod))
        if refused:  # the rules below read values that the binaries take
            yield from refused
            return
        yield from rules.probes_are_answered(pod)
        yield from rules.listeners_are_ports(pod)
        yield from rules.images_are_pinned(pod)
        yield from rules.volumes_exist(pod, objects)
        yield from rules.model_is_mounted_read_only(pod)
        yield from rules.pods_are_confined(pod)
        yield from rules.drains_fit(pod)
        yield from rules.requests_are_set(pod)

    def _command_errors(self, pod):
        for container in pod.containers:
            for one in container.get("env", []):
                if not self._programs.takes_variable(one["name"]):
                    yield pod.where, f"variable {one['name']}: deploy/container/entry --help does not name it"
            if "command" not in container:
                for message in self._programs.role_errors(container.get("args", [])):
                    yield pod.where, message

    def _world_errors(self, one, pods):
        world = sizes.World(pods)
        yield from sizes.world_has_its_size(world, self._programs)
        for pod in pods:
            yield from rules.keys_are_mounted(pod, world.hosts > 1, one["spec"].get("sshAuthMountPath"))


def main():
    checker = Checker(sys.argv[1])
    objects = []
    for path in map(pathlib.Path, sys.argv[2:]):
        objects += render.render(path) if path.is_dir() else render.load(path)
    found = checker.errors(objects)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
