"""A GAN that begins with the networks of another run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from imagesmith import presets
from imagesmith.configs import GanConfig, override
from imagesmith.errors import ConfigError
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.train.gan import train_gan, validation
from imagesmith.zoo import load_model

SMALL = [
    'generator.options={"widths": [8, 8]}',
    'discriminator.options={"widths": [8, 8]}',
    "run.batch=4",
    "run.images=16",
    "run.validations=1",
    "run.dtype=fp32",
    "data.held_out=4",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (48, 16, 16, 3), dtype=np.uint8), labels=np.arange(48) % 3)
    return path


@pytest.fixture(autouse=True)
def _few_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring 2,000 fakes would take most of the time of every test."""
    monkeypatch.setattr(validation, "FAKES", 64)


def config(pictures: Path, out: Path, *changes: str) -> GanConfig:
    return override(presets.rpgan(data=str(pictures), out=str(out)), [*SMALL, *changes])


def newest(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    return load_checkpoint(sorted((run / "checkpoints").glob("*.safetensors"))[-1])


@pytest.fixture(scope="module")
def first(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    train_gan(config(pictures, out, "data.labels=none"), quiet=True)
    return out


def test_both_networks_go_on_and_nothing_else_does(pictures: Path, first: Path, tmp_path: Path) -> None:
    """A learning rate at its end, or the other run's best score, would come along with a copied checkpoint."""
    still = config(pictures, tmp_path / "on", "data.labels=none", f"start_from={first}", "optim.learning_rate=1e-12")
    changed = override(still, ['generator.options={"widths": [16]}'])  # widths are those of the run
    run = train_gan(changed, quiet=True)
    before, after = newest(first)[0], newest(run.folder)[0]
    trained = [name for name in before if name.startswith("net/")]
    assert trained
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in trained)
    assert run.images_seen == 16


def test_what_has_another_shape_begins_anew(pictures: Path, first: Path, tmp_path: Path) -> None:
    """From pictures without classes to pictures with them: the convolutions are worth keeping."""
    run = train_gan(config(pictures, tmp_path / "on", f"start_from={first}"), quiet=True)
    log = (run.folder / "console.log").read_text()
    assert "tensors taken over from 'first'" in log
    assert newest(run.folder)[1]["choices"]["nets"]["generator"]["options"]["classes"] == 3
    card = load_model(run.model).card
    assert card.training["config"]["start_from"] == "first"
    assert str(first.parent) not in card.to_json(), "a card tells nobody's folders"


def test_a_resumed_run_does_not_start_again(pictures: Path, first: Path, tmp_path: Path) -> None:
    """What was learnt meanwhile would be lost, and no one would be told."""
    begun = config(pictures, tmp_path / "on", "data.labels=none", f"start_from={first}")
    train_gan(begun, quiet=True)
    train_gan(override(begun, ["run.images=32"]), quiet=True)
    assert (tmp_path / "on/console.log").read_text().count("taken over from") == 2, "one line for each network, once"


def test_what_is_no_run_of_a_gan_is_told(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(ConfigError, match="expected the run folder of a GAN"):
            train_gan(config(pictures, tmp_path / "on", f"start_from={tmp_path / folder}"), quiet=True)
