"""Runs a shell script on every host at once, over the agent that mpirun starts its daemons with."""

import concurrent.futures
import dataclasses
import shlex
import socket
import subprocess

SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10"  # never asks, does not wait for minutes

# What the agent says -> what would help.
REMEDIES = (
    ("resolve hostname", "add its name to DNS or /etc/hosts, or give its address"),
    ("Connection refused", "start sshd there, or give its port with --agent \"ssh -p PORT\""),
    ("Permission denied", "let this user's key in there (ssh-copy-id), or give one with --agent \"ssh -i KEY\""),
    ("Host key verification failed", "put its host key into known_hosts (ssh-keyscan)"),
    ("No route to host", "connect it, or take it out of the hosts"),
    ("timed out", "start it, let ssh through to it, or take it out of the hosts"),
)


@dataclasses.dataclass(frozen=True)
class Reply:
    code: int
    output: str
    error: str


class Channel:
    """The way to hosts. The host that this runs on needs no agent, as for mpirun. Threads: any."""

    def __init__(self, agent, is_local=None):
        self.agent = shlex.split(agent)
        self._is_local = is_local or host_is_local
        self._local = set()  # hosts found to be this one; a name that means nothing yet may later

    def is_local(self, host):
        if host not in self._local and self._is_local(host):
            self._local.add(host)
        return host in self._local

    def run(self, hosts, script, timeout_s):
        """{host: Reply} of `script`, which each host's sh reads; code -1 where it took too long."""
        with concurrent.futures.ThreadPoolExecutor(max_workers=min(64, len(hosts))) as pool:
            replies = pool.map(lambda host: self._run_one(host, script, timeout_s), hosts)
            return dict(zip(hosts, replies))

    def _run_one(self, host, script, timeout_s):
        return run_shell([] if self.is_local(host) else [*self.agent, host], script, timeout_s)


def run_shell(way, script, timeout_s):
    """The Reply of a shell that is reached by the command `way`; an empty one is here."""
    command = [*way, "sh -s"] if way else ["sh", "-s"]
    try:
        done = subprocess.run(command, input=script.encode(), capture_output=True, timeout=timeout_s,
                              start_new_session=True, check=False)
    except subprocess.TimeoutExpired:
        return Reply(-1, "", f"timed out after {timeout_s:g} s")
    except OSError as error:
        return Reply(-1, "", f"{command[0]}: {error.strerror}")
    return Reply(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def why_silent(host, reply, agent):
    """The message of a host that did not answer."""
    lines = [line for line in reply.error.splitlines() if line.strip()]
    found = lines[-1].strip() if lines else f"{agent[0]} ended with code {reply.code}"
    remedy = next((remedy for part, remedy in REMEDIES if part in found),
                  f"make \"{shlex.join(agent)} {host} true\" work from here")
    return f"host {host}: not reached: {found}; {remedy}"


def host_is_local(host):
    """As mpirun sees it: this machine's name, or one that means an address of it."""
    mine = socket.gethostname()
    if host in ("localhost", mine, mine.split(".")[0]):
        return True
    address = resolve(host)
    if address is None:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))  # only an address of this machine can be bound to
        except OSError:
            return False
    return True


def resolve(host):
    """The IPv4 address that `host` means here, or None."""
    try:
        return socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0]
    except OSError:
        return None
