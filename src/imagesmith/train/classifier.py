"""Training a classifier: from labelled pictures to a run folder that holds a model.

Besides what `train/run.py` tells, the run folder holds `curve.svg`, the accuracy on the pictures kept apart.
"""

import datetime
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.configs import ClassifierConfig, check_kind
from imagesmith.data.batches import ImageBatches
from imagesmith.data.image_sets import ImageSet
from imagesmith.data.loader import EndlessBatches
from imagesmith.errors import ConfigError, UsageError, not_one_of
from imagesmith.evaluate.classifier import known_labels, predict, share_right
from imagesmith.nets import CLASSIFIERS, NetSpec, build_net
from imagesmith.tensors import generator_for
from imagesmith.train.loop import Flow, fit
from imagesmith.train.machine import Arithmetic, choose_arithmetic, choose_batch, choose_compiled, step_seconds
from imagesmith.train.pictures import load_pictures, told_of
from imagesmith.train.run import Run, Session, open_run
from imagesmith.train.state import TrainState
from imagesmith.train.steps import Step, classify_step
from imagesmith.train.validation import commit, draw_curve, second_time
from imagesmith.zoo import ModelCard, describe, save_model

_TOLD_BY_DATA = ("classes", "channels", "size")
_LEAST_PX = 8
_REHEARSED = 500
"""Pictures by which the time of a validation is told."""
_SHIFT = 2  # sets these draws apart from those of order and flip


def train_classifier(config: ClassifierConfig, *, quiet: bool = False) -> Run:
    """Train, or go on with, the run that `config` describes; under torchrun all processes train one network.

    UsageError for pictures without labels or with fewer than two classes, NothingUsableError without pictures,
    ConfigError for contradictions or a run folder of another configuration.
    """
    check_kind(config, ClassifierConfig)
    if config.net.name not in CLASSIFIERS:
        raise ConfigError(not_one_of("a classifier", config.net.name, CLASSIFIERS))
    for option in _TOLD_BY_DATA:
        if option in config.net.options:
            raise ConfigError(f"expected net.options without '{option}', which the pictures tell; leave it out")
    with open_run(config, quiet=quiet) as session:
        pictures, training, held_out = load_pictures(config.data, session)
        known_labels(pictures, pictures.class_names, config.data.folder)
        spec = _spec(config, pictures)
        torch.manual_seed(config.run.seed)
        net = build_net(spec)
        step = partial(classify_step, label_smoothing=config.label_smoothing)
        choices, arithmetic = session.choices(
            lambda: _decide(config, net, step, session) | {"pictures": told_of(pictures, held_out)}
        )
        state = session.state({"classifier": arithmetic.prepare(net)}, choices)
        session.compile(state, "classifier")
        kept_apart = f"{len(held_out):,} kept apart for validation"
        if not len(held_out):  # the smallest sets spare none
            kept_apart = "none is kept apart, so that accuracy is that on the training pictures"
        session.say(f"{len(training):,} pictures to train on, {kept_apart}")
        validation = _Validation(config, spec, pictures, training, held_out, arithmetic, session)
        flow = Flow(
            batches=lambda start: _batches(config, pictures, training, choices["batch"], start=start, session=session),
            step=step,
            validate=validation,
            rehearse=validation.rehearse,
        )
        fit(
            state,
            flow,
            optim=config.optim,
            run=config.run,
            arithmetic=arithmetic,
            world=session.world,
            log=session.log,
        )
        run = Run(session.folder, state.images_seen, state.best)
        if session.log:
            score = f"{state.best['accuracy']:.2%} at {state.best['images_seen']:,.0f} images"
            session.say(f"done: best {validation.kind} accuracy {score}; model in {run.model}")
        return run


def _spec(config: ClassifierConfig, pictures: ImageSet) -> NetSpec:
    """The network for these pictures; UsageError where they are not enough to classify."""
    classes, (channels, height, width) = len(pictures.class_names), pictures.images.shape[1:]
    where = config.data.folder
    if classes < 2:
        raise UsageError(f"expected at least two classes in {where}, got {classes}; add pictures of another class")
    if min(height, width) < _LEAST_PX:
        raise UsageError(f"expected pictures of {_LEAST_PX} pixels a side or more, got {width}x{height}; set data.size")
    options = {"classes": classes, "channels": channels, "size": [height, width]}
    return NetSpec(config.net.name, options | config.net.options)


def _decide(config: ClassifierConfig, net: Any, step: Step, session: Session) -> dict[str, Any]:
    """Arithmetic and batch for this machine, each said with its reason."""

    def seconds(arithmetic: Arithmetic, batch: int, compiled: Collection[str] = ()) -> float:
        images, labels = torch.zeros(batch, net.channels, *net.size, dtype=torch.uint8), torch.zeros(batch).long()
        return step_seconds({"classifier": net}, arithmetic, step, images, labels, compiled=compiled)

    arithmetic, reason = choose_arithmetic(lambda candidate: seconds(candidate, 64), session.device, config.run.dtype)
    session.say(f"{arithmetic}: {reason}")
    batch, reason = choose_batch(lambda size: seconds(arithmetic, size), config.run.batch, session.world.size)
    session.say(f"batch {batch}: {reason}")
    part = batch // session.world.size // config.run.accumulate
    if part < 2:
        raise ConfigError(f"batch norm expects 2 pictures or more at once, got {part}; set run.batch higher")
    compiled, reason = choose_compiled(
        lambda wanted: seconds(arithmetic, part, ["classifier"] * wanted), config.run, batch, session.device
    )
    session.say(f"{'compiled' if compiled else 'not compiled'}: {reason}")
    return {"arithmetic": vars(arithmetic), "batch": batch, "compiled": compiled}


