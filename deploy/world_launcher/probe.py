"""What a host is asked before a world starts on it: a shell script, and the reading of its answer.

The script needs sh, awk and /proc, so that a small container can answer too.
"""

import dataclasses
import ipaddress
import shlex

from world_launcher.network import Interface

CALL_S = 5  # for a connection back

# Folder names hold the world's id, and so does the environment of what runs in it: leftovers of an earlier
# start are found by it and nothing else is.
SWEEP = """
id={id}
for file in $(grep -alF "$id" /proc/[0-9]*/environ 2>/dev/null); do
  pid=${{file#/proc/}}
  kill -9 "${{pid%/environ}}" 2>/dev/null
done
rm -rf "/tmp/$id" "/dev/shm/$id"
"""

INTERFACES = """
awk 'NR > 1 {print "@route", $1, $2, $3, $8}' /proc/net/route
awk '/32 host LOCAL/ {print "@address", last} {last = $2}' /proc/net/fib_trie | sort -u
"""
LOCAL_INTERFACES = INTERFACES + "echo @end\n"  # of a machine that is only the launcher's

PROBE = """
mkdir -m 700 "/tmp/$id" "/dev/shm/$id" || exit 1
bin={bin} model={model}
PATH="$bin:$PATH"
echo "@mpirun $(mpirun --version 2>/dev/null | head -n 1)"
echo "@build $("$bin/deltaserve-worker" --version 2>/dev/null)"
if [ -d "$model" ]; then
  echo "@model yes"
  if text=$({fingerprint} 2>&1); then echo "@fingerprint $text"; else echo "@refusal $text"; fi
fi
awk '/^MemAvailable:/ {{printf "@memory %.0f\\n", $2 * 1024}}' /proc/meminfo
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ -r "$file" ] && echo "@limit $(cat "$file")"
done
echo "@gpus $(ls /dev 2>/dev/null | grep -cE '^nvidia[0-9]+$')"
{interfaces}
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" {{print "@listens", $2}}'
echo "@end"
"""


@dataclasses.dataclass
class Facts:
    """What a host said of itself. None where it has no such thing."""

    mpirun: str = ""
    build: str = ""
    has_model: bool = False
    fingerprint: str = ""
    refusal: str = ""            # why there is no fingerprint
    memory: int | None = None    # bytes that are free
    gpus: int = 0
    interfaces: list = dataclasses.field(default_factory=list)
    listens: set = dataclasses.field(default_factory=set)  # (address or None for all, port)


def fingerprint_command(model, bin_folder, is_random):
    """Of the weights; where they are drawn a model is its config.json alone."""
    if is_random:
        return f"sha256sum < {shlex.quote(model + '/config.json')}"
    return f"{shlex.quote(bin_folder + '/deltaserve-plan')} {shlex.quote(model)} --fingerprint"


def sweep_script(world_id):
    return SWEEP.format(id=shlex.quote(world_id))


def probe_script(world_id, model, bin_folder, is_random):
    """Removes what an earlier start left, makes the folders of the next, and tells."""
    return sweep_script(world_id) + PROBE.format(bin=shlex.quote(bin_folder), model=shlex.quote(model),
                                                 interfaces=INTERFACES.strip(),
                                                 fingerprint=fingerprint_command(model, bin_folder, is_random))


def call_script(address, port):
    """Fails where the host cannot connect to `address`; one without bash is not asked."""
    return (f"command -v bash >/dev/null || exit 0\n"
            f"timeout {CALL_S} bash -c 'exec 3<>/dev/tcp/{address}/{port}' && exit 0\n"
            f"[ $? = 124 ] && echo 'no answer within {CALL_S} s' >&2\nexit 1\n")


def parse(text):
    """Facts of a probe's output; None where it is not whole."""
    facts = Facts()
    routes, addresses = [], []
    ended = False
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        value = value.strip()
        if key == "@mpirun":
            facts.mpirun = value
        elif key == "@build":
            facts.build = value
        elif key == "@model":
            facts.has_model = True
        elif key == "@fingerprint":
            facts.fingerprint = value
        elif key == "@refusal":
            facts.refusal = value
        elif key in ("@memory", "@limit") and value.isdigit():
            facts.memory = int(value) if facts.memory is None else min(facts.memory, int(value))
        elif key == "@gpus":
            facts.gpus = int(value)
        elif key == "@route":
            routes.append(value.split())
        elif key == "@address":
            addresses.append(ipaddress.IPv4Address(value))
        elif key == "@listens":
            facts.listens.add(_listening(value))
        elif key == "@end":
            ended = True
    facts.interfaces = interfaces_of(routes, addresses)
    return facts if ended else None


def _little_endian(hexadecimal):
    return int.from_bytes(bytes.fromhex(hexadecimal), "little")


def _listening(text):
    """(IPv4 address, or None for every one, port) of "0100007F:C384"; of IPv6 only "every one" matters."""
    address, _, port = text.partition(":")
    if len(address) != 8:
        return (None if int(address, 16) == 0 else ipaddress.IPv6Address(bytes.fromhex(address)), int(port, 16))
    number = _little_endian(address)
    return (ipaddress.IPv4Address(number) if number else None, int(port, 16))


def interfaces_of(routes, addresses):
    """Joins /proc/net/route's rows (interface, destination, gateway, mask) with the host's own addresses."""
    direct = []
    default = None
    for name, destination, gateway, mask in routes:
        if _little_endian(mask) == 0:
            default = default or name
        elif _little_endian(gateway) == 0:
            direct.append((name, ipaddress.IPv4Network((_little_endian(destination),
                                                        bin(_little_endian(mask)).count("1")))))
    found = []
    for address in addresses:
        on = max((one for one in direct if address in one[1]), key=lambda one: one[1].prefixlen, default=None)
        if on is not None:
            found.append(Interface(on[0], address, on[1], on[0] == default))
        elif address.is_loopback:
            found.append(Interface("lo", address, ipaddress.IPv4Network("127.0.0.0/8")))
        else:  # a lone address, as pods have: only --network can choose it
            found.append(Interface(default or "unknown", address, ipaddress.IPv4Network(address)))
    return found
