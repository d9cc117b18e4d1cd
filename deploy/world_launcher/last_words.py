"""Reads what mpirun passes on for the words by which ranks end, and finds the root cause. Pure."""

import re
import signal

WORDS = re.compile(r"^(?P<program>deltaserve-\w+): rank (?P<rank>\d+) on (?P<host>[^\s:]+): (?P<cause>.*)$")
FOLLOWS = re.compile(r"^ends with (?P<root>rank \d+ on [^\s:]+: .*)$")
GIVEN_UP = "given up by the other ranks: "
REFUSED = re.compile(r"^deltaserve-\w+: (?!rank \d+ on )(?P<cause>.*)$")
CHECK = re.compile(r"^(?P<cause>[\w/.]+:\d+: check failed: .*)$")
NOTICED = re.compile(r"process rank (?P<rank>\d+) with PID \S+ on node (?P<host>\S+) exited on signal (?P<signal>\d+)")
DAEMON = re.compile(r"^\s*Remote daemon: .* on node (?P<host>\S+)")
MOST_WORDS = 1000  # of a world; more ranks than that say the same


class LastWords:
    """Of one run of mpirun: hears every line, then tells. Threads: one hears, another asks at the end."""

    def __init__(self):
        self._words = []      # "rank R on H: cause", in the order heard
        self._roots = []      # of those, a cause of their own
        self._followed = []   # causes on other ranks that ranks ended with
        self._refusals = []
        self._checks = []
        self._noticed = []
        self._daemons = []

    def hear(self, line):
        line = line.rstrip("\r\n")
        if match := WORDS.match(line):
            self._hear_words(match)
        elif match := REFUSED.match(line):
            self._refusals.append(match["cause"])
        elif match := CHECK.match(line):
            self._checks.append(match["cause"])
        elif match := NOTICED.search(line):
            number = int(match["signal"])
            name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
            self._noticed.append(f"rank {match['rank']} on {match['host']}: ended by {name}")
        elif match := DAEMON.match(line):
            self._daemons.append(match["host"])

    def _hear_words(self, match):
        if len(self._words) >= MOST_WORDS:
            return
        words = f"rank {match['rank']} on {match['host']}: {match['cause']}"
        self._words.append(words)
        if follows := FOLLOWS.match(match["cause"]):
            self._followed.append(follows["root"])
        elif match["cause"].startswith(GIVEN_UP):
            self._followed.append(words)
        else:
            self._roots.append(words)

    def words(self):
        """Every rank's, the roots last."""
        return [words for words in self._words if words not in self._roots] + self._roots

    def root_cause(self, code, here, ranks_on):
        """One line. `code`: mpirun's exit code, negative for a signal; `here`: the host that it ran on; `ranks_on`:
        host -> its rank numbers."""
        if self._roots:
            return self._roots[0]
        if code == 64 and self._refusals:
            return self._refusals[-1]
        if self._checks:
            return self._with_rank(self._checks[0])
        if code < 0:
            return f"mpirun on {here}: ended by {signal.Signals(-code).name}"
        if self._daemons:
            host = self._daemons[0]
            ranks = ", ".join(map(str, ranks_on(host)))
            return f"ranks {ranks} on {host}: mpirun lost its daemon there: host dead, network cut or orted killed"
        if self._followed:
            who = self._followed[0].partition(":")[0]
            return next((noticed for noticed in self._noticed if noticed.startswith(who + ":")), self._followed[0])
        if self._noticed:
            return self._noticed[0]
        if self._refusals:
            return self._refusals[-1]
        return f"no rank said why; mpirun ended with code {code}, and its output is above"

    def _with_rank(self, cause):
        who = self._noticed[0].partition(":")[0] + ": " if self._noticed else ""
        return who + cause
