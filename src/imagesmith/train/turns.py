"""The turns of a step, computed one after the other, or on a GPU recorded once as CUDA graphs and replayed.

A step of a small network is hundreds of kernels that take a GPU less time than Python needs to ask for them; a graph is
asked for once. What a recorded step reads lies at fixed places: its batch, and the weights that `Dials` hold.

Whether a turn may move the weights is judged where its gradients are: a GPU is asked for the next step while what it
told of the one before is on its way.
"""

from collections.abc import Callable, Container, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from imagesmith.errors import ImagesmithError
from imagesmith.runtime.dist import World
from imagesmith.runtime.graphs import captured
from imagesmith.runtime.guard import Limits
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import move
from imagesmith.train.state import TrainState
from imagesmith.train.steps import Nets, Step, Turn

WARM_UP = 3
"""Steps that are computed before one is recorded: libraries load, optimisers make their memory."""

Wishes = Callable[[], Iterable[bool]]
"""What the time on this process asks for, see `Clock.wishes`."""


@dataclass(frozen=True)
class Ready:
    """A turn whose gradients lie ready, and which was judged, before the weights move."""

    name: str
    """Of the network whose turn it is."""
    scalars: tuple[str, ...]
    told: Tensor
    """Loss, scalars and length of the gradient, on the device."""
    limits: Limits
    """By which it was judged."""
    refused: Tensor
    """Whether it, or a turn of this step before it, went beyond its limits: one truth, on the device."""
    wished: Tensor
    """For each wish the share of processes that have it."""
    update: Callable[[], object]
    """Moves the weights, unless it was refused."""


@dataclass
class Computed:
    """Turns computed anew for every batch."""

    state: TrainState
    step: Step
    arithmetic: Arithmetic
    world: World
    parts: int = 1
    bounds: "Bounds" = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = Bounds(self.state, self.arithmetic.device)

    def forget(self) -> None:
        """Nothing is remembered from step to step."""

    def of(self, batch: tuple[Tensor, ...], wishes: Wishes, course: Hashable = None) -> Generator[Ready, None, None]:
        """The turns of one step on a batch that is divided into `parts`, whose gradients are added up.

        The processes exchange one message in each turn, which holds their wishes as well.
        """
        self.bounds.set()
        yield from self.within_bounds(batch, wishes)

    def within_bounds(self, batch: tuple[Tensor, ...], wishes: Wishes) -> Generator[Ready, None, None]:
        """The same turns, judged by the bounds that were set last."""
        nets, optimizers = self.state.nets, self.state.optimizers
        # every k-th, as processes divide it: the first share of all parts is then the first share of the batch
        divided = [tuple(each[k :: self.parts] for each in batch) for k in range(self.parts)]
        refused: Tensor | None = None
        with ExitStack() as open_steps:
            steps = [self.arithmetic.turns(self.step(nets, part)) for part in divided]
            for turns in steps:
                open_steps.enter_context(closing(turns))
            while (turn := _add_gradients(nets, steps, self.bounds.scale)) is not None:
                name, loss, scalars = turn
                gradients = [p.grad for p in nets[name].parameters() if p.grad is not None]
                told = torch.stack([value.detach().to(gradients[0]) for value in (loss, *scalars.values())])
                wished = _listed(wishes)
                if self.world.size > 1:  # back on the host it would be waited for
                    wished = wished.to(told.device, non_blocking=True)
                self.world.average([*gradients, told, wished])
                told = torch.cat([told, torch.nn.utils.get_total_norm(gradients).view(1)])
                beyond = self.bounds.beyond(name, told[0], told[-1])
                refused = beyond if refused is None else refused | beyond
                update = partial(move, optimizers[name], refused)
                yield Ready(name, tuple(scalars), told, self.bounds.now[name], refused, wished, update)


class Recorded:
    """The same turns as CUDA graphs. Recorded again whenever their course changes; computed where that fails.

    `say` is told why a step could not be recorded.
    """

    def __init__(self, computed: Computed, say: Callable[[str], None]) -> None:
        self.computed, self.say = computed, say
        self.fails = False
        self.forget()

    def forget(self) -> None:
        """Record anew: what the graphs read or write has moved."""
        self._course: Hashable = None
        self._computed_steps = 0
        self._batch: tuple[Tensor, ...] = ()
        self._graphs: list[tuple[torch.cuda.CUDAGraph, Ready]] = []

    def of(self, batch: tuple[Tensor, ...], wishes: Wishes, course: Hashable = None) -> Generator[Ready, None, None]:
        """The turns of one step; `course` is another value whenever a step would do something else than before."""
        course = course, tuple((part.shape, part.dtype) for part in batch)
        if course != self._course:
            self.forget()
            self._course = course
        if not (self._graphs or self.fails) and self._computed_steps >= WARM_UP:
            self._record(batch)
        if not self._graphs:
            yield from self.computed.of(batch, wishes)
            self._computed_steps += 1  # not of one that was rejected: its optimisers may have no memory yet
            return
        self.computed.bounds.set()
        for kept, part in zip(self._batch, batch, strict=True):
            kept.copy_(part)
        for graph, turn in self._graphs:
            graph.replay()
            yield replace(turn, wished=_listed(wishes), limits=self.computed.bounds.now[turn.name])

    def _record(self, batch: tuple[Tensor, ...]) -> None:
        self.computed.bounds.set()
        self._batch = tuple(part.clone(memory_format=torch.preserve_format) for part in batch)
        pool, made = torch.cuda.graph_pool_handle(), []
        try:
            with closing(self.computed.within_bounds(self._batch, tuple)) as turns:
                for _ in self.computed.state.nets:  # each of them has one turn
                    turn, graph = captured(partial(next, turns), pool)
                    _, update = captured(turn.update, pool)
                    made.append((graph, replace(turn, update=update.replay)))
        except ImagesmithError:
            raise
        except RuntimeError as error:
            self.fails = True
            self.say(f"this step cannot be recorded for the GPU and is asked for anew each time: {error}")
            return
        self._graphs = made


