"""The mpirun command of a world. Pure."""

import os

# What failure on many hosts taught; measured with Open MPI 4.1.4 (docs/operations.md).
ALWAYS = {
    "orte_keep_fqdn_hostnames": "1",      # a host name is used whole
    "plm_rsh_no_tree_spawn": "1",         # every daemon is started from here: no host needs a key for another
    "oob_tcp_keepalive_time": "2",        # a host that is cut off is noticed in 6 s, not in minutes
    "oob_tcp_keepalive_intvl": "1",
    "oob_tcp_keepalive_probes": "3",
    "pml": "ob1",
    "btl_vader_single_copy_mechanism": "none",  # containers seldom allow process_vm_readv
    "mpi_yield_when_idle": "1",           # ranks share their cores with gRPC's threads
}


def parameters(settings, network, is_local):
    """Open MPI's parameters, the user's own last."""
    folder = f"/dev/shm/{settings.world_id}"
    values = dict(ALWAYS)
    several = len(settings.hosts) > 1
    values["btl"] = "tcp,vader,self" if several else "vader,self"
    values["oob_tcp_if_include"] = str(network)
    if several:
        values["btl_tcp_if_include"] = str(network)
    if not all(is_local(host.name) for host in settings.hosts):
        values["plm"] = "rsh"
        values["plm_rsh_agent"] = settings.agent
    values["orte_tmpdir_base"] = f"/tmp/{settings.world_id}"
    values["btl_vader_backing_directory"] = folder
    values["osc_sm_backing_directory"] = folder
    for item in settings.mca:
        name, _, value = item.partition("=")
        values[name] = value
    return values


def command(settings, network, is_local):
    """The words to run. Ranks fill the hosts in their order (hosts.as_mpirun_orders)."""
    words = ["mpirun", "-np", str(settings.ranks),
             "--host", ",".join(f"{host.name}:{host.ranks}" for host in settings.hosts),
             "--map-by", "slot", "--bind-to", "none"]
    for name, value in parameters(settings, network, is_local).items():
        words += ["--mca", name, value]
    for item in settings.environment:
        words += ["-x", item]
    words += [f"{settings.bin}/deltaserve-worker", "--model", settings.model, "--listen",
              f"{network}:{settings.port}", "--control-network", str(network), "--address-file", "-",
              "--drain-timeout", f"{settings.drain_timeout_s:g}", *settings.worker_flags]
    return words


def environment(settings):
    """Of mpirun itself: ours, with folders of its own; it is the binaries' own one where they are a bundle's."""
    path = f"{settings.bin}:{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "TMPDIR": f"/tmp/{settings.world_id}", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
