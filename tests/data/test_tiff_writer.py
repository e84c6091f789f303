"""TIFF from rows as they come: the file does not depend on how they come, nor on what it is written to."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from imagesmith.atomic import replacing
from imagesmith.data import tiff_writer
from imagesmith.data.files import read_image, write_image
from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.data.tiff_writer import write_tiff
from imagesmith.tensors import Depth


class Pipe(io.RawIOBase):
    """Takes bytes in order and gives none back."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:
        self.content += bytes(piece)
        return len(piece)


def photo(depth: Depth = "uint8") -> torch.Tensor:
    pixels = torch.from_numpy(data.astronaut()[:60, :90].copy())
    return {"uint8": pixels, "uint16": pixels.to(torch.uint16), "float32": pixels / 77}[depth]


def camera_exif() -> bytes:
    exif = Image.Exif()
    exif[270] = "a castle"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:26 05:00:00"
    return exif.tobytes()


def written(pixels: torch.Tensor, *heights: int, meta: ImageMeta | None = None) -> bytes:
    stream = io.BytesIO()
    depth: Depth = str(pixels.dtype).removeprefix("torch.")
    rows = pixels.split(list(heights)) if heights else [pixels]
    write_tiff(rows, stream, [], size=tuple(pixels.shape), depth=depth, meta=meta or ImageMeta("tif", "RGB"))
    return stream.getvalue()


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_the_file_does_not_depend_on_how_rows_come(monkeypatch: pytest.MonkeyPatch, depth: Depth) -> None:
    """Strips of the file end where strips of tiles do not: a row lost between the two shifts all below it."""
    monkeypatch.setattr(tiff_writer, "_STRIP_BYTES", 4000)
    pixels = photo(depth)
    whole = written(pixels)
    assert written(pixels, 1, 1, 30, 28) == whole
    assert torch.equal(read_image(whole).pixels, pixels)
    with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
        assert len(tiff.pages.first.dataoffsets) > 2


def test_a_pipe_and_a_file_get_the_same(tmp_path: Path) -> None:
    """A TIFF points back and forth; what a pipe gets must be complete all the same."""
    meta = ImageMeta("tif", "RGB", exif=camera_exif(), dpi=(300, 200), xmp=b"<x/>")
    pipe, options = Pipe(), {"size": (60, 90, 3), "depth": "uint8", "meta": meta}
    write_tiff([photo()], pipe, [], **options)
    with replacing(tmp_path / "a.tif") as file:
        write_tiff([photo()], file, [], **options)
    assert pipe.content == (tmp_path / "a.tif").read_bytes()
    found = read_image(pipe.content).meta
    assert (found.dpi, found.xmp) == ((300, 200), b"<x/>")
    assert b"2026:11:26 05:00:00" in found.exif


@pytest.mark.parametrize("is_big", [False, True])
def test_big_tiff_is_for_what_is_big(monkeypatch: pytest.MonkeyPatch, is_big: bool) -> None:
    """Behind byte 4,294,967,295 a classic TIFF points at the wrong pixels; below, old programs want the classic one."""
    monkeypatch.setattr(tiff_writer, "_CLASSIC_BYTES", photo().numel() - is_big)
    content = written(photo(), meta=ImageMeta("tif", "RGB", exif=camera_exif()))
    assert content[2] == (43 if is_big else 42)
    assert torch.equal(read_image(content).pixels, photo())
    assert b"2026:11:26 05:00:00" in read_image(content).meta.exif


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ome": True, "metadata": {"axes": "ZYX"}}, ["OME"]),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, ["ImageJ"]),
        ({}, []),
        ({"metadata": {"patient": "7"}}, ["tifffile"]),
    ],
)
def test_a_description_of_a_stack_is_not_copied_to_one_picture(
    options: dict, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The accident: tifffile believes it, looks for planes that are not there, and the result cannot be opened."""
    stack, result = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(stack, np.zeros((5, 6, 7), np.uint16), photometric="minisblack", **options)
    frame = read_image(stack.getvalue())
    enlarged = Frame(torch.zeros(12, 14, 1, dtype=torch.uint16), "uint16", frame.meta)
    notes = write_image(enlarged, result, format="tif")
    assert tifffile.imread(io.BytesIO(result.getvalue())).shape == (12, 14)
    assert not caplog.records
    assert [note.split()[2] for note in notes] == said


def test_only_a_few_strips_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows taken faster than they are deflated are the whole picture in memory."""
    monkeypatch.setattr(tiff_writer, "_STRIP_BYTES", 90 * 3)
    monkeypatch.setattr(tiff_writer, "usable_cores", lambda: 2)
    taken, ahead = 0, []

    class Watched(io.BytesIO):
        written_strips = 0

        def write(self, piece: bytes) -> int:
            self.written_strips += 1
            ahead.append(taken - self.written_strips)
            return super().write(piece)

    def rows() -> Iterator[torch.Tensor]:
        nonlocal taken
        for row in torch.from_numpy(np.tile(photo().numpy(), (4, 1, 1))).split(1):
            taken += 1
            yield row

    write_tiff(rows(), Watched(), [], size=(240, 90, 3), depth="uint8", meta=ImageMeta("tif", "RGB"))
    assert taken == 240
    assert max(ahead) <= 4
