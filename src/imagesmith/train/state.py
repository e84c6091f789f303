"""Everything that changes while a run trains, and nothing else: what a checkpoint holds."""

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.configs import OptimConfig
from imagesmith.runtime.guard import FIRST_SCALE, Guard
from imagesmith.train.optim import build_optimizers


@dataclass(frozen=True)
class Plan:
    """Progress in [0, 1] as a linear function of images seen; planning again keeps the progress made."""

    end_images: int
    start_images: int = 0
    start_progress: float = 0.0

    def progress(self, images_seen: int) -> float:
        """How much of the run is done when `images_seen` images are."""
        span = max(1, self.end_images - self.start_images)
        share = (images_seen - self.start_images) / span
        return min(1.0, self.start_progress + (1 - self.start_progress) * share)

    def again(self, images_seen: int, images_left: int) -> "Plan":
        """The plan that goes from here to the end in `images_left` more images; without any left, this is the end."""
        if images_left <= 0:
            return Plan(images_seen, images_seen, 1.0)
        return Plan(images_seen + images_left, images_seen, self.progress(images_seen))


@dataclass
class TrainState:
    """The networks of a run with their optimisers, averages and guards, and the clock."""

    nets: dict[str, nn.Module]
    plan: Plan
    optimizers: dict[str, list[torch.optim.Optimizer]] = field(default_factory=dict)
    averages: dict[str, nn.Module] = field(default_factory=dict)
    guards: dict[str, Guard] = field(default_factory=dict)
    images_seen: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0
    """What the newest validation took; before the first, what it is expected to take, 0 where nothing tells."""
    rate_factor: float = 1.0
    """The learning rate is multiplied by this; halved at every roll-back, unless the flow says otherwise."""
    roll_backs: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """Validation score and images seen of the best model so far."""
    choices: dict[str, Any] = field(default_factory=dict)
    """What was decided for this machine at the start (batch, arithmetic), so that a resumed run is the same run."""
    config: dict[str, Any] = field(default_factory=dict)
    """The whole configuration that the run was begun with, in plain values; its file may be edited."""
    extras: dict[str, Any] = field(default_factory=dict)
    """What a kind of training remembers besides, as plain values. The loop reads three of them: 'back_to', in images,
    is where a roll-back goes at most, 'healthy_at' names a checkpoint that is made and kept however old it grows, and
    'ended' says that the run is over before its plan is. It writes one: 'went_back_to', where the last roll-back led.
    """

    @property
    def progress(self) -> float:
        """How much of the run is done."""
        return self.plan.progress(self.images_seen)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name: networks, averages, optimiser states."""
        tensors: dict[str, Tensor] = {}
        for name, net in self.nets.items():
            tensors |= {f"net/{name}/{key}": value for key, value in net.state_dict().items()}
            if name in self.averages:
                tensors |= {f"average/{name}/{key}": value for key, value in self.averages[name].state_dict().items()}
            for k, optimizer in enumerate(self.optimizers[name]):
                for p, state in optimizer.state_dict()["state"].items():
                    tensors |= {f"optimizer/{name}/{k}/{p}/{key}": value for key, value in state.items()}
        return tensors

    def values(self) -> dict[str, Any]:
        """Everything else, as plain values."""
        return {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "validation_seconds": self.validation_seconds,
            "rate_factor": self.rate_factor,
            "roll_backs": self.roll_backs,
            "best": self.best,
            "choices": self.choices,
            "config": self.config,
            "extras": self.extras,
            "plan": asdict(self.plan),
            "guards": {name: asdict(guard) for name, guard in self.guards.items()},
        }

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Become the state that `tensors` and `values` were taken from."""
        for name, net in self.nets.items():
            net.load_state_dict(_below(tensors, f"net/{name}/"))
            if name in self.averages:
                self.averages[name].load_state_dict(_below(tensors, f"average/{name}/"))
            for k, optimizer in enumerate(self.optimizers[name]):
                state: dict[int, dict[str, Tensor]] = {}
                for key, value in _below(tensors, f"optimizer/{name}/{k}/").items():
                    parameter, _, what = key.partition("/")
                    state.setdefault(int(parameter), {})[what] = value
                optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
                _take_layout(optimizer)
        self.guards = {name: Guard(**guard) for name, guard in values["guards"].items()}
        self.plan = Plan(**values["plan"])
        self.validation_seconds = values.get("validation_seconds", 0.0)  # earlier versions forgot it
        self.config = values.get("config", self.config)  # and this
        for key in ("images_seen", "seconds", "rate_factor", "roll_backs", "best", "choices", "extras"):
            setattr(self, key, values[key])


def new_state(
    nets: dict[str, nn.Module],
    optim: OptimConfig,
    plan: Plan,
    choices: dict[str, Any],
    *,
    averaged: Iterable[str] | None = None,
    spike: float = Guard.spike,
) -> TrainState:
    """The state of a run that has not seen an image yet; only the networks in `averaged`, or all, get an average.

    `spike` is the leap of loss or gradient that the guards reject.
    """
    in_fp16 = choices.get("arithmetic", {}).get("dtype") == "fp16"
    return TrainState(
        nets=nets,
        plan=plan,
        optimizers={name: build_optimizers(net, optim) for name, net in nets.items()},
        averages={
            name: copy.deepcopy(net).requires_grad_(False).eval()
            for name, net in nets.items()
            if averaged is None or name in averaged
        },
        guards={name: Guard(spike=spike, scale=FIRST_SCALE if in_fp16 else None) for name in nets},
        choices=choices,
    )


def _take_layout(optimizer: torch.optim.Optimizer) -> None:
    """What it keeps of each kernel lies in memory as the kernel does: Adam on a GPU refuses any other order."""
    for kernel, kept in optimizer.state.items():
        for key, value in kept.items():
            if value.ndim == 4:
                kept[key] = torch.empty_like(kernel).copy_(value)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