def _batches(
    config: ClassifierConfig, pictures: ImageSet, training: Tensor, batch: int, *, start: int, session: Session
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (uint8 images, labels): shuffled, flipped and shifted; picture k depends on the seed and k alone."""
    drawn = ImageBatches(pictures, batch=batch, seed=config.run.seed, flip=config.data.flip, indices=training)
    for numbers in EndlessBatches(start, batch, session.world.rank, session.world.size):
        images, labels = drawn.at(numbers)
        yield shifted(images, shifts(config.run.seed, numbers, config.shift_px)), labels


def shifts(seed: int, numbers: list[int], most_px: int) -> Tensor:
    """int64 (N, 2): how far down and right the pictures with these numbers move."""
    bounds = -most_px, most_px + 1
    return torch.stack([torch.randint(*bounds, (2,), generator=generator_for(seed, k, _SHIFT)) for k in numbers])


def shifted(images: Tensor, moves: Tensor) -> Tensor:
    """(N, C, H, W) each moved down and right by its row of `moves`, (N, 2); what comes in at the edges is mirrored."""
    rows, columns = (_mirrored(moves[:, axis], images.shape[2 + axis]) for axis in (0, 1))
    every = torch.arange(len(images))[:, None, None]
    return images[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(shift: Tensor, size: int) -> Tensor:
    """(N, size): which pixel of a line comes to each place after a shift."""
    index = (torch.arange(size) - shift[:, None]) % (2 * size - 2)
    return torch.minimum(index, 2 * size - 2 - index)


@dataclass(frozen=True)
class _Validation:
    """Called with the state: scores the averaged classifier on the pictures kept apart, and keeps the best one.

    Where none are kept apart, the training pictures are what there is, and every name says so.
    """

    config: ClassifierConfig
    spec: NetSpec
    pictures: ImageSet
    training: Tensor
    held_out: Tensor
    arithmetic: Arithmetic
    session: Session
    commit: str = field(default_factory=commit)  # at the start: the source tree may change under a running process

    @property
    def kind(self) -> str:
        """Of which pictures the accuracy is."""
        return "validation" if len(self.held_out) else "training"

    @property
    def measured(self) -> Tensor:
        """int64: the positions of those pictures."""
        return self.held_out if len(self.held_out) else self.training

    def __call__(self, state: TrainState) -> dict[str, float]:
        assert self.pictures.labels is not None, "a classifier learns from labels"
        net, truth = state.averages["classifier"], self.pictures.labels[self.measured]
        accuracy = share_right(self._found(net, self.measured), truth)
        if accuracy > state.best.get("accuracy", -1):
            state.best = {"accuracy": accuracy, "images_seen": state.images_seen}
            save_model(self.session.folder / "model.safetensors", net, self._card(state, net))
        name = f"{self.kind}/accuracy"
        draw_curve(self.session.folder, name, (state.images_seen, accuracy), f"{self.kind} accuracy")
        self.session.say(
            f"{self.kind} accuracy {accuracy:.2%} over {len(truth):,} pictures (best {state.best['accuracy']:.2%})"
        )
        return {name: accuracy}

    def rehearse(self, state: TrainState) -> float:
        """Seconds that a call will take, by its first pictures."""
        first = self.measured[:_REHEARSED]
        seconds = second_time(lambda: self._found(state.averages["classifier"], first))
        return seconds * len(self.measured) / len(first)

    def _found(self, net: nn.Module, numbers: Tensor) -> Tensor:
        """int64 (N,): what the pictures of these numbers are taken for."""
        with self.arithmetic.autocast():
            return predict(net, self.pictures.images[numbers])

    def _card(self, state: TrainState, net: nn.Module) -> ModelCard:
        config, names = self.config, self.pictures.class_names
        return describe(
            net,
            self.spec,
            config.preset,
            task="classify",
            class_names=names,
            train_data=f"{len(self.training):,} pictures of {len(names)} classes, '{Path(config.data.folder).name}'",
            commit=self.commit,
            training={
                "images_seen": state.images_seen,
                "minutes": round(state.seconds / 60, 1),
                f"{self.kind}_accuracy": round(state.best["accuracy"], 4),
                "validation_pictures": len(self.held_out),
                "choices": state.choices,
                "config": config.model_dump(mode="json", exclude={"run": {"out"}, "data": {"folder"}}),
            },
            created=datetime.date.today().isoformat(),
        )
