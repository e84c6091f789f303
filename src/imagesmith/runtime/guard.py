"""The guard: rejects steps that would spoil a run, and says when to go back to the last good checkpoint."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch

MOST = torch.finfo(torch.float32).max
"""What is more than this, or no number at all, is called not finite."""


class Verdict(Enum):
    """What to do with one optimiser step."""

    ACCEPT = "accept"
    REJECT = "reject"
    ROLL_BACK = "roll back"


class Limits(NamedTuple):
    """What the loss, whatever its sign, and the gradient norm of a step may be at most; numbers that float32 holds."""

    loss: float
    norm: float


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

    def limits(self) -> Limits:
        """Beyond which a step is rejected now: numbers, so that a device can compare them without waiting for us."""
        if self.accepted < self.settle:
            return Limits(MOST, MOST)
        loss = self.spike * self.mean_loss if self.mean_loss > 0 else MOST
        return Limits(_held(loss), _held(self.spike * math.exp(self.log_norm)))

    def inspect(self, loss: float, norm: float, limits: Limits | None = None) -> tuple[Verdict, str]:
        """The verdict on a step, and its reason in words ('' when accepted).

        `limits` are those that held when the step was asked for, if they are others than now.
        """
        limits = limits or self.limits()
        reason = ""
        if not (abs(loss) <= MOST and norm <= MOST):
            reason = f"loss {loss:.3g} or gradient norm {norm:.3g} is not finite"
        elif abs(loss) > limits.loss:
            reason = f"loss {loss:.3g} is over {self.spike:g} times its usual {limits.loss / self.spike:.3g}"
        elif norm > limits.norm:
            reason = f"gradient norm {norm:.3g} is over {self.spike:g} times its usual {limits.norm / self.spike:.3g}"
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


def _held(limit: float) -> float:
    """The same as float32 holds it: a device that compares finds what we find."""
    return torch.tensor(min(limit, MOST), dtype=torch.float32).item()
