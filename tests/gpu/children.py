"""Programs that the checks start: each has a session of its own, and nothing of it outlives the call."""

import os
import pathlib
import signal
import subprocess
import time

END_SECONDS = 20  # for processes that were killed to be gone
running = set()  # what run() has begun and not ended


def run(command, output, deadline, environment=None):
    """Exit code of `command`, whose output goes to the open file `output`. Everything that it started is ended with it: ranks
    and test worlds are in process groups of their own, but in its session. subprocess.TimeoutExpired where time.monotonic()
    passes `deadline`, OSError where it cannot be started."""
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                          start_new_session=True, env={**os.environ, **(environment or {})}) as child:
        running.add(child)
        try:
            return child.wait(max(0.0, deadline - time.monotonic()))
        finally:
            end_session(child)
            running.discard(child)


def end_all(number, _):
    """A handler of signals: ends this process with all that run() has begun in any thread."""
    for child in tuple(running):
        end_session(child)
    os._exit(128 + number)


def end_session(leader):
    """Kills every process of the session that `leader`, a Popen, began, and waits for it."""
    give_up = time.monotonic() + END_SECONDS
    while time.monotonic() < give_up:
        left = members(leader.pid)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if leader.poll() is not None and not left:
            return
        time.sleep(0.02)


def members(session):
    """Ids of the processes of a session, zombies left out."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found
