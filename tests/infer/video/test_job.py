"""One film from file to file, whatever happens in between."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
import torch
from torch import Tensor

from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding, open_video, read_info
from imagesmith.data.video.encoding import output_kind
from imagesmith.errors import OutputError, UsageError, VideoError
from imagesmith.infer.outcome import Frames, ItemResult
from imagesmith.infer.video import job as jobs
from imagesmith.infer.video import segments
from imagesmith.infer.video.job import restore_film
from imagesmith.infer.video.plan import FilmOptions, plan_films
from imagesmith.infer.video.segments import parts_folder
from imagesmith.infer.video.stream import VideoRestorer

QUICK = Encoding(preset="ultrafast")
Run = Callable[..., ItemResult | None]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MOST_FRAMES", 4)


@pytest.fixture
def run(remembering: VideoRestorer) -> Run:
    """Restores a film; `stop_at` asks it to stop once so many frames are there."""

    def run(source: Path, output: Path, *, stop_at: int | None = None, **options: object) -> ItemResult | None:
        [job] = plan_films([Item(PurePosixPath(source.name), source)], output, tag="")
        asked = threading.Event()

        def report(frames: Frames) -> None:
            if frames.done == stop_at:
                asked.set()

        encoding = QUICK if output_kind(output) == "film" else Encoding()
        return restore_film(remembering, job, FilmOptions(encoding=encoding, **options), asked, report)

    return run


def content(film: Path) -> tuple[list[int], Tensor]:
    """The times and the decoded frames of a film."""
    with open_video(film) as reader:
        frames = list(reader)
    return [frame.pts for frame in frames], torch.stack([frame.pixels for frame in frames])


def assert_same(film: Path, other: Path) -> None:
    (times, frames), (other_times, others) = content(film), content(other)
    assert times == other_times
    assert torch.equal(frames, others)


def test_every_frame_is_there_at_its_time_and_twice_as_large(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: frames lost at the joins, or a film of variable rate made even and out of step with its sound."""
    pts = [0, 10, 14, 30, 31, 50, 75, 80, 81, 99]
    source, output = make_film(frames=10, pts=pts), tmp_path / "out.mp4"
    result = run(source, output)
    assert (result.status, result.frames, result.in_size, result.out_size) == ("done", 10, (32, 32), (64, 64))
    assert result.seconds > 0
    times, frames = content(output)
    base, before = read_info(output).time_base, read_info(source)
    assert [time * base for time in times] == [time * before.time_base for time in content(source)[0]]
    assert frames.shape == (10, 64, 64, 3)
    assert not parts_folder(output).exists()


def test_what_was_asked_to_stop_goes_on_to_the_same_film(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: a resumed film whose network has forgotten everything at the seam."""
    source = make_film(frames=11)
    run(source, tmp_path / "whole.mp4")
    for stop_at in (2, 8, 10):
        output = tmp_path / f"stopped{stop_at}.mp4"
        assert run(source, output, stop_at=stop_at) is None
        assert not output.exists()
        assert parts_folder(output).exists() == (stop_at >= 4)
        result = run(source, output, resume=True)
        assert any("went on after frame" in note for note in result.notes) == (stop_at >= 4)
        assert result.frames == 11
        assert_same(output, tmp_path / "whole.mp4")


def test_without_its_state_a_resumed_film_would_be_another(run: Run, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: the test above passes because the small network remembers nothing."""
    source, output = make_film(frames=11), tmp_path / "out.mp4"
    run(source, tmp_path / "whole.mp4")
    run(source, output, stop_at=9)
    monkeypatch.setattr(jobs.Snapshot, "load", lambda _: None)
    run(source, output, resume=True)
    assert not torch.equal(content(output)[1], content(tmp_path / "whole.mp4")[1])


def test_an_error_while_decoding_keeps_the_parts_and_ends_all_threads(
    run: Run, make_film, tmp_path, monkeypatch
) -> None:
    """The accident: a process that waits for ever for frames that nobody decodes any more."""

    class Failing:
        notes = ()

        def __init__(self, frames) -> None:
            self._frames = list(frames)[:6]

        def __iter__(self) -> Iterator:
            yield from self._frames
            raise VideoError("the disk was taken out")

    source, output = make_film(frames=11), tmp_path / "out.mp4"
    opened = jobs.open_video

    @jobs.contextlib.contextmanager
    def failing(*args, **options):
        with opened(*args, **options) as reader:
            yield Failing(reader)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "open_video", failing)
        with pytest.raises(VideoError, match="taken out"):
            run(source, output)
    assert not output.exists()
    assert threading.active_count() == 1
    assert run(source, output, resume=True).frames == 11


