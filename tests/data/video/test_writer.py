from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from imagesmith.data.video import Encoding, VideoInfo, read_info, segment_writer
from imagesmith.errors import OutputError

UNEVEN = [7, 300, 301, 2000, 2600, 9000]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks"])
def test_a_part_keeps_every_time(tmp_path: Path, make_film: Callable, moving: Callable, codec: str) -> None:
    """The accident: a container of parts that rounds times, or moves them where decoding starts before 0."""
    make_film(tmp_path / "in.mp4", UNEVEN, Fraction(1, 12800), container_options={"movie_timescale": "12800"})
    info = read_info(tmp_path / "in.mp4")
    assert info.start == UNEVEN[0]
    part = tmp_path / "part"
    with segment_writer(part, info, Encoding(codec), size=(64, 48)) as write:
        for image, pts in zip(moving(5), UNEVEN[1:], strict=True):
            write(image, pts)
    with av.open(part) as container:
        track = container.streams.video[0]
        times = [frame.pts * track.time_base / info.time_base + info.start for frame in container.decode(track)]
    assert times == UNEVEN[1:]


@pytest.mark.parametrize("first", [0, 1, 400])
def test_a_part_of_prores_takes_a_coarse_clock(tmp_path: Path, moving: Callable, first: int) -> None:
    """The accident: folders of frames and AVI fail, as MOV makes 1/12800 of 1/25 and decoding times overflow."""
    info = VideoInfo(Path("in"), "folder", 64, 48, None, 1.0, Fraction(1, 25), Fraction(25))
    with segment_writer(tmp_path / "part", info, Encoding("prores_ks"), size=(64, 48)) as write:
        for number, image in enumerate(moving(3)):
            write(image, first + number)
    with av.open(tmp_path / "part") as container:
        times = [frame.pts * container.streams.video[0].time_base * 25 for frame in container.decode(video=0)]
    assert times == [first, first + 1, first + 2]


def test_the_same_frames_become_the_same_part_whatever_the_memory_held(
    tmp_path: Path, moving: Callable, fill_what_is_free: Callable[[int, int], None]
) -> None:
    """The accident: a resumed run ends in other frames, as x264 by AVX-512 read what was there before."""
    info = VideoInfo(Path("in"), "folder", 208, 96, None, 1.0, Fraction(1, 25), Fraction(25))
    frames, parts = moving(25, 208, 96), set[bytes]()
    for held in (0, 255, 127):
        fill_what_is_free(held, 400)
        with segment_writer(tmp_path / "part", info, Encoding("libx264"), size=(208, 96)) as write:
            for number, image in enumerate(frames):
                write(image, number)
                fill_what_is_free(held, 20)
        parts.add((tmp_path / "part").read_bytes())
    assert len(parts) == 1


def test_a_part_is_whole_or_absent(tmp_path: Path, film: Path, moving: Callable) -> None:
    """The accident: half a part, taken for a whole one after a restart."""
    info, part = read_info(film), tmp_path / "parts" / "1"
    with (
        pytest.raises(OutputError, match="does not exist; create it first"),
        segment_writer(part, info, Encoding(), size=(64, 48)),
    ):
        pass
    part.parent.mkdir()
    with pytest.raises(KeyboardInterrupt), segment_writer(part, info, Encoding(), size=(64, 48)) as write:
        write(moving(1)[0], 0)
        raise KeyboardInterrupt
    assert list(part.parent.iterdir()) == []


def test_mistakes_of_the_caller_are_not_called_bad_files(tmp_path: Path, film: Path) -> None:
    """The accident: a bug in a network is reported as a film that cannot be encoded."""
    with (
        pytest.raises(ValueError, match="a bug"),
        segment_writer(tmp_path / "a", read_info(film), Encoding(), size=(64, 48)),
    ):
        raise ValueError("a bug")
