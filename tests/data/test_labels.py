"""Classes come from folders or a table, and what does not fit together is told."""

from pathlib import Path

import pytest

from imagesmith.data.labels import class_order, labels_from_folders, labels_from_table, part_of
from imagesmith.errors import UsageError

PLACES = {name: name for name in ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png")}


def test_folders_are_classes() -> None:
    """One picture beside the folders, or a folder for each picture, and there are no classes."""
    assert labels_from_folders(PLACES).classes == {name: name[:3] for name in PLACES}
    beside = labels_from_folders(PLACES | {"stray.png": "stray.png"})
    assert beside.classes is None
    assert beside.reason == "no labels: 1 picture lies outside the 2 folders, such as stray.png"
    single = labels_from_folders({f"{k}/a.png": f"{k}/a.png" for k in range(5)})
    assert single.classes is None
    assert "5 folders for 5 pictures are too many" in single.reason


def test_a_part_is_found_below_folders_that_hold_everything() -> None:
    """An archive packs its own folder around train and test; nobody should have to write it."""
    names = [f"set/v2/{part}/{name}" for part in ("train", "test") for name in PLACES]
    assert part_of(names, "train", "a.zip") == {f"set/v2/train/{name}": name for name in PLACES}
    assert part_of(names, "set/v2/test", "a.zip") == {f"set/v2/test/{name}": name for name in PLACES}
    assert part_of(list(PLACES), "cat", "a.zip") == {f"cat/{k}.png": f"{k}.png" for k in range(3)}
    with pytest.raises(UsageError, match=r"one part of a.zip to be named, it holds test \(6 pictures\), train"):
        part_of(names, None, "a.zip")
    with pytest.raises(UsageError, match=r"a folder 'val' with pictures in a.zip, which holds test, train"):
        part_of(names, "val", "a.zip")


def test_a_table_is_read_as_people_write_it(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, backslashes and ./ are what spreadsheets and scripts leave in a table."""
    rows = "\ufefffile;label\ncat/0.png;b\n./cat/1.png;a\ndog\\0.png;a\ndog/1.png; b \nlost.png;a\n"
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    found = labels_from_table(tmp_path / "labels.csv", PLACES)
    assert found.classes == {"cat/0.png": "b", "cat/1.png": "a", "dog/0.png": "a", "dog/1.png": "b"}
    assert found.problems == [
        "lost.png: has a row in labels.csv and no picture",
        "cat/2.png: has no label in labels.csv",
        "dog/2.png: has no label in labels.csv",
    ]


def test_a_picture_spelt_twice_has_one_label(tmp_path: Path) -> None:
    """The accident: a row names it with the folder that holds everything, another without, and the last one won."""
    places = {f"set/{name}": name for name in PLACES}
    table = tmp_path / "labels.csv"
    table.write_text("file,label\ncat/0.png,a\nset/cat/0.png,a\ncat/1.png,a\n")
    assert labels_from_table(table, places).classes == {"set/cat/0.png": "a", "set/cat/1.png": "a"}
    table.write_text("file,label\ncat/0.png,a\nset/cat/0.png,b\ncat/1.png,a\n")
    with pytest.raises(
        UsageError, match=r"one label for set/cat/0\.png .* 'a' as cat/0\.png and 'b' as set/cat/0\.png"
    ):
        labels_from_table(table, places)


def test_numbers_are_in_their_order() -> None:
    """By letters, class 10 stands before class 2."""
    assert class_order({"10", "2", "1"}) == ("1", "2", "10")
    assert class_order({"10", "2", "x"}) == ("10", "2", "x")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("name,kind\ncat/0.png,a\n", "columns file and label .*, got name, kind"),
        ("", "columns file and label .*, got none"),
        ("file,label\nelsewhere/0.png,a\n", "expected file names as cat/0.png"),
        ("file,label\ncat/0.png,a\ncat/0.png,b\n", "expected one label for cat/0.png"),
        ("file,label\ncat/0.png,\n", "line 2"),
        ("file,label\ncat/0.png,a\ncat/1.png,b\ncat/2.png,c\n", "3 classes for 3 pictures"),
        ('file,label\n"cat/0.png,a\n', "cannot be read"),
        ("file,label\ncat/0.png,\xff\n", "UTF-8"),
    ],
)
def test_wrong_tables_are_told(tmp_path: Path, rows: str, said: str) -> None:
    """A table that is half understood trains on wrong labels for hours."""
    (tmp_path / "labels.csv").write_text(rows, encoding="latin-1")
    with pytest.raises(UsageError, match=said):
        labels_from_table(tmp_path / "labels.csv", PLACES)
    with pytest.raises(UsageError, match="cannot be read"):
        labels_from_table(tmp_path / "none.csv", PLACES)
