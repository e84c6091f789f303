"""A GAN that begins with the networks of another run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from imagesmith import presets
from imagesmith.configs import GanConfig, Part, override
from imagesmith.errors import ConfigError
from imagesmith.nets.dcgan import DcganDiscriminator
from imagesmith.nets.rpgan import RpganGenerator
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.train.gan import train_gan, validation
from imagesmith.train.gan.choices import as_begun
from imagesmith.train.gan.start import Start
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
    free = ["generator.options={}", "discriminator.options={}"]  # widths are those of the run
    run = train_gan(override(still, free), quiet=True)
    before, after = newest(first)[0], newest(run.folder)[0]
    trained = [name for name in before if name.startswith("net/")]
    assert trained
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in trained)
    assert run.images_seen == 16
    assert "widths as in 'first'" in (run.folder / "console.log").read_text()


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


class TestOthersThanTheRuns:
    """What the user asks of the networks, where the run that they come from decides it."""

    START = Start("runs/first", {"generator": Part(name="rpgan-generator", options={"widths": [8, 8]})}, (), {})

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ('generator.options={"widths": [16]}', r"rpgan-generator with widths \[8, 8\], got widths \[16\]; leave"),
            ('generator.options={"widths": [8, 8], "latent_size": 32}', "got latent_size 32; leave"),
            ("generator.name=dcgan-generator", "got name dcgan-generator; leave"),
        ],
    )
    def test_are_refused(self, change: str, said: str) -> None:
        """The accident: a latent of 32 numbers was asked for, 64 were taken, and the run said 'widths as asked'."""
        with pytest.raises(ConfigError, match=f"expected the generator of 'first' to start from it, .*{said}"):
            as_begun(override(presets.rpgan(data="", out=""), [change]), self.START)

    @pytest.mark.parametrize("preset", [presets.rpgan, presets.dcgan])
    def test_are_taken_where_they_are_the_presets(self, preset: Callable[..., GanConfig]) -> None:
        """The preset is the default one, which nobody asked for: a start from any run would need its name."""
        assert as_begun(preset(data="", out=""), self.START).generator == self.START.parts["generator"]


class TestClasses:
    """Of networks with a table of a row for each class."""

    BEGUN = ("cat", "dog", "bird")

    @staticmethod
    def pair(classes: int) -> dict[str, nn.Module]:
        return {
            "generator": RpganGenerator(16, classes=classes, widths=(8, 8)),
            "discriminator": DcganDiscriminator(16, classes=classes, width=4, spectral_norm=True),
        }

    @pytest.mark.parametrize(
        ("now", "rows", "said"),
        [
            (("dog", "cat", "bird"), {0: 1, 1: 0, 2: 2}, ["3 of 3 classes known by name from 'first'"]),
            (("ant", "cat"), {1: 0}, ["1 of 2 classes known by name from 'first'"]),
            (("ant", "bee", "fly"), {}, ["0 of 3 classes known by name from 'first'"]),
            (BEGUN, {0: 0, 1: 1, 2: 2}, []),
        ],
    )
    def test_are_known_by_name(self, now: tuple[str, ...], rows: dict[int, int], said: list[str]) -> None:
        """The accident: one class was added, letters moved the numbers, and every flower began as another one."""
        begun, nets = self.pair(3), self.pair(len(now))
        tensors = {f"net/{role}/{name}": x for role in begun for name, x in begun[role].state_dict().items()}
        fresh = {role: {name: x.clone() for name, x in net.state_dict().items()} for role, net in nets.items()}
        told: list[str] = []
        Start("runs/first", {}, self.BEGUN, tensors).give(nets, now, told.append)
        assert [line for line in told if "classes" in line] == said
        tables = {"generator": "embedding.weight", "discriminator": "embedding.parametrizations.weight.original"}
        for role, name in tables.items():
            expected = fresh[role][name].clone()
            for here, there in rows.items():
                expected[here] = tensors[f"net/{role}/{name}"][there]
            assert torch.equal(nets[role].state_dict()[name], expected)


def test_what_is_no_run_of_a_gan_is_told(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(ConfigError, match="expected the run folder of a GAN"):
            train_gan(config(pictures, tmp_path / "on", f"start_from={tmp_path / folder}"), quiet=True)
