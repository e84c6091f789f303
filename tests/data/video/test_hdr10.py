"""What televisions need to know of HDR10 films."""

from collections.abc import Callable
from pathlib import Path

from imagesmith.data.video import Encoding, lost_by, read_info, settle
from imagesmith.data.video.colour import BT2020, LIMITED, ColourTags
from imagesmith.data.video.hdr10 import Hdr10


def test_hdr_keeps_its_light_or_says_that_it_does_not(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: HDR10 metadata vanish, and nobody knows why the television shows the film darker."""
    screen = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    params = {"x265-params": f"log-level=none:{screen}"}
    make_film(tmp_path / "in.mp4", range(2), pix_fmt="yuv420p10le", codec="libx265", options=params, tags=(9, 1, 9, 16))
    redone = redo(tmp_path / "in.mp4", tmp_path / "out.mp4")
    info, after = redone.info, read_info(tmp_path / "out.mp4")
    assert after.colour == info.colour == ColourTags(BT2020, LIMITED, 9, 16)
    primaries = 34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450
    assert after.hdr10 == info.hdr10 == Hdr10((*primaries, 1, 10_000_000), (1000, 400))
    assert not any("HDR10" in note for note in redone.notes)
    [said] = lost_by(settle(Encoding("ffv1"), info), info, scale=1, output=Path("a.mkv"))
    assert "HDR10 metadata" in said