def test_a_full_disk_keeps_the_parts_and_leaves_nothing_under_the_name(
    run: Run, make_film, tmp_path, monkeypatch
) -> None:
    """The accident: half a film that plays, or two days of work that are gone because the last minute did not fit."""
    source, output = make_film(frames=11), tmp_path / "out.mp4"
    writer, made = segments.segment_writer, list[Path]()

    @jobs.contextlib.contextmanager
    def full(path, *args, **options):
        with writer(path, *args, **options) as write:
            made.append(path)
            if len(made) == 2:
                raise OutputError(f"{path} cannot be written: the disk is full")
            yield write

    with monkeypatch.context() as patch:
        patch.setattr(segments, "segment_writer", full)
        with pytest.raises(OutputError, match="disk is full"):
            run(source, output)
    assert not output.exists()
    assert threading.active_count() == 1
    result = run(source, output, resume=True)
    assert "went on after frame 4" in result.notes


def test_only_a_few_frames_are_ever_held(run: Run, remembering, make_film, tmp_path: Path, monkeypatch) -> None:
    """The accident: a slow network behind a fast decoder, and the whole film in memory."""
    ahead = list[int]()
    taken, given = [0], [0]
    put = jobs.Channel.put

    def counted(self, thing) -> bool:
        kind = taken if isinstance(thing, segments.Restored) else given
        kind[0] += 1
        ahead.append(given[0] - taken[0])
        return put(self, thing)

    monkeypatch.setattr(jobs.Channel, "put", counted)
    run(make_film(frames=24), tmp_path / "out.mp4")
    assert given == taken == [24]
    assert max(ahead) <= 10


def test_a_film_in_which_nothing_can_be_decoded_is_told(run: Run, tmp_path: Path) -> None:
    """The accident: an empty film under the final name, and exit code 0."""
    for content in (b"", b"not a film at all" * 50):
        (tmp_path / "bad.mp4").write_bytes(content)
        with pytest.raises(VideoError, match=r"bad\.mp4"):
            run(tmp_path / "bad.mp4", tmp_path / "out.mp4")
        assert {path.name for path in tmp_path.iterdir()} == {"bad.mp4"}


def test_a_part_between_two_frames_is_told(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: 'copy the file again' of a good film, for a part of it that lies behind its last frame."""
    source = make_film(frames=10)
    with pytest.raises(
        UsageError, match=r"at least one frame, got none between 0\.95 and 1 s; frames are 0\.1 s apart"
    ):
        run(source, tmp_path / "out.mp4", start_s=0.95)
    assert not (tmp_path / "out.mp4").exists()


def test_frames_and_animations_come_in_and_go_out(run: Run, make_film, tmp_path: Path) -> None:
    """The accident: a folder of frames that is a film in one direction only."""
    run(make_film(frames=5), tmp_path / "frames")
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"00000{k}.png" for k in range(1, 6)]
    result = run(tmp_path / "frames", tmp_path / "back.gif")
    assert result.frames == 5
    assert content(tmp_path / "back.gif")[1].shape == (5, 128, 128, 3)
    turned = run(make_film(frames=1, side=48, height=32, turned=True), tmp_path / "turned")
    assert turned.out_size == (64, 96)
    assert content(tmp_path / "turned")[1].shape == (1, 96, 64, 3)


KILLED = """
import sys, threading
from pathlib import Path, PurePosixPath
import torch
torch.set_num_threads(1)
from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding
from imagesmith.infer.video import segments
from imagesmith.infer.video.job import restore_film
from imagesmith.infer.video.plan import FilmOptions, plan_films
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.runtime.device import Runtime
segments.MOST_FRAMES = 4
source, output, model = map(Path, sys.argv[1:])
restorer = VideoRestorer.load(model, runtime=Runtime(torch.device("cpu"), torch.float32, False, ""))
[job] = plan_films([Item(PurePosixPath(source.name), source)], output, tag="")
options = FilmOptions(encoding=Encoding(preset="ultrafast"), resume=True)
restore_film(restorer, job, options, threading.Event(), lambda frames: print(frames.done, flush=True))
"""


def killed_at(frame: int, source: Path, output: Path, model: Path) -> None:
    """Restore in a process that is killed at about the moment when it has restored so many frames."""
    command = [sys.executable, "-c", KILLED, str(source), str(output), str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= frame:
                time.sleep(random.random() / 50)
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was ready before it could be killed"


def test_killed_at_any_moment_it_goes_on_to_the_same_film(
    run: Run, make_film, model_file: Path, tmp_path: Path
) -> None:
    """The accident: a power cut after four days, and the film starts again, or has a seam where it stopped."""
    source, output = make_film(frames=30), tmp_path / "killed.mp4"
    run(source, tmp_path / "whole.mp4")
    killed_at(random.randint(5, 20), source, output, model_file)
    assert not output.exists()
    result = run(source, output, resume=True)
    assert any("went on after frame" in note for note in result.notes)
    assert_same(output, tmp_path / "whole.mp4")


@pytest.mark.slow
def test_killed_at_ten_moments(run: Run, make_film, model_file: Path, tmp_path: Path) -> None:
    """The accident: as above, at a moment that one kill does not meet."""
    source, output = make_film(frames=80), tmp_path / "killed.mp4"
    run(source, tmp_path / "whole.mp4")
    for frame in sorted(random.sample(range(1, 70), 10)):
        killed_at(frame, source, output, model_file)
    run(source, output, resume=True)
    assert_same(output, tmp_path / "whole.mp4")
