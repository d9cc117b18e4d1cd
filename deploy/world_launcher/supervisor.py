"""Keeps one world: starts it, hears it, starts it again when it is lost, drains it on a signal."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from world_launcher import mpirun, preflight, probe
from world_launcher import hosts as hostlists
from world_launcher.last_words import LastWords
from world_launcher.refusal import EXIT_LOST, EXIT_UNAVAILABLE, EXIT_USAGE, Refusal
from world_launcher.restarts import Restarts

LOOK_S = 0.05
SWEEP_S = 20.0        # for what a world left on its hosts
READERS_S = 2.0       # for what mpirun's pipes still hold after its end
HURRY_S = 10.0        # between SIGTERM and SIGKILL
DRAIN_SLACK_S = 15.0  # for a world that has drained to end
ADDRESS = re.compile(r"^\d+\.\d+\.\d+\.\d+:\d+$")


def pass_on(stream, text):
    """Whoever read this may be gone: no reason to end a world."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        pass


def say(text):
    pass_on(sys.stderr, f"deploy/world: {text}\n")


def look(settings, channel):
    """The preflight, with the hosts in mpirun's order: which of them is this machine may show only now."""
    settings.hosts = hostlists.as_mpirun_orders(settings.hosts, channel.is_local)
    return preflight.look(settings, channel)


class Signals:
    """How often the end was asked for. The handler only counts."""

    def __init__(self):
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number, frame):
        self.count += 1

    def sleep(self, seconds):
        """False where a signal came first."""
        end = time.monotonic() + seconds
        while self.count == 0 and time.monotonic() < end:
            time.sleep(min(LOOK_S, seconds))
        return self.count == 0


