"""A film tried out."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
from PIL import Image

from imagesmith.data.files import read_image
from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding, open_video
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.video import rehearsal
from imagesmith.infer.video.plan import FilmOptions, plan_films
from imagesmith.infer.video.rehearsal import rehearse

QUICK = Encoding(preset="ultrafast")


def test_time_and_room_are_told_and_nothing_is_written(remembering, make_film, tmp_path: Path) -> None:
    """The accident: five days of computing for a disk that is full after two."""
    source = make_film("a.mp4", 30)
    [job] = plan_films([Item(PurePosixPath("a.mp4"), source)], None, tag=".x2")
    result = rehearse(remembering, job, FilmOptions(encoding=QUICK))
    assert (result.status, result.frames, result.out_size) == ("planned", 30, (64, 64))
    estimate = result.estimate
    assert estimate.seconds == pytest.approx(30 / estimate.frames_per_second)
    assert 0 < estimate.bytes < 1e6 < estimate.free_bytes
    assert "30 frames" in result.notes[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_preview_shows_three_moments_before_and_after(remembering, make_film, tmp_path: Path) -> None:
    """The accident: a preview of black opening titles, three times."""
    source, folder = make_film("a.mp4", 30), tmp_path / "preview"
    [job] = plan_films([Item(PurePosixPath("a.mp4"), source)], tmp_path / "frames", tag="")
    rehearse(remembering, job, FilmOptions(preview=folder))
    shown = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            shown[path.name] = image.size, image.tobytes()
    assert sorted(shown) == sorted(
        f"a.mp4.{moment}.{kind}.png" for moment in ("start", "middle", "end") for kind in ("before", "after")
    )
    assert {size for size, _ in shown.values()} == {(32, 32), (64, 64)}
    assert len(set(shown.values())) == 6


def test_a_turned_film_is_looked_at_upright(remembering, make_film, tmp_path: Path) -> None:
    """The accident: a telephone's film lies on its side in the preview, and its frames have other sizes than told."""
    source = make_film("a.mp4", 8, side=48, height=32, turned=True)
    item, told = Item(PurePosixPath("a.mp4"), source), {}
    for name in ("frames", "b.gif", "b.mp4"):
        [job] = plan_films([item], tmp_path / name, tag="")
        looks = FilmOptions(preview=tmp_path / "preview", overwrite=True)
        result = rehearse(remembering, job, looks)
        told[name] = result.in_size, result.out_size
    assert told == {"frames": ((32, 48), (64, 96)), "b.gif": ((32, 48), (64, 96)), "b.mp4": ((48, 32), (96, 64))}
    with open_video(source) as reader:
        stored = [frame.pixels for frame in reader]
    assert read_image(tmp_path / "preview" / "a.mp4.start.before.png").pixels.equal(stored[5].rot90(-1))
    assert read_image(tmp_path / "preview" / "a.mp4.start.after.png").pixels.shape == (96, 64, 3)


def test_a_finished_film_keeps_nobody_from_a_preview(remembering, make_film, tmp_path: Path) -> None:
    """To look, -y had to be typed, and without --preview the same command then replaced the film."""
    source, folder = make_film("a.mp4", 8), tmp_path / "preview"
    [job] = plan_films([Item(PurePosixPath("a.mp4"), source)], None, tag=".x2")
    job.output.write_bytes(b"a finished film")
    with pytest.raises(OutputError, match="exists already"):
        rehearse(remembering, job, FilmOptions(encoding=QUICK))
    result = rehearse(remembering, job, FilmOptions(encoding=QUICK, preview=folder))
    assert "exists already; use -y" in result.notes[0]
    assert len(list(folder.iterdir())) == 6
    assert job.output.read_bytes() == b"a finished film"


def test_a_film_below_a_file_is_told_by_looking(make_film, tmp_path: Path) -> None:
    """The accident: 'planned', and the run then refuses."""
    (tmp_path / "taken").write_text("a file")
    [job] = plan_films([Item(PurePosixPath("a.mp4"), make_film("a.mp4", 3))], tmp_path / "taken/more/b.mp4", tag="")
    with pytest.raises(OutputError, match=r"cannot make the folder .*b\.mp4\.parts: Not a directory"):
        rehearse(SimpleNamespace(scale=2), job, FilmOptions(encoding=QUICK))


def test_previews_of_two_films_have_names_of_their_own(remembering, make_film, tmp_path: Path) -> None:
    """The accident: of clip.mp4 and clip.mkv the pictures of one were shown, under the name of both."""
    jobs = [
        plan_films([Item(PurePosixPath(name), make_film(name, 3))], None, tag=".x2")[0] for name in ("a.mp4", "a.mkv")
    ]
    looks = FilmOptions(encoding=QUICK, preview=tmp_path / "look")
    for job in jobs:
        rehearse(remembering, job, looks)
    assert len(list((tmp_path / "look").iterdir())) == 12


