"""The finished part of an unfinished film: kept whole, gone on with, never mixed with another."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from imagesmith.data.video import Encoding, VideoInfo
from imagesmith.errors import OutputError, UsageError, VideoError
from imagesmith.infer.video import segments
from imagesmith.infer.video.segments import (
    JOURNAL,
    Parts,
    Restored,
    drop_parts,
    is_joined,
    open_parts,
    parts_folder,
    segment_length,
    source_digest,
    unfinished_facts,
)

FACTS = {"source": "abc", "model": "def"}
INFO = VideoInfo(Path("clip.mp4"), "film", 32, 16, 8, 0.8, Fraction(1, 10), Fraction(10))
LENGTH = 3


def frames(first: int, count: int, *, state: bool = True) -> list[Restored]:
    """Flat frames as bright as their number, the last one with what was remembered after it."""
    made = [Restored(torch.full((16, 32, 3), 9 * k, dtype=torch.uint8), k) for k in range(first, first + count)]
    if state:
        made[-1] = Restored(made[-1].pixels, made[-1].pts, {"hidden": torch.full((2, 2), float(first + count))})
    return made


def fill(output: Path, *counts: int) -> None:
    """An unfinished run of segments of so many frames."""
    with open_parts(output, LENGTH, FACTS, resume=False, anew=False) as parts:
        for count in counts:
            parts.add(frames(parts.frames, count, state=count == LENGTH), INFO, Encoding(preset="ultrafast"), (32, 16))


def resumed(output: Path, facts: dict[str, str] = FACTS, **options: bool) -> tuple[int, int, float | None]:
    """(frames, segments, what was remembered) that a resumed run starts from."""
    with open_parts(output, LENGTH, facts, **{"resume": True, "anew": False, **options}) as parts:
        hidden = None if parts.state is None else parts.state["hidden"][0, 0].item()
        assert all(path.is_file() for path in parts.segments)
        return parts.frames, len(parts.segments), hidden


def test_a_resumed_run_starts_after_the_newest_segment_with_what_was_remembered_then(tmp_path: Path) -> None:
    """The accident: a day of work that is there and not found, or a state of another moment."""
    output = tmp_path / "out.mp4"
    fill(output, LENGTH, LENGTH)
    assert resumed(output) == (6, 2, 6.0)
    assert unfinished_facts(output) == FACTS
    lines = [json.loads(line) for line in (parts_folder(output) / JOURNAL).read_text().splitlines()]
    assert [(line["first"], line["pts"]) for line in lines[1:]] == [(0, [0, 1, 2]), (3, [3, 4, 5])]


def test_a_shorter_segment_ends_the_film(tmp_path: Path) -> None:
    """The accident: a run killed while joining computes its last segment for ever, for want of a state after it."""
    fill(tmp_path / "out.mp4", LENGTH, 2)
    assert resumed(tmp_path / "out.mp4") == (5, 2, None)


def torn_line(folder: Path) -> None:
    with open(folder / JOURNAL, "a") as journal:
        journal.write('{"name": "000003.seg')


def damaged_segment(folder: Path) -> None:
    path = folder / "000002.segment"
    path.write_bytes(path.read_bytes()[:-1])


def lost_state(folder: Path) -> None:
    (folder / "states" / "000000000009.safetensors").unlink()


def cut_state(folder: Path) -> None:
    path = folder / "states" / "000000000009.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def leftovers(folder: Path) -> None:
    (folder / ".1234.part").write_bytes(b"half")
    (folder / "000003.segment").write_bytes(b"whole, but without its line")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (torn_line, (9, 3, 9.0)),
        (leftovers, (9, 3, 9.0)),
        (damaged_segment, (6, 2, 6.0)),
        (lost_state, (6, 2, 6.0)),
        (cut_state, (6, 2, 6.0)),
    ],
)
def test_whatever_a_kill_leaves_the_longest_whole_part_is_found(tmp_path: Path, damage, expected) -> None:
    """The accident: a torn file is believed, and frames are missing in the middle of the film."""
    output = tmp_path / "out.mp4"
    fill(output, LENGTH, LENGTH, LENGTH)
    damage(parts_folder(output))
    assert resumed(output) == expected
    kept = {path.name for path in parts_folder(output).iterdir() if path.suffix in (".segment", ".part")}
    assert len(kept) == expected[1], "what is not believed still lies there"
    assert resumed(output) == expected, "resuming twice finds something else"


def test_an_unfinished_run_is_neither_forgotten_nor_mixed_with_another(tmp_path: Path) -> None:
    """The accident: five days of computing thrown away by a command without --resume, or joined with other frames."""
    output = tmp_path / "out.mp4"
    fill(output, LENGTH)
    with pytest.raises(OutputError, match=r"holds 3 frames.*\n.*--resume"):
        resumed(output, resume=False)
    with pytest.raises(UsageError, match="another model\n"):
        resumed(output, facts={**FACTS, "model": "other"})
    assert resumed(output) == (3, 1, 3.0), "a refusal has destroyed what it protects"
    assert resumed(output, facts={**FACTS, "model": "other"}, anew=True) == (0, 0, None)


def test_two_runs_do_not_write_the_same_film(tmp_path: Path) -> None:
    """The accident: a second terminal, and segments of two runs in one film."""
    output = tmp_path / "out.mp4"
    fill(output, LENGTH)
    lock = parts_folder(output) / ".lock"
    code = f"import fcntl; f = open({str(lock)!r}, 'ab'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match="another process"):
            resumed(output)
        other.communicate(b"\n")
    assert resumed(output) == (3, 1, 3.0)


def test_a_film_whose_look_was_interrupted_is_known_as_ones_own(tmp_path: Path) -> None:
    """The accident: killed during the last check, and told the next day that the result exists already."""
    output = tmp_path / "out.mp4"
    with open_parts(output, LENGTH, FACTS, resume=False, anew=False) as parts:
        parts.add(frames(0, 2, state=False), INFO, Encoding(preset="ultrafast"), (32, 16))
        assert not is_joined(output)
        output.write_bytes(b"film")
        assert not is_joined(output), "another's film is taken for one's own"
        parts.note_joined(output)
        assert is_joined(output)
    assert resumed(output) == (2, 1, None)
    assert is_joined(output), "interrupted once more, it is no longer known"
    parts_folder(output).joinpath(JOURNAL).unlink()
    assert not is_joined(output)


def test_nothing_is_left_behind_that_nobody_needs(tmp_path: Path) -> None:
    """The accident: an empty folder beside every film that could not be read; or a user's file deleted with ours."""
    output = tmp_path / "out.mp4"
    fill(output)
    assert list(tmp_path.iterdir()) == []
    fill(output, LENGTH)
    drop_parts(output)
    assert list(tmp_path.iterdir()) == []
    fill(output, LENGTH)
    (parts_folder(output) / "mine.txt").write_text("not yours")
    drop_parts(output)
    assert [path.name for path in parts_folder(output).iterdir()] == ["mine.txt"]


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    """The accident: the times and states of all frames of a film of ten hours are held until its end."""
    output = tmp_path / "out.mp4"
    with open_parts(output, 1, FACTS, resume=False, anew=False) as parts:
        for k in range(6):
            parts.add(frames(k, 1), INFO, Encoding(preset="ultrafast"), (32, 16))
        assert len(list((parts_folder(output) / "states").iterdir())) <= 3
        held = {name: value for name, value in vars(parts).items() if isinstance(value, list | dict | tuple)}
        assert held == {"_names": [f"{k:06d}.segment" for k in range(6)]}


