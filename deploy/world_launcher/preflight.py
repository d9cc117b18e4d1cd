"""Looks at every host of a world at once, before mpirun starts: each failure names host, what was found and
what would help."""

import collections
import dataclasses
import ipaddress
import json
import shlex
import socket

from world_launcher import channel as channels
from world_launcher import network as networks
from world_launcher import probe
from world_launcher.refusal import EXIT_UNAVAILABLE, EXIT_USAGE, Refusal

PROBE_S = 60.0
# Of the worker, which plan has too.
PLAN_FLAGS = ("--moe", "--linear-attention", "--quantize", "--device", "--kv-memory", "--slots")


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a start needs to know of its hosts."""

    network: ipaddress.IPv4Network
    addresses: dict  # host -> address on it


def look(settings, channel):
    """Checked, or a Refusal with every failure: code 69 where all that failed is that hosts are silent."""
    names = [host.name for host in settings.hosts]
    script = probe.probe_script(settings.world_id, settings.model, settings.bin, settings.is_random)
    replies = channel.run(names, script, PROBE_S)
    facts = {}
    silent = []
    for name, reply in replies.items():
        facts[name] = probe.parse(reply.output) if reply.code == 0 else None
        if facts[name] is None:
            silent.append(channels.why_silent(name, reply, channel.agent))
    problems = differing({name: fact for name, fact in facts.items() if fact is not None}, settings)
    if silent:
        raise Refusal(silent + problems, EXIT_USAGE if problems else EXIT_UNAVAILABLE)
    if not problems:
        problems = lacking_memory(facts, settings, _plan(settings, channel)) + lacking_gpus(facts, settings)
    network, more = _choose_network(facts, settings, channel)
    problems += more
    if network is not None:
        problems += taken_port(facts[names[0]], names[0], network, settings.port)
    if problems:
        raise Refusal(problems)
    cut_off = not_calling_back(settings, channel, network)
    if cut_off:
        raise Refusal(cut_off, EXIT_UNAVAILABLE)
    return Checked(network, networks.addresses_in(network, {name: facts[name].interfaces for name in names}))


def _most(values, names):
    """What most hosts have; of equals, the first host's."""
    count = collections.Counter(value for value in values.values() if value)
    best = max(count.values(), default=0)
    return next((values[name] for name in names if values[name] and count[values[name]] == best), "")


def differing(facts, settings):
    """Hosts that lack a program or the model, or have others than most hosts."""
    names = list(facts)
    worker = f"{settings.bin}/deltaserve-worker"
    problems = []
    build = _most({name: facts[name].build for name in names}, names)
    mpirun = _most({name: facts[name].mpirun for name in names}, names)
    weights = _most({name: facts[name].fingerprint for name in names}, names)
    for name in names:
        fact = facts[name]
        if not fact.mpirun:
            problems.append(f"host {name}: Open MPI: no mpirun on the PATH of its shell; install openmpi-bin there")
        elif fact.mpirun != mpirun:
            problems.append(f"host {name}: Open MPI: it has {fact.mpirun}, others {mpirun}; install one version")
        if not fact.build:
            problems.append(f"host {name}: binary: no {worker} that runs there; copy the build to the same "
                            "folder, or name its folder with --bin")
        elif fact.build != build:
            problems.append(f"host {name}: binary: {worker} is {fact.build}, on the other hosts {build}; copy "
                            "one build to every host")
        if not fact.has_model:
            problems.append(f"host {name}: model: no folder {settings.model} there; copy it to the same path on "
                            "every host, or share it")
        elif fact.refusal and fact.build:
            problems.append(f"host {name}: model: {fact.refusal}")
        elif fact.fingerprint and fact.fingerprint != weights:
            problems.append(f"host {name}: model: {settings.model} has fingerprint {fact.fingerprint}, on the other "
                            f"hosts {weights}; copy one folder to every host")
    return problems


