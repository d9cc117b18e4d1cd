"""How deploy/world says no."""

EXIT_USAGE = 64        # what was asked for cannot work: a flag, a hostfile, a host that is not as the others
EXIT_UNAVAILABLE = 69  # a host does not answer
EXIT_LOST = 70         # the world was lost too often, or did not drain
EXIT_RETRY = 75        # of a rank: may work when tried again


class Refusal(Exception):
    """Ends deploy/world with `code`; `problems` are whole messages, one line each."""

    def __init__(self, problems, code=EXIT_USAGE):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.code = code
        super().__init__("; ".join(self.problems))
