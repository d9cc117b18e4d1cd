"""Which network the hosts of a world share. Pure.

Interfaces are chosen by network and not by name: names differ between hosts, and an address that several
hosts have, such as that of docker0, makes Open MPI hang.
"""

import dataclasses
import ipaddress

LAUNCHER = "this machine"  # where mpirun runs, which is none of the hosts then


@dataclasses.dataclass(frozen=True)
class Interface:
    """An IPv4 address of a host, and the network it is directly on."""

    name: str
    address: ipaddress.IPv4Address
    network: ipaddress.IPv4Network
    is_default: bool = False  # where the host's default route goes

    def __str__(self):
        return f"{self.address}/{self.network.prefixlen} ({self.name})"


def parse_network(text):
    """The network of --network; ValueError says what is wrong."""
    if "/" not in text:
        raise ValueError("a network has a length; write one as 10.0.0.0/24")
    return ipaddress.IPv4Network(text, strict=False)


def _list(interfaces):
    usable = [interface for interface in interfaces if not interface.address.is_loopback]
    return ", ".join(map(str, usable)) or "no address but loopback"


def addresses_in(network, interfaces_of):
    """{host: its first address in `network`} of those that have one."""
    found = {}
    for host, interfaces in interfaces_of.items():
        for interface in interfaces:
            if interface.address in network:
                found[host] = interface.address
                break
    return found


def _without(network, interfaces_of):
    """A problem for each host that has no address in the network that was asked for."""
    have = addresses_in(network, interfaces_of)
    return [f"host {host}: network: it has no address in --network={network}, but {_list(interfaces)}; give a "
            "network in which every host has one" for host, interfaces in interfaces_of.items() if host not in have]


def _candidates(interfaces_of):
    """Networks that every host is directly on, each with an address of its own."""
    first = next(iter(interfaces_of.values()))
    for interface in sorted(first, key=lambda one: not one.is_default):
        network = interface.network
        if network.is_loopback or network.is_link_local:
            continue
        mine = {host: [one.address for one in interfaces if one.network == network]
                for host, interfaces in interfaces_of.items()}
        everything = [address for addresses in mine.values() for address in addresses]
        if all(mine.values()) and len(set(everything)) == len(everything):
            yield network


def choose(interfaces_of, wanted=None, resolved=None):
    """(network, problems). `interfaces_of`: host -> its interfaces, the first host first; `wanted`: --network;
    `resolved`: what the first host's name means here, or None. The network is None where there are problems."""
    if wanted is not None:
        problems = _without(wanted, interfaces_of)
        return (None, problems) if problems else (wanted, [])
    networks = list(_candidates(interfaces_of))
    if networks:
        return next((network for network in networks if resolved is not None and resolved in network),
                    networks[0]), []
    first, *others = interfaces_of
    if not others:
        return ipaddress.IPv4Network("127.0.0.0/8"), []  # one host, on no network: its ranks need none
    shared = [one.network for one in interfaces_of[first] if not one.network.is_loopback]
    strangers = [host for host in others if not any(one.network in shared for one in interfaces_of[host])]
    return None, [f"host {host}: network: {first} has {_list(interfaces_of[first])} and it has "
                  f"{_list(interfaces_of[host])}: no network that both are on with an address of their own; give "
                  "one that holds an address of every host, as --network=10.0.0.0/8"
                  for host in strangers or others[:1]]
