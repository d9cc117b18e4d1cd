"""The command line of deploy/world."""

import argparse
import dataclasses
import ipaddress
import math
import os
import pathlib
import re

from world_launcher import channel
from world_launcher import hosts as hostlists
from world_launcher import network as networks
from world_launcher.refusal import Refusal

ROOT = pathlib.Path(__file__).resolve().parents[2]

DESCRIPTION = """\
Starts one world over the hosts of a hostfile and keeps it: looks at every host first, then runs mpirun,
starts a lost world again, and drains it on SIGTERM, SIGINT, SIGHUP or SIGUSR1 (a second signal ends it now). Rank 0
serves on this machine where it is among the hosts, else on the first of them.

Flags that are not listed here go to every rank as they are: deltaserve-worker --help lists them.
"""

EPILOG = """\
exit codes: 0 drained; 64 something asked for cannot work (a flag, a host that lacks something); 69 a host
does not answer; 70 lost too often, or not drained in time.

example: deploy/world /models/qwen3.5-4b --hosts node-a,node-b --ranks-per-host 8 \\
           --address-file /shared/world.address
         deltaserve-router --world-file /shared/world.address --listen 0.0.0.0:50051
"""

# Of the worker, and given by this program.
OURS = {"--listen": "--network and --port", "--address-file": "--address-file", "--model": "MODEL",
        "--control-network": "--network"}
WITHOUT_VALUE = {"--record-ops"}  # of the worker's flags
FORWARDED = re.compile(r"NCCL_\w+")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refusal(f"{message}; see --help")


@dataclasses.dataclass
class Settings:
    model: str
    hosts: list
    bin: str
    agent: str
    network: ipaddress.IPv4Network | None
    port: int
    address_file: str | None
    environment: list  # NAME or NAME=VALUE for the ranks
    mca: list          # NAME=VALUE for mpirun
    wait_s: float
    start_timeout_s: float
    max_losses: int
    drain_timeout_s: float
    only_print: bool
    worker_flags: list
    world_id: str = "deltaserve-world"  # WorldId's name

    @property
    def ranks(self):
        return hostlists.num_ranks(self.hosts)

    @property
    def is_random(self):
        return (self.worker_flag("--load") or "").startswith("random:")

    @property
    def ranks_per_gpu(self):
        """As the worker reads it; what it refuses is for it to say."""
        value = self.worker_flag("--ranks-per-gpu") or ""
        return int(value) if value.isdecimal() else 1

    def worker_flag(self, name):
        """The value of a worker's flag, the last one given, or None."""
        value = None
        for index, word in enumerate(self.worker_flags):
            if word == name and index + 1 < len(self.worker_flags):
                value = self.worker_flags[index + 1]
            elif word.startswith(name + "="):
                value = word[len(name) + 1:]
        return value


def own_binaries():
    """Of the bundle that this is part of, else of the build."""
    return ROOT / "bin" if (ROOT / "bin/deltaserve-worker").exists() else ROOT / "build/cpu/bin"


def make_parser():
    parser = Parser(prog="deploy/world", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="model folder, at this path on every host")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--hostfile", metavar="FILE", help="a line \"HOST slots=N\" for each host, # for comments")
    where.add_argument("--hosts", metavar="LIST", help="the same as a list: a:2,b:2")
    parser.add_argument("--ranks-per-host", metavar="N", type=int, help="ranks on each host; default: its slots")
    parser.add_argument("--network", metavar="CIDR",
                        help="network of ranks and routers, as 10.0.0.0/24; default: one that all hosts are on")
    parser.add_argument("--port", metavar="P", type=int, default=50052,
                        help="where rank 0 serves routers, on that network; 0: a free one (default %(default)s)")
    parser.add_argument("--address-file", metavar="FILE",
                        help="gets HOST:PORT when the world is ready, and is removed when it is not")
    parser.add_argument("--bin", metavar="DIR",
                        help="folder of the binaries on every host, and of mpirun where it is a bundle's; default: "
                             "the bundle's own, or build/cpu/bin")
    parser.add_argument("--agent", metavar="CMD",
                        default=os.environ.get("OMPI_MCA_plm_rsh_agent", channel.SSH),
                        help="how to reach a host: CMD HOST COMMAND (default: %(default)s)")
    parser.add_argument("--env", metavar="NAME[=VALUE]", action="append", default=[],
                        help="variable that ranks get; those named NCCL_... always go")
    parser.add_argument("--mca", metavar="NAME=VALUE", action="append", default=[],
                        help="parameter of Open MPI, besides those that --print shows")
    parser.add_argument("--wait", metavar="S", type=float, default=0,
                        help="seconds that hosts may take to answer at the first start (default %(default)g)")
    parser.add_argument("--start-timeout", metavar="S", type=float, default=1800,
                        help="seconds from mpirun's start until the world is ready, after which it counts as lost "
                             "(default %(default)g)")
    parser.add_argument("--max-losses", metavar="N", type=int, default=5,
                        help="losses within 10 minutes that end it; 1: the first one, where something else "
                             "starts it again (default %(default)s)")
    parser.add_argument("--drain-timeout", metavar="S", type=float, default=30,
                        help="seconds that running requests get (default %(default)g)")
    parser.add_argument("--allow-run-as-root", action="store_true", help="let root start ranks")
    parser.add_argument("--print", action="store_true", dest="only_print",
                        help="look at the hosts, print the mpirun command, start nothing")
    return parser


