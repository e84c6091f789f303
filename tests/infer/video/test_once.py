"""One film in one call from Python."""

from pathlib import Path

import pytest

import imagesmith
from imagesmith.data.video import read_info
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.outcome import Frames
from imagesmith.infer.video.stream import VideoRestorer


def test_a_call_makes_a_film_and_tells_how_far_it_is(make_film, model_file: Path, tmp_path: Path) -> None:
    """The accident: a script that must parse the words of the command to learn what happened."""
    told = list[Frames]()
    result = imagesmith.restore_video(
        make_film("a.mp4", 5), model=model_file, preset="ultrafast", device="cpu", start_s=0.2, on_progress=told.append
    )
    assert Path(result.output) == tmp_path / "a.toy-film-x2.mp4"
    assert read_info(result.output).frames == 3 == result.frames == told[-1].done
    assert result.audit.ok


def test_a_call_that_is_made_again_leaves_a_finished_film_alone(make_film, model_file: Path, tmp_path: Path) -> None:
    """The accident: a script that resumes every film after a power cut, and stops at the first one that was done."""
    film, options = make_film("a.mp4", 3), {"model": model_file, "preset": "ultrafast", "device": "cpu"}
    assert imagesmith.restore_video(film, resume=True, **options).status == "done"
    assert imagesmith.restore_video(film, resume=True, **options).status == "skipped"
    with pytest.raises(OutputError, match="exists already"):
        imagesmith.restore_video(film, **options)


def test_what_goes_wrong_is_an_error(make_film, model_file: Path, tmp_path: Path, monkeypatch) -> None:
    """The accident: a result object with 'failed' in it that a script never looks at."""
    film = make_film("a.mp4", 3)
    with pytest.raises(UsageError, match="check the spelling"):
        imagesmith.restore_video(tmp_path / "b.mp4", model=model_file)
    with pytest.raises(UsageError, match="enlarges by 2"):
        imagesmith.restore_video(film, scale=4, model=model_file)
    with pytest.raises(UsageError, match="itself an input"):
        imagesmith.restore_video(film, film, model=model_file, overwrite=True)
    frames = VideoRestorer.frames
    monkeypatch.setattr(VideoRestorer, "frames", lambda *args, **options: list(frames(*args, **options))[:2])
    with pytest.raises(OutputError, match="3 frames went in, 2 came out"):
        imagesmith.restore_video(film, model=model_file, preset="ultrafast")
