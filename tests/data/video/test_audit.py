from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from skimage import data

from imagesmith.data.video import Encoding, audit, join, open_video, read_info, segment_writer
from imagesmith.data.video.colour import ColourTags


def test_a_good_film_passes(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: an audit that finds fault with what is right, until nobody reads it."""
    make_film(tmp_path / "in.mp4", [0, 300, 1700, 1900, 4000], Fraction(1, 12800), audio=["aac", "aac"])
    for name in ("out.mp4", "out.mkv", "out.gif", "frames"):
        info = redo(tmp_path / "in.mp4", tmp_path / name, scale=2).info
        found = audit(info, tmp_path / name)
        assert found.ok, found.sentences
        assert (found.frames_in, found.frames_out, found.black_frames) == (5, 5, 0)
        assert found.audio_packets_equal
        assert found.tags_kept
    assert audit(info, tmp_path / "out.mp4").timestamp_error_s == 0
    assert audit(info, tmp_path / "out.mp4").sound_offset_error_s == 0
    assert audit(info, tmp_path / "frames").timestamp_error_s is None


def test_the_sound_of_a_broadcast_is_the_same_without_its_headers(
    tmp_path: Path, make_film: Callable, redo: Callable
) -> None:
    """The accident: every .ts of a dashcam or a television ends in 'packets of sound are not those of the source'."""
    make_film(tmp_path / "in.ts", audio=["aac"])

    def heard(path: Path) -> np.ndarray:
        with av.open(path) as film:
            return np.concatenate([frame.to_ndarray() for frame in film.decode(audio=0)], axis=1)

    for name in ("out.mp4", "out.mkv"):
        info = redo(tmp_path / "in.ts", tmp_path / name).info
        found = audit(info, tmp_path / name)
        assert found.ok, found.sentences
        assert found.audio_packets_equal
        assert np.array_equal(heard(tmp_path / name), heard(tmp_path / "in.ts"))


def test_an_excerpt_is_held_against_its_part(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: every excerpt fails, as the source has more frames."""
    make_film(tmp_path / "in.mp4", range(40), audio=["aac"])
    info = redo(tmp_path / "in.mp4", tmp_path / "out.mp4", start_s=0.4, end_s=1.2).info
    found = audit(info, tmp_path / "out.mp4", start_s=0.4, end_s=1.2)
    assert found.ok, found.sentences
    assert found.frames_out == 20
    assert not audit(info, tmp_path / "out.mp4").ok


def test_what_was_told_to_be_lost_is_no_fault(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: an archive of anamorphic tapes, each of which 'failed' after it was made as announced."""
    make_film(tmp_path / "in.mp4", range(6), aspect=Fraction(4, 3))
    info = redo(tmp_path / "in.mp4", tmp_path / "out.mkv", Encoding(codec="ffv1")).info
    found = audit(info, tmp_path / "out.mkv")
    assert found.ok, found.sentences
    assert not found.tags_kept


def test_what_is_wrong_is_found(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: black frames from a driver, a lost frame, sound of another film - and the audit says 'ok'."""
    make_film(tmp_path / "in.mp4", range(20), audio=["aac"])
    info = read_info(tmp_path / "in.mp4")
    with open_video(tmp_path / "in.mp4") as reader:
        frames = list(reader)
    part = tmp_path / "part"
    with segment_writer(part, info, Encoding(preset="ultrafast"), size=(64, 48)) as write:
        for k, frame in enumerate(frames[:-1]):
            pixels = torch.zeros_like(frame.pixels) if k == 3 else frame.pixels
            green = torch.tensor([0, 135, 0], dtype=torch.uint8).expand(48, 64, 3)
            write(green if k == 4 else pixels, frame.pts + (k == 7))
    join([part], info, tmp_path / "out.mp4", Encoding())
    found = audit(info, tmp_path / "out.mp4")
    assert (found.frames_in, found.frames_out, found.black_frames) == (20, 19, 2)
    assert found.timestamp_error_s == float(info.time_base)
    assert len(found.sentences) == 3
    make_film(tmp_path / "other.mp4", range(20), audio=["aac"], audio_start_s=0.5, tags=(9, 1, 9, 16))
    other = audit(info, tmp_path / "other.mp4")
    assert not other.audio_packets_equal or other.sound_offset_error_s > 0.4
    assert not other.tags_kept
    assert read_info(tmp_path / "other.mp4").colour == ColourTags(9, 1, 9, 16)
    assert any("colour" in sentence for sentence in other.sentences)


def test_a_second_picture_is_held_against_its_times(
    tmp_path: Path, make_film: Callable, redo: Callable, camera: Callable
) -> None:
    """The accident: a second camera stutters, and the line says 'checked'."""
    make_film(tmp_path / "in.mkv", range(14), dress=camera(range(14)))
    for name in ("out.mkv", "out.mp4"):
        info = redo(tmp_path / "in.mkv", tmp_path / name).info
        found = audit(info, tmp_path / name)
        assert found.ok, found.sentences
    make_film(tmp_path / "late.mkv", range(14), dress=camera([*range(10), 11, 12, 13, 14]))
    assert audit(info, tmp_path / "late.mkv").sentences == ("a second picture moved by 40 ms against the first",)


def test_pictures_without_a_matrix_have_none_to_lose(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: FFV1 is RGB, and every film of another matrix or range 'failed' after it was made rightly."""
    make_film(tmp_path / "in.mp4", range(6), tags=(1, 2, 1, 1))
    info = redo(tmp_path / "in.mp4", tmp_path / "out.mkv", Encoding(codec="ffv1")).info
    found = audit(info, tmp_path / "out.mkv")
    assert found.ok, found.sentences


def test_a_picture_that_an_animation_shows_on_is_no_lost_frame(
    tmp_path: Path, make_film: Callable, redo: Callable
) -> None:
    """The accident: encoders of animations merge equal frames, and a right GIF is called wrong."""
    photo = Image.fromarray(data.astronaut()[40:88, 60:124])
    other = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    frames = [photo, photo, other, other, other, photo]
    for number, frame in enumerate(frames):
        (tmp_path / "in").mkdir(exist_ok=True)
        frame.save(tmp_path / "in" / f"{number}.png")
    for name in ("out.gif", "out.webp"):
        info = redo(tmp_path / "in", tmp_path / name).info
        assert read_info(tmp_path / name).frames < 6
        found = audit(info, tmp_path / name)
        assert found.ok, found.sentences
        assert (found.frames_in, found.frames_out) == (6, 6)
    photo.save(tmp_path / "in" / "3.png")
    assert not audit(info, tmp_path / "out.gif").ok, "a frame that differs is taken for one shown on"