@pytest.mark.parametrize(("there", "said"), [("a.mp4.end.after.png", "exists already"), ("", "cannot make the folder")])
def test_a_preview_without_a_place_is_told_before_it_is_measured(make_film, tmp_path: Path, there, said) -> None:
    """The accident: minutes of measuring for pictures that cannot be written."""
    job = plan_films([Item(PurePosixPath("a.mp4"), make_film("a.mp4", 3))], None, tag=".x2")[0]
    (tmp_path / "look" / there).parent.mkdir(exist_ok=True)
    (tmp_path / "look" / there).write_text("taken")
    restorer = SimpleNamespace(scale=2)  # which cannot restore a frame
    restorer.of_film = lambda _: restorer
    with pytest.raises(OutputError, match=said):
        rehearse(restorer, job, FilmOptions(encoding=QUICK, preview=tmp_path / "look"))


def test_frames_that_nobody_counted_are_told_as_a_guess(remembering, make_film) -> None:
    """The accident: '52 frames' of a film of eight, as Matroska counts none and they came at a rate of their own."""
    pts = [0, 10, 20, 30, 340, 350, 360, 510]
    [uneven, counted] = (
        plan_films([Item(PurePosixPath(path.name), path)], None, tag=".x2")[0]
        for path in (make_film("a.mkv", 8, pts=pts), make_film("a.mp4", 8))
    )
    guess = rehearse(remembering, uneven, FilmOptions(encoding=QUICK))
    assert guess.frames_estimated
    assert f"about {guess.frames} frames, if" in guess.notes[-1]
    assert not rehearse(remembering, counted, FilmOptions(encoding=QUICK)).frames_estimated
    assert rehearse(remembering, counted, FilmOptions(encoding=QUICK, end_s=0.4)).frames_estimated


def test_a_film_of_one_frame_is_tried_out_too(remembering, make_film) -> None:
    """The accident: a division by the zero frames between the first and the last."""
    [job] = plan_films([Item(PurePosixPath("a.mp4"), make_film("a.mp4", 1))], None, tag=".x2")
    assert rehearse(remembering, job, FilmOptions(encoding=QUICK)).estimate.seconds > 0


def test_a_part_without_frames_is_told(remembering, make_film) -> None:
    """The accident: `--dry-run` plans 0 frames, and the run itself calls the file damaged."""
    [job] = plan_films([Item(PurePosixPath("a.mp4"), make_film("a.mp4", 10))], None, tag=".x2")
    with pytest.raises(UsageError, match=r"got none between 0\.41 and 0\.45 s"):
        rehearse(remembering, job, FilmOptions(encoding=QUICK, start_s=0.41, end_s=0.45))


@pytest.mark.parametrize(("frame_s", "measured"), [(0.5, 18), (2.0, 9), (60.0, 6)])
def test_frames_that_take_long_are_soon_enough(make_film, monkeypatch, frame_s: float, measured: int) -> None:
    """The accident: at a minute a frame, `--dry-run` takes eighteen minutes to say that it will take a year."""
    clock, count = SimpleNamespace(now=0.0), 0

    def frames(pixels, report):
        nonlocal count
        for frame in pixels:
            count, clock.now = count + 1, clock.now + frame_s
            yield frame, None

    monkeypatch.setattr(rehearsal, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    slow = SimpleNamespace(frames=frames, scale=1, card=SimpleNamespace(name="slow", title="slow"))
    slow.of_film = lambda _: slow
    [job] = plan_films([Item(PurePosixPath("a.mp4"), make_film("a.mp4", 60))], None, tag=".x1")
    assert rehearse(slow, job, FilmOptions(encoding=QUICK)).estimate.seconds == pytest.approx(60 * frame_s)
    assert count == measured


def test_what_will_be_lost_or_cannot_be_is_said_before_it_is(remembering, make_film, tmp_path: Path) -> None:
    """The accident: a night later the result turns out to have no sound, or cannot be written at all."""
    source = make_film("a.mkv", 2, sound=True)
    item = Item(PurePosixPath("a.mkv"), source)
    lost = {}
    for name in ("frames", "b.mkv"):
        [job] = plan_films([item], tmp_path / name, tag="")
        notes = rehearse(remembering, job, FilmOptions()).notes
        lost[name] = [note for note in notes if "left out" in note]
    assert lost["b.mkv"] == []
    assert len(lost["frames"]) == 1
    assert "audio" in lost["frames"][0]
    with pytest.raises(UsageError, match="crf"):
        rehearse(remembering, job, FilmOptions(encoding=replace(QUICK, crf=99)))