class AddressFile:
    """Where routers find the world: there with its address while it is ready. A path of None is none."""

    def __init__(self, path):
        self._path = None if path is None else pathlib.Path(path)

    def write(self, address):
        if self._path is None:
            return
        partial = self._path.with_name(self._path.name + ".partial")
        try:
            partial.write_text(address + "\n")
            os.replace(partial, self._path)  # who waits for it never reads half of it
        except OSError as error:
            raise Refusal(f"--address-file is {self._path}: {error.strerror}; name a file in a folder that can be "
                          "written to") from error

    def remove(self):
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Run:
    """One mpirun, from its start to its end. Two threads read what it passes on."""

    def __init__(self, command, environment, on_ready):
        self.words = LastWords()
        self.started_at = time.monotonic()
        self.ready_at = None
        self.cause = None  # why this program ended it
        self._on_ready = on_ready
        self.process = subprocess.Popen(
            # A session of its own: Ctrl-C reaches this program alone; and it ends with this program.
            ["setpriv", "--pdeathsig", "TERM", *command], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True, errors="replace")
        self._readers = [threading.Thread(target=self._read_addresses, daemon=True),
                         threading.Thread(target=self._read_words, daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read_addresses(self):
        for line in self.process.stdout:
            if ADDRESS.match(line.strip()):
                self.ready_at = time.monotonic()
                self._on_ready(line.strip())
            else:
                pass_on(sys.stdout, line)

    def _read_words(self):
        for line in self.process.stderr:
            pass_on(sys.stderr, line)
            self.words.hear(line)

    def wait(self, seconds):
        """mpirun's exit code, negative for a signal, or None where it still runs after `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def finish_reading(self):
        for reader in self._readers:
            reader.join(READERS_S)

    def starting_s(self):
        return time.monotonic() - self.started_at

    def ready_s(self):
        return 0.0 if self.ready_at is None else time.monotonic() - self.ready_at


class Supervisor:
    """Threads: main's. Owner: main. `channel`: the way to the hosts."""

    def __init__(self, settings, channel):
        self._settings = settings
        self._channel = channel
        self._address_file = AddressFile(settings.address_file)
        self._restarts = Restarts(settings.max_losses)
        self._signals = Signals()
        self._failed = None  # a Refusal of a reading thread

    def run(self):
        """The exit code; Refusal where a start is not possible."""
        self._address_file.remove()  # one of an earlier run would send routers to a dead address
        try:
            return self._keep()
        finally:
            self._address_file.remove()
            self._sweep()

    def _keep(self):
        is_first = True
        while True:
            checked = self._look(is_first)
            if checked is None:
                return 0
            is_first = False
            code, drained, run = self._run_once(checked)
            if drained:
                return code
            if code == EXIT_USAGE:
                self._tell(run, code)
                return EXIT_USAGE
            self._tell(run, code)
            if self._signals.count:
                return EXIT_LOST
            wait = self._restarts.after_loss(time.monotonic(), run.ready_s())
            self._sweep()
            if wait is None:
                say(f"{len(self._restarts.losses)} losses within 10 minutes: giving up")
                return EXIT_LOST
            say(f"starting again in {wait:g} s")
            if not self._signals.sleep(wait):
                return 0

    def _look(self, is_first):
        """The preflight, again and again while hosts are silent; None where a signal ended the wait."""
        patience = time.monotonic() + self._settings.wait_s
        told = None
        while True:
            try:
                return look(self._settings, self._channel)
            except Refusal as refusal:
                if refusal.code != EXIT_UNAVAILABLE or (is_first and time.monotonic() >= patience):
                    raise
                if refusal.problems != told:
                    say("waiting: " + "; ".join(refusal.problems))
                told = refusal.problems
            if not self._signals.sleep(1.0 if is_first else self._restarts.after_silence()):
                return None

    def _run_once(self, checked):
        """(code, whether it drained as asked, the run)."""
        settings = self._settings
        command = mpirun.command(settings, checked.network, self._channel.is_local)
        hosts = ", ".join(f"{host.name} ({host.ranks})" for host in settings.hosts)
        say(f"starting {settings.ranks} ranks on {hosts} over {checked.network}")
        run = Run(command, mpirun.environment(settings), self._on_ready)
        code = None
        while code is None:
            code = run.wait(LOOK_S)
            if code is None and self._signals.count:
                return self._drain(run)
            if self._failed is not None:
                self._end(run)
                raise self._failed
            if code is None and run.ready_at is None and run.starting_s() > settings.start_timeout_s:
                run.cause = f"not ready after --start-timeout={settings.start_timeout_s:g} s"
                return self._end(run), False, run
        run.finish_reading()
        self._address_file.remove()
        return code, code == 0, run

    def _on_ready(self, address):
        try:
            self._address_file.write(address)
            say(f"ready: the world serves at {address}")
        except Refusal as refusal:
            self._failed = refusal

    def _drain(self, run):
        if run.ready_at is None:
            say("ending the world that starts: nothing runs yet")
            self._end(run)
            return 0, True, run
        say(f"draining: running requests get {self._settings.drain_timeout_s:g} s; a second signal ends them now")
        run.process.send_signal(signal.SIGUSR1)  # mpirun hands it to every rank at once
        asked = self._signals.count
        end = time.monotonic() + self._settings.drain_timeout_s + DRAIN_SLACK_S
        code = None
        while code is None and time.monotonic() < end and self._signals.count == asked:
            code = run.wait(LOOK_S)
        if code is None:
            self._end(run)
            say("the world was ended before it had drained")
            return EXIT_LOST, True, run
        run.finish_reading()
        self._address_file.remove()
        if code == 0:
            say("drained")
        return code, code == 0, run

    def _end(self, run):
        """Not by way of a drain; mpirun's exit code."""
        run.process.terminate()
        code = run.wait(HURRY_S)
        if code is None:
            run.process.kill()
            code = run.process.wait()
        run.finish_reading()
        self._address_file.remove()
        return code

    def _tell(self, run, code):
        hosts = self._settings.hosts
        how = "started" if run.ready_at is None else f"served for {run.ready_s():.0f} s"
        say(f"the world was lost after it {how} (mpirun: {code}); last words of its ranks, root cause last:")
        words = run.words.words()
        root = run.cause or run.words.root_cause(code, socket.gethostname(), lambda host: hostlists.ranks_on(hosts, host))
        for line in [line for line in words if line != root]:
            say(f"  {line}")
        say(f"root cause: {root}")

    def _sweep(self):
        """Ends and removes what a world left on its hosts, where they can be reached."""
        names = [host.name for host in self._settings.hosts]
        self._channel.run(names, probe.sweep_script(self._settings.world_id), SWEEP_S)


def print_command(settings, channel):
    """After the same look at the hosts that a start takes; sweeps what that made."""
    try:
        checked = look(settings, channel)
        print(shlex.join(mpirun.command(settings, checked.network, channel.is_local)))
    finally:
        channel.run([host.name for host in settings.hosts], probe.sweep_script(settings.world_id), SWEEP_S)
