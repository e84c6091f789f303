"""One picture in one call."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import imagesmith
from imagesmith.data.files import Frame
from imagesmith.data.frame import ImageMeta
from imagesmith.errors import ModelError, UsageError
from imagesmith.infer import chained
from imagesmith.infer.chained import Auto
from imagesmith.infer.restore import Restorer
from imagesmith.zoo import CARDS, load_model, save_model

SMALL = data.coffee()[100:180, 100:200]
CLEAN = data.coffee()[:300, :420]


def test_a_model_file_is_taken(model_file: Path, photo: np.ndarray) -> None:
    """`imagesmith.restore` was once the module of that name instead of the function."""
    assert imagesmith.restore(photo, model=model_file).shape == (122, 166, 3)
    with pytest.raises(UsageError, match="expected a scale out of 2, 3, 4"):
        imagesmith.restore(photo, scale=17)


def test_a_classifier_is_told_what_it_is_for() -> None:
    """The accident: `generate` makes images with generators, said of a classifier, which it refuses in turn."""
    with pytest.raises(ModelError, match="`imagesmith evaluate generator` measures with classifiers"):
        Restorer.load("cifarcnn")


def test_a_model_file_that_changed_is_loaded_again(model_file: Path, photo: np.ndarray) -> None:
    """The accident: a training goes on, and the notebook beside it shows the results of the first weights all day."""
    before = imagesmith.restore(photo, model=model_file)
    model = load_model(model_file)
    next(model.net.parameters()).data.mul_(2)
    save_model(model_file, model.net, model.card)
    assert not np.array_equal(imagesmith.restore(photo, model=model_file), before)


def test_a_model_file_is_the_one_of_the_folder_of_now(
    model_file: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: the script goes to the next run's folder, and restores with the model of the one before."""
    monkeypatch.chdir(model_file.parent)
    assert imagesmith.restore(photo, model="./toy.safetensors").shape == (122, 166, 3)
    monkeypatch.chdir("/")
    with pytest.raises(ModelError, match="no model or file"):
        imagesmith.restore(photo, model="./toy.safetensors")


@pytest.mark.parametrize(("asked", "words"), [({"task": "denoise"}, "the task sr"), ({"scale": 4}, "enlarges by 2")])
def test_a_model_for_something_else_is_refused(model_file: Path, photo: np.ndarray, asked: dict, words: str) -> None:
    """The accident: `restore(photo, task="denoise", model=...)` enlarges, and the task was never looked at."""
    with pytest.raises(UsageError, match=words):
        imagesmith.restore(photo, model=model_file, **asked)


def test_what_is_no_scale_or_no_model_is_called_so(restorer: Restorer, photo: np.ndarray) -> None:
    """The accident: "'sr-x2' enlarges by 2, got a scale of 2", and no file called '<Restorer object at 0x7f...>'."""
    with pytest.raises(UsageError, match="expected a whole number as scale, got '2'"):
        imagesmith.restore(photo, "2")
    with pytest.raises(UsageError, match=r"expected a task out of sr, .* got '3'"):
        imagesmith.restore(photo, task=3)
    with pytest.raises(UsageError, match="expected the name or the file of a model, got Restorer; call"):
        imagesmith.restore(photo, model=restorer)


@pytest.fixture
def auto(make_restorer, monkeypatch: pytest.MonkeyPatch) -> Auto:
    """What decides, with a toy in place of every shipped model that enlarges, and no others."""
    monkeypatch.setattr(chained, "CARDS", {name: card for name, card in CARDS.items() if card.task == "sr"})
    monkeypatch.setattr(chained.Restorer, "load", lambda name, **_: make_restorer(scale=int(name[-1])))
    return Auto()


def test_auto_gives_back_the_kind_that_it_was_given(auto: Auto, tmp_path: Path) -> None:
    """The accident: what the command line does by itself cannot be had from Python."""
    assert auto(SMALL).shape == (320, 400, 3)
    Image.fromarray(SMALL).save(tmp_path / "small.png")
    assert auto(tmp_path / "small.png").size == (400, 320)
    kept = auto(Frame(torch.from_numpy(CLEAN.copy()), "uint8", ImageMeta(format="png", mode="RGB")))
    assert kept.meta.notes[0].endswith("nothing to mend")
    assert np.array_equal(kept.pixels.numpy(), CLEAN)


def test_a_batch_that_would_become_several_sizes_is_refused(auto: Auto, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: torch complains about stack() where one picture of a batch is enlarged and the other is not."""
    frames = {0.0: (8, 8, 3), 1.0: (4, 4, 3)}
    shrink = lambda frame, **_: Frame(torch.zeros(frames[frame.pixels.mean().item()]), "float32", frame.meta)  # noqa: E731
    monkeypatch.setattr(auto, "frame", shrink)
    with pytest.raises(UsageError, match="several"):
        auto(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))


@pytest.mark.parametrize("option", [{"mask": "auto"}, {"strength": 0.5}, {"consistency": True}])
def test_auto_takes_nothing_that_belongs_to_one_model(option: dict) -> None:
    """The accident: a mask is given, and what decides never looks at it."""
    with pytest.raises(UsageError, match="one model"):
        imagesmith.restore(CLEAN, task="auto", **option)


@pytest.mark.parametrize("task", ["sr", "auto"])
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tile": [3]}, r"expected auto, off or a number of pixels as tile, got \[3\]; give one value"),
        ({"strength": np.array([0.5, 0.5])}, r"expected a number from 0 to 1 as strength, got array\(\[0.5, 0.5\]\)"),
        ({"device": ["cpu"]}, r"expected auto, cpu, cuda or mps as device, got \['cpu'\]"),
        ({"dtype": {}}, r"expected auto, fp32, bf16 or fp16 as dtype, got \{\}"),
    ],
)
def test_what_is_no_single_value_is_refused(task: str, asked: dict, words: str) -> None:
    """The accident: 'TypeError: unhashable type', out of the memory of what is loaded."""
    with pytest.raises(UsageError, match=words):
        imagesmith.restore(SMALL, task=task, **asked)
