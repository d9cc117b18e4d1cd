"""The rules of a world's size: memory, GPUs and time to load, from what deltaserve-plan says of its model."""

from pods import flag, flag_bytes, quantity

MODEL, GPU_MEMORY = "deltaserve.io/sized-for", "deltaserve.io/gpu-memory"
GPU = "nvidia.com/gpu"
REST = 512 << 20             # bytes of a rank beside weights, keys, values and states
LOADED_A_SECOND = 200e6      # bytes that a slow volume gives a host
WASTE = 1.5


class World:
    """The pods of one world, leader first."""

    def __init__(self, pods):
        self.pods = pods
        self.leader = pods[0]
        self.container = self.leader.spec["containers"][0]
        self.hosts = sum(pod.count for pod in pods)
        self.ranks_per_host = int(flag(self.container, "ranks-per-host"))


def _plan(world, programs):
    names = {pod.annotations.get(MODEL) for pod in world.pods}
    if len(names) != 1 or None in names:
        raise ValueError(f"annotation {MODEL}: every pod of the world names the same model, and {names} are there")
    flags = ["--ranks", str(world.ranks_per_host * world.hosts)]
    for name in ("kv-memory", "slots"):
        value = flag(world.container, name)
        if value is None:
            raise ValueError(f"--{name} is not given, and the memory of the pod depends on it")
        flags += [f"--{name}", value]
    try:
        return programs.plan(names.pop(), *flags)
    except ValueError as error:
        raise ValueError(f"deltaserve-plan {' '.join(flags)}: {error}") from error


def _rank_bytes(world, plan):
    return (plan["weights_total"]["bytes_a_rank"] + flag_bytes(flag(world.container, "kv-memory")) +
            plan["slots"] * plan["state_bytes_per_sequence"])


def _resource_errors(world, pod, rank_bytes):
    resources = pod.spec["containers"][0]["resources"]
    requests, limits = resources["requests"], resources["limits"]
    gpus = int(requests.get(GPU, 0))
    if int(limits.get(GPU, 0)) != gpus:
        yield pod.where, f"resources: {GPU} has to be the same in requests and limits"
    if flag(world.container, "device") != "cuda":
        need = world.ranks_per_host * (rank_bytes + REST)
        memory = quantity(requests["memory"])
        if not need <= memory <= WASTE * need:
            yield pod.where, f"memory {requests['memory']}: {need / 2**30:.1f} Gi are needed, by deltaserve-plan"
        if gpus:
            yield pod.where, f"resources: {GPU} for ranks that compute on CPUs"
        return
    if gpus != world.ranks_per_host:
        yield pod.where, f"resources: {gpus} of {GPU} for {world.ranks_per_host} ranks"
    if quantity(pod.annotations.get(GPU_MEMORY, "0")) < rank_bytes:
        yield pod.where, f"{GPU_MEMORY}: a rank needs {rank_bytes / 1e9:.1f} GB, by deltaserve-plan"


def world_has_its_size(world, programs):
    try:
        plan = _plan(world, programs)
    except ValueError as error:
        yield world.leader.where, str(error)
        return
    for pod in world.pods:
        yield from _resource_errors(world, pod, _rank_bytes(world, plan))
    # Weights are read in their published type, two bytes a parameter, by every rank of a host at once.
    seconds = world.ranks_per_host * plan["weights_total"]["bytes_a_rank"] / LOADED_A_SECOND
    probe = world.container.get("startupProbe", {})
    patience = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if patience < seconds:
        yield world.leader.where, f"startupProbe: {patience} s, and loading may take {seconds:.0f} s"
