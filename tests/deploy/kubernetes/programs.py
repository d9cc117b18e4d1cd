"""What the image's programs accept, asked of themselves: the built binaries, the entry point, Open MPI."""

import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
ENTRY = ROOT / "deploy" / "container" / "entry"
CONFIGS = ROOT / "tests" / "data" / "configs"
BINARY_OF_ROLE = {"router": "deltaserve-router", "leader": "deltaserve-worker"}
SWITCHES = ("--help", "--version")


def _run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)


class Programs:
    def __init__(self, bin_folder):
        self._bin = pathlib.Path(bin_folder)
        self._flags = {role: self._flags_of(binary) for role, binary in BINARY_OF_ROLE.items()}
        entry_help = _run(ENTRY, "--help").stdout
        self._variables = set(re.findall(r"^  (DELTASERVE_\w+) ", entry_help, re.MULTILINE))
        self._roles = set(re.findall(r"\bentry (\w+)", entry_help))
        self._plans = {}
        self._refused = {}

    def _flags_of(self, binary):
        found = set(re.findall(r"^  (?:-\w,)?(--[\w-]+)", _run(self._bin / binary, "--help").stdout, re.MULTILINE))
        assert found, f"{binary} --help lists no flag"
        return found

    def role_errors(self, arguments):
        """What is wrong with the arguments of the entry point, flags and their values."""
        role = arguments[0] if arguments else ""
        if role not in self._roles:
            yield f"role \"{role}\" is none of {', '.join(sorted(self._roles))}"
            return
        for argument in arguments[1:]:
            name = argument.split("=", 1)[0]
            if argument.startswith("--") and name not in self._flags.get(role, ()):
                yield f"{role} has no flag {name}"
        if role in BINARY_OF_ROLE:
            yield from self._value_errors(role, tuple(arguments[1:]))

    def _value_errors(self, role, arguments):
        key = role, arguments
        if key not in self._refused:
            # Values are judged before --help is obeyed; unknown flags are not, and have been above.
            self._refused[key] = _run(self._bin / BINARY_OF_ROLE[role], *arguments, "--help")
        done = self._refused[key]
        if done.returncode != 0:
            yield done.stderr.strip()

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
