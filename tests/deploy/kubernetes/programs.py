"""What the image's programs accept, asked of themselves: the built binaries, deploy/world, the entry point."""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENTRY = ROOT / "deploy" / "container" / "entry"
CONFIGS = ROOT / "tests" / "data" / "configs"

sys.path.insert(0, str(ROOT / "deploy"))
from world_launcher import settings as world_settings  # noqa: E402
from world_launcher.refusal import Refusal  # noqa: E402


def _run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)


class Programs:
    def __init__(self, bin_folder):
        self._bin = pathlib.Path(bin_folder)
        self._flags = {binary: self._flags_of(binary) for binary in ("deltaserve-router", "deltaserve-worker")}
        entry_help = _run(ENTRY, "--help").stdout
        self._variables = set(re.findall(r"^  (DELTASERVE_\w+) ", entry_help, re.MULTILINE))
        self._plans = {}
        self._refused = {}

    def _flags_of(self, binary):
        found = set(re.findall(r"^  (?:-\w,)?(--[\w-]+)", _run(self._bin / binary, "--help").stdout, re.MULTILINE))
        assert found, f"{binary} --help lists no flag"
        return found

    def role_errors(self, arguments):
        """What is wrong with the arguments of the entry point, flags and their values."""
        role, *flags = arguments or [""]
        if role == "router":
            yield from self._flag_errors("deltaserve-router", flags)
        elif role == "leader":
            yield from self._world_errors(flags)
        elif role == "worker":
            if flags:
                yield f"worker takes no arguments: {flags}"
        else:
            yield f"role \"{role}\" is none of router, leader, worker"

    def _world_errors(self, words):
        try:
            read = world_settings.read(["--hosts=host", "--max-losses=1", *words], is_root=False)
        except Refusal as refusal:
            yield from refusal.problems
            return
        yield from self._flag_errors("deltaserve-worker", ["--model=" + read.model, *read.worker_flags])

    def _flag_errors(self, binary, flags):
        words = [word for word in flags if not word.startswith("--")]
        if words:
            yield f"{' '.join(words)}: write flags as --NAME=VALUE, which is what is read here"
            return
        unknown = [name for name in (flag.split("=", 1)[0] for flag in flags) if name not in self._flags[binary]]
        if unknown:
            yield f"{binary} has no flag {', '.join(unknown)}"
            return
        key = binary, tuple(flags)
        if key not in self._refused:
            # Values are judged before --help is obeyed; unknown flags are not, and have been above.
            done = _run(self._bin / binary, *flags, "--help")
            self._refused[key] = done.stderr.strip() if done.returncode != 0 else ""
        if self._refused[key]:
            yield self._refused[key]

    def takes_variable(self, name):
        return name in self._variables

    def plan(self, config, *flags):
        """deltaserve-plan's figures for a config of tests/data/configs."""
        key = config, flags
        if key not in self._plans:
            done = _run(self._bin / "deltaserve-plan", CONFIGS / f"{config}.json", "--json", *flags)
            if done.returncode != 0:
                raise ValueError(done.stderr.strip() or done.stdout.strip())
            self._plans[key] = json.loads(done.stdout)
        return self._plans[key]
