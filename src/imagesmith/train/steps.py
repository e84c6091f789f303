"""The steps: what one batch asks of which network. They know mathematics; the loop knows time, the runtime machines.

A step is a generator function over (nets, batch) that yields (net name, loss, scalars to log) once per turn; the loop
runs the backward pass and the optimiser of that network before it asks for the next turn.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from imagesmith.losses import LOSSES

Nets = dict[str, nn.Module]
Turn = tuple[str, Tensor, dict[str, Tensor]]


def restore_step(nets: Nets, batch: tuple[Tensor, ...], losses: dict[str, float]) -> Iterator[Turn]:
    """One turn of the network 'restorer' on (degraded, target), with the weighted sum of `losses`."""
    degraded, target = batch
    restored = nets["restorer"](degraded)
    terms = {name: LOSSES[name](restored, target) for name in losses}
    total = sum(weight * terms[name] for name, weight in losses.items())
    assert isinstance(total, Tensor), "a step needs at least one loss"
    yield "restorer", total, {f"loss/{name}": term.detach() for name, term in terms.items()}
