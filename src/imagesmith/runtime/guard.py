"""The guard: rejects steps that would spoil a run, and says when to go back to the last good checkpoint."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch

MOST = torch.finfo(torch.float32).max
"""What is more than this, or no number at all, is called not finite."""
FIRST_SCALE = 2.0**16
"""With which a run in fp16 begins: too large for some gradients, and brought down within a few steps."""
MOST_SCALE = 2.0**24
GROWS_AFTER = 2000
"""Accepted steps in a row after which twice the scale is tried."""


class Verdict(Enum):
    """What to do with one optimiser step."""

    ACCEPT = "accept"
    REJECT = "reject"
    ROLL_BACK = "roll back"


class Limits(NamedTuple):
    """What the loss, whatever its sign, and the gradient norm of a step may be at most; numbers that float32 holds.

    The loss is multiplied by `scale` before its backward pass, and the gradients divided by it afterwards.
    """

    loss: float
    norm: float
    scale: float = 1.0


@dataclass
class Guard:
    """Watches loss and gradient norm of one network; all its memory is in its fields, so it resumes exactly.

    A step is rejected if its loss or gradient norm is not finite or, after `settle` accepted steps, if the norm is over
    `spike` times its running geometric mean or the loss over `spike` times its running mean: weights that have gone
    astray show in an L1 loss but not in its gradient. `patience` rejections in a row ask for a roll-back.

    fp16 holds small gradients only when multiplied by a `scale` (Micikevicius et al. 2018, sec. 3.2; None elsewhere).
    One that makes them too large for it, while the loss is within its limit, is halved, and the step rejected without a
    word: the weights are not to blame. After `GROWS_AFTER` accepted steps twice as much is tried.
    """

    spike: float = 50.0
    settle: int = 100
    patience: int = 10
    accepted: int = 0
    rejected: int = 0
    streak: int = 0
    log_norm: float = 0.0
    mean_loss: float = 0.0
    scale: float | None = None
    fitted: int = 0
    """Steps accepted since the scale was changed."""

    def limits(self) -> Limits:
        """Beyond which a step is rejected now: numbers, so that a device can compare them without waiting for us."""
        scale = self.scale or 1.0
        if self.accepted < self.settle:
            return Limits(MOST, MOST, scale)
        loss = self.spike * self.mean_loss if self.mean_loss > 0 else MOST
        return Limits(_held(loss), _held(self.spike * math.exp(self.log_norm)), scale)

    def inspect(self, loss: float, norm: float, limits: Limits | None = None) -> tuple[Verdict, str]:
        """The verdict on a step, and its reason in words ('' when accepted, or when only its scale was too large).

        `limits` are those that held when the step was asked for, if they are others than now.
        """
        limits = limits or self.limits()
        if limits.scale > 1 and abs(loss) <= limits.loss and not norm <= MOST:
            if self.scale == limits.scale:  # else it was halved since
                self.scale, self.fitted = limits.scale / 2, 0
            self.rejected += 1
            return Verdict.REJECT, ""
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
            self._grow()
            return Verdict.ACCEPT, ""
        self.rejected += 1
        self.streak += 1
        if self.streak >= self.patience:
            return Verdict.ROLL_BACK, f"diverging: {self.streak} steps in a row rejected, the last because {reason}"
        return Verdict.REJECT, reason

    def _grow(self) -> None:
        """Count an accepted step for the scale."""
        if self.scale is None:
            return
        self.fitted += 1
        if self.fitted >= GROWS_AFTER:
            self.scale, self.fitted = min(MOST_SCALE, 2 * self.scale), 0


def _held(limit: float) -> float:
    """The same as float32 holds it: a device that compares finds what we find."""
    return torch.tensor(min(limit, MOST), dtype=torch.float32).item()
