"""Files whose data did not survive: what is invented, what is kept, and what is said about it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data.files import Frame, ImageMeta, read_image, write_image
from imagesmith.infer.chained import Auto
from imagesmith.infer.heat import CALIBRATION
from imagesmith.infer.lost import fill, lost_pixels
from imagesmith.infer.outcome import ItemResult
from imagesmith.infer.restore import Restorer

PLAIN = dict.fromkeys(("recursive", "resume", "overwrite", "self_ensemble", "consistency", "dry_run"), False)
PLAIN |= dict.fromkeys(("suffix", "mask", "uncertainty")) | {"format": "keep", "max_pixels": 10**8}
"""What the command line asks for where the user says nothing."""


@pytest.fixture
def cut_jpeg(tmp_path: Path, photo: np.ndarray) -> Path:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", quality=90)
    path = tmp_path / "cut.jpg"
    path.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * 0.7)])
    return path


def flipped(photo: np.ndarray) -> bytes:
    """A PNG of which one byte in the middle of its pixel data was changed."""
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[len(content) // 2] ^= 0x20
    return bytes(content)


def short_of_detail(photo: np.ndarray) -> bytes:
    """The first part of a progressive JPEG."""
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", quality=90, progressive=True)
    return stream.getvalue()[: int(len(stream.getvalue()) * 0.7)]


@pytest.fixture
def inpainter(make_unet: Callable[..., Restorer]) -> Restorer:
    return make_unet("inpaint", planes=1)


def only(restorer: Restorer, source: Path, out: Path, *, status: str = "done", **options: object) -> ItemResult:
    (result,) = restorer.path(source, out, **options).results
    assert result.status == status, result.error
    return result


def test_lost_pixels_are_counted_and_placed() -> None:
    """The report is all that a reader of the picture has: an off-by-one in it is a false statement."""
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[3:5, 7:11] = True
    lost = lost_pixels(mask, "inpaint")
    assert (lost.pixels, lost.share, lost.box) == (8, 0.04, (7, 3, 11, 5))
    assert "8 pixels (4.0%) between 7,3 and 11,5" in str(lost)
    assert "invented by 'inpaint'" in str(lost)
    assert "left flat" in str(lost_pixels(mask, None))


def test_only_what_was_lost_is_invented(inpainter: Restorer, cut_jpeg: Path, tmp_path: Path) -> None:
    """Restoring a damaged file must not touch the part that is a photograph."""
    frame = read_image(cut_jpeg, partial=True)
    result = only(inpainter, cut_jpeg, tmp_path / "out.png", partial=True)
    back = read_image(tmp_path / "out.png").pixels
    assert frame.lost is not None
    assert back[~frame.lost].equal(frame.pixels[~frame.lost])
    assert not (back[frame.lost] == frame.pixels[frame.lost]).all()
    assert result.lost == lost_pixels(frame.lost, "toy-inpaint")
    assert str(result.lost) in result.notes
    assert json.loads(json.dumps(result.to_dict()))["lost"]["invented_by"] == "toy-inpaint"


def test_an_intact_file_passes_unchanged(inpainter: Restorer, photo: np.ndarray, tmp_path: Path) -> None:
    """In a folder of damaged files some are whole, and have no hole that a mask could name."""
    Image.fromarray(photo).save(tmp_path / "whole.png")
    result = only(inpainter, tmp_path / "whole.png", tmp_path / "out.png", partial=True)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), photo)
    assert result.lost is None


def test_what_survived_of_a_jpeg_stays_in_the_file(inpainter: Restorer, cut_jpeg: Path, tmp_path: Path) -> None:
    """The accident: the surviving pixels are kept bit by bit, and then written as JPEG, which moved 82% of them."""
    frame = read_image(cut_jpeg, partial=True)
    out = tmp_path / "out"
    planned = only(inpainter, cut_jpeg, out, partial=True, dry_run=True, status="planned")
    result = only(inpainter, cut_jpeg, out, partial=True, resume=True)
    assert planned.output == result.output == str(out / "cut.png")
    assert read_image(out / "cut.png").pixels[~frame.lost].equal(frame.pixels[~frame.lost])
    assert "written as png: jpg would change what has to stay" in planned.notes
    assert "written as png: jpg would change what has to stay" in result.notes
    only(inpainter, cut_jpeg, out, partial=True, resume=True, status="skipped")


@pytest.mark.parametrize("is_large", [False, True])
def test_a_plan_tells_what_is_held_as_a_whole_with_partial_too(
    make_unet: Callable[..., Restorer],
    photo: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_large: bool,
) -> None:
    """The accident: the rehearsal of --partial is silent about the memory, or says '0.00 GB' of every small picture."""
    if is_large:
        monkeypatch.setattr("imagesmith.infer.stages._LEAST_TOLD_BYTES", 1000)
    Image.fromarray(photo).save(tmp_path / "whole.jpg")
    for partial in (False, True):
        planned = only(
            make_unet("denoise"),
            tmp_path / "whole.jpg",
            tmp_path / "o",
            partial=partial,
            dry_run=True,
            status="planned",
        )
        assert ("jpg is held as a whole: 0.00 GB" in planned.notes) == is_large, planned.notes


def test_an_intact_or_otherwise_changed_jpeg_stays_one(
    make_unet: Callable[..., Restorer],
    inpainter: Restorer,
    cut_jpeg: Path,
    photo: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder of photographs does not become one of PNG because one of them was cut, nor where all pixels change."""
    monkeypatch.setattr("imagesmith.infer.stages.CARDS", {})
    Image.fromarray(photo).save(tmp_path / "whole.jpg")
    whole = only(inpainter, tmp_path / "whole.jpg", tmp_path / "out", partial=True)
    changed = only(make_unet("denoise"), cut_jpeg, tmp_path / "out", partial=True)
    assert [Path(str(result.output)).name for result in (whole, changed)] == ["whole.jpg", "cut.jpg"]


