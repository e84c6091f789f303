"""A GAN's run: exact when interrupted or divided, honest in its run folder, watched by the guard."""

import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from imagesmith import presets
from imagesmith.configs import GanConfig, override
from imagesmith.data.files import read_image
from imagesmith.data.image_sets import ImageSet
from imagesmith.data.shapes import BASES
from imagesmith.errors import ConfigError, NothingUsableError, TrainingError
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.train import gan
from imagesmith.train.gan import choices, terms_at, train_gan, validation
from imagesmith.train.gan.choices import BATCHES, asked_batch, batches_within, choose_widths, configured_pair
from imagesmith.train.gan.health import Action, SetSigns, compare_sets
from imagesmith.train.gan.pictures import Pictures, divided_pictures
from imagesmith.train.gan.watch import LOOK_EVERY, GanWatch
from imagesmith.train.machine import Arithmetic
from imagesmith.train.state import Plan, TrainState, new_state
from imagesmith.zoo import load_model

SMALL = [
    "generator.options.widths=[16,16]",
    "discriminator.options.widths=[16,16]",
    "data.held_out=8",
    "augment.strength=0.3",
    "run.batch=8",
    "run.images=96",
    "run.validations=2",
    "run.dtype=fp32",
]

GREYS = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1).repeat(1, 3, 16, 16)
NINE = Pictures(ImageSet(GREYS, None, (), [], [], ()), torch.arange(8), torch.tensor([8]))
"""Eight pictures to train on and one kept apart."""


