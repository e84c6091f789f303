"""Which film becomes which, and by which model."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path, PurePosixPath

import pytest

from imagesmith.data.sources import Item
from imagesmith.data.video import VideoInfo, read_info
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.video import plan
from imagesmith.infer.video.plan import (
    FRAMES,
    FilmOptions,
    check_no_input,
    check_place,
    damage,
    encoding_of,
    expected_frames,
    film_model,
    plan_films,
    preview_places,
)

CLIP, OLD = (
    Item(PurePosixPath("clip.MOV"), Path("films/clip.MOV")),
    Item(PurePosixPath("a/old.wmv"), Path("in/a/old.wmv")),
)


def test_a_result_lies_beside_its_film_in_the_same_container(tmp_path: Path) -> None:
    """The accident: a film that its owner's player no longer opens, or one written over the original."""
    [clip] = plan_films([CLIP], None, tag=".srx4")
    assert (clip.output, clip.root, clip.name, clip.notes) == (
        Path("films/clip.srx4.MOV"),
        Path("films"),
        "clip.srx4.MOV",
        (),
    )
    [clip] = plan_films([CLIP], None, tag=".srx4", suffix="-big")
    assert clip.output == Path("films/clip-big.MOV")
    [old] = plan_films([OLD], None, tag=".srx4")
    assert (old.output, old.root) == (Path("in/a/old.srx4.mkv"), Path("in"))
    assert old.notes == (".wmv is not written; the result is Matroska (.mkv)",)
    [frames] = plan_films([Item(PurePosixPath("frames"), tmp_path)], None, tag=".srx4")
    assert (frames.name, frames.notes) == ("frames.srx4.mkv", ())


def test_a_destination_is_a_film_a_folder_of_films_or_a_folder_of_frames(tmp_path: Path) -> None:
    """The accident: a folder called out.mp4, or ten thousand pictures among somebody's films."""
    [job] = plan_films([CLIP], "new/b.mkv", tag="")
    assert (job.output, job.format, job.root) == (Path("new/b.mkv"), ".mkv", Path("new"))
    for folder in ("frames", "frames.v2/", tmp_path):
        [job] = plan_films([CLIP], folder, tag="")
        assert (job.output, job.format) == (Path(folder), FRAMES)
    jobs = plan_films([CLIP, OLD], "all", tag=".x", alone=False)
    assert [job.output for job in jobs] == [Path("all/clip.MOV"), Path("all/a/old.mkv")]
    [job] = plan_films([CLIP], "all", tag=".x", alone=False)
    assert job.output == Path("all/clip.MOV")


def test_a_destination_that_cannot_be_is_told() -> None:
    """The accident: an hour of computing for a name that nothing can be written under."""
    with pytest.raises(UsageError, match=r"\.mp4.*or a folder/, got 'out\.avi'"):
        plan_films([CLIP], "out.avi", tag="")
    with pytest.raises(UsageError, match="standard output"):
        plan_films([CLIP], "-", tag="")
    with pytest.raises(UsageError, match=r"one film for the file 'out\.mp4'"):
        plan_films([CLIP, OLD], "out.mp4", tag="", alone=False)


def test_a_place_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    """The accident: the original replaced by its own enlargement, or an answer of 'exists already' after a night."""
    film, full, empty = tmp_path / "a.mp4", tmp_path / "full", tmp_path / "empty"
    film.write_bytes(b"film")
    for folder in (full, empty):
        folder.mkdir()
    (full / "000001.png").write_bytes(b"frame")
    item = Item(PurePosixPath("a.mp4"), film)

    def check(output: Path, **options: bool) -> bool:
        [job] = plan_films([item], output, tag="")
        check_no_input([job])
        return check_place(job, FilmOptions(**options))

    with pytest.raises(UsageError, match="is itself an input"):
        check(tmp_path / "full" / ".." / "a.mp4", overwrite=True)
    with pytest.raises(UsageError, match="is itself the mask"):
        check_no_input(plan_films([item], tmp_path / "m.gif", tag=""), tmp_path / "full" / ".." / "m.gif")
    gif = plan_films([item], tmp_path / "m.gif", tag="")
    drawn_on = preview_places(gif[0], tmp_path)[0]
    check_no_input(gif, drawn_on)
    with pytest.raises(UsageError, match=f"{drawn_on.name} is itself the mask\nname another folder with --preview"):
        check_no_input(gif, drawn_on, tmp_path)
    with pytest.raises(OutputError, match=r"takes the frames of one film, and .* is not empty"):
        check(full)
    assert check(full, overwrite=True)
    assert not check(empty)
    assert not check(tmp_path / "new.mp4")


