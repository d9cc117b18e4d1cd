"""What has to hold between the objects of one overlay, and of each pod. Every rule yields (where, message)."""

import re

from pods import flag, matches, model_of, pods_of, quantity

UID = 1000
HEALTH_SERVICES = ("", "ready")  # proto/grpc_server.h
MADE_BY_HAND = {("Secret", "deltaserve-ssh")}  # by a command of docs/kubernetes.md
KEY_VARIABLE, KEY = "DELTASERVE_SSH_KEY", "/etc/deltaserve/ssh/id"


def name_of(one):
    return f"{one['kind']}/{one['metadata']['name']}"


def names_are_unique(objects):
    seen = set()
    for one in objects:
        if name_of(one) in seen:
            yield name_of(one), "comes twice"
        seen.add(name_of(one))


def _port_errors(where, port, pods):
    """`port`, a name or a number, has to be one of every pod that is meant."""
    for pod in pods:
        if port not in [one.get("name") for one in pod.ports()] + [one["containerPort"] for one in pod.ports()]:
            yield where, f"port {port} is none of {pod.where}"


def services_reach_pods(objects, pods):
    for one in objects:
        if one["kind"] != "Service":
            continue
        chosen = [pod for pod in pods if matches({"matchLabels": one["spec"]["selector"]}, pod.labels)]
        if not chosen:
            yield name_of(one), "its selector matches no pod"
        for port in one["spec"]["ports"]:
            yield from _port_errors(name_of(one), port.get("targetPort", port["port"]), chosen)


def _selectors(objects):
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            yield one, spec["selector"]
        if one["kind"] == "NetworkPolicy":
            yield one, spec["podSelector"]
            for rule in spec.get("ingress", []) + spec.get("egress", []):
                for peer in rule.get("from", []) + rule.get("to", []):
                    if "podSelector" in peer:
                        yield one, peer["podSelector"]


def selectors_hit_pods(objects, pods):
    for one, selector in _selectors(objects):
        if not any(matches(selector, pod.labels) for pod in pods):
            yield name_of(one), f"selector {selector} matches no pod"
    for one in objects:
        if one["kind"] == "Deployment" and not matches(one["spec"]["selector"], pods_of(one)[0].labels):
            yield name_of(one), "its selector does not match its own pods"
    for pod in pods:
        for spread in pod.spec.get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], pod.labels):
                yield pod.where, "topologySpreadConstraints: its selector does not match these pods"


def policies_name_ports(objects, pods):
    for one in objects:
        if one["kind"] == "PodMonitor":
            chosen = [pod for pod in pods if matches(one["spec"]["selector"], pod.labels)]
            for endpoint in one["spec"]["podMetricsEndpoints"]:
                yield from _port_errors(name_of(one), endpoint["port"], chosen)
        if one["kind"] != "NetworkPolicy":
            continue
        for rule in one["spec"].get("ingress", []):
            # A named port is looked up in each pod; it is enough that one of those chosen listens there.
            chosen = [pod for pod in pods if matches(one["spec"]["podSelector"], pod.labels)]
            for port in rule.get("ports", []):
                if all(list(_port_errors("", port["port"], [pod])) for pod in chosen):
                    yield name_of(one), f"port {port['port']} is none of the pods it is for"
        for rule in one["spec"].get("egress", []):
            for peer in rule.get("to", []):
                chosen = [pod for pod in pods if matches(peer["podSelector"], pod.labels)]
                for port in rule.get("ports", []):
                    yield from _port_errors(name_of(one), port["port"], chosen)


def scaled_objects_exist(objects):
    for one in objects:
        if one["kind"] == "HorizontalPodAutoscaler":
            target = one["spec"]["scaleTargetRef"]
            found = [other for other in objects if (other["apiVersion"], other["kind"], other["metadata"]["name"]) ==
                     (target["apiVersion"], target["kind"], target["name"])]
            if not found:
                yield name_of(one), f"scaleTargetRef: there is no {target['kind']}/{target['name']}"
            elif "replicas" in found[0]["spec"]:
                yield name_of(found[0]), "replicas: each apply would undo what the autoscaler chose"


def worlds_are_served(objects, pods):
    """A router's --world is a Service and a port of it."""
    ports = {(one["metadata"]["name"], str(port["port"])) for one in objects if one["kind"] == "Service"
             for port in one["spec"]["ports"]}
    for pod in pods:
        for container in pod.containers:
            world = flag(container, "world")
            if world is not None and tuple(world.rsplit(":", 1)) not in ports:
                yield pod.where, f"--world={world}: there is no such Service with that port"


def _probe_errors(where, name, probe, container):
    names = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    if "grpc" in probe:
        port, service = probe["grpc"]["port"], probe["grpc"].get("service", "")
        if service not in HEALTH_SERVICES:
            yield where, f"{name}: there is no health service \"{service}\""
        if port != names.get("grpc"):
            yield where, f"{name}: port {port} is not the container's port named grpc"
    elif "tcpSocket" in probe:
        if probe["tcpSocket"]["port"] not in list(names) + list(names.values()):
            yield where, f"{name}: the container has no port {probe['tcpSocket']['port']}"
    else:
        yield where, f"{name}: it neither asks gRPC nor tries a port"


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def serves(container):
    """Whether it answers gRPC: a router, or the leader of a world."""
    return flag(container, "listen") is not None or model_of(container) is not None


def probes_are_answered(pod):
    for container in pod.containers:
        listens = serves(container)
        for name in PROBES:
            if name in container:
                yield from _probe_errors(pod.where, name, container[name], container)
            elif listens:
                yield pod.where, f"{name}: there is none"
        if listens and container.get("readinessProbe", {}).get("grpc", {}).get("service") != "ready":
            yield pod.where, "readinessProbe: it does not ask the health service \"ready\""