def discs(count: int, classes: int = 2, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Discs of random place, size and shade on a dark ground, one colour channel per class."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    images, labels = np.zeros((count, side, side, 3), np.uint8), np.arange(count) % classes
    for image, label in zip(images, labels, strict=True):
        y, x = rng.uniform(side / 4, 3 * side / 4, 2)
        inside = np.hypot(rows - y, columns - x) < rng.uniform(2, side / 4)
        image[inside, label] = rng.integers(120, 255)
    return images, labels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "discs.npz"
    images, labels = discs(120)
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(autouse=True)
def _few_fakes(monkeypatch):
    """Scoring 2,000 fakes would take most of the time of every test."""
    monkeypatch.setattr(validation, "FAKES", 64)


def small(pictures: Path, out: Path, *changes: str) -> GanConfig:
    return override(presets.rpgan(data=str(pictures), out=str(out)), [*SMALL, *changes])


def final_tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(sorted((run / "checkpoints").glob("*.safetensors"))[-1])[0]


def assert_same_run(a: Path, b: Path) -> None:
    first, second = final_tensors(a), final_tensors(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert load_file(a / "model.safetensors").keys() == load_file(b / "model.safetensors").keys()


def test_run_folder_holds_everything(pictures, tmp_path):
    run = train_gan(small(pictures, tmp_path / "run"), quiet=True)
    assert run.images_seen == 96
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows if "validation/fd_cifarcnn" in row] == [48, 96]
    expected = {"loss/generator", "loss/discriminator", "logits/sign", "norm/generator", "norm/discriminator"}
    assert expected <= rows[0].keys()
    assert any("penalty/r1" in row and "penalty/r2" in row for row in rows)
    for name, channels in (("reals.png", 3), ("curves.png", 3), ("samples/000000000096.png", 3)):
        assert read_image(tmp_path / "run" / name).pixels.shape[2] == channels, name
    card = load_model(run.model).card
    assert (card.task, card.net, card.size, card.class_names) == ("generate", "rpgan-generator", (16, 16), ("0", "1"))
    assert card.training["images_seen"] == run.best["images_seen"]
    console = (tmp_path / "run/console.log").read_text()
    for said in ("batch 8: as asked", "widths as asked", "112 pictures to train on, 8 kept apart", "are few"):
        assert said in console, said


@pytest.mark.parametrize(
    ("preset", "crash_after", "dtype"),
    [
        ("rpgan", 1, "fp16"),
        ("rpgan", 7, "fp32"),
        ("rpgan", 7, "bf16"),
        ("dcgan", 7, "fp32"),
        pytest.param("rpgan", 1, "fp32", marks=pytest.mark.slow),
        pytest.param("dcgan", 1, "fp32", marks=pytest.mark.slow),
        pytest.param("dcgan", 7, "bf16", marks=pytest.mark.slow),  # ten seconds where bf16 is emulated
    ],
)
def test_interrupted_equals_uninterrupted_bit_for_bit(pictures, tmp_path, monkeypatch, preset, crash_after, dtype):
    """Latents drawn from a global generator, or a batch norm left behind, make a resumed GAN another GAN."""
    shared = ["data.held_out=8", "run.batch=8", "run.images=96", "run.validations=2", f"run.dtype={dtype}"]
    changes = [*SMALL, f"run.dtype={dtype}"] if preset == "rpgan" else shared

    def config(name: str, *more: str) -> GanConfig:
        start = presets.GAN_PRESETS[preset](data=str(pictures), out=str(tmp_path / name))
        return override(start, [*changes, *more])

    train_gan(config("whole"), quiet=True)
    step, calls = gan.gan_step, 0

    def crash(*args, **options):
        nonlocal calls
        calls += 1
        if calls > crash_after:
            raise RuntimeError("power cut")
        yield from step(*args, **options)

    often = config("cut", "run.checkpoint_minutes=1e-9")
    monkeypatch.setattr(gan, "gan_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train_gan(often, quiet=True)
    monkeypatch.setattr(gan, "gan_step", step)
    train_gan(often, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(("share", "parts", "images"), [(1, 4, 40), (0.25, 2, 16)])
def test_accumulated_gradients_are_those_of_the_whole_batch(pictures, tmp_path, share, parts, images):
    """Parts that weigh like whole batches double the gradient; fakes kept from before the update spoil the next one.

    And where each part penalises a share of its own, other images are penalised than the first of the whole batch.
    """
    changes = ["run.dtype=fp64", f"run.images={images}", "run.validations=1", f"penalty_share={share}"]
    train_gan(small(pictures, tmp_path / "whole", *changes), quiet=True)
    train_gan(small(pictures, tmp_path / "parts", *changes, f"run.accumulate={parts}"), quiet=True)
    whole, parts = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=0, atol=1e-9)


SCRIPT = """
import sys
import imagesmith.train.gan.validation
from imagesmith.configs import GanConfig, load_config
from imagesmith.train.gan import train_gan
imagesmith.train.gan.validation.FAKES = 64
train_gan(load_config(sys.argv[1], GanConfig), quiet=True)
"""


def start(config: GanConfig, tmp_path: Path) -> subprocess.Popen:
    script, path = tmp_path / "train.py", tmp_path / f"{Path(config.run.out).name}.json"
    script.write_text(SCRIPT)
    path.write_text(config.model_dump_json())
    command = [sys.executable, str(script), str(path)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_two_processes_train_the_same_networks_as_one(pictures, tmp_path, train_on_two):
    """Each process drawing its own latents from the same seed trains on half as many different fakes, unnoticed."""
    changes = ["run.dtype=fp64", "run.images=40", "run.validations=1", "penalty_share=1"]
    train_gan(small(pictures, tmp_path / "one", *changes), quiet=True)
    train_on_two(small(pictures, tmp_path / "two", *changes))
    one, two = final_tensors(tmp_path / "one"), final_tensors(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_sigkill_of_either_of_two_processes_changes_nothing(pictures, tmp_path, train_on_two):
    """The accident: what one process alone knew is lost with it, and the other goes on from it."""
    changes = ("run.images=160", "run.validations=4", "run.checkpoint_minutes=1e-9")
    train_on_two(small(pictures, tmp_path / "whole", *changes))
    train_on_two(small(pictures, tmp_path / "cut", *changes), "1@24", "0@64")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_sigkill_at_10_random_moments_changes_nothing(pictures, tmp_path):
    """Power cuts do not wait for a safe moment."""
    changes = ("run.images=24000", "run.checkpoint_minutes=0.005", "run.validations=10")
    train_gan(small(pictures, tmp_path / "whole", *changes), quiet=True)
    rng, config = random.Random(7), small(pictures, tmp_path / "cut", *changes)
    killed = 0
    while killed < 10:
        process = start(config, tmp_path)
        time.sleep(rng.uniform(3, 12))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
        if process.returncode == 0:
            break
    assert killed >= 5, "the run was over too soon to say anything"
    finish(start(config, tmp_path))
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_too_short_for_validations_holds_the_last_alone(pictures, tmp_path, monkeypatch):
    """The accident: half a minute of training was three steps and 23 seconds of validations."""
    told: list[float] = []
    rehearse = validation.GanValidation.rehearse
    monkeypatch.setattr(
        validation.GanValidation, "rehearse", lambda self, state: told.append(rehearse(self, state)) or 0.7
    )
    config = small(pictures, tmp_path / "run", "run.validations=20", "run.minutes=0.015")
    images = train_gan(config, quiet=True).images_seen
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows if "validation/fd_cifarcnn" in row] == [images]
    assert 0 < told[0] < 10


@pytest.mark.slow
def test_a_generator_learns(pictures, tmp_path):
    """A loop that runs without learning looks exactly like one that learns, until it is measured."""
    changes = ["run.images=6000", "run.validations=6", "optim.ema_half_life_images=200", "data.flip=false"]
    train_gan(small(pictures, tmp_path / "run", *changes), quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    distances = [row["validation/fd_cifarcnn"] for row in rows if "validation/fd_cifarcnn" in row]
    assert min(distances[-3:]) < 0.75 * distances[0], distances


def test_penalties_fall_with_progress_and_rise_by_the_guard(pictures, tmp_path):
    config = small(pictures, tmp_path, "penalty_final=0.1")
    state = new_state({}, config.optim, Plan(800), {"batch": 8, "gamma": {"r1": 2.0}})
    state.extras = {"gamma_factor": 3.0, "strength": {"strength": 0.0}}
    weights = []
    for images in (0, 400, 800):
        state.images_seen = images
        weights.append(terms_at(config, state).r1)
    assert weights == pytest.approx([6.0, 3.3, 0.6])
    assert terms_at(config, state).r2 == 0


@pytest.mark.parametrize(
    ("images", "labels", "changes", "problem"),
    [
        (1, None, [], "at least 2 pictures"),
        (40, None, ["generator.name=rpgan-discriminator"], "expected a generator out of"),
        (40, None, ["generator.options.classes=3"], "no option 'classes'.*set data.labels"),
        (40, None, ["generator.options.size=64"], "set data.size"),
        (40, None, ["run.batch=64"], "expected a batch of at most the 36 .* got 64; --set run.batch=32"),
        (40, None, ["run.accumulate=3"], "set run.batch to a multiple of 3"),
        (40, None, ["data.size=[20,20]"], "divisible by 8"),
    ],
)
def test_what_cannot_work_is_said_before_training(tmp_path, images, labels, changes, problem):
    path = tmp_path / "few.npz"
    np.savez(path, images=discs(images)[0])
    widths = ["generator.options.widths=[16,16,16]", "discriminator.options.widths=[16,16,16]"]
    with pytest.raises((ConfigError, NothingUsableError), match=problem):
        train_gan(small(path, tmp_path / "run", *widths, *changes), quiet=True)


def test_copies_of_one_picture_are_refused(tmp_path):
    """The accident: five equal pictures, and a run that ended as healthy, with a diversity of 4165183995904 of theirs."""
    np.savez(tmp_path / "copies.npz", images=discs(1)[0].repeat(5, axis=0))
    with pytest.raises(NothingUsableError, match=r"at least 2 pictures in .*, got 1 and 4 copies of it; add some"):
        train_gan(small(tmp_path / "copies.npz", tmp_path / "run"), quiet=True)


def test_what_copies_do_is_told_and_limits_count_each_picture_once(tmp_path):
    """The accident: 1,049 copies and 20 others trained as 1,070 pictures do, without a word."""
    np.savez(tmp_path / "copies.npz", images=np.concatenate([discs(1)[0].repeat(1050, axis=0), discs(21)[0][1:]]))
    said: list[str] = []
    session: Any = SimpleNamespace(
        folder=tmp_path, newest=None, say=said.append, device="cpu", world=SimpleNamespace(rank=0, size=1)
    )
    config = small(tmp_path / "copies.npz", tmp_path, "data.held_out=0", "augment.strength=adaptive")
    pictures = divided_pictures(config.data, session)
    assert "1,049 of them are copies; they make a GAN prefer them" in said
    assert any(line.startswith("21 different pictures are few") for line in said)
    assert gan.decide(config, pictures, session)["strength"] == 0.4
    watch, state = watch_of(config, World(), pictures)
    state.images_seen = 2100
    for _ in range(LOOK_EVERY):
        watch.step(state, SIGNS)
    assert state.extras["too_few"]


@pytest.mark.parametrize("preset", ["rpgan", "dcgan"])
def test_networks_exist_for_every_shape_that_is_chosen(preset):
    """The accident: a size is chosen from the pictures, and no network makes it."""
    config = presets.GAN_PRESETS[preset](data="", out="")
    for size in itertools.product((BASES[0] << 3, BASES[-1] << 3), (base << 3 for base in BASES)):
        images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(1, 3, *size)
        pictures = replace(NINE, whole=replace(NINE.whole, images=images))
        assert pictures.size == size
        pair = choices.with_widths(configured_pair(config, pictures), pictures, 1)
        nets: Any = pair.build()
        assert nets["generator"].size == nets["discriminator"].size == size


def test_few_pictures_lower_the_batch_instead_of_refusing():
    """Twenty pictures and every default: 'expected a batch of at most 18, got 32'."""
    assert batches_within(1000) == BATCHES
    assert batches_within(100) == (32, 64)
    assert [batches_within(count) for count in (18, 7, 2, 1, 0)] == [(16,), (4,), (2,), (1,), (1,)]


def test_the_batch_of_a_preset_is_lowered_and_that_of_the_user_refused():
    """The accident: twelve pictures, --preset dcgan, and it refuses a batch of 64 that nobody had asked for."""
    classic = presets.dcgan(data="photos", out="run")
    assert [asked_batch(classic, count, 1) for count in (100, 63, 11, 1)] == [64, 32, 8, 1]
    assert asked_batch(classic, 11, 2) == 8
    assert asked_batch(presets.rpgan(data="photos", out="run"), 11, 1) == "auto"
    with pytest.raises(ConfigError, match=r"at most the 11 pictures to train on, got 32; --set run\.batch=8"):
        asked_batch(override(classic, ["run.batch=32"]), 11, 1)
    with pytest.raises(ConfigError, match=r"at most the 1 pictures .*; add some, or use 1 process$"):
        asked_batch(classic, 1, 2)


def test_a_lowered_batch_is_told_with_its_reason():
    """The accident: runs of the same preset on two sets differ in their batch, and nothing tells why."""
    said: list[str] = []
    session: Any = SimpleNamespace(world=SimpleNamespace(size=1), device="cpu", say=said.append)
    classic = override(presets.dcgan(data="photos", out="run"), ["run.dtype=fp32"])
    assert gan.decide(classic, NINE, session)["batch"] == 8
    assert "batch 8: what 8 pictures fill; 64, as the preset dcgan has it, are more" in said


def test_fakes_are_compared_with_pictures_of_every_class(tmp_path, monkeypatch):
    """The first 500 of 2,000 pictures in the order of their classes are those of the first classes."""
    path, compared = tmp_path / "sorted.npz", []
    np.savez(path, images=np.repeat(np.array([0, 255], np.uint8), 40)[:, None, None, None].repeat(16, 1).repeat(16, 2))

    def compare(real, fake):
        compared.append(real)
        return compare_sets(real, fake)

    monkeypatch.setattr(validation, "COMPARED", 8)
    monkeypatch.setattr(validation, "compare_sets", compare)
    train_gan(small(path, tmp_path / "run", "run.images=8", "run.validations=1"), quiet=True)
    assert len(compared[0]) == 8
    assert len(compared[0].unique(dim=0)) == 2


def test_what_a_preset_has_decided_is_not_called_asked_for():
    """The accident: --preset dcgan on five class folders, and 'no labels, as asked' of what nobody had asked for."""
    said: list[str] = []
    session: Any = SimpleNamespace(world=SimpleNamespace(size=1), device="cpu", say=said.append)
    classic = override(presets.dcgan(data="", out="run"), ["run.dtype=fp32"])
    gan.decide(classic, NINE, session)
    for decided in ("no gradient penalty with the objective non_saturating", "augmentation 0", "network ", "widths"):
        assert any(line.startswith(decided) and line.endswith("as the preset dcgan has it") for line in said), decided
    said.clear()
    changed = [
        "optim.final=1",
        "augment.strength=0.2",
        "run.batch=4",
        "objective=hinge",
        'penalties={"wasserstein":10}',
    ]
    gan.decide(override(classic, changed), NINE, session)
    for decided in ("gamma wasserstein 10: as asked", "augmentation 0.2, as asked", "batch 4: as asked"):
        assert decided in said, said
    assert "learning rate 0.0002: constant; as asked" in said


@pytest.mark.parametrize(("dtype", "told"), [("bf16", True), ("fp16", True), ("fp32", False)])
def test_penalties_that_low_precision_gets_wrong_are_told_to_be_computed_otherwise(dtype, told, monkeypatch):
    """The accident: bf16 was said to be the arithmetic of a run whose penalties are in float32."""
    said: list[str] = []
    session: Any = SimpleNamespace(world=SimpleNamespace(size=1), device="cpu", say=said.append)
    monkeypatch.setattr(choices, "differentiates_twice_in_bf16", lambda: False)
    monkeypatch.setattr(choices, "_seconds", lambda *_: 0.1)
    gan.decide(override(presets.rpgan(data="", out="run"), [f"run.dtype={dtype}", "run.batch=4"]), NINE, session)
    assert any(line.startswith("gamma ") and "in fp32" in line for line in said) == told


@pytest.mark.parametrize(
    ("length", "changes", "validations"),
    [
        ({"images": 64}, [], 1),
        ({"images": 320}, [], 4),
        ({"images": 16_000}, [], 20),
        ({"images": 64}, ["run.validations=3"], 3),
        ({"minutes": 1}, [], 20),
    ],
)
def test_a_short_run_of_images_is_not_validated_after_every_step(length, changes, validations):
    """The accident: sixteen steps of four images, and thirteen seconds of validation after each of them."""
    session: Any = SimpleNamespace(say=lambda _: None)
    (key, value), *_ = length.items()
    config = override(presets.auto_gan(data="", out="run"), [f"run.{key}={value}", *changes])
    assert choices.with_validations(config, 8, session).validations == validations


def test_every_choice_is_told_with_its_reason(monkeypatch):
    """The accident: `auto` told its width and its batch, and neither which network nor which learning rate."""
    said: list[str] = []
    session: Any = SimpleNamespace(world=SimpleNamespace(size=1), device="cpu", say=said.append)
    monkeypatch.setattr(choices, "_seconds", lambda *_: 0.1)
    gan.decide(presets.auto_gan(data="", out="run"), NINE, session)
    for choice in ("network", "width", "batch", "learning rate", "gamma", "augmentation"):
        assert len([line for line in said if line.startswith(f"{choice} ")]) == 1, choice
    assert "network rpgan-generator against rpgan-discriminator: as the preset auto has it" in said
    rate = "learning rate 0.001: rises over 2% of the run, falls from 30% on to 0.02 of it; as the preset auto has it"
    assert rate in said


@pytest.mark.parametrize(
    ("seconds", "processes", "width", "said"),
    [
        (lambda width: width / 1e6, 1, 128, "the widest that sees 400,000 images"),
        (lambda width: 0.15 if width <= 64 else math.inf, 1, 64, "the widest that sees 400,000 images"),
        (lambda width: 20.0, 1, 32, "will see about 3,240"),
        (lambda width: width / 200, 1, 32, "96: 135,000, 64: 202,500, 48: 270,000, 32: 405,000"),
        (lambda width: width / 200, 4, 128, "the widest that sees 400,000 images in the time (128: 405,000)"),
        (lambda width: width / 320, 1, 48, "64: 324,000, 48: 432,000"),  # 64: 432,000 without any validation
    ],
)
def test_the_width_follows_from_time_and_machines(seconds, processes, width, said):
    """A width that memory does not hold ended the run; one minute was called 'the widest that sees 400,000 images'.

    And four GPUs trained the networks that are right for one; and a quarter of the time went into validations.
    """
    config = override(presets.rpgan(data="", out="", minutes=90), [])
    pair, reason = choose_widths(
        config,
        configured_pair(config, NINE),
        NINE,
        lambda pair: seconds(pair.generator["options"]["widths"][-1]),
        processes,
    )
    assert pair.generator["options"]["widths"][-1] == width
    assert said in reason


class Elsewhere(World):
    """A process whose leader measured something else."""

    def agree(self, value: float) -> float:
        return 0.75


def watch_of(
    config: GanConfig, world: World, pictures: Pictures = NINE, say: Callable[[str], None] = lambda text: None
) -> tuple[GanWatch, TrainState]:
    state = new_state({}, config.optim, Plan(800), {"batch": 8, "strength": 0.2})
    session: Any = SimpleNamespace(world=world, log=None, say=say)
    return GanWatch(config, pictures, state, Arithmetic("cpu", "fp32", True), session), state


NAMES = ["logits/sign", "logits/real", "logits/fake", "norm/generator", "norm/discriminator"]
SIGNS = dict.fromkeys(NAMES, 0.5)


def test_every_process_hears_the_leaders_gap(pictures, tmp_path, monkeypatch):
    """Each with its own statistics of batch norm, one process raises augmentation or stops, and the other hangs."""
    watch, state = watch_of(small(pictures, tmp_path, "augment.strength=adaptive"), Elsewhere())
    monkeypatch.setattr(watch, "held_out_gap", lambda state: 0.0)
    for _ in range(LOOK_EVERY):
        watch.step(state, SIGNS)
    assert state.extras["strength"]["total"] == 0.75


@pytest.mark.parametrize(
    ("strength", "done"), [("adaptive", "augmentation raised to 0.40"), ("0.3", "more pictures would help")]
)
def test_few_pictures_shown_often_are_told_of_without_any_held_out(pictures, tmp_path, strength, done):
    """The accident: eight pictures, of which none is kept apart, are shown 250 times, and the run ends as healthy."""
    said: list[str] = []
    eight = replace(NINE, held_out=torch.arange(0))
    watch, state = watch_of(small(pictures, tmp_path, f"augment.strength={strength}"), World(), eight, said.append)
    state.images_seen = 2000
    for _ in range(3 * LOOK_EVERY):
        watch.step(state, SIGNS)
    (told,) = said
    assert "overfitting: each of 8 pictures was shown 250 times" in told
    assert told.endswith(done)


@pytest.mark.parametrize("held_out", [1, 5, 10])
def test_a_few_held_out_pictures_cry_no_wolf(pictures, tmp_path, held_out):
    """The accident: five held-out pictures drawn 64 times count as 64, and a fifth of all looks is a false alarm."""
    rng = torch.Generator().manual_seed(0)
    looks = 400
    images = torch.randint(0, 256, (looks, 100, 1, 1, 1), generator=rng).byte()  # nothing tells the held-out ones apart
    alarms = 0
    for k, each in enumerate(images):
        whole = ImageSet(each, None, (), [], [])
        watch, state = watch_of(
            small(pictures, tmp_path), World(), Pictures(whole, torch.arange(held_out, 100), torch.arange(held_out))
        )
        state.images_seen, state.averages["generator"], state.nets["discriminator"] = k, Fakes(), Brightness()
        alarms += watch.held_out_gap(state) > 0
    assert alarms < 0.05 * looks


class Fakes(nn.Module):
    """Darker than any picture, so that the discriminator leads."""

    classes, latent_size = 0, 4

    def forward(self, latent: torch.Tensor, label: None) -> torch.Tensor:
        return latent[:, :1, None, None] - 6


class Brightness(nn.Module):
    def forward(self, image: torch.Tensor, label: None) -> torch.Tensor:
        return image.flatten(1).mean(dim=1)


def test_a_collapsed_moment_is_never_called_the_healthy_one(pictures, tmp_path):
    """Asking for a cure ends the streak that asked for it, which looked like health: the place to go back to was lost."""
    watch, state = watch_of(small(pictures, tmp_path), World())
    good = SetSigns(diversity=1.0, duplicates=0.0, precision=0.8, coverage=0.8)
    state.images_seen = 30_000
    watch.tick(state, good)
    actions = []
    for _ in range(6):
        state.images_seen += 1000
        actions.append(watch.tick(state, replace(good, diversity=0.1)).action)
    assert Action.RAISE_GAMMA in actions
    assert state.extras["healthy_at"] == 30_000
    state.images_seen += 1000
    watch.tick(state, good)
    assert state.extras["healthy_at"] == 37_000


def test_what_was_observed_of_weights_that_were_thrown_away_is_forgotten(pictures, tmp_path):
    """The accident: the loop went back from NaN, and the guard judged the healthy weights by the means of the ill ones."""
    watch, state = watch_of(small(pictures, tmp_path), World(), replace(NINE, held_out=torch.arange(0)))
    for _ in range(LOOK_EVERY):
        watch.step(state, SIGNS)
    state.extras["healthy_at"], state.images_seen = 48, 32
    watch.went_back(state)
    assert state.extras["health"]["steps"] == 0
    assert state.extras["healthy_at"] == 32, "a checkpoint that was dropped is no place to go back to"


def test_a_folder_begun_with_other_pictures_is_not_gone_on_with(pictures, tmp_path):
    train_gan(small(pictures, tmp_path / "run"), quiet=True)
    with pytest.raises(ConfigError, match="run folder"):
        train_gan(small(pictures, tmp_path / "run", "objective=hinge"), quiet=True)


def console(run: Path) -> str:
    return (run / "console.log").read_text()


def watched(pictures: Path, out: Path, *changes: str) -> GanConfig:
    """200 steps of a run whose guard looks often."""
    often = ["run.images=1600", "run.validations=20", "run.checkpoint_minutes=0.005", "augment.strength=adaptive"]
    return small(pictures, out, *often, *changes)


def test_guard_nan_in_the_weights_goes_back_and_recovers(pictures, tmp_path, monkeypatch):
    """One bad step of an unstable kernel must not cost the night."""
    step, calls = gan.gan_step, 0

    def spoil(nets, *args, **options):
        nonlocal calls
        calls += 1
        if calls == 60:
            with torch.no_grad():
                nets["generator"].out.weight[0, 0] = float("nan")
        yield from step(nets, *args, **options)

    monkeypatch.setattr(gan, "gan_step", spoil)
    run = train_gan(watched(pictures, tmp_path / "run", "run.images=800", "run.validations=5"), quiet=True)
    said = console(run.folder)
    assert "roll back at" in said
    assert "diverging: 10 steps in a row rejected" in said
    assert run.images_seen == 800
    assert all(tensor.isfinite().all() for tensor in final_tensors(run.folder).values())


@pytest.mark.slow
def test_guard_thirtyfold_learning_rate_is_called_diverging(pictures, tmp_path):
    """Whether the lowered rate saves the run or the guard stops it, the best generator is there."""
    with suppress(TrainingError):
        train_gan(watched(pictures, tmp_path / "run", "optim.learning_rate=0.03", "optim.warm_up=0"), quiet=True)
    said = next(line for line in console(tmp_path / "run").splitlines() if "diverging" in line)
    assert int(said.split(" at ")[1].split()[0].replace(",", "")) <= 200 * 8
    assert load_model(tmp_path / "run").card.task == "generate"
    assert all(tensor.isfinite().all() for tensor in final_tensors(tmp_path / "run").values())


@pytest.mark.slow
def test_guard_a_discriminator_that_does_not_learn_is_called_losing(pictures, tmp_path, monkeypatch):
    step = gan.gan_step

    def frozen(*args, **options):
        for name, loss, scalars in step(*args, **options):
            yield name, loss * (name != "discriminator"), scalars

    monkeypatch.setattr(gan, "gan_step", frozen)
    with pytest.raises(TrainingError, match=r"discriminator losing.*\nbest was at .*model\.safetensors"):
        train_gan(watched(pictures, tmp_path / "run", "run.images=20000"), quiet=True)
    said = next(line for line in console(tmp_path / "run").splitlines() if "discriminator losing" in line)
    assert int(said.split(" at ")[1].split()[0].replace(",", "")) <= 200 * 8


def test_guard_fifty_images_are_called_overfitting_within_200_steps(tmp_path):
    path = tmp_path / "fifty.npz"
    np.savez(path, images=discs(50)[0])
    run = train_gan(watched(path, tmp_path / "run", "run.batch=32", "run.images=6400", "run.validations=2"), quiet=True)
    said = next(line for line in console(run.folder).splitlines() if "overfitting" in line)
    assert "augmentation raised to" in said
    assert console(run.folder).count("learns so few by heart") == 1, "it is said once"


def test_a_lowered_rate_comes_back_while_the_run_is_healthy(pictures, tmp_path):
    """The accident: one stumble at the end of the warm-up halved the rate of an hour."""
    config = small(pictures, tmp_path / "run")
    state = new_state({}, config.optim, Plan(800), {"batch": 8, "strength": 0.0})
    said: list[str] = []
    session = SimpleNamespace(say=said.append, log=None)
    watch = GanWatch(config, None, state, None, session)  # type: ignore[arg-type]
    state.rate_factor = 0.5
    varied = SetSigns(diversity=0.9, duplicates=0.0, precision=0.7, coverage=0.8)
    for _ in range(5):
        watch.tick(state, varied)
    assert state.rate_factor == 1.0
    assert len(said) == 4, "nothing is said once it is back"


def test_a_run_goes_on_with_its_own_pictures_only(tmp_path: Path):
    """The accident: a class more, and every label means another one than in the weeks before."""
    images, labels = discs(60)
    np.savez(tmp_path / "discs.npz", images=images, labels=labels)
    config = override(presets.rpgan(data=str(tmp_path / "discs.npz"), out=str(tmp_path / "run")), SMALL)
    train_gan(config, quiet=True)
    np.savez(tmp_path / "discs.npz", images=images, labels=np.arange(60) % 3)
    with pytest.raises(ConfigError, match="another classes"):
        train_gan(config, quiet=True)