@pytest.mark.parametrize("name", ["loop.gif", "loop.webp", "film.mp4"])
def test_an_animation_is_none_of_the_frames_it_is_made_of(tmp_path: Path, name: str) -> None:
    """The accident: '9 frames went in, 8 came out', as the result lies among them and is the ninth."""
    (tmp_path / "frames").mkdir()
    item = Item(PurePosixPath("frames"), tmp_path / "frames")
    inside = plan_films([item], tmp_path / "frames" / name, tag="")
    if name == "film.mp4":
        check_no_input(inside)
        return
    with pytest.raises(UsageError, match=rf"{name} would be one of the frames it is made of\nname another folder"):
        check_no_input(inside)
    check_no_input(plan_films([item], tmp_path / name, tag=""))


def test_a_film_gets_the_model_that_remembers_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: flicker, although a model without it is shipped; or a model name that does not exist."""
    monkeypatch.setattr(plan, "CARDS", {"vsr-x4": None, "sr-x3": None, "video-denoise": None})
    assert film_model("sr") == film_model("sr", 4) == ("vsr-x4", False)
    assert film_model("sr", 3) == ("sr-x3", False)
    assert film_model("jpeg", temporal=True) == ("jpeg", True)
    assert film_model("denoise") == ("denoise", True), "measured: ahead of video-denoise"
    assert film_model(None) == ("video-denoise", False), "a film of which nothing is known may have blocks, too"
    with pytest.raises(UsageError, match="keeps the size"):
        film_model("denoise", 2)


def test_the_number_of_frames_is_known_guessed_or_not_known(make_film: Callable[..., Path]) -> None:
    """The accident: '120 %', or a percentage of nothing."""
    info = read_info(make_film(frames=12, rate=6))
    assert expected_frames(info, None, None) == 12
    assert expected_frames(info, 0.5, None) == 9
    assert expected_frames(info, 0.5, 99) == 9
    assert expected_frames(replace(info, frames=None), None, 1) == 6
    assert expected_frames(replace(info, frames=None, rate=None), None, None) is None
    assert expected_frames(replace(info, frames=None, duration_s=0.0, rate=Fraction(6)), None, None) is None


def test_an_animation_is_as_long_as_its_part_and_as_large_as_it_becomes() -> None:
    """The accident: an excerpt of three frames refused for its film, or a memory that -s 4 fills sixteen times over."""
    info = VideoInfo(Path("a.mp4"), "film", 640, 480, 1200, 48.0, Fraction(1, 25), Fraction(25))
    [job] = plan_films([CLIP], "a.gif", tag="")

    def check(scale: int, end_s: float | None = None) -> None:
        encoding_of(job, info, FilmOptions(end_s=end_s), (640 * scale, 480 * scale))

    check(4, end_s=0.12)
    check(1, end_s=48)
    with pytest.raises(UsageError, match="short film for an animation, got 1200 frames of 2560x1920"):
        check(4)
    with pytest.raises(UsageError, match="got 250 frames"):
        check(4, end_s=10)
    for kind in ("folder", "animation"):
        info = replace(info, kind=kind)
        with pytest.raises(UsageError, match="got 1200 frames"):
            check(4)


def test_noise_is_found_and_a_clean_film_left_alone(make_film: Callable[..., Path]) -> None:
    """The accident: a film that needs nothing computed for a day, and one full of noise called clean."""
    clean = make_film("clean.mkv", frames=6, codec="ffv1", side=96)
    noisy = make_film("noisy.mkv", frames=6, codec="ffv1", side=96, noise=12)
    is_damaged, found = damage(read_info(clean))
    assert not is_damaged, found
    is_damaged, found = damage(read_info(noisy))
    assert is_damaged
    assert float(found.split()[3]) == pytest.approx(12, abs=3), found