def test_a_segment_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    """The accident: half a segment under its final name, taken for a whole one the next morning."""

    def failing():
        yield from frames(0, 2, state=False)
        raise RuntimeError

    def attempt(parts: Parts) -> None:
        parts.add(failing(), INFO, Encoding(preset="ultrafast"), (32, 16))

    output = tmp_path / "out.mp4"
    with open_parts(output, LENGTH, FACTS, resume=False, anew=False) as parts:
        with pytest.raises(RuntimeError):
            attempt(parts)
        assert not list(parts_folder(output).glob("*.segment"))
        assert parts.frames == 0


def test_segments_are_ten_seconds_and_never_very_long() -> None:
    """The accident: an hour of a slow film lost by a kill, because its segments count in seconds alone."""
    assert segment_length(Fraction(24000, 1001)) == 240
    assert segment_length(Fraction(60)) == segment_length(None) == 250
    assert segment_length(Fraction(1, 60)) == 1


def test_another_content_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: the first half of one take and the second of the next."""
    film, folder = tmp_path / "a.mp4", tmp_path / "frames"
    film.write_bytes(bytes(1000))
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    digests = {source_digest(film), source_digest(folder)}
    film.write_bytes(bytes(999) + b"x")
    (folder / "2.png").write_bytes(b"two")
    digests |= {source_digest(film), source_digest(folder)}
    assert len(digests) == 4
    (folder / "film.mp4.parts").mkdir()
    assert source_digest(folder) in digests, "a film made in the folder of its frames"
    monkeypatch.setattr(segments, "_WHOLE_BYTES", 10)
    monkeypatch.setattr(segments, "_EDGE_BYTES", 4)
    large = source_digest(film)
    film.write_bytes(bytes(999) + b"y")
    assert source_digest(film) != large
    with pytest.raises(VideoError, match=r"none\.mkv: cannot be read: No such file.*check that it exists"):
        source_digest(tmp_path / "none.mkv")
