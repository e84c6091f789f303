"""Measuring classifiers: labels matched by name, every picture counted once, and clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from imagesmith.errors import UsageError
from imagesmith.evaluate.classifier import evaluate_classifier, predict, share_right
from imagesmith.nets import NETS, NetSpec, build_net
from imagesmith.zoo import describe, save_model

LEVELS = {"black": 0, "gray": 128, "white": 255}


class Brightness(nn.Module):
    """Names the level nearest to the mean of the picture; its classes stand in the order of its card."""

    def __init__(self, classes: int = 3, channels: int = 3, size: tuple[int, int] = (8, 8)) -> None:
        super().__init__()
        self.classes, self.channels, self.size = classes, channels, (size[0], size[1])
        self.levels = nn.Parameter(torch.linspace(1, 0, classes))

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[1:] == (self.channels, *self.size)
        return -(image.mean(dim=(1, 2, 3))[:, None] - self.levels).abs()


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier with the classes white, gray, black: not in the order of their names."""
    monkeypatch.setitem(NETS, "brightness", Brightness)
    net, spec = Brightness(), NetSpec("brightness", {"classes": 3})
    names = ("white", "gray", "black")
    save_model(tmp_path / "judge.safetensors", net, describe(net, spec, "judge", task="classify", class_names=names))
    return tmp_path / "judge.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of each class, one of the white ones painted black."""
    folder = tmp_path / "pictures"
    for name, level in LEVELS.items():
        (folder / name).mkdir(parents=True)
        for number in range(2):
            value = 0 if (name, number) == ("white", 1) else level
            Image.fromarray(np.full((10, 12), value, np.uint8)).save(folder / name / f"{number}.png")
    return folder


def test_accuracy_counts_every_picture_and_tells_the_mistakes(judge: Path, pictures: Path, tmp_path: Path):
    """Labels of folders in alphabetic order, taken for the classifier's own numbers, give the accuracy of chance."""
    report = evaluate_classifier(judge, pictures, device="cpu")
    assert report.summary == {"accuracy": pytest.approx(5 / 6)}
    rows = {row["name"]: row for row in report.rows}
    assert [rows[name]["accuracy"] for name in LEVELS] == [1, 1, 0.5]
    assert [rows[name]["mostly mistaken for"] for name in LEVELS] == [None, None, "black"]
    assert sum(row["images"] for row in report.rows) == 6
    assert "83.33% of 6 pictures" in report.table()
    report.save(tmp_path / "report.json")
    assert len(json.loads((tmp_path / "report.json").read_text())["provenance"]["weights_sha256"]) == 64


def test_pictures_that_cannot_be_read_are_told_beside_the_score(judge: Path, pictures: Path):
    """The accident: half of a class is broken, and the accuracy of the other half is printed as that of the set."""
    (pictures / "white" / "1.png").write_bytes(b"no picture")
    table = evaluate_classifier(judge, pictures, device="cpu").table()
    assert "100.00% of 5 pictures" in table
    assert "1 of the pictures cannot be used, first:" in table
    assert "white/1.png" in table


def test_a_reference_may_have_fewer_classes_but_no_unknown_ones(judge: Path, pictures: Path):
    for picture in (pictures / "gray").iterdir():
        picture.unlink()
    (pictures / "gray").rmdir()
    assert evaluate_classifier(judge, pictures, device="cpu").summary["accuracy"] == 0.75
    (pictures / "white").rename(pictures / "whyte")
    with pytest.raises(UsageError, match=r"'whyte' \(did you mean 'white'\?\).*\ncall the classes as the model does"):
        evaluate_classifier(judge, pictures, device="cpu")


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([f"{k}/0" for k in range(6)], "no labels: 6 folders for 6 pictures are too many to be classes"),
        (["gray/0", "gray/1"], "no labels: all pictures lie in one folder"),
        (["0", "1"], "no labels: all pictures lie in one folder"),
        (["gray/0", "gray/1", "white/0", "white/1", "stray"], "no labels: .* outside the 2 folders, such as stray.png"),
    ],
)
def test_pictures_without_labels_are_refused_with_the_reason_and_what_to_do(
    judge: Path, tmp_path: Path, places: list[str], said: str
):
    """The accident: a picture beside the class folders, and the advice was to put each class into a folder."""
    for place in places:
        path = tmp_path / "set" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    with pytest.raises(UsageError, match=rf"got {said}\n.*labels\.csv") as caught:
        evaluate_classifier(judge, tmp_path / "set", device="cpu")
    assert str(caught.value).count("\n") <= 2


def test_a_restorer_is_no_classifier(pictures: Path, tmp_path: Path):
    """An accuracy of a network that enlarges, or its traceback."""
    spec = NetSpec("compact", {"scale": 2, "width": 4, "blocks": 1})
    net = build_net(spec)
    save_model(tmp_path / "sr.safetensors", net, describe(net, spec, "sr"))
    with pytest.raises(UsageError, match=r"expected a classifier, got '.*sr\.safetensors'"):
        evaluate_classifier(tmp_path / "sr.safetensors", pictures)


def test_predictions_do_not_depend_on_the_batch():
    images = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = Brightness()
    assert torch.equal(predict(net, images, batch=5), predict(net, images, batch=23))
    assert share_right(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0])) == pytest.approx(2 / 3)
