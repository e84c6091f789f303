import itertools
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from imagesmith.data.video import is_video, open_video, read_info
from imagesmith.data.video.timeline import Timeline
from imagesmith.errors import UsageError, VideoError


def times(path: Path, **options: float) -> list[int]:
    with open_video(path, **options) as reader:
        return [frame.pts for frame in reader]


def test_a_film_says_what_it_is(film: Path) -> None:
    """The accident: the rate for the time base, or sound taken for the second picture."""
    info = read_info(film)
    assert (info.kind, info.width, info.height, info.frames, info.depth) == ("film", 64, 48, 20, "uint8")
    assert (info.rate, info.pix_fmt, info.interlaced, info.start) == (25, "yuv420p", False, 0)
    assert [(stream.kind, stream.codec) for stream in info.streams] == [("video", "h264"), ("audio", "aac")]
    assert float(info.duration_s) == pytest.approx(0.8)
    assert info.sample_aspect == 1


def test_skipped_frames_are_those_in_front(tmp_path: Path, make_film: Callable) -> None:
    """The accident: after an interruption a film goes on one frame too late, and everything is out of step."""
    options = {"preset": "medium", "g": "12"}
    make_film(tmp_path / "in.mkv", range(0, 1600, 40), Fraction(1, 1000), options=options)
    with open_video(tmp_path / "in.mkv") as reader:
        frames = list(reader)
    with open_video(tmp_path / "in.mkv", skip=17) as reader:
        later = list(reader)
    assert [frame.pts for frame in frames] == list(range(0, 1600, 40))
    assert [frame.pts for frame in later] == list(range(680, 1600, 40))
    assert all(a.pixels.equal(b.pixels) for a, b in zip(frames[17:], later, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_span_is_exact_with_and_without_an_index(tmp_path: Path, make_film: Callable, suffix: str) -> None:
    """The accident: a film is cut at the key frame before, or in a transport stream somewhere behind."""
    tick = 1000 if suffix == ".mkv" else 90000
    path = tmp_path / f"in{suffix}"
    make_film(path, range(0, 50 * tick // 25, tick // 25), Fraction(1, tick), options={"preset": "medium", "g": "12"})
    whole = times(path)
    assert len(whole) == 50
    assert times(path, start_s=0.84, end_s=1.24) == whole[21:31]
    assert times(path, start_s=0.84, end_s=1.24, skip=3) == whole[24:31]
    assert times(path, end_s=0.04) == whole[:1]


@pytest.mark.parametrize(("gop", "fewest"), [(250, 150), (12, 25)])
def test_an_excerpt_of_a_broadcast_has_its_frames(
    tmp_path: Path, make_film: Callable, monkeypatch: pytest.MonkeyPatch, gop: int, fewest: int
) -> None:
    """The accident: with one key frame, an empty film; with many, two hours decoded for the last minute."""
    path, decoded = tmp_path / "in.ts", list[int]()
    options = {"preset": "medium", "g": str(gop)}
    make_film(path, range(0, 150 * 3600, 3600), Fraction(1, 90000), options=options)
    whole, place = times(path), Timeline.place
    monkeypatch.setattr(Timeline, "place", lambda self, frame: decoded.append(frame.pts) or place(self, frame))
    assert times(path, start_s=5.0) == whole[125:]
    assert fewest <= len(decoded) < fewest + 75


def test_a_pause_among_the_last_pictures_belongs_to_the_film(tmp_path: Path, make_film: Callable) -> None:
    """The accident: '--start 5' of a film of ten seconds is refused: it ends at 0.5 s, says its header."""
    pts = [*range(0, 400, 40), 10000, 10040]
    options = {"preset": "medium", "b_strategy": "0", "bf": "3"}
    make_film(tmp_path / "in.mp4", pts, Fraction(1, 1000), options=options, last=40)
    assert read_info(tmp_path / "in.mp4").duration_s == pytest.approx(10.08)
    assert len(times(tmp_path / "in.mp4", start_s=5.0)) == 2


def test_a_span_that_is_none_is_refused(film: Path) -> None:
    """The accident: an empty film for seconds typed the wrong way round."""
    for options, said in [
        ({"start_s": 0.5, "end_s": 0.5}, "0 <= start < end in seconds, got start 0.5 and end 0.5"),
        ({"start_s": -1.0}, "got start -1"),
        ({"start_s": 30.0}, "before the end at 0.8 s, got 30 s"),
    ]:
        with pytest.raises(UsageError, match=said):
            times(film, **options)


def test_what_becomes_of_transparency_is_said(tmp_path: Path, make_film: Callable) -> None:
    """The accident: a title made for other films loses its shape, and nobody is told."""
    make_film(tmp_path / "in.mkv", range(2), codec="ffv1", pix_fmt="yuva420p", tags=(1, 1, 1, 1))
    assert read_info(tmp_path / "in.mkv").notes == ("transparency is laid on white",)

    def dress(container: av.container.OutputContainer) -> None:
        container.streams.video[0].metadata["alpha_mode"] = "1"  # as VP9 in WebM tells it

    make_film(tmp_path / "in.webm", range(2), codec="libvpx-vp9", tags=(1, 1, 1, 1), dress=dress)
    [said] = read_info(tmp_path / "in.webm").notes
    assert said.startswith("transparency is not kept")


def damaged(path: Path, which: tuple[int, ...]) -> None:
    """Overwrite the pictures with these numbers by noise."""
    with av.open(path) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in which:
        place, size = places[number]
        content[place : place + size] = np.random.RandomState(0).bytes(size)
    path.write_bytes(content)


def test_frames_that_cannot_be_decoded_repeat_the_last_good_one(tmp_path: Path, make_film: Callable) -> None:
    """The accident: a shorter film, and from the damage on sound and pictures are out of step."""
    path = tmp_path / "in.mp4"
    make_film(path, range(40), options={"preset": "ultrafast", "g": "10"})
    damaged(path, (25, 26))
    with open_video(path) as reader:
        frames = list(reader)
        assert len(frames) == 40
        assert [k for k, frame in enumerate(frames) if frame.repeated] == [25, 26]
        assert frames[25].pixels.equal(frames[24].pixels)
        assert not frames[27].pixels.equal(frames[24].pixels)
        assert "2 frames could not be decoded; the last good one is repeated instead" in reader.notes
    with open_video(path, skip=26) as reader:
        assert next(iter(reader)).pixels.equal(frames[24].pixels)


@pytest.mark.parametrize(("suffix", "said"), [(".mp4", r"end after 0\.\d\d s of 1\.60 s"), (".mkv", "cut short")])
def test_of_a_film_cut_short_what_is_there_is_used(tmp_path: Path, make_film: Callable, suffix: str, said: str) -> None:
    """The accident: nothing at all, or half a film that is taken for the whole."""
    path = tmp_path / f"in{suffix}"
    faststart = {"movflags": "faststart"} if suffix == ".mp4" else {}
    make_film(path, range(0, 1600, 40), Fraction(1, 1000), container_options=faststart)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with open_video(path) as reader:
        assert 15 < len(list(reader)) < 30
        assert re.search(said, reader.notes[-1])


def test_pictures_that_end_before_the_film_are_not_called_cut_short(tmp_path: Path, make_film: Callable) -> None:
    """The accident: every film with a longer sound, and every slide show, is 'damaged', until nobody reads it."""

    def late_text(container: av.container.OutputContainer) -> Callable[[], None]:
        track = container.add_stream("subrip")
        track.codec_context.subtitle_header = b"[Script Info]\n\n[V4+ Styles]\n\n[Events]\n"
        packet = av.Packet(b"the end")
        packet.pts = packet.dts = 5000
        packet.duration, packet.time_base, packet.stream = 1000, Fraction(1, 1000), track
        return lambda: container.mux(packet)

    ticks = range(0, 400, 40), Fraction(1, 1000)
    make_film(tmp_path / "sound.mkv", *ticks, audio=["libopus"], audio_s=3)
    make_film(tmp_path / "text.mkv", *ticks, dress=late_text)
    make_film(tmp_path / "last.mp4", *ticks, last=5000)
    make_film(tmp_path / "last.mkv", *ticks, last=5000)
    untagged = (tmp_path / "sound.mkv").read_bytes().replace(b"DURATION", b"duration")  # as other programs write it
    (tmp_path / "untagged.mkv").write_bytes(untagged)
    for name, duration_s in (
        ("sound.mkv", 0.4),
        ("text.mkv", 0.4),
        ("last.mp4", 5.36),
        ("last.mkv", 5.36),
        ("untagged.mkv", 3),
    ):
        for start_s in (0, 0.2):
            with open_video(tmp_path / name, start_s=start_s) as reader:
                assert len(list(reader)) == 10 - 25 * start_s
                assert reader.notes == list(reader.info.notes), name
        assert reader.info.duration_s == pytest.approx(duration_s, abs=0.05)
    (tmp_path / "untagged.mkv").write_bytes(untagged[: len(untagged) // 2])
    with open_video(tmp_path / "untagged.mkv") as reader:
        list(reader)
        assert "damaged or cut short" in reader.notes[-1]


def test_what_is_no_film_is_told_in_clear_words(tmp_path: Path, make_film: Callable) -> None:
    """The accident: 'Invalid data found when processing input', and nobody knows what to do."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello")
    make_film(tmp_path / "whole.mp4", range(30))
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(tmp_path / "sound.mp4", "w") as container:
        track = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    for name, said in [
        ("empty.mp4", "empty.mp4: the file is empty"),
        ("text.mp4", "text.mp4: not a film"),
        ("headless.mp4", "headless.mp4: not a film, or its header is damaged or missing"),
        ("none.mp4", "none.mp4: there is no such file"),
        ("sound.mp4", "sound.mp4: expected a film, found audio and no moving picture"),
    ]:
        with pytest.raises(VideoError, match=said) as caught:
            read_info(tmp_path / name)
        assert str(caught.value).count("\n") < 3


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path: Path, make_film: Callable) -> None:
    """The accident: a broadcast changes its size, and the program ends in the middle of the film."""
    make_film(tmp_path / "a.ts", range(0, 36000, 3600), Fraction(1, 90000))
    make_film(tmp_path / "b.ts", range(36000, 72000, 3600), Fraction(1, 90000), size=(96, 64))
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with open_video(tmp_path / "in.ts") as reader:
        assert {tuple(frame.pixels.shape) for frame in reader} == {(48, 64, 3)}
        assert reader.notes[-1] == "10 frames of another size scaled to 64x48, that of the first"


@pytest.mark.parametrize("first", [-5, -13])
def test_what_an_edit_list_hides_is_no_frame(tmp_path: Path, make_film: Callable, first: int) -> None:
    """The accident: a trimmed clip of a telephone gets back what its owner cut away, or is called damaged."""
    path = tmp_path / "in.mp4"
    make_film(path, range(first, 40), options={"preset": "medium", "g": "10"})
    with open_video(path) as reader:
        assert [frame.pts * reader.info.time_base for frame in reader] == [Fraction(k, 25) for k in range(40)]
        assert reader.notes == list(reader.info.notes)
        assert not any("damaged" in note for note in reader.notes)


def test_times_that_jump_back_go_on(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: at the seam of two recordings the muxer gives up, or a second is shown in an instant."""
    make_film(tmp_path / "a.ts", range(0, 36000, 3600), Fraction(1, 90000), audio=["mp2"])
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    redone = redo(tmp_path / "in.ts", tmp_path / "out.mp4")
    shown = times(tmp_path / "out.mp4")
    assert len(shown) == 20
    assert shown == [frame.pts for frame in redone.frames]
    assert {after - before for before, after in itertools.pairwise(shown)} == {3600}
    with open_video(tmp_path / "in.ts") as reader:
        list(reader)
        assert any(note.startswith("10 frames without a usable time") for note in reader.notes)


def test_interlaced_films_become_progressive_and_this_is_said(
    tmp_path: Path, make_film: Callable, redo: Callable
) -> None:
    """The accident: combs on everything that moves, enlarged four times, in a film that is said to be 'kept so'."""
    make_film(tmp_path / "in.mp4", range(4), options={"preset": "ultrafast", "x264-params": "interlaced=1"})
    info = read_info(tmp_path / "in.mp4")
    assert info.interlaced
    assert any("interlaced" in note and "written as progressive; deinterlace it first" in note for note in info.notes)
    redo(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert not read_info(tmp_path / "out.mp4").interlaced


def test_one_pixel_is_a_film(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: a division by zero somewhere between the smallest film and its result."""
    make_film(tmp_path / "in.mkv", range(3), codec="ffv1", pix_fmt="bgr0", size=(1, 1), time_base=Fraction(1, 1000))
    redo(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert len(times(tmp_path / "out.mp4")) == 3


def test_films_are_told_by_their_names_and_animations_by_their_content(tmp_path: Path, film: Path) -> None:
    """The accident: a photograph in WebP is sent through the machinery for films."""
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "still.webp")
    picture.save(tmp_path / "still.gif")
    others = [Image.new("RGB", (8, 8), (k, 9, 9)) for k in (50, 200)]
    picture.save(tmp_path / "moving.webp", save_all=True, append_images=others)
    picture.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    (tmp_path / "folder.mp4").mkdir()
    found = {path.name for path in [*tmp_path.iterdir(), tmp_path / "none.mkv"] if is_video(path)}
    assert found == {"film.mp4", "moving.webp", "moving.gif"}


@pytest.mark.parametrize(
    ("name", "codec", "depth", "matrix", "range_", "count"),
    [("h264_10bits.mp4", "h264", "uint16", 6, 1, 30), ("h265_10bits.mp4", "hevc", "uint16", 6, 1, 30),
     ("h265_video.mp4", "hevc", "uint8", 6, 1, 10), ("bt709_full_range.mp4", "h264", "uint8", 1, 2, 30),
     ("av1_video.mkv", "av1", "uint8", 1, 1, 125)],
)  # fmt: skip
def test_films_of_other_programs_are_read(
    shared_data: Path, name: str, codec: str, depth: str, matrix: int, range_: int, count: int
) -> None:
    """The accident: everything works with the films that the tests encode, and with no other."""
    path = shared_data / "video" / "formats" / name
    info = read_info(path)
    assert (info.streams[0].codec, info.depth, info.colour.matrix, info.colour.range) == (codec, depth, matrix, range_)
    assert len(times(path)) == count if count < 100 else len(times(path, end_s=0.4)) == 10
