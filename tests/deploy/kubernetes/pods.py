"""The pods that objects make, and what rules ask of them."""

import dataclasses

WORLD_LABEL = ("app.kubernetes.io/component", "world")


@dataclasses.dataclass
class PodTemplate:
    """The pods of one template: `hosts` of them in a world, all of them alike."""

    where: str
    labels: dict
    annotations: dict
    spec: dict
    count: int  # in one world, or of one Deployment

    @property
    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    def ports(self):
        return [port for container in self.containers for port in container.get("ports", [])]

    def is_world(self):
        return self.labels.get(WORLD_LABEL[0]) == WORLD_LABEL[1]


def _template(where, template, count=1):
    metadata = template.get("metadata", {})
    return PodTemplate(where, metadata.get("labels", {}), metadata.get("annotations", {}), template["spec"], count)


def pods_of(one):
    """The templates in an object of any kind that has some."""
    where = f"{one['kind']}/{one['metadata']['name']}"
    spec = one.get("spec", {})
    if one["kind"] == "Pod":
        return [_template(where, one)]
    if one["kind"] == "Deployment":
        return [_template(where, spec["template"])]
    if one["kind"] == "LeaderWorkerSet":
        group = spec["leaderWorkerTemplate"]
        return [_template(where + " leader", group["leaderTemplate"]),
                _template(where + " worker", group["workerTemplate"], group["size"] - 1)]
    if one["kind"] == "MPIJob":
        replicas = spec["mpiReplicaSpecs"]
        return [_template(where + " launcher", replicas["Launcher"]["template"]),
                _template(where + " worker", replicas["Worker"]["template"], replicas["Worker"]["replicas"])]
    return []


def matches(selector, labels):
    """A LabelSelector, of which only matchLabels is in use."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def flag(container, name):
    """The value of --name=VALUE among a container's arguments, or None."""
    for argument in container.get("args", []):
        if argument.startswith(f"--{name}="):
            return argument.split("=", 1)[1]
    return None


def model_of(container):
    """The model folder of a leader, or None."""
    arguments = container.get("args", [])
    return arguments[1] if arguments[:1] == ["leader"] else None


UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text):
    """A Kubernetes quantity as a number: "512Mi", "2", "100m"."""
    text = str(text)
    if text.endswith("m"):
        return float(text[:-1]) / 1000
    digits = text.rstrip("kMGTi")
    return float(digits) * UNITS[text[len(digits):]]


def flag_bytes(text):
    """Bytes as the binaries' flags take them: "512M" counts in 1024s."""
    return quantity(text + "i" if text[-1] in "KMGT" else text)