def listeners_are_ports(pod):
    """What a container listens on is its port of that name, and on an address that others reach."""
    for container in pod.containers:
        names = {port.get("name"): str(port["containerPort"]) for port in container.get("ports", [])}
        listening = {"metrics-listen": ("metrics", "0.0.0.0:")}
        # Rank 0 is told the network by deploy/world.
        listening.update({"port": ("grpc", "")} if model_of(container) else {"listen": ("grpc", "0.0.0.0:")})
        for name, (port, host) in listening.items():
            value = flag(container, name)
            if (value is None) != (port not in names):
                yield pod.where, f"--{name} is {value}, and the container's port {port} {names.get(port)}"
            elif value is not None and value != host + names[port]:
                yield pod.where, f"--{name}={value}: it has to be {host}{names[port]}, as the port {port}"


def images_are_pinned(pod):
    for container in pod.containers:
        image = container["image"]
        if not re.fullmatch(r"[\w./:-]+(:\d+\.\d+\.\d+(-\w+)?|@sha256:[0-9a-f]{64})", image):
            yield pod.where, f"image {image}: pin it to a version"


def volumes_exist(pod, objects):
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield pod.where, f"volumeMounts: there is no volume {mount['name']}"
    known = {(one["kind"], one["metadata"]["name"]) for one in objects} | MADE_BY_HAND
    for name, volume in volumes.items():
        claim, secret = volume.get("persistentVolumeClaim", {}), volume.get("secret", {})
        if claim and ("PersistentVolumeClaim", claim["claimName"]) not in known:
            yield pod.where, f"volume {name}: there is no claim {claim['claimName']}"
        if secret and ("Secret", secret["secretName"]) not in known:
            yield pod.where, f"volume {name}: no command makes a Secret {secret['secretName']}"
    if ("ServiceAccount", pod.spec.get("serviceAccountName")) not in known:
        yield pod.where, f"serviceAccountName: there is no {pod.spec.get('serviceAccountName')}"


def _mount_of(container, path):
    """The mount that holds `path`."""
    holding = [mount for mount in container.get("volumeMounts", [])
               if path == mount["mountPath"] or path.startswith(mount["mountPath"] + "/")]
    return max(holding, key=lambda mount: len(mount["mountPath"]), default=None)


def model_is_mounted_read_only(pod):
    for container in pod.containers:
        model = model_of(container)
        mount = _mount_of(container, model) if model is not None else None
        if model is not None and (mount is None or not mount.get("readOnly")):
            yield pod.where, f"model {model}: it is not on a volume that is mounted read-only"
        for path in ("/tmp", "/dev/shm") if pod.is_world() else ("/tmp",) if serves(container) else ():
            mount = _mount_of(container, path)
            if mount is None or mount.get("readOnly"):
                yield pod.where, f"{path}: the root folder is read-only, and no volume is mounted there"


def keys_are_mounted(pod, several_hosts, operator_mounts):
    """The leader and the workers of several hosts find the key pair where they look."""
    if not several_hosts or not pod.is_world():
        return
    for container in pod.containers:
        key = next((one["value"] for one in container.get("env", []) if one["name"] == KEY_VARIABLE), KEY)
        files = set()
        if operator_mounts is not None:  # the MPI operator mounts its own
            files = {f"{operator_mounts}/{name}" for name in ("id_rsa", "id_rsa.pub")}
        for volume in pod.spec.get("volumes", []):
            for mount in container.get("volumeMounts", []):
                if mount["name"] == volume["name"] and "secret" in volume:
                    files |= {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
        for file in (key, key + ".pub"):
            if file not in files:
                yield pod.where, f"{file}: no Secret is mounted there"


def pods_are_confined(pod):
    security = pod.spec.get("securityContext", {})
    if not (security.get("runAsNonRoot") and security.get("runAsUser") == UID):
        yield pod.where, f"securityContext: it has to run as {UID}, not as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield pod.where, "securityContext: seccompProfile has to be RuntimeDefault"
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield pod.where, "automountServiceAccountToken: it needs no token and must not have one"
    for container in pod.containers:
        own = container.get("securityContext", {})
        if not (own.get("readOnlyRootFilesystem") and own.get("allowPrivilegeEscalation") is False and
                own.get("capabilities", {}).get("drop") == ["ALL"]):
            yield pod.where, "securityContext: read-only root, no escalation, no capabilities"


def drains_fit(pod):
    """preStop asks for the drain, and the grace is longer than that may take."""
    for container in pod.containers:
        if "args" not in container:
            continue
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        if hook[:2] != ["/opt/deltaserve/entry", "drain"] or len(hook) != 3:
            yield pod.where, "preStop: it does not drain by /opt/deltaserve/entry drain SECONDS"
            continue
        drain = flag(container, "drain-timeout")
        need = (float(drain) if drain is not None else 30.0) + float(hook[2]) + 20
        if pod.spec.get("terminationGracePeriodSeconds", 30) < need:
            yield pod.where, f"terminationGracePeriodSeconds: a drain may need {need:g}"


def requests_are_set(pod):
    for container in pod.containers:
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        if "cpu" not in requests or "memory" not in requests or "memory" not in limits:
            yield pod.where, "resources: cpu and memory are requested, memory is limited"
        elif quantity(requests["memory"]) > quantity(limits["memory"]):
            yield pod.where, "resources: more memory is requested than the limit"
