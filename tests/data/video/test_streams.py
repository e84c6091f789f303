import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from PIL import Image

from imagesmith.data.video import audit, left_out, read_info

LINES = [(0.1, b"Hello"), (0.4, b"two\\Nlines")]
HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\n\n[Events]\n"


def subtitles(codec: str) -> Callable[[av.container.OutputContainer], Callable[[], None]]:
    """Two subtitles of 0.2 s in German."""

    def dress(container: av.container.OutputContainer) -> Callable[[], None]:
        track = container.add_stream(codec)
        track.codec_context.subtitle_header = HEADER
        track.metadata["language"] = "ger"

        def then() -> None:
            for start_s, text in LINES:
                packet = track.codec_context.encode_subtitle(SubtitleSet.create(b"0,0,Default,,0,0,0,," + text, 0, 0))
                packet.time_base, packet.pts, packet.duration = Fraction(1, 1000), round(start_s * 1000), 200
                packet.dts, packet.stream = packet.pts, track
                container.mux(packet)

        return then

    return dress


@pytest.mark.parametrize(
    ("has", "codec", "output", "becomes"),
    [("in.mp4", "mov_text", "out.mkv", "subrip"), ("in.mkv", "subrip", "out.mp4", "mov_text"),
     ("in.mkv", "ass", "out.mov", "mov_text"), ("in.mkv", "subrip", "out.webm", "webvtt")],
)  # fmt: skip
def test_text_subtitles_take_the_form_of_the_container(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable, has: str, codec: str, output: str, becomes: str
) -> None:
    """The accident: subtitles lost, without a word, because MP4 holds no SRT."""
    make_film(tmp_path / has, dress=subtitles(codec), pix_fmt="yuv420p")
    notes = redo(tmp_path / has, tmp_path / output).notes
    assert notes == (f"subtitle stream 1 ({codec}, ger) becomes {becomes}, the text that {read_name(output)} holds",)
    result = look(tmp_path / output)
    assert result.codecs[1] == becomes
    shown = [(time, text) for time, text in result.packets["subtitle"][0] if len(text) > 2]  # MP4 writes silence too
    assert [float(time) for time, _ in shown] == [0.1, 0.4]
    assert b"Hello" in shown[0][1]
    assert b"two\nlines" in shown[1][1].replace(b"\r\n", b"\n")
    assert read_info(tmp_path / output).streams[1].language == "ger"


def read_name(output: str) -> str:
    return {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}[output.rpartition(".")[2]]


@pytest.mark.parametrize(("name", "codec"), [("film.mp4", "mov_text"), ("film.mkv", "ass")])
def test_subtitles_that_fit_are_copied(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable, name: str, codec: str
) -> None:
    """The accident: styles lost in a rewrite that nobody needed."""
    make_film(tmp_path / name, dress=subtitles(codec))
    assert redo(tmp_path / name, tmp_path / f"out.{name[-3:]}").notes == ()
    assert look(tmp_path / f"out.{name[-3:]}").packets["subtitle"] == look(tmp_path / name).packets["subtitle"]