def split(parser, words):
    """(ours, the worker's) of a command line."""
    known = {option: action for action in parser._actions for option in action.option_strings}
    ours, theirs = [], []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name, equals, _ = word.partition("=")
        action = known.get(name)
        mine = action is not None or not word.startswith("-")
        (ours if mine else theirs).append(word)
        takes_value = action.nargs != 0 if action else word.startswith("-") and name not in WITHOUT_VALUE
        if takes_value and not equals and position < len(words) and not words[position].startswith("--"):
            (ours if mine else theirs).append(words[position])
            position += 1
    return ours, theirs


def _check(parsed, worker_flags, is_root):
    for word in worker_flags:
        name = word.partition("=")[0]
        if name in OURS:
            raise Refusal(f"{name} is given by this program; use {OURS[name]}")
    if parsed.ranks_per_host is not None and parsed.ranks_per_host < 1:
        raise Refusal(f"--ranks-per-host is {parsed.ranks_per_host}; give 1 or more")
    if not 0 <= parsed.port <= 65535:
        raise Refusal(f"--port is {parsed.port}; give a port up to 65535, or 0 for a free one")
    if parsed.max_losses < 1:
        raise Refusal(f"--max-losses is {parsed.max_losses}; give 1 or more")
    for flag, value, least in (("--wait", parsed.wait, 0), ("--drain-timeout", parsed.drain_timeout, 0),
                               ("--start-timeout", parsed.start_timeout, 1)):
        if not least <= value < math.inf:
            raise Refusal(f"{flag} is {value:g}; give {least} or more seconds")
    for item in parsed.mca:
        if not re.fullmatch(r"\w+=.*", item):
            raise Refusal(f"--mca is \"{item}\"; write NAME=VALUE")
    for item in parsed.env:
        if not re.fullmatch(r"[A-Za-z_]\w*(=.*)?", item, re.DOTALL):
            raise Refusal(f"--env is \"{item}\"; write NAME or NAME=VALUE")
    allowed = parsed.allow_run_as_root or (os.environ.get("OMPI_ALLOW_RUN_AS_ROOT") == "1" and
                                           os.environ.get("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM") == "1")
    if is_root and not allowed:
        raise Refusal("this is root, as which a mistake of a rank costs more: start it as a user of its own, or "
                      "give --allow-run-as-root")


def _network(text):
    try:
        return None if text is None else networks.parse_network(text)
    except ValueError as error:
        raise Refusal(f"--network is {text}: {error}") from error


def read(words, is_root=None):
    """Settings of a command line; Refusal names what is wrong. Ends the program after --help."""
    parser = make_parser()
    ours, worker_flags = split(parser, words)
    parsed = parser.parse_args(ours)
    _check(parsed, worker_flags, os.geteuid() == 0 if is_root is None else is_root)
    entries = hostlists.read_hostfile(parsed.hostfile) if parsed.hostfile else hostlists.read_list(parsed.hosts)
    return Settings(
        model=os.path.abspath(parsed.model),
        hosts=hostlists.choose(entries, parsed.ranks_per_host),
        bin=os.path.abspath(parsed.bin or own_binaries()),
        agent=parsed.agent,
        network=_network(parsed.network),
        port=parsed.port,
        address_file=parsed.address_file,
        environment=parsed.env + sorted(name for name in os.environ if FORWARDED.fullmatch(name)),
        mca=parsed.mca,
        wait_s=parsed.wait,
        start_timeout_s=parsed.start_timeout,
        max_losses=parsed.max_losses,
        drain_timeout_s=parsed.drain_timeout,
        only_print=parsed.only_print,
        worker_flags=worker_flags)
