"""A run folder and the processes that work on it: how every kind of training begins and ends.

The run folder: `config.json`, `model.safetensors` (the best average so far), `checkpoints/`, `history.jsonl`,
`console.log`, `tensorboard/` and what the kind of training draws. The same call again resumes it.
"""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from imagesmith.atomic import remove_abandoned, write_whole
from imagesmith.configs import Config, OptimConfig, RunConfig, build_config, load_config
from imagesmith.data.loader import endless_batches
from imagesmith.errors import ConfigError, IntegrityError, TrainingError
from imagesmith.runtime.checkpoint import checkpoints_in, load_newest
from imagesmith.runtime.device import drawback
from imagesmith.runtime.dist import World, is_killed_worker, join_world, leave_world
from imagesmith.runtime.lock import sole_writer
from imagesmith.runtime.log import RunLog, read_history, tell
from imagesmith.tensors import is_out_of_memory
from imagesmith.train.machine import Arithmetic, check_compiler, choose_device, compile_in_place
from imagesmith.train.state import Plan, TrainState, new_state

UNPLANNED = 1 << 40
"""Images of a run whose length is given in minutes, until its first step tells its speed."""
_FREE = (
    "run.out",
    "run.minutes",
    "run.images",
    "run.checkpoint_minutes",
    "run.timeout_minutes",
    "run.device",
    "run.graphs",
    "run.compile",
    "data.workers",
)
"""What may differ when a run goes on."""
_PLACES = ("data.folder", "data.degraded", "data.films", "data.labels")
"""Where there is what is learnt; what lies there is compared by itself, before `Session.state`."""
_NO_PLACE = ("None", "nothing", "'auto'", "'none'")
_OWN = ("run.out", "run.device", "data.workers", *_PLACES)
"""What may differ between the processes of a run."""


Difference = tuple[str, str, str]
"""A key of two configurations, and what each of them has there."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    images_seen: int
    best: dict[str, float]
    """Validation score of the model, and the images seen when it was reached."""

    @property
    def model(self) -> Path:
        """The weights, as `load_model` takes them."""
        return self.folder / "model.safetensors"


@dataclass(frozen=True)
class Session:
    """One process' hold on a run folder."""

    folder: Path
    run: RunConfig
    optim: OptimConfig
    config: dict[str, Any]
    """All of the configuration, in plain values."""
    device: str
    world: World
    newest: tuple[dict[str, Tensor], Any] | None
    """The newest whole checkpoint, where the run was begun before."""
    log: RunLog | None
    """None on processes that are not the leader."""
    may_start_from: bool
    """Whether this kind of training can begin with what another run has learnt."""
    moved: Sequence[Difference] = ()
    """Places of what is learnt that are others than when the run was begun."""

    def say(self, text: str) -> None:
        """One line to console and log, on the leader."""
        if self.log:
            self.log.say(text)

    def choices(self, decide: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Arithmetic]:
        """What the leader's machine decides, or decided when the run began: 'arithmetic', 'batch' and more."""
        choices = self.newest[1]["choices"] if self.newest else self.world.lead(decide)
        batch, parts, processes = choices["batch"], self.run.accumulate, self.world.size
        if batch % (parts * processes):
            way_on = f"set run.batch to a multiple of {parts * processes}"
            if self.newest:
                way_on = "the batch stays that of the run's beginning: take a number of processes that divides it"
            raise ConfigError(
                f"expected a batch that {processes} x {parts} (processes x run.accumulate) divide, got {batch}; "
                f"{way_on}"
            )
        arithmetic = Arithmetic(**choices["arithmetic"] | {"device": self.device})
        if self.newest and (why_slow := drawback(torch.device(self.device), arithmetic.dtype)):
            self.say(f"{arithmetic.dtype} as when the run began, though {why_slow}")
        return choices, arithmetic

    def batches(
        self, dataset: Dataset[Any], state: TrainState, workers: int
    ) -> Callable[[int], Iterator[tuple[Tensor, ...]]]:
        """This process' part of the endless batches of a run, from an image number on."""
        return partial(
            endless_batches,
            dataset,
            batch=state.choices["batch"],
            workers=workers,
            rank=self.world.rank,
            world=self.world.size,
            pin=self.device != "cpu",
        )

    def compile(self, state: TrainState, name: str) -> None:
        """Have torch compile a network of the run, where that is asked for or was decided when it began."""
        wanted = self.run.compile
        if wanted is True:
            check_compiler()
        if wanted is True or (wanted == "auto" and state.choices.get("compiled", False)):
            compile_in_place(state.nets[name])

    @property
    def _way_on(self) -> str:
        """What to type after the end."""
        if not self.may_start_from:
            return "for a longer one: the same command with another -o and length"
        return f"to go on: the same command with --start-from {shlex.quote(str(self.folder))} and another -o"

    def state(self, nets: dict[str, nn.Module], choices: dict[str, Any], **options: Any) -> TrainState:
        """A state at the newest checkpoint, or a fresh one; `options` are those of `new_state`.

        What is learnt was compared with that of the run's beginning by then, so that its new places can be kept.
        """
        run = self.run
        state = new_state(nets, self.optim, Plan(run.images or UNPLANNED), choices, **options)
        state.config = self.config
        if self.newest:
            state.load(*self.newest)
            for key, was, is_now in self.moved:
                self.say(f"{key} = {is_now}, where the same lies as in {was} when the run was begun")
            if self.log and self.moved:
                _write_config(self.folder, self.config)
            self.say(f"resumed at {state.images_seen:,} images, {state.progress:.1%} of the run")
            if state.extras.get("ended"):
                self.say(f"it ended early, as nothing got better any more; {self._way_on}")
            elif state.progress == 1:
                self.say(f"it is finished, with its learning rate at the end; {self._way_on}")
            elif run.images and run.images != state.plan.end_images:
                state.plan = state.plan.again(state.images_seen, max(1, run.images - state.images_seen))
        return state


