"""What a data set holds is told before hours are spent on it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesmith.data.advice import advice
from imagesmith.data.image_sets import load_image_set
from imagesmith.data.inspect import SHOWN_PX, inspect
from imagesmith.errors import NothingUsableError, UsageError


def noise(seed: int, size: tuple[int, int] = (24, 32), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_everything_is_counted(tmp_path: Path) -> None:
    """Counts that do not add up to the files in the folder hide what was passed over."""
    files = {
        "a/0.png": noise(0),
        "a/1.png": noise(1, mode="L"),
        "b/2.png": noise(2, (48, 48)),
        "b/3.png": noise(0),
        "b/4.png": b"no picture",
        "notes.txt": b"",
    }
    found = inspect(folder(tmp_path, files))
    assert [picture.name for picture in found.pictures] == ["a/0.png", "a/1.png", "b/2.png", "b/3.png"]
    assert [picture.mode for picture in found.pictures] == ["RGB", "gray", "RGB", "RGB"]
    assert (found.pictures[2].height, found.pictures[2].width) == (48, 48)
    assert found.others == 1
    assert [line.partition(":")[0] for line in found.broken] == ["b/4.png"]
    assert found.class_counts() == {"a": 2, "b": 2}
    assert found.copies == [("b/3.png", "a/0.png")]


def test_pictures_that_training_would_see_as_black_are_told(tmp_path: Path) -> None:
    """The accident: X-rays of 12 bits in files of 16 pass for pictures that can be learnt from."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 4096, (24, 32)).astype(np.uint16)).save(stream, "PNG")
    files = {"a.png": noise(0), "b.png": b"no picture", "xray.png": stream.getvalue()}
    found = inspect(folder(tmp_path, files))
    assert [picture.name for picture in found.pictures] == ["a.png"]
    _, told = found.broken
    assert advice(found)[-1].startswith(
        "2 files cannot be used and would be skipped, 1 of them for values that use less"
    )
    assert told.startswith("xray.png: expected 16-bit values that use their range, got at most 40")


def test_the_same_bytes_in_another_shape_are_no_copy(tmp_path: Path) -> None:
    """Hashing pixels without their shape makes every black picture of one area the same."""
    files = {f"{k}.png": content for k, content in enumerate([noise(0, (4, 9)), noise(0, (9, 4)), noise(0, (6, 6))])}
    assert inspect(folder(tmp_path, files)).copies == []


def test_parts_are_looked_at_together(tmp_path: Path) -> None:
    """A test picture that is also trained on makes the measurement worthless, and only both together show it."""
    files = {f"train/{c}/{k}.png": noise(10 * c + k) for c in (0, 1) for k in range(3)}
    files |= {"test/0/a.png": noise(2), "test/1/b.png": noise(99)}
    found = inspect(folder(tmp_path, files))
    assert found.parts == {"train": 6, "test": 2}
    assert found.class_counts() == {"0": 4, "1": 4}
    assert found.copies == [("train/0/2.png", "test/0/a.png")]
    assert [found.part_of(name) for name in found.copies[0]] == ["train", "test"]
    assert len(inspect(f"{tmp_path}::train").pictures) == 6


def test_pictures_to_show_come_from_every_class(tmp_path: Path) -> None:
    """A sheet of the first hundred pictures shows one class."""
    files = {f"{c}/{k:02}.png": noise(100 * c + k) for c in range(3) for k in range(15)}
    found = inspect(folder(tmp_path, files))
    shown = [picture.name for picture in found.pictures if picture.shown is not None]
    assert [sum(name.startswith(f"{c}/") for name in shown) for c in range(3)] == [10, 10, 10]
    assert shown[0] == "0/00.png"
    assert all(max(p.shown.size) == SHOWN_PX for p in found.pictures if p.shown is not None)


def test_arrays_and_tables_are_inspected_too(tmp_path: Path) -> None:
    """What can be trained on can be inspected."""
    images = np.random.default_rng(0).integers(0, 255, (6, 9, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 0, 1, 0, 1]))
    found = inspect(tmp_path / "a.npz")
    assert found.class_counts() == {"0": 3, "1": 3}
    assert {(p.height, p.width, p.mode) for p in found.pictures} == {(9, 8, "gray")}
    folder(
        tmp_path / "t",
        {f"{k}.png": noise(k) for k in range(4)}
        | {"labels.csv": b"file,label\n0.png,a\n1.png,a\n2.png,b\n3.png,b\nx.png,a\n"},
    )
    found = inspect(tmp_path / "t" / "labels.csv")
    assert found.class_counts() == {"a": 2, "b": 2}
    assert (found.broken, found.unlabelled) == ([], ["x.png: has a row in labels.csv and no picture"])


def test_what_a_table_leaves_out_is_not_counted(tmp_path: Path) -> None:
    """The accident: '10 different pictures' of a folder whose table names 6, all that is ever trained on."""
    rows = [*(f"{k}.png,{'ab'[k % 2]}" for k in range(6)), "gone.png,a"]
    files = {f"{k}.png": noise(k) for k in range(10)} | {"no.jpg": b"no picture", "cut.png": noise(0)[:99]}
    source = folder(tmp_path, files | {"labels.csv": "\n".join(["file,label", *rows]).encode()})
    found = inspect(source)
    assert len(found.pictures) == len(load_image_set(source)) == 6
    assert found.broken == []
    left_out = [line.partition(":")[0] for line in found.unlabelled]
    assert sorted(left_out) == ["6.png", "7.png", "8.png", "9.png", "cut.png", "gone.png", "no.jpg"]
    told = advice(found)
    assert any(line.startswith("6 different pictures") for line in told)
    assert told[-1] == "7 rows without a picture and pictures without a row would be left out"


def test_what_training_refuses_is_refused(tmp_path: Path) -> None:
    """'one class can be asked for', of row numbers that `train gan` does not take for classes."""
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 9, 8), np.uint8), labels=np.arange(6))
    for look in (inspect, load_image_set):
        with pytest.raises(UsageError, match="at least two pictures a class"):
            look(tmp_path / "a.npz")
        with pytest.raises(UsageError, match="no part of an npz"):
            look(f"{tmp_path}/a.npz::train")


def test_nothing_to_inspect_is_told(tmp_path: Path) -> None:
    """An inspection of nothing that ends well."""
    with pytest.raises(NothingUsableError, match="none can be used"):
        inspect(folder(tmp_path, {"a.png": b"no picture"}))
    with pytest.raises(UsageError):
        inspect(tmp_path / "misspelt")
