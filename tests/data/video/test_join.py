import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from imagesmith.data.video import Encoding, audit, join, left_out, read_info
from imagesmith.errors import OutputError

UNEVEN = [0, *np.cumsum(np.random.RandomState(1).randint(200, 1500, 23)).tolist()]
TIME_BASE = Fraction(1, 12800)
QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_times_of_a_film_with_variable_rate_are_exact(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable, codec: str
) -> None:
    """The accident: reordered frames clash where parts meet, or every frame moves by up to 11 ms."""
    make_film(tmp_path / "in.mp4", UNEVEN, TIME_BASE, audio=["aac", "aac"])
    preset = "medium" if codec == "libx264" else "ultrafast"  # with B-frames, which reorder
    redo(tmp_path / "in.mp4", tmp_path / "out.mp4", Encoding(codec, preset=preset))
    source, result = look(tmp_path / "in.mp4"), look(tmp_path / "out.mp4")
    assert result.times == source.times == [pts * TIME_BASE for pts in UNEVEN]
    assert result.packets["audio"] == source.packets["audio"]


def test_joined_parts_are_one_uninterrupted_film(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable
) -> None:
    """The accident: a film that was interrupted has fewer frames, or other times, than one that was not."""
    make_film(tmp_path / "in.mp4", UNEVEN, TIME_BASE)
    encoding = Encoding("libx264", preset="medium")
    redo(tmp_path / "in.mp4", tmp_path / "parts.mp4", encoding, per=5)
    redo(tmp_path / "in.mp4", tmp_path / "whole.mp4", encoding, per=100)
    assert look(tmp_path / "parts.mp4").times == look(tmp_path / "whole.mp4").times
    with av.open(tmp_path / "parts.mp4") as container:
        decoded_at = [packet.dts for packet in container.demux(video=0) if packet.size]
        assert decoded_at == sorted(set(decoded_at))
        assert container.streams.video[0].codec_context.has_b_frames


@pytest.mark.parametrize("preset", ["ultrafast", "medium"])  # without and with B-frames, which reorder
@pytest.mark.parametrize(
    ("pts", "last", "length_s"), [([0, 40, 80], 5000, 5.08), ([0, 5000, 10000], 1000, 11), ([0], 5000, 5)]
)
def test_the_last_picture_is_shown_as_long_as_before(
    tmp_path: Path, make_film: Callable, redo: Callable, pts: list[int], last: int, length_s: float, preset: str
) -> None:
    """The accident: the title at the end is gone in an instant, the last slide stays for five seconds instead of one.

    A film of one picture, with a song to it, had the length of one tick.
    """
    sound = {"audio": ["aac"], "audio_s": length_s + 1} if len(pts) == 1 else {}
    for name in ("in.mp4", "in.mkv"):
        make_film(tmp_path / name, pts, Fraction(1, 1000), last=last, **sound)
    for has, becomes in (("in.mp4", "a.mp4"), ("in.mkv", "b.mp4"), ("in.mp4", "c.mkv"), ("a.mp4", "again.mp4")):
        redo(tmp_path / has, tmp_path / becomes, Encoding(preset=preset))
        info = read_info(tmp_path / becomes)
        early = info.start * info.time_base if becomes == "c.mkv" else 0  # Matroska counts lengths from 0
        assert info.duration_s - early == pytest.approx(length_s, abs=1e-3), becomes
    redo(tmp_path / "in.mp4", tmp_path / "part.mp4", Encoding(preset=preset), end_s=length_s - 0.5)
    assert read_info(tmp_path / "part.mp4").duration_s == pytest.approx(length_s - 0.5, abs=1e-3)


