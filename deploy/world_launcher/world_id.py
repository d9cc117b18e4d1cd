"""The name of a world's folders and processes on its hosts.

The same command on the same machine gets the same name again, so that a start sweeps away what a killed one
left; two that run side by side get two.
"""

import fcntl
import hashlib
import os
import pathlib
import socket
import tempfile

MOST = 1000  # worlds of one command side by side


class WorldId:
    """Holds the name while it lives: a locked file, whose lock ends with this process however that ends."""

    def __init__(self, words, folder=None):
        folder = pathlib.Path(folder or tempfile.gettempdir())
        key = "\0".join([socket.gethostname(), str(os.getuid()), *words])
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:12]
        for number in range(MOST):
            self.name = f"deltaserve-world-{digest}-{number}"
            self._path = folder / f"{self.name}.lock"
            self._file = _lock(self._path)
            if self._file is not None:
                return
        raise RuntimeError(f"{MOST} worlds of one command run here: {folder}/deltaserve-world-{digest}-*.lock")

    def release(self):
        self._path.unlink(missing_ok=True)
        self._file.close()


def _lock(path):
    """The locked file at `path`, or None where another process holds it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == os.stat(path).st_ino:  # else its owner has just removed it
            return file
    except OSError:
        pass
    file.close()
    return None
