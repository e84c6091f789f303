"""The memory of `--resume`: it survives kills and believes nothing that it cannot check."""

import json
from pathlib import Path

import pytest

from imagesmith.errors import OutputError
from imagesmith.infer.manifest import FILE_NAME, Manifest


@pytest.fixture
def result(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    output = tmp_path / "sub" / "a.png"
    output.write_bytes(b"pixels")
    Manifest(tmp_path).record("a.png", "input-hash", "settings", output)
    return output


def test_what_was_recorded_is_known_to_the_next_run(tmp_path: Path, result: Path) -> None:
    """Only an input of the same content under the same settings is done already."""
    manifest = Manifest(tmp_path)
    assert manifest.finished("a.png", "input-hash", "settings") == result
    assert manifest.owns(result)
    assert not manifest.finished("a.png", "another-hash", "settings")
    assert not manifest.finished("a.png", "input-hash", "other-settings")
    assert not manifest.finished("b.png", "input-hash", "settings")


@pytest.mark.parametrize("content", [None, b"pixel", b"Pixels"])
def test_a_result_that_is_gone_cut_or_changed_is_not_done(tmp_path: Path, result: Path, content: bytes | None) -> None:
    """A file that a power failure emptied has the right name; skipping it loses the picture for good."""
    result.unlink()
    if content is not None:
        result.write_bytes(content)
    assert not Manifest(tmp_path).finished("a.png", "input-hash", "settings")


@pytest.mark.parametrize("torn", [b'{"input": "b.png", "inp', b"\xff\xfe\x00", b"[1, 2]\n", b'{"input": 1}\n', b"\n\n"])
def test_a_torn_line_costs_one_picture_not_the_file(tmp_path: Path, result: Path, torn: bytes) -> None:
    """A kill in the middle of a write, then a run that appends to the torn line, would lose the next entry too."""
    with open(tmp_path / FILE_NAME, "ab") as file:
        file.write(torn)
    manifest = Manifest(tmp_path)
    assert manifest.finished("a.png", "input-hash", "settings")
    manifest.record("c.png", "c-hash", "settings", result)
    again = Manifest(tmp_path)
    assert again.finished("a.png", "input-hash", "settings")
    assert again.finished("c.png", "c-hash", "settings")


def test_the_newest_entry_counts(tmp_path: Path, result: Path) -> None:
    """After an input has changed and was redone, its old content is no longer what the result shows."""
    Manifest(tmp_path).record("a.png", "new-hash", "settings", result)
    assert Manifest(tmp_path).finished("a.png", "new-hash", "settings")
    assert not Manifest(tmp_path).finished("a.png", "input-hash", "settings")


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    """Linux names are bytes; one such photo must not end a batch of a thousand."""
    name = b"f\xe4cade.png".decode("utf-8", errors="surrogateescape")
    output = tmp_path / "x.png"
    output.write_bytes(b"pixels")
    Manifest(tmp_path).record(name, "hash", "settings", output)
    assert Manifest(tmp_path).finished(name, "hash", "settings")


def test_the_folder_can_be_moved(tmp_path: Path, result: Path) -> None:
    """Absolute paths would make everything be done again after a move or on another mount."""
    entry = json.loads((tmp_path / FILE_NAME).read_text())
    assert entry["output"] == "sub/a.png"


def test_an_unreadable_manifest_is_told(tmp_path: Path) -> None:
    """Taking it for empty would restore everything again, or fail for each picture in turn."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OutputError, match="manifest"):
        Manifest(tmp_path)