def test_a_part_is_read_packet_by_packet(
    tmp_path: Path, make_film: Callable, redo: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: 250 lossless pictures of 8K, gigabytes of them, in memory before the first one is written."""
    make_film(tmp_path / "in.mp4", UNEVEN, TIME_BASE)
    taken, ahead = 0, []

    def counting(self: object, packet: av.Packet) -> int:
        nonlocal taken
        taken += 1
        return pts_of(self, packet)

    def watched(pictures: Iterable, *others: Iterable, key: Callable) -> Iterator:
        before = taken
        for number, timed in enumerate(pictures, start=1):
            ahead.append(taken - before - number)
            yield timed

    joining = sys.modules[join.__module__]
    pts_of = joining._Parts._pts
    monkeypatch.setattr(joining._Parts, "_pts", counting)
    monkeypatch.setattr(joining.heapq, "merge", watched)
    redo(tmp_path / "in.mp4", tmp_path / "out.mp4", per=24)
    assert ahead == [0] * 24


@pytest.mark.parametrize("start", [7, 123457, 12800 * 4000])
def test_a_late_start_stays(tmp_path: Path, make_film: Callable, redo: Callable, look: Callable, start: int) -> None:
    """The accident: MP4 counts a late start in thousandths of a second, and sound drifts from the pictures."""
    late = {"audio": ["aac"], "audio_start_s": start / 12800 + 0.1, "container_options": {"movie_timescale": "192000"}}
    make_film(tmp_path / "in.mp4", [pts + start for pts in UNEVEN], TIME_BASE, **late)
    redo(tmp_path / "in.mp4", tmp_path / "out.mp4")
    source, result = look(tmp_path / "in.mp4"), look(tmp_path / "out.mp4")
    assert result.times == source.times == [(pts + start) * TIME_BASE for pts in UNEVEN]
    assert result.packets["audio"] == source.packets["audio"]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_the_clock_of_a_broadcast_is_left_behind(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable, name: str
) -> None:
    """The accident: half a second of television, recorded in the evening, becomes a film of twenty-two hours."""
    start, tick = 7_000_000_000, Fraction(1, 90000)
    sound = {"audio": ["aac"], "audio_start_s": float(start * tick) + 0.1, "audio_s": 0.3}
    make_film(tmp_path / "in.ts", [start + 3600 * k for k in range(12)], tick, **sound)
    info = redo(tmp_path / "in.ts", tmp_path / name).info
    with av.open(tmp_path / name) as film:
        assert film.duration < av.time_base
    found = audit(info, tmp_path / name)
    assert found.ok, found.sentences
    assert look(tmp_path / name).times[0] < 0.2


def test_matroska_keeps_sound_and_pictures_together(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable
) -> None:
    """The accident: Matroska begins at 0 and moves the pictures, but not the sound."""
    make_film(tmp_path / "in.mp4", UNEVEN, TIME_BASE, audio=["aac"])
    redo(tmp_path / "in.mp4", tmp_path / "out.mkv")
    source, result = look(tmp_path / "in.mp4"), look(tmp_path / "out.mkv")
    moved = [after - before for before, after in zip(source.times, result.times, strict=True)]
    assert max(moved) - min(moved) <= Fraction(1, 1000)
    sound, kept = source.packets["audio"][0], result.packets["audio"][0]
    assert [content for _, content in kept] == [content for _, content in sound]
    assert abs((kept[0][0] - result.times[0]) - (sound[0][0] - source.times[0])) <= Fraction(1, 1000)


def test_sound_that_an_edit_list_hides_stays_hidden(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable
) -> None:
    """The accident: in Matroska, which has no edit list, half a second of the next room is heard before the film."""
    late = {"audio": ["aac"], "audio_start_s": -0.52, "options": {"preset": "medium", "g": "10"}}
    make_film(tmp_path / "in.mp4", range(-13, 40), **late)
    for name in ("out.mkv", "out.mp4"):
        redo(tmp_path / "in.mp4", tmp_path / name)
        result = look(tmp_path / name)
        sound = result.packets["audio"][0]
        assert -0.13 < sound[0][0] - result.times[0] < 0
        assert [content for _, content in look(tmp_path / "in.mp4").packets["audio"][0]][-len(sound) :] == [
            content for _, content in sound
        ]


def test_what_players_need_to_know_stays(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: a film of a telephone lies on its side, wide pixels become square, colours shift."""
    source = tmp_path / "in.mp4"
    make_film(source, matrix=QUARTER_TURN, aspect=Fraction(4, 3), tags=(9, 1, 9, 16))
    for output in (tmp_path / "out.mp4", tmp_path / "out.mov", tmp_path / "out.mkv"):
        before = redo(source, output, scale=2).info
        after = read_info(output)
        assert before.rotation in (90, -90)
        assert (after.width, after.height) == (128, 96)
        assert (after.matrix, after.rotation) == (QUARTER_TURN, before.rotation)
        assert after.sample_aspect == Fraction(4, 3)
        assert after.colour == before.colour
        assert (after.colour.matrix, after.colour.primaries, after.colour.transfer) == (9, 9, 16)


@pytest.mark.parametrize(("codec", "name"), [("libsvtav1", "out.mp4"), ("prores_ks", "out.mov")])
def test_the_container_tells_the_shape_of_pixels_where_the_codec_does_not(
    tmp_path: Path, make_film: Callable, redo: Callable, codec: str, name: str
) -> None:
    """The accident: a night of computing ends in 'the shape of pixels is 1, was 16/11'."""
    make_film(tmp_path / "in.mp4", range(0, 4096, 512), TIME_BASE, aspect=Fraction(16, 11))
    redo(tmp_path / "in.mp4", tmp_path / name, Encoding(codec))
    assert read_info(tmp_path / name).sample_aspect == Fraction(16, 11)


def test_the_shift_of_a_turn_is_left_to_players(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: a telephone's film, enlarged, is shown beside the screen: its shift counts in pixels of before."""
    shifted = (*QUARTER_TURN[:6], 48 << 16, 0, QUARTER_TURN[8])
    make_film(tmp_path / "in.mov", matrix=shifted)
    for name in ("out.mp4", "out.mkv"):
        redo(tmp_path / "in.mov", tmp_path / name, scale=2)
        assert read_info(tmp_path / name).matrix == read_info(tmp_path / "in.mov").matrix == QUARTER_TURN


def test_hevc_in_mp4_has_the_name_that_players_know(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: a film that plays everywhere but on the telephone that made it ('hev1')."""
    redo(film, tmp_path / "out.mp4", Encoding("libx265", preset="ultrafast"))
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_the_index_comes_first(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: a film on a web page starts only when all of it has come."""
    redo(film, tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def chapters(*marks_ms: int) -> Callable[[av.container.OutputContainer], None]:
    """Chapters from each mark to the next: 'part 0', 'part 1' ..."""

    def dress(container: av.container.OutputContainer) -> None:
        container.set_chapters(
            [
                {"id": k, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": f"part {k}"}}
                for k, (a, b) in enumerate(itertools.pairwise(marks_ms))
            ]
        )

    return dress


def test_chapters_go_on_with_the_sound(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: an audiobook with a short picture has one chapter left, cut to a second."""
    source = tmp_path / "in.mp4"
    make_film(source, range(5), audio=["aac"], audio_s=2, dress=chapters(0, 1000, 2000))
    for name in ("out.mp4", "out.mkv"):
        redo(source, tmp_path / name)
        found = read_info(tmp_path / name).chapters
        ends = [[chapter[key] * chapter["time_base"] for key in ("start", "end")] for chapter in found]
        early = ends[0][0]  # Matroska begins at 0, where the sound does
        assert [[time - early for time in pair] for pair in ends] == [[0, 1], [1, 2]]
        assert early < 0.05
    redo(source, tmp_path / "part.mp4", end_s=0.1)
    assert [chapter["metadata"]["title"] for chapter in read_info(tmp_path / "part.mp4").chapters] == ["part 0"]


def test_place_and_camera_of_a_telephone_stay(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: ten years of holidays restored, and no film knows any more where it was taken."""
    told = {
        "com.apple.quicktime.location.ISO6709": "+48.1371+011.5754+519.0/",
        "com.apple.quicktime.model": "iPhone 12",
        "com.android.version": "12",
        "creation_time": "2020-05-06T07:08:09Z",
        "title": "A walk",
    }

    def dress(container: av.container.OutputContainer) -> None:
        container.metadata.update(told)

    make_film(tmp_path / "in.mov", range(5), container_options={"movflags": "use_metadata_tags"}, dress=dress)
    for name in ("out.mov", "out.mp4", "out.mkv"):
        redo(tmp_path / "in.mov", tmp_path / name)
        kept = {key.lower(): text for key, text in read_info(tmp_path / name).metadata.items()}
        assert {key: kept[key.lower()].replace(".000000Z", "Z") for key in told} == told
    told = {"title": "A walk"}
    make_film(tmp_path / "in.mp4", range(5), dress=dress)
    redo(tmp_path / "in.mp4", tmp_path / "plain.mp4")
    assert b"\xa9nam" in (tmp_path / "plain.mp4").read_bytes(), "a title where not every player looks for it"


def test_a_span_cuts_sound_and_chapters_with_the_pictures(
    tmp_path: Path, make_film: Callable, redo: Callable, look: Callable
) -> None:
    """The accident: an excerpt with the sound of the whole film, or sound that is late by the part cut away."""

    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    make_film(source, range(0, 2000, 40), Fraction(1, 1000), audio=["libopus"], dress=chapters(0, 500, 900, 2000))
    redone = redo(source, output, start_s=0.6, end_s=1.4)
    before, after = look(source), look(output)
    assert [frame.pts for frame in redone.frames] == list(range(600, 1400, 40))
    assert after.times == [Fraction(pts - 600, 1000) for pts in range(600, 1400, 40)]
    kept = [(time - Fraction(6, 10), content) for time, content in before.packets["audio"][0] if 0.6 <= time < 1.4]
    assert after.packets["audio"][0] == kept
    info = read_info(output)
    assert [chapter["metadata"]["title"] for chapter in info.chapters] == ["part 1", "part 2"]
    assert info.chapters[0]["start"] == 0
    assert info.chapters[-1]["end"] * info.chapters[-1]["time_base"] <= Fraction(85, 100), "a chapter beyond the film"
    redo(source, tmp_path / "whole.mp4")
    assert redo(tmp_path / "whole.mp4", tmp_path / "again.mp4").notes == ()
    titles = [chapter["metadata"]["title"] for chapter in read_info(tmp_path / "again.mp4").chapters]
    assert titles == ["part 0", "part 1", "part 2"]


def test_parts_that_cannot_be_joined_leave_no_file(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: half a film under the final name, or an older one destroyed."""
    info, output = read_info(film), tmp_path / "results" / "out.mp4"
    output.parent.mkdir()
    empty = tmp_path / "part"
    redo(film, output)
    before = output.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        redo(film, output)
    part = tmp_path / "part0"
    for content in (b"", b"no film", part.read_bytes()):
        empty.write_bytes(content)
        with pytest.raises(OutputError, match=r"part: the part is damaged or not the next one; remove it and run"):
            join([part, empty], info, output, Encoding(), overwrite=True)
    assert list(output.parent.iterdir()) == [output]
    assert output.read_bytes() == before


def test_a_full_disk_is_said_and_nothing_stays(
    tmp_path: Path, film: Path, redo: Callable, run_python: Callable
) -> None:
    """The accident: a traceback at 99 %, and a broken film beside the good one."""
    redo(film, tmp_path / "out.mp4")
    output = tmp_path / "results" / "out.mp4"
    output.parent.mkdir()
    said = run_python(
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from imagesmith.data.video import Encoding, join, read_info\n"
        "from imagesmith.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        f"parts = sorted(Path({str(tmp_path)!r}).glob('part*'), key=lambda path: int(path.name[4:]))\n"
        "try:\n"
        f"    join(parts, read_info({str(film)!r}), Path({str(output)!r}), Encoding())\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    assert "cannot be written" in said
    assert list(output.parent.iterdir()) == []


def test_what_a_container_cannot_hold_is_known_before(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: after a night of computing a film without sound, and a sentence about it too late."""
    info = read_info(film)
    assert left_out(info, tmp_path / "a.mp4") == ()
    early = left_out(info, tmp_path / "a.webm")
    assert early == ("audio stream 1 (aac) is left out: webm cannot hold it",)
    assert redo(film, tmp_path / "a.webm").notes == early
    assert left_out(info, tmp_path / "frames") == ("audio stream 1 (aac) is left out: frames holds pictures alone",)
