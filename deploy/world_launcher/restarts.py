"""When a lost world starts again. Pure: time is an argument."""

import dataclasses

LEAST_S = 1.0
MOST_S = 60.0
HEALTHY_S = 600.0  # after so long a world's loss is no sequel of the one before
WINDOW_S = 600.0   # within which losses are counted


@dataclasses.dataclass
class Restarts:
    """Decides after each end of a world. Back-off doubles from 1 to 60 s and begins anew after a world that
    was ready for ten minutes; `max_losses` losses within ten minutes are the end."""

    max_losses: int
    next_s: float = LEAST_S
    losses: list = dataclasses.field(default_factory=list)

    def after_loss(self, now, ready_s):
        """Seconds to wait before the next start, or None to give up. `ready_s`: how long it was ready."""
        if ready_s >= HEALTHY_S:
            self.next_s = LEAST_S
        self.losses = [time for time in self.losses if now - time < WINDOW_S] + [now]
        if len(self.losses) >= self.max_losses:
            return None
        return self._step()

    def after_silence(self):
        """Seconds to wait for a host that does not answer: no loss, since there was no world."""
        return self._step()

    def _step(self):
        wait = self.next_s
        self.next_s = min(2 * self.next_s, MOST_S)
        return wait
