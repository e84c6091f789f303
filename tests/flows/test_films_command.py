"""`imagesmith restore` for films, from the outside."""

import json
import os
import signal
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from imagesmith.data.video import read_info
from imagesmith.infer.video.stream import VideoRestorer


@pytest.fixture
def holiday(photos: Path) -> Path:
    """The folder `photos` with a film of five frames in it."""
    photo = data.astronaut()
    with av.open("photos/clip.mkv", "w") as film:
        track = film.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        track.width, track.height, track.pix_fmt = 48, 32, "yuv420p"
        track.codec_context.time_base = track.time_base = Fraction(1, 10)
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[k : k + 32, k : k + 48]), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
    return photos


def test_a_folder_of_pictures_and_films_is_restored_whole(holiday: Path, tiny: Path, call) -> None:
    """The accident: films passed over without a word, or a script that finds no lines about them."""
    done = call("restore", holiday, "-o", "large", "-n", tiny, "--json", "--preset", "ultrafast")
    assert done.code == 0, done.err
    picture, film = map(json.loads, done.out.splitlines())
    assert (picture["output"], picture["frames"], picture["audit"]) == ("large/face.png", None, None)
    assert (film["output"], film["status"], film["frames"]) == ("large/clip.mkv", "done", 5)
    assert film["audit"]["frames_out"] == film["audit"]["frames_in"] == 5
    assert film["audit"]["timestamp_error_s"] < 0.002
    assert "checked: 5 of 5 frames" in done.err
    info = read_info("large/clip.mkv")
    assert (info.width, info.height) == (96, 64)
    again = call("restore", holiday, "-o", "large", "-n", tiny, "--json", "--preset", "ultrafast", "--resume")
    assert [json.loads(line)["status"] for line in again.out.splitlines()] == ["skipped", "skipped"]


def test_films_in_an_archive_are_told(holiday: Path, tiny: Path, call) -> None:
    """The accident: 'expected pictures, use -r', and the films of the archive are still not restored."""
    with zipfile.ZipFile("films.zip", "w") as archive:
        archive.write(holiday / "clip.mkv")
    said = "1 film passed over: none is read inside an archive; unpack it"
    call("restore", "films.zip", "-n", tiny, "--dtype", "fp32", "-o", "out/").was_refused(4, said)


def test_frames_go_out_and_come_in(holiday: Path, tiny: Path, call) -> None:
    """The accident: a film whose frames lie among somebody's pictures, or frames that become no film."""
    assert call("restore", holiday / "clip.mkv", "-o", "frames/", "-n", tiny, "-q").code == 0
    assert len(list(Path("frames").iterdir())) == 5
    assert call("restore", "frames", "-o", "film.mp4", "-n", tiny, "-q", "--preset", "ultrafast").code == 0
    assert read_info("film.mp4").frames == 5


def test_a_rehearsal_says_what_it_would_take(holiday: Path, tiny: Path, call) -> None:
    """The accident: a rehearsal that leaves a folder of parts, or says nothing that a person can decide by."""
    done = call("restore", holiday / "face.png", holiday / "clip.mkv", "-n", tiny, "--preview", "look")
    assert done.code == 0, done.err
    assert "photos/face.png -> photos/face.tiny-x2.png (37 x 29 -> 74 x 58, planned)" in done.out
    assert "photos/clip.mkv -> photos/clip.tiny-x2.mkv (48 x 32 -> 96 x 64, about 5 frames, planned)" in done.out
    assert "frames a second: about 0:00:0" in done.out
    assert len(list(Path("look").glob("clip.mkv.*.png"))) == 6
    with Image.open("look/clip.mkv.middle.after.png") as image:
        assert image.size == (96, 64)
    assert sorted(path.name for path in holiday.iterdir()) == ["clip.mkv", "face.png", "more", "notes.txt"]


def test_a_film_without_task_is_looked_at(holiday: Path, call) -> None:
    """The accident: a film that needs nothing is softened, and nobody learns why."""
    done = call("restore", holiday / "clip.mkv")
    assert done.code == 0, done.err
    assert "found noise of" in done.err
    assert "nothing to mend; -s 2 or -s 4 enlarges it" in done.err
    assert not list(holiday.glob("clip.*.mkv"))
    call("restore", holiday / "clip.mkv", "--task", "auto", "-s", "2").was_refused(2, "mended or enlarged")


def test_what_cannot_be_is_refused_before_anything_is_done(holiday: Path, tiny: Path, call) -> None:
    """The accident: an option that is accepted and ignored, or an hour of pictures before the film is refused."""
    clip, face = holiday / "clip.mkv", holiday / "face.png"
    before = sorted(Path().rglob("*"))
    call("restore", face, "-n", tiny, "--crf", "20").was_refused(2, "--crf is for films")
    call("restore", clip, "-n", tiny, "--format", "jpg").was_refused(2, "--format is for pictures")
    call("restore", clip, "-n", tiny, "-o", "out.avi").was_refused(2, ".mp4", "out.avi")
    call("restore", face, clip, "-n", tiny, "-o", "out.mp4").was_refused(2, "out.mp4")
    call("restore", clip, "-n", tiny, "--codec", "h264").was_refused(2, "libx264")
    call("restore", clip, "-n", tiny, "--start", "soon").was_refused(2, "1:30")
    call("restore", clip, "-n", tiny, "--start", "0:01").was_refused(2, "start before the end")
    call("restore", clip, "-n", tiny, "--workers", "x").was_refused(2, "--workers")
    Path("cut.mp4").write_bytes(clip.read_bytes()[:40])
    call("restore", "cut.mp4", "-n", tiny).was_refused(4, "cut.mp4")
    Path("cut.mp4").unlink()
    assert sorted(Path().rglob("*")) == before


def test_a_full_disk_is_told_and_leaves_nothing_under_the_name(holiday: Path, tiny: Path, call) -> None:
    """The accident: half a film that plays, or a bug report instead of 'free some space'."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        done = call("restore", holiday / "clip.mkv", "-n", tiny, "--crf", "0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    done.was_refused(3, "cannot be written")
    assert sorted(path.name for path in holiday.iterdir()) == ["clip.mkv", "face.png", "more", "notes.txt"]


def test_ctrl_c_keeps_what_is_finished(holiday: Path, tiny: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a cancelled film reports success, or the command that goes on is not told."""
    frames = VideoRestorer.frames

    def interrupted(self, *args, **options):
        for pair in frames(self, *args, **options):
            os.kill(os.getpid(), signal.SIGINT)
            yield pair

    args = ("restore", holiday / "clip.mkv", "-n", tiny, "--preset", "ultrafast", "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(VideoRestorer, "frames", interrupted)
        done, tried = call(*args), call(*args, "--dry-run")
    assert done.code == tried.code == 130
    assert "--resume goes on" in done.err
    assert "cancelled; nothing was written" in tried.err
    assert call(*args).code == 0
    assert read_info("photos/clip.tiny-x2.mkv").width == 96
