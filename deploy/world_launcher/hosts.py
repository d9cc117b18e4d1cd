"""Which hosts, with how many ranks each: a hostfile or a list. Pure but for reading the file."""

import dataclasses
import re

from world_launcher.refusal import Refusal

# Open MPI packs host names by a pattern that knows only these; others end its daemons.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclasses.dataclass(frozen=True)
class Host:
    name: str
    ranks: int


def read_hostfile(path):
    """[(name, slots or None, where it is written)] of the file's lines "HOST [slots=N]", # for comments."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise Refusal(f"--hostfile is {path}: {error.strerror}; give a file with a line \"HOST slots=N\" "
                      "for each host") from error
    entries = []
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"--hostfile {path} line {number}"
        slots = None
        for word in words[1:]:
            match = re.fullmatch(r"slots=([0-9]+)", word)
            if not match or slots is not None:
                raise Refusal(f"{where}: \"{word}\" is not known there; write \"HOST slots=N\"")
            slots = int(match.group(1))
        entries.append((words[0], slots, where))
    if not entries:
        raise Refusal(f"--hostfile is {path}: it names no host; write a line \"HOST slots=N\" for each")
    return entries


def read_list(text):
    """The same of --hosts: "a:2,b:2", or "a,b"."""
    entries = []
    for item in text.split(","):
        name, colon, slots = item.strip().partition(":")
        if not name or (colon and not re.fullmatch(r"[0-9]+", slots)):
            raise Refusal(f"--hosts is \"{text}\": \"{item}\" is no HOST:RANKS; write it as a:2,b:2")
        entries.append((name, int(slots) if colon else None, f"--hosts {text}"))
    return entries


def choose(entries, ranks_per_host):
    """The hosts of a world, each with its ranks: `ranks_per_host` where given, else its slots."""
    seen = {}
    hosts = []
    for name, slots, where in entries:
        if not NAME.fullmatch(name):
            raise Refusal(f"{where}: host \"{name}\": Open MPI takes names of letters, digits, \"-\" and \".\" "
                          "alone; use its address or another name of it")
        if name in seen:
            raise Refusal(f"{where}: host {name} is there already ({seen[name]}); name each host once, with "
                          "all its ranks")
        seen[name] = where
        ranks = ranks_per_host if ranks_per_host is not None else slots
        if ranks is None:
            raise Refusal(f"{where}: host {name}: how many ranks? Write \"{name} slots=N\", or give "
                          "--ranks-per-host N")
        if ranks < 1:
            raise Refusal(f"{where}: host {name} has {ranks} ranks; give 1 or more, or leave the host out")
        if slots is not None and ranks > slots:
            raise Refusal(f"{where}: host {name} has {slots} slots and --ranks-per-host is {ranks}; give at "
                          f"most {slots}, or more slots")
        hosts.append(Host(name, ranks))
    return hosts


def as_mpirun_orders(hosts, is_local):
    """mpirun fills the host that it runs on first, then the others as they are given."""
    return sorted(hosts, key=lambda host: not is_local(host.name))


def num_ranks(hosts):
    return sum(host.ranks for host in hosts)


def ranks_on(hosts, name):
    """Numbers of the ranks on host `name`: ranks fill the hosts in their order."""
    first = 0
    for host in hosts:
        if host.name == name:
            return list(range(first, first + host.ranks))
        first += host.ranks
    return []