@contextmanager
def open_run(config: Any, *, quiet: bool) -> Iterator[Session]:
    """Join the processes that torchrun started and hold the run folder of `config` alone while the body trains.

    ConfigError where the folder was begun with another configuration or holds something else, as what is to be learnt,
    or where the processes differ, IntegrityError where none of its checkpoints is whole, TrainingError where memory ran
    out or a process that prepares batches was killed.
    """
    folder = Path(config.run.out)
    learnt = (getattr(config.data, name, None) for name in ("folder", "degraded", "films"))
    if os.path.realpath(folder) in [os.path.realpath(each) for each in learnt if each]:
        raise ConfigError(
            f"expected a run folder beside the pictures, got {folder}, which holds them; name another one"
        )
    device = choose_device(config.run.device)
    world = join_world(device, config.run.timeout_minutes)
    if world.size > 1 and device == "cuda":
        device = choose_device(f"cuda:{world.local_rank}")
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # what waits for 'the device' must not wait for the first one
    try:
        with ExitStack() as held:
            _check_alike(config, world)
            world.lead(lambda: held.enter_context(sole_writer(folder)))
            newest = world.lead(lambda: _newest(folder))
            moved = world.lead(lambda: _claim(folder, config, newest[1] if newest else None))
            log = RunLog(folder, newest[1]["images_seen"] if newest else 0, quiet=quiet) if world.is_leader else None
            if log:
                held.callback(log.close)  # after a failure too: TensorBoard's thread would write on
            can_start = hasattr(config, "start_from")
            told = config.model_dump(mode="json")
            yield Session(folder, config.run, config.optim, told, device, world, newest, log, can_start, moved)
        world.meet()
    except (RuntimeError, MemoryError) as error:
        if is_killed_worker(error):
            raise TrainingError(
                "a process that prepares batches was killed, as for want of memory or of /dev/shm; the same command\n"
                "goes on from the newest checkpoint, with --set data.workers=0, or fewer, in less memory"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "there is not enough memory for a step of this run; start another with a smaller run.batch, with "
            "run.accumulate=2 or more, or with smaller pictures or networks"
        ) from error
    finally:
        leave_world()


