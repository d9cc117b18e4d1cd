#!/usr/bin/python3
"""deploy/bundle, whole: makes a bundle of a build, unpacks it in a Debian that has neither Open MPI nor gRPC and no
network, and runs a world of it there as a user that is not root.

    bundle_test.py BUILD_DIR     a build folder with its programs in it
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import rehearsal  # noqa: E402
from rehearsal import run, tell  # noqa: E402

BUNDLE = rehearsal.ROOT / "deploy" / "bundle"
PROGRAMS = {"debootstrap": "debootstrap", "patchelf": "patchelf", "unshare": "util-linux", "ip": "iproute2"}
AT = "srv/unpacked"  # a path that no build had
USER = "4711"
BUILD = pathlib.Path()  # from the command line

# A machine of its own; it and all that it mounts end with the last process.
START = r"""
set -e
root="$1"
shift
ip link set lo up
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
mkdir -m 1777 "$root/dev/shm"
for name in null zero urandom random; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp /usr/bin/setpriv --reuid "$USER_ID" --regid "$USER_ID" \
  --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
"""

# A world of two ranks and its router, asked by chat; ended as by Ctrl-C.
SERVE = r"""
cd /tmp
"$1/deploy/local" /model --ranks 2 --port 0 --slots 4 --kv-memory 64M >log 2>&1 &
local_pid=$!
for ((i = 0; i < 600; i++)); do
  address="$(sed -n 's/^ready: router at \([^,]*\),.*/\1/p' log)"
  [[ -z "$address" ]] || break
  kill -0 $local_pid || { cat log; exit 1; }
  sleep 0.1
done
"$1/bin/deltaserve-chat" --router "$address" --thinking on --prompt "What is 881 + 513?"
kill -TERM $local_pid
wait $local_pid || { cat log; exit 1; }
"""

# Two "hosts": the second daemon is started by an agent, as by ssh, and so by the path of the first one's folder.
TWO_DAEMONS = r"""
cd /tmp
printf '#!/bin/bash\nshift\nexec env -i PATH=/usr/bin:/bin bash -c "$*"\n' >agent
chmod +x agent
"$1/bin/mpirun" --mca plm_rsh_agent /tmp/agent --mca plm rsh --mca btl tcp,self --mca pml ob1 \
  --mca oob_tcp_if_include lo --mca btl_tcp_if_include lo \
  --host here:1,there:1 -np 2 --bind-to none "$1/bin/deltaserve-bench_comm" \
  --path mpi --repeats 1 --milliseconds 10
"""

# A world without a router.
GENERATE = r"""
cd /tmp
echo '{"id": "sum", "text": "<|im_start|>user\nWhat is 881 + 513?<|im_end|>\n<|im_start|>assistant\n<think>\n"}' >in.jsonl
"$1/deploy/mpirun_one_host" -n 2 "$1/bin/deltaserve-generate" --model /model --prompts in.jsonl --output out.jsonl \
  --kv-memory 64M --slots 4 >log 2>&1 || { cat log; exit 1; }
cat out.jsonl
"""


def machine(root, *command, timeout_s=120):
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "sh", "-c", START, "start",
         root, *command], capture_output=True, text=True, timeout=timeout_s, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "USER_ID": USER})


class BundleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="deltaserve-bundle-", dir="/var/tmp")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name, "root")
        run("debootstrap", "--variant=minbase", "bookworm", cls.root, timeout_s=3600)
        made = pathlib.Path(cls.folder.name, "deltaserve")
        tell(run(BUNDLE, "--build", BUILD, "--output", made, timeout_s=600).strip())
        cls.bundle = cls.root / AT
        cls.bundle.mkdir(parents=True)
        run("tar", "--extract", "--file", f"{made}.tar.gz", "--strip-components", "1", "--directory", cls.bundle)
        shutil.copytree(rehearsal.DEMO_MODEL, cls.root / "model")

    def machine(self, *command, at=f"/{AT}", **options):
        """A command in there; a script gets the bundle's path as its first argument."""
        if "\n" in command[0]:
            command = ("bash", "-c", *command, "script", at)
        done = machine(self.root, *command, **options)
        return done.returncode, done.stdout + done.stderr

    def assert_serves(self, path):
        code, output = self.machine(SERVE, at=path)
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"(?m)^1394$")

    def test_the_machine_has_none_of_what_the_build_needed(self):
        for pattern in ("libmpi.so*", "libgrpc*.so*", "libprotobuf.so*", "libabsl*.so*", "mpirun", "orted"):
            inside = [path for path in self.root.rglob(pattern) if self.bundle not in path.parents]
            self.assertEqual(inside, [], pattern)

    def test_a_world_answers_wherever_the_folder_lies(self):
        self.assert_serves(f"/{AT}")
        self.bundle.rename(self.root / "opt/elsewhere")
        self.addCleanup((self.root / "opt/elsewhere").rename, self.bundle)
        self.assert_serves("/opt/elsewhere")

    def test_generate_answers_under_mpirun(self):
        code, output = self.machine(GENERATE)
        self.assertEqual(code, 0, output)
        self.assertIn("1394", output)

    def test_the_daemon_of_another_host_is_the_folders_own(self):
        code, output = self.machine(TWO_DAEMONS)
        self.assertEqual(code, 0, output)
        self.assertIn("2 ranks", output)

    def test_help_texts_of_open_mpi_are_found(self):
        code, output = self.machine(f"/{AT}/bin/mpirun", "-n", "1", "/nowhere")
        self.assertNotEqual(code, 0)
        self.assertIn("could not access\nor execute an executable", output)
        self.assertNotIn("couldn't open the help file", output)

    def test_what_only_the_machine_can_have_is_asked_for_by_name(self):
        program = self.bundle / "libexec" / "deltaserve-plan"
        kept = program.read_bytes()
        self.addCleanup(program.write_bytes, kept)
        run("patchelf", "--add-needed", "libnccl.so.2", program)
        code, output = self.machine(f"/{AT}/bin/deltaserve-plan", "--version")
        self.assertEqual(code, 69, output)
        self.assertRegex(output, r"deltaserve-plan: this machine has no libnccl\.so\.2 where.*LD_LIBRARY_PATH")

    def test_the_glibc_that_it_names_is_enough_and_needed(self):
        text = (self.bundle / "README").read_text()
        named = re.search(r"glibc (2\.\d+) or newer", text).group(1)
        asked = run("objdump", "-T", *self.bundle.glob("libexec/*"), *self.bundle.glob("lib/*.so*"))
        self.assertIn(f"GLIBC_{named}", asked)
        newer = [minor for minor in map(int, re.findall(r"GLIBC_2\.(\d+)", asked)) if minor > int(named[2:])]
        self.assertEqual(newer, [])

    def test_a_launcher_without_a_program_is_refused(self):
        code, output = self.machine(f"/{AT}/bin/launch")
        self.assertEqual(code, 64, output)
        self.assertIn("deltaserve-worker", output)


def main():
    global BUILD
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    rehearsal.need(PROGRAMS)
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
