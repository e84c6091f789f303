"""A training run: exact when interrupted, equal on two processes, safe against bad numbers, honest in its run folder."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from imagesmith import presets
from imagesmith.configs import Part, RestorerConfig, override
from imagesmith.errors import ConfigError, ModelError, NothingUsableError, TrainingError
from imagesmith.nets import NETS, NetSpec
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.runtime.guard import Guard
from imagesmith.runtime.log import read_history
from imagesmith.train import clock, restore, validation
from imagesmith.train.restore import train_restorer
from imagesmith.zoo import describe, load_model, save_model

SMALL = [
    "net.options.width=16",
    "net.options.blocks=1",
    "net.options.scale=2",
    'degradations=[{"name": "bicubic", "options": {"scale": 2}}]',
    "data.patch_px=16",
    "data.workers=0",
    "run.batch=4",
    "run.images=96",
    "run.validations=2",
    "run.dtype=fp32",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, image in (("a", data.astronaut()), ("b", data.coffee()), ("c", data.chelsea())):
        Image.fromarray(image[:200, :240]).save(folder / f"{name}.png")
    return folder


def small(photos: Path, out: Path, *changes: str) -> RestorerConfig:
    return override(presets.sr_x2(data=str(photos), out=str(out)), [*SMALL, *changes])


def final_tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(sorted((run / "checkpoints").glob("*.safetensors"))[-1])[0]


def assert_same_run(a: Path, b: Path) -> None:
    first, second = final_tensors(a), final_tensors(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_file(a / "model.safetensors").keys() == load_file(b / "model.safetensors").keys()


def test_run_folder_holds_everything(photos, tmp_path):
    run = train_restorer(small(photos, tmp_path / "run"), quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert run.images_seen == 96
    assert [row["images_seen"] for row in rows if "validation/psnr_y" in row] == [48, 96]
    assert {"loss/l1", "norm/restorer", "rate", "speed"} <= rows[0].keys()
    assert len(list((tmp_path / "run/samples").glob("*.png"))) == 2
    assert list((tmp_path / "run/tensorboard").iterdir())
    card = load_model(run.model).card
    assert card.training["config"]["optim"]["name"] == "muon"
    assert card.training["images_seen"] == run.best["images_seen"]
    assert "batch 4: as asked" in (tmp_path / "run/console.log").read_text()


def test_training_improves_on_the_start(photos, tmp_path):
    """A loop that runs without learning looks exactly like one that learns, until it is measured."""
    run = train_restorer(
        small(photos, tmp_path / "run", "run.images=1200", "optim.ema_half_life_images=64"), quiet=True
    )
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    losses = [row["loss/l1"] for row in rows if "loss/l1" in row]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    assert run.best["images_seen"] == 1200


@pytest.mark.parametrize(
    ("crash_after", "changes"), [(1, []), (11, []), (23, []), (11, ["run.dtype=bf16", "data.workers=1"])]
)
def test_interrupted_equals_uninterrupted_bit_for_bit(photos, tmp_path, monkeypatch, crash_after, changes):
    """A run that resumes a little differently cannot be reproduced, debugged or trusted."""
    train_restorer(small(photos, tmp_path / "whole", *changes), quiet=True)
    step, calls = restore.restore_step, 0

    def crash(*args, **options):
        nonlocal calls
        calls += 1
        if calls > crash_after:
            raise RuntimeError("power cut")
        yield from step(*args, **options)

    # a checkpoint at every step, then a crash in the middle of the next one
    often = small(photos, tmp_path / "cut", "run.checkpoint_minutes=1e-9", *changes)
    monkeypatch.setattr(restore, "restore_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train_restorer(often, quiet=True)
    monkeypatch.setattr(restore, "restore_step", step)
    train_restorer(often, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    seen = [json.loads(line)["images_seen"] for line in (tmp_path / "cut/history.jsonl").read_text().splitlines()]
    assert seen == sorted(seen), "the history of a resumed run must not tell anything twice"


def sharp(photos: Path, out: Path, *changes: str) -> RestorerConfig:
    """Against a U-Net with spectral norm, whose vectors change in every turn and belong to the state."""
    discriminator = {"name": "unet-discriminator", "options": {"widths": [8, 8], "spectral": True}}
    adversarial = {"discriminator": discriminator, "penalties": {"r1": 0.1, "r2": 0.1}, "perceptual": 0}
    return small(photos, out, f"adversarial={json.dumps(adversarial)}", "run.images=24", *changes)


@pytest.mark.parametrize(("crash_after", "changes"), [(3, []), (4, ["run.accumulate=2"])])
def test_interrupted_equals_uninterrupted_with_a_discriminator(photos, tmp_path, monkeypatch, crash_after, changes):
    """The accident: the restorer is resumed and its judge begins anew, or forgets what it did to the learning rate."""
    train_restorer(sharp(photos, tmp_path / "whole", *changes), quiet=True)
    step, calls = restore.restore_gan_step, 0

    def crash(*args, **options):
        nonlocal calls
        calls += 1
        for k, turn in enumerate(step(*args, **options)):
            if calls > crash_after and k == 1:  # the restorer has taken its step, the discriminator has not
                raise RuntimeError("power cut")
            yield turn

    often = sharp(photos, tmp_path / "cut", "run.checkpoint_minutes=1e-9", *changes)
    monkeypatch.setattr(restore, "restore_gan_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train_restorer(often, quiet=True)
    monkeypatch.setattr(restore, "restore_gan_step", step)
    train_restorer(often, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    final = final_tensors(tmp_path / "cut")
    assert any(name.startswith("net/discriminator/") and name.endswith("_u") for name in final)
    assert any(name.startswith("optimizer/discriminator/") for name in final)
    assert not any(name.startswith("average/discriminator/") for name in final)


def test_an_adversarial_run_tells_what_it_weighs_and_how_far_it_has_come(photos, tmp_path):
    classifier = NETS["cnn"](4, width=8, features=12).eval()
    spec = NetSpec("cnn", {"classes": 4, "width": 8, "features": 12})
    save_model(tmp_path / "own.safetensors", classifier, describe(classifier, spec, "own", task="classify"))
    features = [f"adversarial.features={tmp_path / 'own.safetensors'}", "adversarial.perceptual=0.1"]
    run = train_restorer(sharp(photos, tmp_path / "run", *features), quiet=True)
    rows = read_history(run.folder)
    told = set().union(*rows)
    assert {"loss/l1", "loss/perceptual", "loss/adversarial", "loss/discriminator", "norm/discriminator"} <= told
    assert {"penalty/r1", "penalty/r2", "logits/sign", "validation/psnr_y", "validation/spectrum"} <= told
    model = load_model(run.model)
    assert model.card.net == "compact"
    assert model.card.training["config"]["adversarial"]["features"] == "own.safetensors", "no folder of this machine"
    assert model.card.training["validation_spectrum"] == pytest.approx(run.best["spectrum"], abs=1e-4)
    assert "before the first step: psnr_y" in (run.folder / "console.log").read_text()


def test_the_discriminator_learns_at_its_own_rate(photos, tmp_path):
    """The accident: the factor is documented, logged and never applied."""
    runs = [
        train_restorer(sharp(photos, tmp_path / str(factor), "run.images=4", "optim.warm_up=0",
                             f"adversarial.rate_factor={factor}"), quiet=True)
        for factor in (1e-6, 1.0)
    ]  # fmt: skip
    start = load_checkpoint(runs[0].folder / "checkpoints" / "000000000000.safetensors")[0]
    slow, fast = (final_tensors(run.folder) for run in runs)
    kernel = "net/discriminator/head.weight"
    assert (slow[kernel] - start[kernel]).abs().max() < 1e-3 * (fast[kernel] - start[kernel]).abs().max()
    restorer = "net/restorer/head.weight"
    assert torch.equal(slow[restorer], fast[restorer]), "its turn comes first"


def test_contradictions_of_an_adversarial_run_are_told(photos, tmp_path):
    with pytest.raises(
        ConfigError, match="a patch discriminator out of patch-discriminator, unet-discriminator, got 'cnn'"
    ):
        train_restorer(sharp(photos, tmp_path / "a", "adversarial.discriminator.name=cnn"), quiet=True)
    widths = "adversarial.discriminator.options.widths=[8, 8, 8, 8, 8, 8, 8]"
    with pytest.raises(ConfigError, match=r"multiple of 64 pixels for 'unet-discriminator', got 16 x 2; change data"):
        train_restorer(sharp(photos, tmp_path / "b", widths), quiet=True)
    features = ["adversarial.perceptual=1", "adversarial.features=vgg.pth"]
    with pytest.raises(ModelError, match=r"no model or file is called 'vgg.pth'"):
        train_restorer(sharp(photos, tmp_path / "c", *features), quiet=True)
    with pytest.raises(ConfigError, match=r"adversarial.weight.*greater than or equal to 0"):
        sharp(photos, tmp_path / "d", "adversarial.weight=-1")


def test_a_network_that_restores_no_picture_is_refused(photos, tmp_path):
    """The accident: one for films can be built as well, and its first step was a bug."""
    with pytest.raises(ConfigError, match=r"a restorer of pictures out of compact, .*got 'recurrent'"):
        train_restorer(small(photos, tmp_path / "run", "net.name=recurrent"), quiet=True)


def test_ctrl_c_saves_where_it_is(photos, tmp_path, monkeypatch):
    train_restorer(small(photos, tmp_path / "whole"), quiet=True)
    step, calls = restore.restore_step, 0

    def interrupt(*args, **options):
        nonlocal calls
        calls += 1
        if calls == 7:
            signal.raise_signal(signal.SIGINT)
        yield from step(*args, **options)

    monkeypatch.setattr(restore, "restore_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_restorer(small(photos, tmp_path / "cut"), quiet=True)
    assert (tmp_path / "cut/checkpoints/000000000028.safetensors").exists()
    train_restorer(small(photos, tmp_path / "cut"), quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_finished_run_is_left_alone(photos, tmp_path):
    config = small(photos, tmp_path / "run")
    train_restorer(config, quiet=True)
    before = (tmp_path / "run/model.safetensors").read_bytes()
    assert train_restorer(config, quiet=True).images_seen == 96
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_bad_steps_are_rejected_then_rolled_back_then_given_up(photos, tmp_path, monkeypatch):
    """One batch of NaN must not spoil the weights; endless NaN must not burn a night in silence."""
    step, calls = restore.restore_step, 0

    def poison(nets, batch, losses):
        nonlocal calls
        calls += 1
        for name, loss, scalars in step(nets, batch, losses):
            yield name, loss * float("nan") if 5 <= calls < until else loss, scalars

    monkeypatch.setattr(restore, "restore_step", poison)
    until = 7
    train_restorer(small(photos, tmp_path / "short"), quiet=True)
    console = (tmp_path / "short/console.log").read_text()
    assert console.count("reject at") == 2
    assert "roll back" not in console
    assert all(torch.isfinite(tensor).all() for tensor in final_tensors(tmp_path / "short").values())

    calls, until = 0, 5 + Guard.patience
    train_restorer(small(photos, tmp_path / "long"), quiet=True)
    assert "with the learning rate at 0.5" in (tmp_path / "long/console.log").read_text()
    seen = [row["images_seen"] for row in read_history(tmp_path / "long") if "rate" in row]
    assert seen == sorted(set(seen)), "what a roll-back undid must not stay in the history"

    calls, until = 0, 10**9
    with pytest.raises(TrainingError, match="3 roll-backs"):
        train_restorer(small(photos, tmp_path / "endless"), quiet=True)


class Ticking:
    """A wall clock that only the steps move: step k takes as many seconds as `seconds(k)` says."""

    def __init__(self, monkeypatch, seconds) -> None:
        self.now, self.step, self.steps = 0.0, restore.restore_step, 0
        self.seconds = seconds
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(restore, "restore_step", self.slow)

    def slow(self, *args, **options):
        self.now += self.seconds(self.steps)
        self.steps += 1
        yield from self.step(*args, **options)


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [
        (1, lambda step: 1),
        (60, lambda step: 60),  # far slower than any guess
        (0.01, lambda step: 0.01),  # far faster
        (1, lambda step: 20 if step == 0 else 1),  # workers start, kernels are built
        (1, lambda step: 0.8 if step < 30 else 1.6),  # another program starts
        (1, lambda step: 3 if step < 8 else 0.7),  # and ends
    ],
)
def test_minutes_end_the_run_in_time_and_the_learning_rate_falls_to_its_end(
    photos, tmp_path, monkeypatch, minutes, seconds
):
    """A schedule that is planned on a guess of the speed ends high, or hours late."""
    clock = Ticking(monkeypatch, seconds)
    train_restorer(small(photos, tmp_path / "run", f"run.minutes={minutes}", "run.validations=1"), quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    rates = [row["rate"] for row in rows if "rate" in row]
    assert 0.9 * minutes * 60 <= clock.now <= 1.02 * minutes * 60 + seconds(clock.steps)
    assert rates[-1] < 0.02 * max(rates)


def test_a_run_too_short_for_validations_holds_the_last_alone(photos, tmp_path, monkeypatch):
    """The accident: of a run of half a minute, what the first validation takes was known after it had taken it."""
    monkeypatch.setattr(validation, "second_time", lambda call: (call(), 100.0)[1])
    config = small(photos, tmp_path / "run", "run.minutes=0.01", "run.validations=20")
    images = train_restorer(config, quiet=True).images_seen
    held = [row["images_seen"] for row in read_history(tmp_path / "run") if "validation/psnr_y" in row]
    assert held == [images]


def test_one_step_longer_than_the_whole_run_is_the_only_one(photos, tmp_path, monkeypatch):
    clock = Ticking(monkeypatch, lambda step: 600)
    assert train_restorer(small(photos, tmp_path / "run", "run.minutes=1"), quiet=True).images_seen == 4
    assert clock.now == 600


def test_resuming_with_another_length_ends_there(photos, tmp_path, monkeypatch):
    """Minutes already spent count; a finished run is left alone, and says so."""
    train_restorer(small(photos, tmp_path / "run"), quiet=True)
    first = sorted((tmp_path / "run/checkpoints").iterdir())[0]
    for later in sorted((tmp_path / "run/checkpoints").iterdir())[1:]:
        later.unlink()
    assert first.stem == "000000000000"
    assert train_restorer(small(photos, tmp_path / "run", "run.images=48"), quiet=True).images_seen == 48
    assert train_restorer(small(photos, tmp_path / "run", "run.images=480"), quiet=True).images_seen == 48
    said = (tmp_path / "run/console.log").read_text()
    assert (
        f"it is finished, with its learning rate at the end; to go on: the same command with --start-from {tmp_path}/run"
        in said
    )


def test_second_run_in_the_same_folder_is_refused_while_the_first_goes_on(photos, tmp_path, monkeypatch, run_python):
    """Two writers in one run folder mix their checkpoints and their history."""
    lock = "from imagesmith.runtime.lock import sole_writer; from pathlib import Path"
    enter = f"{lock}; sole_writer(Path({str(tmp_path / 'run')!r})).__enter__()"
    step, calls = restore.restore_step, 0

    def last_one_meets_another_run(*args, **options):
        nonlocal calls
        calls += 1
        if calls == 3:
            with pytest.raises(AssertionError, match="UsageError: another process is writing"):
                run_python(enter)
        yield from step(*args, **options)

    monkeypatch.setattr(restore, "restore_step", last_one_meets_another_run)
    train_restorer(small(photos, tmp_path / "run", "run.images=12"), quiet=True)
    assert calls == 3
    run_python(enter)


def test_other_configuration_in_the_same_folder_is_refused(photos, tmp_path):
    train_restorer(small(photos, tmp_path / "run"), quiet=True)
    with pytest.raises(ConfigError, match=r"started with optim.learning_rate = 0.0015, not 0.1"):
        train_restorer(small(photos, tmp_path / "run", "optim.learning_rate=0.1"), quiet=True)


def test_a_configuration_that_says_less_is_another_one(photos, tmp_path):
    """The accident: an option that is left out is not compared, and the folder then refuses the one that began it."""
    train_restorer(small(photos, tmp_path / "run"), quiet=True)
    before = (tmp_path / "run" / "config.json").read_text()
    less = small(photos, tmp_path / "run").model_copy(
        update={"net": Part(name="compact", options={"scale": 2, "blocks": 1})}
    )
    with pytest.raises(ConfigError, match=r"started with net\.options\.width = 16, not nothing"):
        train_restorer(less, quiet=True)
    assert (tmp_path / "run" / "config.json").read_text() == before
    train_restorer(small(photos, tmp_path / "run"), quiet=True)


def test_a_run_goes_on_with_its_own_photographs_only(photos, tmp_path):
    """The accident: photographs are added to the folder, others are kept apart, and those were trained on."""
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    train_restorer(small(folder, tmp_path / "run", "run.images=4"), quiet=True)
    Image.fromarray(data.rocket()[:200, :240]).save(folder / "d.png")
    with pytest.raises(
        ConfigError, match=r"the photos of .* that the run was begun with, got another number: 3, not 2"
    ):
        train_restorer(small(folder, tmp_path / "run", "run.images=8"), quiet=True)


def test_start_from_takes_over_what_fits(photos, tmp_path):
    first = train_restorer(small(photos, tmp_path / "a"), quiet=True)
    x3 = ["net.options.scale=3", 'degradations=[{"name": "bicubic", "options": {"scale": 3}}]', "run.images=4"]
    second = small(photos, tmp_path / "b", *x3, f"start_from={first.model}", "optim.learning_rate=1e-9")
    trained = load_model(train_restorer(second, quiet=True).model)
    assert str(tmp_path) not in trained.card.to_json(), "a card tells no folder of the machine that trained"
    weights, before = trained.net.state_dict(), load_model(first.model).net.state_dict()
    torch.testing.assert_close(weights["body.0.first.weight"], before["body.0.first.weight"], rtol=0, atol=1e-4)
    assert weights["tail.weight"].shape != before["tail.weight"].shape
    told = (tmp_path / "b/console.log").read_text()
    assert f"took 5,088 of 9,003 numbers from '{first.model}'; new: tail.weight, tail.bias" in told


def test_a_start_that_hardly_fits_is_refused(photos, tmp_path):
    """The accident: one bias of 48 numbers is taken over, and what is nearly untrained learns at a fifth of the rate."""
    with pytest.raises(
        ConfigError, match=r"fits the network compact by half at least, got 12 of [\d,]+ numbers from 'sr-x2"
    ):
        train_restorer(small(photos, tmp_path / "run", "start_from=sr-x2"), quiet=True)
    other = small(photos, tmp_path / "run", "run.images=4")
    assert train_restorer(other, quiet=True).images_seen == 4, "and the folder is free"


def test_contradictions_are_config_errors(photos, tmp_path):
    with pytest.raises(ConfigError, match="x3 and x2"):
        train_restorer(small(photos, tmp_path / "a", "net.options.scale=3"), quiet=True)
    with pytest.raises(ConfigError, match="expected a loss out of"):
        train_restorer(small(photos, tmp_path / "b", 'losses={"l3": 1}'), quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError):
        train_restorer(small(tmp_path / "empty", tmp_path / "c"), quiet=True)


SCRIPT = """
import sys
from imagesmith.configs import RestorerConfig, load_config
from imagesmith.train.restore import train_restorer
train_restorer(load_config(sys.argv[1], RestorerConfig), quiet=True)
"""


def spawn(config: RestorerConfig, tmp_path: Path) -> subprocess.Popen:
    script, path = tmp_path / "train.py", tmp_path / f"{Path(config.run.out).name}.json"
    script.write_text(SCRIPT)
    path.write_text(config.model_dump_json())
    command = [sys.executable, str(script), str(path)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_documented_command_trains_one_network_on_two_processes(photos, tmp_path):
    """Gradient averaging that is off by the world size trains, only worse; and a command nobody ran does not work."""
    changes = [*SMALL, "run.dtype=fp64", "run.images=48", "run.validations=1"]
    train_restorer(override(presets.sr_x4(data=str(photos), out=str(tmp_path / "one")), changes), quiet=True)

    page = (Path(__file__).parents[2] / "docs" / "train.md").read_text("utf-8")
    command = shlex.split(next(line for line in page.splitlines() if line.startswith("torchrun ")))
    assert command[-2] == "--images", "the length is what this test replaces, and the photographs"
    command = [str(photos) if word == "photos/" else word for word in command[:-2]]
    command.insert(1, "--standalone")  # a port of its own beside whatever else runs here
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, *(word for change in changes for word in ("--set", change))],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": programs},
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("model in runs/two/model.safetensors") == 1, "both processes speak"
    assert list((tmp_path / "runs").rglob("model.safetensors")) == [tmp_path / "runs/two/model.safetensors"]
    assert load_model(tmp_path / "runs/two").card.training["images_seen"] == 48
    one, both = final_tensors(tmp_path / "one"), final_tensors(tmp_path / "runs/two")
    for name in one:
        if name.startswith(("net/", "average/")):
            torch.testing.assert_close(one[name], both[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_sigkill_at_20_random_moments_loses_only_what_is_since_the_last_checkpoint(photos, tmp_path):
    """Power cuts do not wait for a safe moment."""
    changes = ("run.images=40000", "run.checkpoint_minutes=0.005", "run.validations=10", "run.batch=8")
    finish(spawn(small(photos, tmp_path / "whole", *changes), tmp_path))
    config, rng = small(photos, tmp_path / "cut", *changes), random.Random(0)
    for _ in range(20):
        process = spawn(config, tmp_path)
        time.sleep(2 + 5 * rng.random())  # from the first import to the middle of a checkpoint
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "cut/model.safetensors").exists():
            load_model(tmp_path / "cut")
    finish(spawn(config, tmp_path))
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_sigkill_of_any_of_several_processes_changes_nothing(photos, tmp_path, train_on_two, train_on_two_machines):
    """The other processes wait for the lost one until the bill comes, or go on without a part of every batch."""
    changes = ("run.checkpoint_minutes=1e-9",)
    train_on_two(small(photos, tmp_path / "whole", *changes))
    train_on_two(small(photos, tmp_path / "cut", *changes), "1@16", "0@40")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    train_on_two_machines(small(photos, tmp_path / "machines", *changes), "1@16")
    assert_same_run(tmp_path / "whole", tmp_path / "machines")


@pytest.fixture(scope="module")
def noisy_photos(photos: Path, tmp_path_factory) -> Path:
    """The same photographs with noise, in another format."""
    folder = tmp_path_factory.mktemp("noisy")
    for path in photos.iterdir():
        pixels = torch.from_numpy(np.array(Image.open(path))).float()
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1)) * 15
        Image.fromarray((pixels + noise).clamp(0, 255).byte().numpy()).save(folder / f"{path.stem}.bmp")
    return folder


def paired(targets: Path, degraded: Path, out: Path, *changes: str) -> RestorerConfig:
    config = presets.denoise(data=str(targets), out=str(out))
    net = '{"widths": [8, 8], "blocks": [1, 1]}'
    given = [f"data.degraded={degraded}", "degradations=[]", "data.shrink=[1]"]
    small = [line for line in SMALL if line.startswith(("data", "run"))]
    return override(config, [*small, f"net.options={net}", "run.images=24", *given, *changes])


class TestPairs:
    def test_a_run_learns_from_two_folders(self, photos: Path, noisy_photos: Path, tmp_path: Path):
        run = train_restorer(paired(photos, noisy_photos, tmp_path / "run"), quiet=True)
        card = load_model(run.model).card
        assert "2 pairs of" in card.train_data
        assert str(noisy_photos) not in card.to_json(), "a card tells nobody's folders"
        assert "2 pairs to train on, 1 kept apart" in (tmp_path / "run/console.log").read_text()

    def test_patches_of_both_lie_in_the_same_place(self, photos: Path, noisy_photos: Path, tmp_path: Path):
        """A flip of one alone, and a network learns mirrors."""
        config = paired(photos, noisy_photos, tmp_path, "data.gray=0.5")
        chain = restore.build_chain(config)
        patches = restore.training_patches(config, restore.load_training_photos(config, chain), chain)
        grays = 0
        for k in range(24):
            degraded, target = patches[k]
            assert degraded.shape == target.shape == (3, 16, 16)
            assert (degraded - target).square().mean().sqrt() < 20 / 255
            grays += int(torch.equal(target[0], target[1]))
        assert 4 < grays < 20
        assert all(torch.equal(a, b) for a, b in zip(patches[7], patches[7], strict=True))

    def test_a_recipe_beside_pairs_is_refused(self, photos: Path, noisy_photos: Path, tmp_path: Path):
        with pytest.raises(ConfigError, match=r"either degradations or data\.degraded"):
            override(paired(photos, noisy_photos, tmp_path), ['degradations=[{"name": "gaussian_noise"}]'])
        with pytest.raises(ConfigError, match=r"data\.shrink=\[1\]"):
            override(paired(photos, noisy_photos, tmp_path), ["data.shrink=[0.5]"])

    def test_pairs_of_another_scale_are_refused(self, photos: Path, noisy_photos: Path, tmp_path: Path):
        net = '{"name": "compact", "options": {"scale": 2, "width": 8, "blocks": 1}}'
        with pytest.raises(ConfigError, match="x2, got targets 1 times as large"):
            train_restorer(paired(photos, noisy_photos, tmp_path, f"net={net}"), quiet=True)


class TestDeblurring:
    """What deconvolution makes is told by pairs and by any recipe, without a word of it in the configuration."""

    NET = ("task=deblur", 'net={"name": "deconvolved-unet", "options": {"widths": [8, 8], "blocks": [1, 1]}}')

    @pytest.mark.parametrize("given", [True, False])
    def test_patches_hold_what_deconvolution_makes(self, photos: Path, noisy_photos: Path, tmp_path: Path, given: bool):
        config = paired(photos, noisy_photos, tmp_path / "run", *self.NET)
        if not given:
            shake = [{"name": "motion_blur", "options": {"length": [5, 9]}}]
            recipe = ["data.degraded=null", f"degradations={json.dumps(shake)}", "run.images=24"]
            config = override(presets.deblur(str(photos), str(tmp_path / "run")), [*SMALL[4:], *self.NET, *recipe])
        chain = restore.build_chain(config)
        patches = restore.training_patches(config, restore.load_training_photos(config, chain), chain)
        told = 0
        for k in range(12):
            degraded, target = patches[k]
            assert (degraded.shape, target.shape) == ((9, 16, 16), (3, 16, 16))
            told += int(not torch.equal(degraded[3:6], degraded[:3]))
        assert told >= 6
        run = train_restorer(config, quiet=True)
        assert load_model(run.model).card.net == "deconvolved-unet"

    def test_a_recipe_that_changes_the_size_is_refused(self, photos: Path, tmp_path: Path):
        config = override(presets.deblur(str(photos), str(tmp_path)), [SMALL[3]])
        with pytest.raises(ConfigError, match="keep size and channels"):
            train_restorer(config, quiet=True)


class TestFineTuning:
    def test_it_ends_early_and_keeps_what_it_started_from(self, photos: Path, tmp_path: Path):
        """Fine-tuning makes networks worse, and the file that the user takes away is the last one."""
        first = train_restorer(small(photos, tmp_path / "first", "run.images=16"), quiet=True)
        card = load_model(first.model).card
        config = presets.fine_tuned(small(photos, tmp_path / "on"), str(first.model), card.task, part_of(card))
        assert config.optim.learning_rate == presets.sr_x2("a", "b").optim.learning_rate / 5
        ruinous = ["optim.learning_rate=0.5", "run.images=80", "run.validations=10"]
        run = train_restorer(override(config, ruinous), quiet=True)
        assert run.best["images_seen"] == 0
        assert run.images_seen == 24, "three of ten validations without an improvement"
        kept, given = load_file(run.model), load_file(first.model)
        assert all(torch.equal(kept[name], given[name]) for name in given)
        told = (tmp_path / "on/console.log").read_text()
        assert "ended early: nothing better in 30% of the run" in told
        assert f"nothing was better than '{first.model}' itself, which that model is" in told
        assert "numbers from" not in told, "all were taken over"
        assert train_restorer(override(config, ruinous), quiet=True).images_seen == 24, (
            "and resuming it changes nothing"
        )

    def test_what_improves_goes_on_to_the_end(self, photos: Path, tmp_path: Path):
        start = train_restorer(small(photos, tmp_path / "first", "run.images=8"), quiet=True)
        config = small(photos, tmp_path / "on", f"start_from={start.model}", "patience=0.5", "run.images=96")
        run = train_restorer(config, quiet=True)
        assert run.images_seen == 96
        assert run.best["images_seen"] > 0

    def test_the_network_is_that_of_the_weights_where_they_are_for_the_same(self):
        """Weights of 48 maps loaded into a preset of 64 would fit nowhere, and training would begin from nothing."""
        narrow = Part(name="compact", options={"scale": 2, "width": 8})
        assert presets.fine_tuned(presets.sr_x2("a", "b"), "x", "sr", narrow).net == narrow
        assert presets.fine_tuned(presets.sr_x4("a", "b"), "x", "sr", narrow).net.options["width"] == 48
        assert presets.fine_tuned(presets.denoise("a", "b"), "x", "sr", narrow).net.name == "unet"


def part_of(card) -> Part:
    return Part(name=card.net, options=card.options)
