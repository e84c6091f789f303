"""What is found in a data set is turned into what to do about it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesmith.data.advice import advice
from imagesmith.data.inspect import Inspection, Seen
from imagesmith.data.labels import labels_from_folders, labels_from_table


def seen(name: str, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Seen:
    return Seen(name, "png", mode, "uint8", *size, digest=b"", small=np.zeros((16, 16, 3), np.uint8), shown=None)


def said(pictures: list[Seen], **found: Any) -> str:
    nothing: dict[str, Any] = {
        "broken": [],
        "unlabelled": [],
        "others": 0,
        "parts": {},
        "classes": None,
        "labels": "no labels",
        "copies": [],
        "near_copies": [],
    }
    return "\n".join(advice(Inspection(source="set.zip", pictures=pictures, **(nothing | found))))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 different picture: it has no variety"),
        (5, "repeat pictures"),
        (120, "few:"),
        (2000, "enough"),
        (10_000, "plenty"),
    ],
)
def test_too_few_pictures_are_explained(count: int, words: str) -> None:
    """A refusal helps no one; neither do weeks of waiting for variety that the data does not hold."""
    assert words in said([seen("a.png")] * count)


def test_copies_do_not_count_as_pictures() -> None:
    """A hundred copies of one picture are one picture."""
    names = [f"{k}.png" for k in range(100)]
    text = said([seen(name) for name in names], copies=[(name, names[0]) for name in names[1:]])
    assert "1 different picture: it" in text
    assert "99 exact copies" in text


def test_what_misleads_is_said() -> None:
    """A copy in two classes teaches nonsense; one in two parts makes the measuring worthless."""
    pictures = [seen("train/a/0.png"), seen("train/b/1.png", "gray"), seen("test/a/2.png")]
    text = said(
        pictures,
        parts={"train": 2, "test": 1},
        classes={"train/a/0.png": "a", "train/b/1.png": "b", "test/a/2.png": "a"},
        labels="labels from 2 class folders",
        copies=[("train/b/1.png", "train/a/0.png"), ("test/a/2.png", "train/a/0.png")],
        broken=["x.png: is none"],
    )
    for words in (
        "name the part to train on: set.zip::train",
        "1 copy lies in two classes, the first is train/b/1.png = train/a/0.png",
        "1 copy lies in two parts, the first is test/a/2.png = train/a/0.png",
        "mixed modes (2 RGB, 1 gray)",
        "labels from 2 class folders, so one class can be asked for",
        "1 file cannot be used and would be skipped",
    ):
        assert words in text


def test_folders_of_one_picture_are_told_to_need_another() -> None:
    """The accident: 'put each class into a folder of its own', of five classes that each lay in a folder of its own."""
    places = {f"{k}/a.png": f"{k}/a.png" for k in range(5)}
    text = said([seen(place) for place in places], labels=labels_from_folders(places).reason)
    assert "5 folders for 5 pictures are too many to be classes; to train with classes, give each a folder" in text
    assert "of its own with two pictures and more" in text


def test_one_is_told_as_one() -> None:
    """The accident: '1 exact copies make a GAN prefer them'."""
    text = said([seen("a.png"), seen("b.png", size=(9, 9))], copies=[("b.png", "a.png")], unlabelled=["c.png: none"])
    for words in (
        "1 exact copy makes a GAN prefer it: remove it",
        "1 picture is smaller than that",
        "1 row without a picture or picture without a row would be left out",
    ):
        assert words in text
    table = b"file,label\na.png,x\nb.png,x\n"
    labels = labels_from_table(Path("t.csv"), {name: name for name in ("a.png", "b.png")}, table)
    assert labels.reason == "labels from t.csv: 1 class"


@pytest.mark.parametrize(("mode", "other", "channels"), [("RGBA", "gray", 4), ("gray+alpha", "gray", 2)])
def test_alpha_that_would_be_lost_is_said(mode: str, other: str, channels: int) -> None:
    """The accident: sixty sprites with alpha, and a GAN of sprites on white, with no word of the other kind."""
    text = said([seen("a.png", mode), seen("b.png", other)])
    white = "1 picture has alpha: transparent parts are laid on white"
    assert f"{white}; --set data.channels={channels} makes images with alpha" in text
    assert "alpha" not in said([seen("a.png"), seen("b.png", "gray")])


def test_a_rare_class_and_small_pictures_are_said() -> None:
    """A class of two pictures among hundreds comes out as those two pictures."""
    pictures = [seen(f"{k}.png", size=(64, 64)) for k in range(30)] + [seen("s.png", size=(20, 20)), seen("t.png")]
    classes = {picture.name: "many" if picture.height == 64 else "rare" for picture in pictures}
    text = said(pictures, classes=classes)
    assert "'rare' has only 2 pictures" in text
    assert "a GAN would make 64x64" in text
    assert "2 pictures are smaller than that" in text


def test_the_size_is_the_one_that_training_chooses() -> None:
    """The accident: 128x128 is announced, and the next command makes 64x64."""
    text = said([seen("a.png", size=(300, 300))])
    assert "a GAN would make 64x64" in text
    assert "--set data.most_px=128 makes 128x128" in text
    assert "most_px" not in said([seen("a.png")])
