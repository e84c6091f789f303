"""Results of earlier runs are told from photographs by what was written beside them."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from imagesmith.data.archives import open_collection
from imagesmith.data.datasets import load_photos
from imagesmith.data.pairs import images_by_name
from imagesmith.data.results import FILE_NAME, Entry, results_among
from imagesmith.data.sources import list_items
from imagesmith.errors import NothingUsableError


def made(folder: Path, output: str, source: Path | str) -> None:
    with open(folder / FILE_NAME, "a") as lines:
        lines.write(json.dumps(asdict(Entry("x", "", "", output, 0, "", str(source)))) + "\n")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs, two of which have their results beside them, and a picture nobody made."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    colours = {"a.png": "red", "a.srx2.png": "tan", "sub/b.png": "blue", "sub/b.mine.png": "navy", "c.png": "green"}
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(folder / name)
    made(folder, "a.srx2.png", "a.png")
    made(folder, "sub/b.mine.png", folder / "sub" / "b.png")
    return folder


def test_trainings_and_lists_take_photographs_alone(photos: Path) -> None:
    """Networks were trained on what another one had enlarged, and 24 photographs counted as 48."""
    clean = ["a.png", "c.png", "sub/b.png"]
    items = list_items([photos], recursive=True)
    assert [str(item.name) for item in items] == clean
    assert items.passed_over["of an earlier run"] == 2
    assert [f"{name}.png" for name in images_by_name(photos, recursive=True)] == clean
    assert list(images_by_name(photos)) == ["a", "c"], "an evaluation takes what was made for originals"
    with open_collection(photos) as collection:
        assert [entry.name for entry in collection.entries] == clean
    loaded = load_photos(photos, 1, least_px=8)
    assert len(loaded.training) + len(loaded.validation) == 3
    assert loaded.skipped[0] == "2 results of an earlier restore"


def test_a_folder_that_was_moved_keeps_its_results_apart(photos: Path) -> None:
    """Another mount point, and every result was a photograph again; a manifest may still hold whole paths."""
    moved = photos.rename(photos.with_name("moved"))
    assert results_among(list(moved.rglob("*.png")), [moved]) == {moved / "a.srx2.png"}


def test_a_result_is_taken_where_its_picture_is_not(photos: Path, tmp_path: Path) -> None:
    """A folder of results would be empty to whoever wants to train on them, or to enlarge them once more."""
    results = tmp_path / "results"
    results.mkdir()
    Image.new("RGB", (8, 8)).save(results / "a.png")
    made(results, "a.png", photos / "a.png")
    assert [item.path for item in list_items([results], recursive=False)] == [results / "a.png"]
    assert list_items([photos / "a.srx2.png"], recursive=False)
    assert len(list_items([results, photos / "a.png"], recursive=False)) == 1


def test_results_above_the_folder_of_their_pictures_are_measured(photos: Path) -> None:
    """The accident: inputs below the folder of their results, and an evaluation called a full folder empty."""
    for name in ("a.srx2.png", "a.png", "c.png"):
        (photos / name).unlink()
    Image.new("RGB", (8, 8)).save(photos / "b.png")
    made(photos, "b.png", "sub/b.png")
    assert list(images_by_name(photos)) == ["b"]
    (photos / "sub" / "b.png").unlink()
    with pytest.raises(NothingUsableError, match="found only results of an earlier restore; move them"):
        images_by_name(photos, recursive=True)


def test_a_deleted_photograph_leaves_a_result(photos: Path) -> None:
    """Its enlargement would take its place among the photographs."""
    (photos / "a.png").unlink()
    assert [item.name.name for item in list_items([photos], recursive=True)] == ["c.png", "b.png"]


def test_frames_of_a_film_beside_it_are_results(photos: Path) -> None:
    """A film into a folder of frames makes thousands of pictures with one line."""
    (photos / "film").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "film" / "000001.png")
    made(photos, "film", photos / "film.mp4")
    assert len(list_items([photos], recursive=True)) == 3
    assert len(list_items([photos / "film"], recursive=True)) == 1


@pytest.mark.parametrize("line", [b"\xff\n", b'{"source": 1}\n', b'["a"]\n'])
def test_a_damaged_manifest_hides_nothing(photos: Path, line: bytes) -> None:
    (photos / FILE_NAME).write_bytes(line)
    assert len(list_items([photos], recursive=True)) == 5


def test_a_picture_alone_is_taken_unread(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many calls for one picture read the lines of all calls before it."""

    def read(lines: object) -> None:
        raise AssertionError("the lines of earlier runs were read")

    monkeypatch.setattr("imagesmith.data.results.entries", read)
    photo = photos / "a.srx2.png"
    assert [item.path for item in list_items([str(photo)], recursive=False)] == [photo]
    with pytest.raises(AssertionError, match="were read"):
        list_items([photo, photos / "a.png"], recursive=False)