def _listed(wishes: Wishes) -> Tensor:
    return torch.tensor([float(wish) for wish in wishes()])


def _add_gradients(
    nets: Nets, steps: Sequence[Iterator[Turn]], scale_of: Callable[[str], float | Tensor | None]
) -> Turn | None:
    """The next turn of all parts of a batch, with the means of their losses, scalars and gradients; None at the end.

    During the backward passes they are multiplied by the scale of the network, if it has one.
    """
    turns: list[Turn] = []
    for step in steps:
        turn = next(step, None)
        if turn is None:
            return None
        name, loss, scalars = turn
        if not turns:
            nets[name].zero_grad(set_to_none=True)
        scale, part = scale_of(name), loss / len(steps)
        (part if scale is None else part * scale).backward()
        turns.append((name, loss.detach(), scalars))
    name, _, scalars = turns[0]
    if (scale := scale_of(name)) is not None:
        torch._foreach_mul_([p.grad for p in nets[name].parameters() if p.grad is not None], 1 / scale)  # type: ignore[attr-defined]
    mean_loss = torch.stack([loss for _, loss, _ in turns]).mean()
    return name, mean_loss, {key: torch.stack([s[key] for _, _, s in turns]).mean() for key in scalars}


def turns_of(computed: Computed, graphs: bool, say: Callable[[str], None]) -> Computed | Recorded:
    """`computed`, recorded where `graphs` are wanted and can be: on one GPU."""
    on_one_gpu = computed.arithmetic.device.startswith("cuda") and computed.world.size == 1
    return Recorded(computed, say) if graphs and on_one_gpu else computed


class Asked:
    """A step that the device was asked for. What its turns told, and whether they were refused, is heard later."""

    def __init__(self, turns: Iterable[Ready]) -> None:
        self._turns: list[Ready] = []
        for turn in turns:
            turn.update()
            self.refused = turn.refused
            self._turns.append(replace(turn, told=_to_host(turn.told), wished=_to_host(turn.wished)))
            if turn.refused.is_cpu and turn.refused:
                break  # a GPU computes the others for nothing: to ask it would take longer
        self._through = torch.cuda.Event() if self.refused.is_cuda else None
        if self._through:
            self._through.record()

    def heard(self) -> list[Ready]:
        """Its turns, with what they told on the host; waits for the device."""
        if self._through:
            self._through.synchronize()
        return self._turns


def _to_host(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", non_blocking=True)


def steps_ahead(device: str) -> int:
    """How many steps the device is asked for before the first of them is heard of."""
    return 1 if device.startswith("cuda") else 0


class Bounds:
    """The limits that the guards set for a step; on a GPU they lie where a recorded step finds them."""

    def __init__(self, state: TrainState, device: str) -> None:
        self.now: dict[str, Limits] = {}
        self._state = state
        self._dials = Dials(device, [name for guarded in state.guards for name in _names(guarded)])
        self._places: dict[str, list[float | Tensor]] = {}

    def set(self) -> None:
        """Take those that hold for the coming step."""
        self.now = {name: guard.limits() for name, guard in self._state.guards.items()}
        self._places = {name: list(map(self._dials.set, _names(name), limits)) for name, limits in self.now.items()}

    def beyond(self, name: str, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether the loss or the norm of a network is beyond its limits, or no number: one truth."""
        most_loss, most_norm, _ = self._places[name]
        return ((loss.abs() <= most_loss) & (norm <= most_norm)).logical_not()

    def scale(self, name: str) -> float | Tensor | None:
        """What the loss of a network is multiplied by, where it is by anything."""
        return None if self._state.guards[name].scale is None else self._places[name][-1]


def _names(guarded: str) -> list[str]:
    return [f"{guarded}/{what}" for what in Limits._fields]


class Dials:
    """Numbers that change from step to step, on the device, where a recorded step finds them.

    Those in `coming_and_going` are dials at 0 as well: to record a step anew each time would cost more than a term that
    weighs nothing.
    """

    def __init__(self, device: str, coming_and_going: Container[str] = ()) -> None:
        self.device, self.coming_and_going = device, coming_and_going
        self._tensors: dict[str, Tensor] = {}
        self._values: dict[str, float] = {}

    def set(self, name: str, value: float) -> float | Tensor:
        """`value` for the coming step; on a CPU, where nothing is recorded, and for most 0s, the number itself."""
        if self.device == "cpu" or (value == 0 and name not in self.coming_and_going):
            return value
        if name not in self._tensors:
            self._tensors[name] = torch.empty((), device=self.device)
        if self._values.get(name) != value:
            self._tensors[name].fill_(value)
            self._values[name] = value
        return self._tensors[name]