def test_fonts_and_titles_go_with_the_film(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: styled subtitles in the wrong font, and a second language that is called 'und'."""

    def dress(container: av.container.OutputContainer) -> None:
        container.add_attachment("font.ttf", "font/ttf", b"not really a font")
        container.metadata["title"] = "A walk"
        container.streams.audio[1].metadata.update(language="fre", title="Commentary")

    make_film(tmp_path / "in.mkv", audio=["libopus", "libopus"], dress=dress)
    redo(tmp_path / "in.mkv", tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as result:
        assert result.metadata["title"] == "A walk"
        assert result.streams.audio[1].metadata["title"] == "Commentary"
        assert result.streams.audio[1].language == "fre"
        attached = [stream for stream in result.streams if stream.type == "attachment"]
        assert [(stream.name, stream.data) for stream in attached] == [("font.ttf", b"not really a font")]
    notes = redo(tmp_path / "in.mkv", tmp_path / "out.mp4").notes
    assert any(note == "attachment stream 3 (font.ttf) is left out: mp4 cannot hold it" for note in notes)


def test_pictures_made_anew_are_not_counted_by_the_old_ones(
    tmp_path: Path, make_film: Callable, redo: Callable
) -> None:
    """The accident: players look for a transparency that is gone, and tools believe a rate of bits that is another."""
    counts = {"ALPHA_MODE": "1", "BPS-eng": "123456", "NUMBER_OF_FRAMES": "20", "_STATISTICS_TAGS": "BPS"}

    def dress(container: av.container.OutputContainer) -> None:
        for stream in container.streams:
            stream.metadata.update({**counts, "title": "Main"})

    make_film(tmp_path / "in.mkv", audio=["libopus"], dress=dress)
    redo(tmp_path / "in.mkv", tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as result:
        pictures, sound = (stream.metadata for stream in result.streams)
    assert pictures["title"] == "Main"
    assert not counts.keys() & pictures.keys()
    assert counts.items() <= sound.items(), "packets that are the same"


def test_a_cover_picture_is_not_taken_for_the_film(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable
) -> None:
    """The accident: one frame, the cover, restored in place of the film - or the cover lost."""
    stream = io.BytesIO()
    Image.new("RGB", (400, 400), (200, 30, 60)).save(stream, "JPEG")

    def dress(container: av.container.OutputContainer) -> Callable[[], None]:
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 400, 400, "yuvj420p"
        cover.disposition = Disposition.attached_pic

        def then() -> None:
            packet = av.Packet(stream.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 25)
            container.mux(packet)

        return then

    make_film(tmp_path / "in.mp4", dress=dress)
    info = read_info(tmp_path / "in.mp4")
    assert (info.width, info.height) == (64, 48)
    assert redo(tmp_path / "in.mp4", tmp_path / "out.mp4").notes == ()
    with av.open(tmp_path / "out.mp4") as result:
        covers = [stream for stream in result.streams.video if stream.disposition & Disposition.attached_pic]
        assert len(covers) == 1
        assert len(result.streams.video) == 2


def times_of(path: Path, number: int) -> list[Fraction]:
    """Seconds at which the pictures of a video stream are shown, in the order in which a player gets them."""
    with av.open(path) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=number)]


@pytest.mark.parametrize("has", ["in.mkv", "in.mp4", "in.ts"])
def test_a_second_picture_is_shown_in_its_order(
    tmp_path: Path, make_film: Callable, redo: Callable, camera: Callable, has: str
) -> None:
    """The accident: Matroska tells no decoding times, reordered pictures are taken for a seam, and a camera stutters."""
    make_film(tmp_path / has, range(14), dress=camera(range(14)))
    before = times_of(tmp_path / has, 1)
    assert len(before) == 14
    for name in ("out.mkv", "out.mp4"):
        redo(tmp_path / has, tmp_path / name)
        first, second = (times_of(tmp_path / name, number) for number in (0, 1))
        assert second == [time - before[0] + second[0] for time in before]
        assert second[0] - first[0] == before[0] - times_of(tmp_path / has, 0)[0]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_the_second_picture_of_an_excerpt_begins_with_a_key_frame(
    tmp_path: Path, make_film: Callable, redo: Callable, camera: Callable, name: str
) -> None:
    """The accident: it begins with packets that nobody can decode, for which MP4 moved the others by 0.1 s."""
    make_film(tmp_path / "in.mkv", range(30), dress=camera(range(30), gop=12))
    redo(tmp_path / "in.mkv", tmp_path / name, start_s=0.28)  # from the middle of reordered ones on
    first, second = (times_of(tmp_path / name, number) for number in (0, 1))
    with av.open(tmp_path / name) as container:
        assert next(container.demux(video=1)).is_keyframe
    assert len(second) == 18
    assert second[0] - first[0] == Fraction(12 - 7, 25)


@pytest.mark.parametrize("has", ["in.mkv", "in.ts"])
def test_a_second_picture_that_an_excerpt_cannot_show_is_left_out_and_this_is_said(
    tmp_path: Path, make_film: Callable, redo: Callable, camera: Callable, has: str
) -> None:
    """The accident: a camera is 'kept as it is', and in the result there is none, or an empty one."""
    make_film(tmp_path / has, range(30), dress=camera(range(30)))
    said = "video stream 1 (h264) is left out: none of its key frames lies in the part that is asked for"
    for name in ("out.mp4", "out.mkv"):
        redone = redo(tmp_path / has, tmp_path / name, start_s=0.28)
        assert redone.notes == left_out(redone.info, tmp_path / name, start_s=0.28) == (said,)
        info = read_info(tmp_path / name)
        assert [stream.kind for stream in info.streams] == ["video"]
        assert audit(redone.info, tmp_path / name, start_s=0.28).ok


def test_a_film_of_another_program_keeps_all_its_tracks(
    tmp_path: Path, shared_data: Path, redo: Callable, look: Callable
) -> None:
    """The accident: two languages and two rows of subtitles go in, one of each comes out."""
    source = shared_data / "video" / "formats" / "nasa_13013.mp4"
    notes = redo(source, tmp_path / "out.mp4", end_s=0.5).notes
    assert notes == ("video stream 0 (h264, eng) is kept as it is: one picture of a film is worked on",)
    before, after = look(source), look(tmp_path / "out.mp4")
    assert len(after.packets["audio"]) == len(after.packets["subtitle"]) == 2
    for all_of_it, kept in zip(before.packets["audio"], after.packets["audio"], strict=True):
        assert kept == all_of_it[: len(kept)]
        assert 0.3 < kept[-1][0] < 0.5
