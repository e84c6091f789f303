"""The memory of `--resume`: it survives kills and believes nothing that it cannot check."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith.data.results import entries
from imagesmith.errors import OutputError
from imagesmith.infer import manifest
from imagesmith.infer.manifest import FILE_NAME, Manifest

LINE = (
    b'{"input": "b.png", "input_sha256": "x", "settings": "s", "output": "out.png", "output_bytes": 7, '
    b'"output_sha256": ""}\n'
)


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


@pytest.mark.parametrize(
    "torn",
    [
        b'{"input": "b.png", "inp',
        b"\xff\xfe\x00",
        b"[1, 2]\n",
        b'{"input": 1}\n',
        b"\n\n",
        b"[" * 100_000 + b"\n",
        LINE.replace(b'"b.png"', b'["b.png"]'),
        LINE.replace(b'"out.png"', b"null"),
        LINE.replace(b"7", b'"7"'),
    ],
    ids=range(9),
)
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


@pytest.mark.parametrize("name", [rb"\u0000", rb"\ud800"])
def test_a_result_that_no_file_can_be_is_not_done(tmp_path: Path, name: bytes) -> None:
    """A line that a bad disk had changed: its picture failed in every run, with an error of Python's."""
    (tmp_path / FILE_NAME).write_bytes(LINE.replace(b"out.png", name))
    assert Manifest(tmp_path).finished("b.png", "x", "s") is None


def test_the_newest_entry_counts(tmp_path: Path, result: Path) -> None:
    """After an input has changed and was redone, its old content is no longer what the result shows."""
    Manifest(tmp_path).record("a.png", "new-hash", "settings", result)
    assert Manifest(tmp_path).finished("a.png", "new-hash", "settings")
    assert not Manifest(tmp_path).finished("a.png", "input-hash", "settings")


def test_only_resuming_reads_what_was_made_before(
    tmp_path: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: each of ten thousand calls into one folder read the lines of all calls before."""
    read: list[int] = []
    monkeypatch.setattr(manifest, "entries", lambda lines: read.append(len(lines)) or entries(lines))
    run = Manifest(tmp_path)
    run.record("b.png", "in", "settings", result)
    assert not read
    assert run.finished("a.png", "input-hash", "settings") == run.finished("b.png", "in", "settings") == result
    assert read == [1]


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


def test_a_copy_for_another_process_knows_what_was_there_before_the_run(tmp_path: Path, result: Path) -> None:
    """A process started late in a run must not take what the run itself made for results of an earlier one."""
    manifest = Manifest(tmp_path)
    new = result.with_name("b.png")
    new.write_bytes(b"more pixels")
    manifest.record("b.png", "b-hash", "settings", new)
    copy = pickle.loads(pickle.dumps(manifest))
    assert copy.finished("a.png", "input-hash", "settings")
    assert not copy.finished("b.png", "b-hash", "settings")
    assert copy.made_since("b.png", new)
    assert not copy.made_since("a.png", result)
    assert not copy.made_since("other.png", new), "made of another input, it is not ours to replace"
    assert not Manifest(tmp_path).made_since("b.png", new)
    manifest._opened_at = 0
    assert not manifest.made_since("a.png", result), "another run made it at the same time, and it is theirs"


def test_a_result_is_remembered_before_it_has_its_name(tmp_path: Path) -> None:
    """A kill between name and memory left a result that `--resume` found in its way and called a failure."""
    part, output = tmp_path / "a.part", tmp_path / "a.png"
    part.write_bytes(b"pixels")
    Manifest(tmp_path).record("a.png", "hash", "settings", output, content=part)
    assert Manifest(tmp_path).finished("a.png", "hash", "settings") is None
    part.rename(output)
    assert Manifest(tmp_path).finished("a.png", "hash", "settings") == output


def test_lines_of_many_processes_stay_whole(tmp_path: Path, result: Path) -> None:
    """Processes that append to one file at once must not write into each other's lines."""
    code = "import sys; from pathlib import Path; from imagesmith.infer.manifest import Manifest\n"
    code += "m = Manifest(Path(sys.argv[1]))\n"
    code += "for k in range(50): m.record(sys.argv[3] + str(k) + 'x' * 9000, 'hash', 's', Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(tmp_path), str(result)]
    processes = [subprocess.Popen([*command, name]) for name in "pq"]
    assert [process.wait(60) for process in processes] == [0, 0]
    names = {json.loads(line)["input"] for line in (tmp_path / FILE_NAME).read_text().splitlines()}
    assert len(names) == 101


def test_resuming_replaces_only_what_it_made_of_the_same_input(tmp_path: Path) -> None:
    """day1/a.png and day2/a.png into one folder: the results of the second took the places of the first's."""
    output = tmp_path / "a.png"
    output.write_bytes(b"pixels")
    Manifest(tmp_path).record("a.png", "hash", "settings", output, source="/day1/a.png")
    assert Manifest(tmp_path).may_replace(output, "/day1/a.png")
    assert not Manifest(tmp_path).may_replace(output, "/day2/a.png")
    assert not Manifest(tmp_path).may_replace(tmp_path / "b.png", "/day1/a.png")


def test_a_line_of_an_older_version_is_believed(tmp_path: Path, result: Path) -> None:
    """It tells neither the whole path of the input nor the run."""
    path = tmp_path / FILE_NAME
    line = json.loads(path.read_text())
    path.write_text(json.dumps({name: line[name] for name in line if name not in ("source", "run")}) + "\n")
    assert Manifest(tmp_path).finished("a.png", "input-hash", "settings") == result
    assert Manifest(tmp_path).may_replace(result, "/anywhere/a.png")
