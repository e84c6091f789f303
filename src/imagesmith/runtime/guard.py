"""The guard: rejects steps that would spoil a run, and says when to go back to the last good checkpoint."""

import math
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What to do with one optimiser step."""

    ACCEPT = "accept"
    REJECT = "reject"
    ROLL_BACK = "roll back"


@dataclass
class Guard:
    """Watches loss and gradient norm of one network; all its memory is in its fields, so it resumes exactly.

    A step is rejected if its loss or gradient norm is not finite or, after `settle` accepted steps, if the norm is over
    `spike` times its running geometric mean or the loss over `spike` times its running mean: weights that have gone
    astray show in an L1 loss but not in its gradient. `patience` rejections in a row ask for a roll-back.
    """

    spike: float = 50.0
    settle: int = 100
    patience: int = 10
    accepted: int = 0
    rejected: int = 0
    streak: int = 0
    log_norm: float = 0.0
    mean_loss: float = 0.0

    def inspect(self, loss: float, norm: float) -> tuple[Verdict, str]:
        """The verdict on a step, and its reason in words ('' when accepted)."""
        reason = ""
        if not math.isfinite(loss) or not math.isfinite(norm):
            reason = f"loss {loss:.3g} or gradient norm {norm:.3g} is not finite"
        elif self.accepted >= self.settle and abs(loss) > self.spike * self.mean_loss > 0:
            reason = f"loss {loss:.3g} is over {self.spike:g} times its usual {self.mean_loss:.3g}"
        elif self.accepted >= self.settle and norm > self.spike * math.exp(self.log_norm):
            reason = f"gradient norm {norm:.3g} is over {self.spike:g} times its usual {math.exp(self.log_norm):.3g}"
        if not reason:
            rate = max(0.01, 1 / (self.accepted + 1))
            self.log_norm += rate * (math.log(max(norm, 1e-12)) - self.log_norm)
            self.mean_loss += rate * (abs(loss) - self.mean_loss)
            self.accepted += 1
            self.streak = 0
            return Verdict.ACCEPT, ""
        self.rejected += 1
        self.streak += 1
        if self.streak >= self.patience:
            return Verdict.ROLL_BACK, f"diverging: {self.streak} steps in a row rejected, the last because {reason}"
        return Verdict.REJECT, reason
