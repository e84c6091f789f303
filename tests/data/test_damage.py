"""Which pixels of a cut or damaged JPEG survive: never too few marked, and those kept are exactly those of the whole file."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from imagesmith.data import pillow_formats
from imagesmith.data.files import Frame, read_image
from imagesmith.data.pillow_formats import damage_in_jpeg
from imagesmith.errors import ImageError, ImagesmithError

WHOLE = {"quality": 85}
KINDS = {
    "4:2:0": WHOLE,
    "4:4:4": WHOLE | {"subsampling": 0},
    "4:2:2": WHOLE | {"subsampling": 1},
    "own tables": {"quality": 60, "optimize": True},
    "restarts": WHOLE | {"restart_marker_blocks": 4},
}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A real photograph whose sides are no multiple of a block."""
    return Image.fromarray(np.ascontiguousarray(data.astronaut()[:203, 90:291]))


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def scan_start(content: bytes) -> int:
    """Where the entropy-coded data begins; these files have no thumbnail."""
    at = content.index(b"\xff\xda")
    return at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def cut(content: bytes, share: float) -> bytes:
    """The header and this share of what follows."""
    start = scan_start(content)
    return content[: start + int((len(content) - start) * share)]


def lost_of(frame: Frame) -> Tensor:
    assert frame.lost is not None
    return frame.lost


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_a_cut_file_keeps_is_what_the_whole_has(photo: Image.Image, kind: str, share: float, mode: str) -> None:
    """A pixel that was never in the file passes for a photographed one; or half of a good picture is invented anew."""
    content = jpeg(photo.convert(mode), **KINDS[kind])
    whole, part = read_image(content).pixels, read_image(cut(content, share), partial=True)
    differs, lost = (whole != part.pixels).any(dim=2), lost_of(part)
    assert not (differs & ~lost).any()
    assert (lost.float().mean() - differs.float().mean()) < 0.02
    assert lost[-1].all()
    assert any("missing" in note for note in part.meta.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_of_a_whole_file(photo: Image.Image, kind: str) -> None:
    """--partial over a folder in which most files are good: they must come out as without it."""
    content = jpeg(photo, **KINDS[kind])
    careful = read_image(content, partial=True)
    assert careful.lost is None
    assert careful.pixels.equal(read_image(content).pixels)
    assert careful.meta == read_image(content).meta
    closed = read_image(content[:-2], partial=True)  # only the end mark is gone
    assert closed.lost is None
    assert "complete" in closed.meta.notes[0]


def test_a_progressive_file_loses_detail_and_no_pixels(photo: Image.Image) -> None:
    """Its first scan shows all of the picture: what is there, coarse as it is, is truer than anything invented."""
    content = jpeg(photo, quality=85, progressive=True)
    for share in (0.3, 0.6, 0.9):
        part = read_image(cut(content, share), partial=True)
        assert part.lost is None
        assert any("detail is missing" in note for note in part.meta.notes)
        error = (part.pixels.float() - read_image(content).pixels.float()).abs().mean()
        assert error < 12
    early = read_image(cut(content, 0.02), partial=True)
    assert lost_of(early)[-1].all()
    assert not lost_of(early)[:8].any()


def test_the_rest_filled_with_zeros_is_as_good_as_cut(photo: Image.Image) -> None:
    """Download programs set the whole file aside and fill it as it comes; zeros decode to stripes of some colour."""
    content = jpeg(photo, **WHOLE)
    short = cut(content, 0.5)
    padded = read_image(short + bytes(len(content) - len(short)), partial=True)
    assert lost_of(padded).equal(lost_of(read_image(short, partial=True)))


def test_a_changed_stretch_is_found_by_the_line_it_draws(photo: Image.Image) -> None:
    """A bad sector shifts the colour and place of all that follows; it decodes without an error."""
    content = jpeg(photo, quality=90, subsampling=0)
    middle = len(content) // 2
    broken = content[:middle] + bytes(64) + content[middle + 64 :]
    whole, part = read_image(content).pixels.int(), read_image(broken, partial=True)
    visible = ((whole - part.pixels.int()).abs() > 8).any(dim=2)
    lost = lost_of(part)
    assert (visible & ~lost).float().mean() < 0.001
    assert 0.3 < lost.float().mean() < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_a_glance_suspects_changed_files_and_no_others(photo: Image.Image, kind: str) -> None:
    """What is looked at of every photograph costs a tenth of the survey only while it sends none of them there."""
    content = jpeg(photo, **KINDS[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow_formats, "survey_jpeg", lambda *given: pytest.fail("surveyed"))
        assert damage_in_jpeg(content) is None


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "own tables"])
def test_a_glance_finds_what_the_survey_finds(photo: Image.Image, kind: str) -> None:
    """Nobody asks for the survey of a photograph that decodes without an error, displaced and green as it is."""
    content = jpeg(photo, **KINDS[kind])
    at = (scan_start(content) + len(content)) // 2
    broken = content[:at] + bytes(64) + content[at + 64 :]
    read_image(broken)
    found = damage_in_jpeg(broken)
    assert found is not None
    assert torch.from_numpy(found).equal(lost_of(read_image(broken, partial=True)))