def _plan(settings, channel):
    """What deltaserve-plan says of this world, asked of the first host: the binaries are there."""
    command = [f"{settings.bin}/deltaserve-plan", settings.model, "--json", "--ranks", str(settings.ranks)]
    for flag in PLAN_FLAGS:
        if settings.worker_flag(flag) is not None:
            command += [flag, settings.worker_flag(flag)]
    first = settings.hosts[0].name
    reply = channel.run([first], shlex.join(command), PROBE_S)[first]
    if reply.code != 0:
        raise Refusal(f"host {first}: {reply.error.strip() or reply.output.strip()}")
    return json.loads(reply.output)


def bytes_a_rank(plan, max_context=0):
    """A lower bound: weights, states, and keys and values as far as all slots can use them."""
    context = max_context or max(entry["context"] for entry in plan["kv_concurrency"])
    kv = min(plan["kv_memory"], plan["slots"] * context * plan["kv_bytes_per_token"])
    return plan["weights_total"]["bytes_a_rank"] + kv + plan["slots"] * plan["state_bytes_per_sequence"]


def lacking_memory(facts, settings, plan):
    """Of the hosts; a rank itself looks at its GPU's."""
    if settings.worker_flag("--device") == "cuda":
        return []
    need = bytes_a_rank(plan, int(settings.worker_flag("--max-context") or 0))
    problems = []
    for host in settings.hosts:
        have = facts[host.name].memory
        if have is not None and host.ranks * need > have:
            problems.append(f"host {host.name}: memory: its {host.ranks} ranks need {host.ranks * need / 1e9:.3f} GB "
                            f"and {have / 1e9:.3f} GB are free; give it fewer ranks, or a smaller --kv-memory (is "
                            f"{plan['kv_memory']}) or --slots (is {plan['slots']})")
    return problems


def lacking_gpus(facts, settings):
    if settings.worker_flag("--device") != "cuda":
        return []
    a_gpu = settings.ranks_per_gpu
    most = "a rank a GPU at most" if a_gpu == 1 else f"{a_gpu} ranks a GPU at most (--ranks-per-gpu)"
    return [f"host {host.name}: GPUs: --device is cuda, its ranks are {host.ranks} and its GPUs "
            f"{facts[host.name].gpus}; give it {most}, or --device cpu"
            for host in settings.hosts if facts[host.name].gpus * a_gpu < host.ranks]


def _choose_network(facts, settings, channel):
    interfaces = {host.name: facts[host.name].interfaces for host in settings.hosts}
    if not any(channel.is_local(host.name) for host in settings.hosts):
        # mpirun's daemons call back to it.
        here = channels.run_shell([], probe.LOCAL_INTERFACES, PROBE_S)
        interfaces[networks.LAUNCHER] = probe.parse(here.output).interfaces
    resolved = channels.resolve(settings.hosts[0].name)
    return networks.choose(interfaces, settings.network, resolved and ipaddress.IPv4Address(resolved))


def not_calling_back(settings, channel, network):
    """Hosts from which no TCP comes back to this machine over `network`: mpirun would wait for them for ever."""
    others = [host.name for host in settings.hosts if not channel.is_local(host.name)]
    if not others:
        return []
    here = probe.parse(channels.run_shell([], probe.LOCAL_INTERFACES, PROBE_S).output).interfaces
    mine = networks.addresses_in(network, {networks.LAUNCHER: here})[networks.LAUNCHER]
    with socket.create_server((str(mine), 0), backlog=len(others)) as listener:
        address = f"{mine}:{listener.getsockname()[1]}"
        replies = channel.run(others, probe.call_script(*listener.getsockname()), PROBE_S)
    return [f"host {name}: network: it cannot connect to {address} of this machine: "
            f"{(reply.error.strip().splitlines() or ['no answer'])[-1]}; let TCP through between the hosts on "
            f"{network}, or choose another --network" for name, reply in replies.items() if reply.code != 0]


def taken_port(facts, host, network, port):
    """`port` where rank 0 serves; 0 is any."""
    address = networks.addresses_in(network, {host: facts.interfaces})[host]
    if port == 0 or not facts.listens & {(None, port), (address, port)}:
        return []
    return [f"host {host}: port: something listens on {address}:{port} already; end it, or give another --port (0: "
            "a free one)"]
