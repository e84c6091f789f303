"""A run over several films."""

import os
import signal
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import torch

from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding, read_info
from imagesmith.errors import NothingUsableError, OutputError, UsageError
from imagesmith.infer.manifest import FILE_NAME
from imagesmith.infer.outcome import Progress, Summary
from imagesmith.infer.video import job as jobs
from imagesmith.infer.video import segments
from imagesmith.infer.video.films import planned, restore_films
from imagesmith.infer.video.inputs import sort_inputs
from imagesmith.infer.video.plan import FilmOptions, plan_films
from imagesmith.infer.video.segments import parts_folder
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.runtime.device import Runtime

QUICK = Encoding(preset="ultrafast")
PLAIN = Runtime(torch.device("cpu"), torch.float32, False, "")
Run = Callable[..., Summary]


@pytest.fixture
def run(remembering: VideoRestorer) -> Run:
    """Restores films beside themselves, or into `out`."""

    def run(*films: Path, out: str | Path | None = None, told: list[Progress] | None = None, **options) -> Summary:
        items = [Item(PurePosixPath(film.name), film) for film in films]
        chosen = plan_films(items, out, tag=".x2", alone=len(films) == 1)
        options = {"encoding": QUICK, "remembers": len(films) > 1, **options}
        return restore_films(remembering, chosen, FilmOptions(**options), (told if told is not None else []).append)

    return run


def statuses(summary: Summary) -> list[str]:
    return [result.status for result in summary.results]


def test_one_bad_film_is_only_one_bad_film(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: a night's run that ended at its second film."""
    bad = tmp_path / "b.mp4"
    bad.write_bytes(b"not a film")
    told = list[Progress]()
    summary = run(make_film("a.mp4", 3), bad, make_film("c.mkv", 3), told=told)
    assert statuses(summary) == ["done", "failed", "done"]
    assert summary.exit_code == 3
    assert "b.mp4" in (summary.results[1].error or "")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.mp4", "b.mp4", "c.mkv", "a.x2.mp4", "c.x2.mkv", ".imagesmith-manifest.jsonl")
    }
    assert [event.frames.done for event in told if event.frames] == [1, 2, 3, 1, 2, 3]
    assert {event.frames.total for event in told if event.frames} == {3}
    assert run(bad).exit_code == 4


