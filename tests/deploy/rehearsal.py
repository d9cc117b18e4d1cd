"""What the rehearsals of deployments share: waiting with a deadline, asking a router, skipping with a reason."""

import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MACHINE = ROOT / "tests" / "system" / "hosts" / "machine"
ADD_HOST = ROOT / "tests" / "system" / "hosts" / "add"
DEMO_MODEL = ROOT / "deploy" / "demo-model"
SKIPPED = 77  # CMakeLists.txt: SKIP_RETURN_CODE


def skip(reason):
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(SKIPPED)


def need(programs):
    """Skips where one of {program: package} is missing, or where this is not root."""
    if os.geteuid() != 0:
        skip("it needs root, for namespaces of its own and for daemons that start as root")
    for program, package in programs.items():
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            skip(f"no {program} on PATH; install the package {package}")


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(*command, timeout_s=60, **options):
    """The output of a command that has to end well."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout_s,
                          check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(what, condition, timeout_s, pause_s=0.1):
    """What `condition` returns once that is true; fails after `timeout_s`, saying what was awaited."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause_s)
    raise AssertionError(f"after {timeout_s} s still not: {what}")


def ask(command, router, timeout_s=60):
    """Asks the demo model a sum that it was not trained on, until a world answers, by `command`, the way to
    deltaserve-chat; the seconds that it took."""
    start = time.monotonic()

    def answered():
        done = subprocess.run([*map(str, command), "--router", router, "--thinking", "on", "--prompt",
                               "What is 881 + 513?"], capture_output=True, text=True, timeout=timeout_s, check=False)
        lines = done.stdout.strip().splitlines()
        return done.returncode == 0 and lines and lines[-1] == "1394"

    wait_until(f"the right answer of {router}", answered, timeout_s, 0.2)
    return time.monotonic() - start