def test_between_restart_markers_only_the_broken_part_is_lost(photo: Image.Image) -> None:
    """Restart markers are there for this: a decoder that gives up all that follows wastes them."""
    content = bytearray(jpeg(photo, quality=90, restart_marker_rows=1))
    middle = content.index(b"\xff\xd4") + 60
    content[middle : middle + 2] = b"\xff\xc4"  # a marker that has no business here: the part ends
    whole = read_image(jpeg(photo, quality=90, restart_marker_rows=1)).pixels
    part = read_image(bytes(content), partial=True)
    lost = lost_of(part)
    assert not ((whole != part.pixels).any(dim=2) & ~lost).any()
    assert 0 < lost.float().mean() < 0.12
    assert "between rows" in part.meta.notes[0]


def test_a_lost_packet_leaves_the_rest_in_its_place(photo: Image.Image) -> None:
    """Without counting the markers, everything below a gap moves up."""
    content = jpeg(photo, quality=90, restart_marker_rows=1)
    gone = content[: content.index(b"\xff\xd2")] + content[content.index(b"\xff\xd4") :]
    whole, part = read_image(content).pixels, read_image(gone, partial=True)
    lost = lost_of(part)
    assert not ((whole != part.pixels).any(dim=2) & ~lost).any()
    assert not lost[-32:].any()
    assert torch.from_numpy(damage_in_jpeg(gone)).equal(lost), "a glance finds it as well"


def test_the_lost_part_turns_with_the_picture(photo: Image.Image) -> None:
    """A phone's photo lies on its side in the file: the mask must not stay there."""
    exif = Image.Exif()
    exif[274] = 6
    part = read_image(cut(jpeg(photo, **WHOLE, exif=exif), 0.5), partial=True)
    lost = lost_of(part)
    assert lost.shape == part.pixels.shape[:2]
    assert lost[:, 0].all()
    assert not lost[:, -1].any()


def test_photographs_are_not_taken_for_damaged() -> None:
    """The accident: a horizon, a window or a comic's frame that lies on the edge of blocks and looks like damage."""
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[80:] = 255
    stripes[::3] += 9
    pictures = [data.astronaut(), data.chelsea(), data.coffee(), np.stack([data.camera()] * 3, axis=2), stripes]
    for picture in pictures:
        for quality in (40, 90):
            assert read_image(jpeg(Image.fromarray(picture[:256, :256]), quality=quality), partial=True).lost is None


def test_a_file_without_any_picture_is_refused(photo: Image.Image) -> None:
    """Inventing a whole photograph out of nothing is no restoration."""
    content = jpeg(photo, **WHOLE)
    for end in (20, scan_start(content), scan_start(content) + 1):
        with pytest.raises(ImageError):
            read_image(content[:end], partial=True)


def test_any_changed_byte_gives_a_picture_or_our_error(photo: Image.Image) -> None:
    """The header is read here by hand, with numbers that nobody has checked."""
    content, rng = jpeg(photo.crop((0, 0, 40, 40)), **KINDS["restarts"]), np.random.default_rng(3)
    for _ in range(80):
        broken = bytearray(content)
        for at in rng.integers(2, len(content), 2):
            broken[at] = rng.integers(256)
        try:
            frame = read_image(bytes(broken), partial=True, max_pixels=100_000)
        except ImagesmithError:
            continue
        assert frame.lost is None or (frame.lost.shape == frame.pixels.shape[:2] and not frame.lost.all())
        assert frame.pixels.dtype == torch.uint8
