"""A pod as a kubelet would make it, of an image's root folder: network, host name, processes and mounts of its
own, the root read-only, no capability, what its template mounts.
"""

import pathlib
import shlex
import subprocess

import rehearsal

# In the pod's namespaces, as root: mounts, then the template's user and command.
START = r"""
set -e
root="$1" user="$2" workspace="$3"
shift 3
mount -t tmpfs -o mode=755 pod "$workspace"
mkdir "$workspace/root"
mount --bind "$root" "$workspace/root"
mount -o remount,bind,ro "$workspace/root"
root="$workspace/root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --bind -o ro "$HOSTS_FILE" "$root/etc/hosts"
while [ "$1" != -- ]; do
  if [ "$1" = tmpfs ]; then mount -t tmpfs -o mode=1777 tmpfs "$root$3"; else
    mount --bind "$2" "$root$3"
    mount -o remount,bind,ro "$root$3"
  fi
  shift 3
done
shift
exec chroot "$root" /usr/bin/env -i $POD_ENVIRONMENT /usr/bin/setpriv --reuid "$user" --regid "$user" \
  --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
"""


class Pod:
    """One run of a pod's container; a pod made anew is another of these. `host` is one of ./machine's."""

    def __init__(self, host, root, template, hosts_file, sources, environment, arguments, log, added=()):
        """`template`: PodTemplate of the manifest; `sources`: volume name -> folder here, for those that are no
        emptyDir; `environment`: what the image, the manifest and the controller set; `arguments`: of the entry;
        `added`: (folder here, path) that a controller mounts besides."""
        self.host = host
        container = template.spec["containers"][0]
        volumes = {volume["name"]: volume for volume in template.spec["volumes"]}
        mounts = []
        for mount in container["volumeMounts"]:
            if "emptyDir" in volumes[mount["name"]]:
                mounts += ["tmpfs", "tmpfs", mount["mountPath"]]
            else:
                mounts += ["bind", sources[mount["name"]], mount["mountPath"]]
        for source, path in added:
            mounts += ["bind", source, path]
        self._user = str(template.spec["securityContext"]["runAsUser"])
        workspace = hosts_file.parent / f"pod-{host}"
        workspace.mkdir(exist_ok=True)
        words = " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())
        holder = pathlib.Path("/run/hosts", host).read_text().strip()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["nsenter", "--target", holder, "--net", "--uts", "--ipc", "--mount", "unshare", "--mount", "--pid",
                 "--fork", "sh", "-c", START, "pod", root, self._user, workspace, *mounts, "--",
                 *arguments],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "POD_ENVIRONMENT": words, "HOSTS_FILE": str(hosts_file)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def _first_process(self):
        pid = self.process.pid
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]

    def execute(self, *command, timeout_s=60):
        """Runs a command in the container as its user, as an exec hook does; code and output."""
        done = subprocess.run(["nsenter", "--target", self._first_process(), "--mount", "--uts", "--ipc", "--net",
                               "--pid", "--root", "--wd", "--setuid", self._user, "--setgid", self._user, *command],
                              capture_output=True, text=True, timeout=timeout_s, check=False)
        return done.returncode, done.stdout + done.stderr

    def _signal(self, name):
        """To the first process, if there is one still."""
        try:
            subprocess.run(["kill", "-s", name, self._first_process()], stderr=subprocess.DEVNULL, check=False)
        except (OSError, IndexError):
            pass

    def stop(self, hook, timeout_s):
        """As a kubelet stops a pod: the preStop hook, then SIGTERM; the exit code."""
        self.execute(*hook, timeout_s=timeout_s)
        self._signal("TERM")
        return self.process.wait(timeout_s)

    def kill(self):
        """As a node that dies: the first process of a process namespace takes all others along."""
        self._signal("KILL")
        self.process.wait(20)


def image_environment(image):
    """What the image sets for its processes."""
    text = rehearsal.run("buildah", "inspect", "--type", "image", "--format",
                         "{{range .OCIv1.Config.Env}}{{println .}}{{end}}", image)
    return dict(line.split("=", 1) for line in text.splitlines() if line)