def test_the_asked_model_sees_no_hole(
    make_restorer: Callable[..., Restorer],
    inpainter: Restorer,
    cut_jpeg: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Enlarged first and filled afterwards, the network would draw the rim of the hole into the photograph."""
    enlarger = make_restorer()
    frame = read_image(cut_jpeg, partial=True)
    monkeypatch.setattr("imagesmith.infer.stages.CARDS", {"inpaint": inpainter.card})
    monkeypatch.setattr(Restorer, "load", lambda *name, **options: inpainter)
    result = only(enlarger, cut_jpeg, tmp_path / "out.png", partial=True)
    expected = enlarger.frame(fill(frame, inpainter)).pixels
    assert read_image(tmp_path / "out.png").pixels.equal(expected)
    assert result.lost is not None
    assert result.lost.invented_by == "inpaint"


def test_without_a_model_it_is_left_and_said(
    make_restorer: Callable[..., Restorer], cut_jpeg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gray bar must not look like a success without a word."""
    monkeypatch.setattr("imagesmith.infer.stages.CARDS", {})
    result = only(make_restorer(), cut_jpeg, tmp_path / "out.png", partial=True)
    assert result.lost is not None
    assert result.lost.invented_by is None
    assert any("left flat" in note for note in result.notes)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_png(inpainter: Restorer, photo: np.ndarray, depth: str, channels: int, tmp_path: Path) -> None:
    """Lost pixels of a transparent picture are transparent, and what is invented there would not be seen."""
    pixels = np.concatenate((photo, photo[..., :1] // 2), axis=2)[
        ..., [[0], [0, 3], [0, 1, 2], [0, 1, 2, 3]][channels - 1]
    ]
    pixels = np.ascontiguousarray(pixels.astype(depth) * (257 if depth == "uint16" else 1))
    whole = Frame(torch.from_numpy(pixels), depth, ImageMeta("png", ""))  # type: ignore[arg-type]
    stream = io.BytesIO()
    write_image(whole, stream, format="png")
    path = tmp_path / "cut.png"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) * 2 // 3])
    result = only(inpainter, path, tmp_path / "out.png", partial=True)
    back = read_image(tmp_path / "out.png")
    lost = read_image(path, partial=True).lost
    assert lost is not None
    assert result.lost is not None
    assert back.pixels[~lost].equal(whole.pixels[~lost])
    assert back.pixels[lost].float().std() > 0
    if channels in (2, 4):
        assert (back.pixels[lost][:, -1] == (65535 if depth == "uint16" else 255)).all()


def test_auto_that_finds_nothing_else_still_writes_what_was_filled(
    make_restorer: Callable[..., Restorer],
    inpainter: Restorer,
    cut_jpeg: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The accident: 'invented by inpaint' and exit code 0, and no file, because the rest of the picture is well."""
    monkeypatch.setattr(Restorer, "load", lambda *name, **options: make_restorer())
    monkeypatch.setattr(Auto, "load", lambda *name, **options: inpainter)
    result = only(Auto(1), cut_jpeg, tmp_path / "out", partial=True, **PLAIN)
    assert result.lost is not None
    assert result.decision is not None
    assert not result.decision.chain
    back, frame = read_image(Path(str(result.output))), read_image(cut_jpeg, partial=True)
    assert back.pixels[~frame.lost].equal(frame.pixels[~frame.lost]), "nothing was done to them but writing"
    assert (back.pixels[frame.lost] != frame.pixels[frame.lost]).any()


@pytest.mark.parametrize("name", ["flip.png", "early.jpg"])
def test_what_was_set_right_in_a_file_is_written(
    name: str,
    make_restorer: Callable[..., Restorer],
    photo: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The accident: 'one changed byte was set right', exit code 0, and the only copy stays unreadable."""
    monkeypatch.setattr(Restorer, "load", lambda *name, **options: make_restorer())
    source = tmp_path / name
    source.write_bytes(flipped(photo) if name == "flip.png" else short_of_detail(photo))
    whole = read_image(source, partial=True)
    assert whole.lost is None
    result = only(Auto(1), source, tmp_path / "out", partial=True, **PLAIN)
    assert result.decision is not None
    assert not result.decision.chain
    assert read_image(Path(str(result.output))).pixels.equal(whole.pixels)
    assert name != "flip.png" or np.array_equal(np.asarray(Image.open(str(result.output))), photo)
    intact = only(Auto(1), Path(str(result.output)), tmp_path / "again", partial=True, status="skipped", **PLAIN)
    assert intact.output is None, "there is nothing to write anew"


def test_the_heat_map_of_a_filled_picture_is_warm_where_it_was_filled(
    inpainter: Restorer, cut_jpeg: Path, tmp_path: Path
) -> None:
    """The accident: --uncertainty asks for the mask that --partial does without, and every picture fails."""
    lost = read_image(cut_jpeg, partial=True).lost
    only(inpainter, cut_jpeg, tmp_path / "out.png", partial=True, uncertainty=tmp_path / "heat.png")
    heat = read_image(tmp_path / "heat.png").pixels.int().sum(dim=2)
    cold = heat[~lost].max()
    assert heat[lost].float().mean() > cold


@pytest.mark.parametrize("scale", [1, 2])
def test_what_was_invented_is_doubted_more_than_what_survived(
    make_restorer: Callable[..., Restorer],
    make_unet: Callable[..., Restorer],
    inpainter: Restorer,
    cut_jpeg: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: int,
) -> None:
    """The accident: a smooth invention is easily cleaned of noise or enlarged, and the map called it the surest part."""
    monkeypatch.setattr("imagesmith.infer.stages.CARDS", {"inpaint": inpainter.card})
    monkeypatch.setattr(Restorer, "load", lambda *name, **options: inpainter)
    monkeypatch.setitem(CALIBRATION, "toy-inpaint", (100.0, 1.0))
    restorer = make_restorer() if scale == 2 else make_unet("jpeg", planes=1)
    only(restorer, cut_jpeg, tmp_path / "out.png", partial=True, uncertainty=tmp_path / "heat.png")
    heat = read_image(tmp_path / "heat.png").pixels.int().sum(dim=2)[::scale, ::scale]
    lost = read_image(cut_jpeg, partial=True).lost
    assert lost is not None
    assert heat[lost].float().mean() > heat[~lost].float().mean()
    heat[lost] = 0
    assert heat.any(), "what survived was mended, and may be wrong as well"