def test_resume_skips_what_is_done_and_results_are_no_inputs(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: the second night enlarges the results of the first, or does all of it once more."""
    a, b = make_film("a.mp4", 3), make_film("b.mp4", 3)
    run(a, b)
    summary = run(a, b, resume=True)
    assert statuses(summary) == ["skipped", "skipped"]
    assert summary.exit_code == 0
    make_film("other.mp4", 4).rename(a)
    assert statuses(run(a, b, resume=True)) == ["done", "skipped"]
    films = [Item(PurePosixPath(film.name), film) for film in (a, b)]
    assert sort_inputs([tmp_path], None, recursive=False) == ([], films)
    assert sort_inputs([tmp_path / "a.x2.mp4"], None, recursive=False)[1], "named by itself"
    for film in (a, b):
        film.unlink()
    with pytest.raises(NothingUsableError, match="results of an earlier run"):
        sort_inputs([tmp_path], None, recursive=False)


def test_a_folder_of_frames_is_finished_once(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: the same command with --resume fails on its own frames, and -y calls the others lost."""
    film, frames = make_film("a.mp4", 3), tmp_path / "frames"
    first = run(film, out=f"{frames}/", encoding=Encoding(), remembers=True)
    assert statuses(first) == ["done"], first.results
    assert statuses(run(film, out=f"{frames}/", encoding=Encoding(), remembers=True, resume=True)) == ["skipped"]
    (frames / "000004.png").write_bytes((frames / "000001.png").read_bytes())
    (frames / "cover.png").write_bytes((frames / "000001.png").read_bytes())
    assert statuses(run(film, out=f"{frames}/", encoding=Encoding(), overwrite=True)) == ["done"]
    assert len(list(frames.iterdir())) == 5
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_what_is_asked_wrongly_for_one_film_is_usage(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: a misspelt codec that ends in exit code 3 and reads like a damaged film."""
    film = make_film("a.mp4", 3)
    with pytest.raises(UsageError, match="libx264"):
        run(film, encoding=Encoding(codec="h264"))
    with pytest.raises(UsageError, match="start before the end"):
        run(film, start_s=99.0)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4"}


def test_a_film_without_damage_is_left_alone_and_told(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: `restore clip.mp4` that softens a perfect film."""
    clean = make_film("clean.mkv", 3, codec="ffv1", side=96)
    noisy = make_film("noisy.mkv", 3, codec="ffv1", side=96, noise=12)
    summary = run(clean, noisy, if_damaged=True)
    assert statuses(summary) == ["skipped", "done"]
    assert summary.results[0].output is None
    assert "nothing to mend; -s 2" in summary.results[0].notes[0]
    assert summary.results[1].notes[0].startswith("found noise of ")


def test_ctrl_c_ends_after_the_frame_and_resume_goes_on(run: Run, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: Ctrl-C that leaves a broken film, or a run that cannot be stopped."""
    monkeypatch.setattr(segments, "MOST_FRAMES", 4)
    film = make_film("a.mp4", 10)
    frames = VideoRestorer.frames

    def interrupted(self, *args, **options):
        for number, pair in enumerate(frames(self, *args, **options)):
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
            yield pair

    with monkeypatch.context() as patch:
        patch.setattr(VideoRestorer, "frames", interrupted)
        summary = run(film)
    assert (summary.cancelled, summary.exit_code, summary.results) == (True, 130, [])
    assert summary.kept_frames == 4, "a person learns that nothing was kept, and throws the parts away"
    output = tmp_path / "a.x2.mp4"
    assert parts_folder(output).exists()
    assert not output.exists()
    assert statuses(run(film)) == ["failed"], "what is there of the film is thrown away without a word"
    assert statuses(run(film, resume=True)) == ["done"]
    assert read_info(output).frames == 10


def test_ctrl_c_ends_a_dry_run_after_the_frame(run: Run, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: a large film is tried out for an hour, Ctrl-C is heard by nobody, and it ends in exit code 0."""
    frames, restored = VideoRestorer.frames, list[int]()

    def interrupted(self, *args, **options):
        for pair in frames(self, *args, **options):
            restored.append(len(restored))
            if len(restored) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield pair

    monkeypatch.setattr(VideoRestorer, "frames", interrupted)
    summary = run(make_film("a.mp4", 10), dry_run=True)
    assert (summary.cancelled, summary.exit_code, summary.results, len(restored)) == (True, 130, [], 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_ctrl_c_in_the_last_steps_lets_them_end(run: Run, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: a night's film is whole but for its index, and one key throws it away, or says that it is not."""
    a, b = make_film("a.mp4", 3), make_film("b.mp4", 3)

    def interrupted(step):
        def interrupt(*args, **options):
            os.kill(os.getpid(), signal.SIGINT)
            return step(*args, **options)

        return interrupt

    for name, step in (("join", jobs.join), ("audit", jobs.audit)):
        with monkeypatch.context() as patch:
            patch.setattr(jobs, name, interrupted(step))
            summary = run(a, b, overwrite=True)
        assert (statuses(summary), summary.cancelled) == (["done"], True)
        assert not list(tmp_path.glob("*.parts"))
    assert statuses(run(a, b, resume=True)) == ["skipped", "done"]


@pytest.mark.parametrize("how", ["dry_run", "if_damaged", "remembers"])
def test_a_film_of_too_large_frames_is_refused_by_its_header(run: Run, make_film, how: str) -> None:
    """The accident: `--max-pixels` holds for photographs only, and a film from the web takes all memory."""
    films = make_film("a.mp4", 2), make_film("b.mp4", 2)
    summary = run(*films, max_pixels=32 * 32 - 1, **{how: True})
    assert statuses(summary) == ["failed", "failed"]
    assert [result.error_kind for result in summary.results] == ["TooLargeError"] * 2
    assert f"{films[1]}: expected at most 0.001023 megapixels, the file declares 32x32" in str(summary.results[1].error)
    assert statuses(run(*films, max_pixels=32 * 32, dry_run=True)) == ["planned", "planned"]


def test_a_bad_audit_is_a_failure_with_words(run: Run, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: half of the frames are black, and the exit code is 0."""
    frames = VideoRestorer.frames

    def black(self, *args, **options):
        for number, (pixels, snapshot) in enumerate(frames(self, *args, **options)):
            yield (pixels if number < 2 else torch.zeros_like(pixels)), snapshot

    monkeypatch.setattr(VideoRestorer, "frames", black)
    summary = run(make_film("a.mp4", 4))
    assert summary.exit_code == 3
    [result] = summary.results
    assert "2 frames" in result.error
    assert "black" in result.error
    assert result.audit.black_frames == 2
    assert (tmp_path / "a.x2.mp4").exists(), "what was computed is thrown away"


def test_what_is_gone_on_with_runs_in_the_arithmetic_it_began_in(make_film, model_file, tmp_path, monkeypatch) -> None:
    """The accident: another layout of memory is a little faster today, and a film has other last bits in its half."""
    monkeypatch.setattr(segments, "MOST_FRAMES", 4)
    film = make_film("a.mp4", 10)
    items = [Item(PurePosixPath("a.mp4"), film)]
    asked = {"task": None, "scale": None, "alone": True}
    began = Runtime(PLAIN.device, torch.bfloat16, True, "")
    restorer, chosen = planned(items, tmp_path / "o.mp4", model_file, resume=True, runtime=began, **asked)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "join", lambda *_, **__: 1 / 0)
        assert statuses(restore_films(restorer, chosen, FilmOptions(encoding=QUICK), lambda _: None)) == ["failed"]
    monkeypatch.setattr("imagesmith.infer.video.stream.pick_runtime", lambda *_: PLAIN)
    for resume, expected in ((False, PLAIN), (True, began)):
        restorer, _ = planned(items, tmp_path / "o.mp4", model_file, resume=resume, **asked)
        assert (restorer.runtime.dtype, restorer.runtime.channels_last) == (expected.dtype, expected.channels_last)


def test_previews_that_would_be_one_are_refused_when_all_is_planned(model_file: Path, tmp_path: Path) -> None:
    """The accident: a/clip.mp4 and b/clip.mp4, and with -y the pictures of the second replace those of the first."""
    items = [Item(PurePosixPath("clip.mp4"), tmp_path / folder / "clip.mp4") for folder in "ab"]
    asked = {"task": None, "scale": None, "resume": False, "alone": False, "runtime": PLAIN}
    planned(items, None, model_file, **asked)
    with pytest.raises(UsageError, match=r"would both become '\S+look/clip\.mp4\.start\.before\.png'"):
        planned(items, None, model_file, preview=tmp_path / "look", **asked)


def test_films_that_would_be_one_are_refused_when_all_is_planned(model_file: Path, tmp_path: Path) -> None:
    """The accident: all pictures of a folder are restored first, and then a.avi and a.mpg would both be a.mkv."""
    items = [Item(PurePosixPath(name), tmp_path / name) for name in ("a.avi", "a.mpg")]
    with pytest.raises(UsageError, match=r"a\.mkv"):
        planned(items, tmp_path / "out", model_file, task=None, scale=None, resume=False, alone=False, runtime=PLAIN)


def test_a_manifest_that_cannot_be_read_stops_only_who_goes_on(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: a colleague's manifest beside the film, mode 0600, and the film could not be restored."""
    (tmp_path / FILE_NAME).mkdir()
    film = make_film("a.mp4", 2)
    (result,) = run(film).results
    assert result.status == "done", result.error
    assert any(note.startswith("what was made is not noted: cannot read") for note in result.notes)
    with pytest.raises(OutputError, match="cannot read"):
        run(film, resume=True)