def _check_alike(config: Config, world: World) -> None:
    """ConfigError where this process was given another configuration than the leader's: they train one network."""
    for key, leaders, own in _differences(world.lead(lambda: config), config, _OWN):
        raise ConfigError(
            f"expected {key} = {leaders} in every process, as in the first, got {own} in process {world.rank}; "
            "give all machines the same command"
        )


def _claim(folder: Path, config: Config, begun: dict[str, Any] | None) -> list[Difference]:
    """Write the configuration into a new run folder, or check that the old one is the same but for its length.

    Returns the places that are others than before, with which nothing is written yet.

    `begun` are the values of the newest checkpoint. A run that failed before its first one, say for a misspelt folder
    of pictures, binds nobody. A folder that holds a model but no checkpoint, or a file of another kind called
    config.json, is refused.
    """
    moved = list[Difference]()
    if begun is None:
        _check_nothing_is_lost(folder, type(config))
        before = config
    else:
        before = _config_before(folder / "config.json", begun, config)
    for key, was, is_now in _differences(before, config, _FREE):
        if key in _PLACES and was not in _NO_PLACE and is_now not in _NO_PLACE:
            moved.append((key, was, is_now))
            continue
        raise ConfigError(
            f"run folder {folder} was started with {key} = {was}, not {is_now}; "
            "use another folder, or the same configuration to go on"
        )
    for each in (folder, folder / "checkpoints", folder / "samples"):
        remove_abandoned(each)  # what a training that was killed had half written: gigabytes, under a hidden name
    if not moved:
        _write_config(folder, config.model_dump(mode="json"))
    return moved


def _write_config(folder: Path, values: dict[str, Any]) -> None:
    write_whole(folder / "config.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _config_before(path: Path, begun: dict[str, Any], config: Config) -> Config:
    """What a run was begun with: by its checkpoint, or, of earlier versions, by its file; as now where that is gone."""
    if "config" in begun:
        return build_config(begun["config"], type(config))
    return load_config(path, type(config)) if path.exists() else config


def _differences(one: Config, other: Config, free: Sequence[str]) -> Iterator[Difference]:
    """The keys, but for those of `free`, with another value here and there, and both values."""
    there, here = (_flat(config.model_dump(mode="json")) for config in (one, other))
    for key in dict.fromkeys((*here, *there)):
        first, second = (repr(flat[key]) if key in flat else "nothing" for flat in (there, here))
        if key not in free and first != second:
            yield key, first, second


def _check_nothing_is_lost(folder: Path, kind: type[Config]) -> None:
    """ConfigError where a run that begins in this folder would overwrite a trained model or somebody's own file."""
    if (folder / "model.safetensors").exists() or any(row["images_seen"] > 0 for row in read_history(folder)):
        raise ConfigError(
            f"expected a new run folder, got {folder}, which holds a trained model and no checkpoint to go on from; "
            "name another folder, or remove this one"
        )
    path = folder / "config.json"
    if path.exists():
        try:
            load_config(path, kind)
        except ConfigError:
            raise ConfigError(
                f"expected a new run folder, got {folder} with a config.json of something else; "
                "name another folder, or remove that file"
            ) from None


def _newest(folder: Path) -> tuple[dict[str, Tensor], Any] | None:
    """The newest whole checkpoint of a run folder, or None where none was made yet; IntegrityError if none is whole."""
    newest = load_newest(folder / "checkpoints", tell)
    if newest is None and (damaged := checkpoints_in(folder / "checkpoints")):
        raise IntegrityError(
            f"expected a whole checkpoint in {folder}, got {len(damaged)} damaged; "
            "put a whole one back, or start another run in another folder"
        )
    return newest


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {key: leaf for name in values for key, leaf in _flat(values[name], f"{prefix}.{name}".strip(".")).items()}
