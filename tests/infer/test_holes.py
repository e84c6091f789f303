"""Holes: what is outside of a mask is not touched, what is inside is filled, and a mask that cannot be is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.data.files import Frame, ImageMeta, read_image
from imagesmith.errors import UsageError
from imagesmith.infer.holes import as_mask, scratch_mask
from imagesmith.infer.restore import Restorer
from imagesmith.zoo import Model

Make = Callable[..., Restorer]


@pytest.fixture
def filler(make_unet: Make) -> Restorer:
    """An untrained network that fills holes: its result differs from the picture everywhere."""
    return make_unet("inpaint", planes=1)


@pytest.fixture
def mask(photo: np.ndarray) -> np.ndarray:
    """Two strokes, one of them at the edge."""
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:14, 5:40] = mask[50:, 30:36] = True
    return mask


def framed(pixels: np.ndarray) -> Frame:
    tensor = torch.from_numpy(np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None]))
    return Frame(
        tensor, {np.uint8: "uint8", np.uint16: "uint16"}.get(pixels.dtype.type, "float32"), ImageMeta("png", "")
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_outside_of_the_mask_every_bit_stays(
    filler: Restorer, photo: np.ndarray, mask: np.ndarray, dtype: type, channels: int
) -> None:
    """A picture that passes through a network is another picture everywhere, by a grey level here and there."""
    alpha = (np.hypot(*np.mgrid[-30:31, -41:42]) * 5).clip(90, 255).astype(np.uint8)
    picture = np.dstack((photo, alpha))[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    picture = {np.uint8: picture, np.uint16: picture * 257.0 - 3 * (picture > 9), np.float32: picture / 255}[dtype]
    picture = picture.astype(dtype)
    if dtype == np.float32:
        picture[..., 0] *= 3  # brighter than white
    restored = filler(picture, mask=mask)
    assert restored.dtype == dtype
    assert np.array_equal(restored[~mask], picture[~mask])
    if channels in (2, 4):
        assert np.array_equal(restored[..., -1], picture[..., -1]), "a mask says nothing about transparency"
    changed = (restored[mask] != picture[mask])[..., : 3 if channels > 2 else 1]
    assert changed.mean() > 0.8


def test_what_is_in_a_hole_is_never_seen(filler: Restorer, photo: np.ndarray, mask: np.ndarray) -> None:
    """The colour of a scratch that the network sees comes back as a stain."""
    other = photo.copy()
    other[mask] = 255 - other[mask]
    assert np.array_equal(filler(photo, mask=mask), filler(other, mask=mask))


def test_tiles_turns_and_odd_sizes_keep_the_planes_in_place(
    make_unet: Make, photo: np.ndarray, mask: np.ndarray
) -> None:
    """A plane that is padded, turned or cut otherwise than its picture marks other pixels."""
    whole = make_unet("inpaint", planes=1, tile="off")
    tiled = make_unet("inpaint", planes=1, tile=16)
    for self_ensemble in (False, True):
        expected = whole(photo, mask=mask, self_ensemble=self_ensemble).astype(int)
        assert np.abs(tiled(photo, mask=mask, self_ensemble=self_ensemble) - expected).max() <= 1
    flipped = whole(photo[:, ::-1], mask=mask[:, ::-1].copy(), self_ensemble=True)[:, ::-1]
    even = (slice(0, 60), slice(0, 80))
    turned = whole(photo[even][:, ::-1].copy(), mask=mask[even][:, ::-1].copy(), self_ensemble=True)[:, ::-1]
    assert flipped.shape == photo.shape
    assert np.abs(turned.astype(int) - whole(photo[even], mask=mask[even], self_ensemble=True)).max() <= 1


class MeanOfKnown(nn.Module):
    """Fills a hole with the mean of what is known within 20 pixels; where nothing is, it leaves what it was shown."""

    scale, channels, planes, multiple_of, halo = 1, 3, 1, 2, 20

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(1, 1, 1)

    def subpixels(self, x: Tensor) -> Tensor:
        picture, hole = x[:, :3], x[:, 3:]
        total, count = (F.avg_pool2d(y, 41, 1, 20, divisor_override=1) for y in (picture * (1 - hole), 1 - hole))
        return torch.where((hole > 0) & (count > 0), total / count.clamp(min=1), picture)

    def fused(self) -> "MeanOfKnown":
        return self


@pytest.mark.parametrize("size", [(200, 240), (61, 83)])
def test_a_hole_wider_than_the_network_sees_is_filled_from_its_rim(filler: Restorer, size: tuple[int, int]) -> None:
    """The middle of a large hole, of which the network knows nothing, would be left gray."""
    filler = Restorer(Model(MeanOfKnown(), filler.card), filler.runtime)
    picture = np.full((*size, 3), (200, 40, 90), np.uint8)
    mask = np.zeros(size, bool)
    mask[3:-3, 5:-5] = True
    holed = picture.copy()
    holed[mask] = 0, 255, 0
    assert np.abs(filler(holed, mask=mask).astype(int) - picture).max() <= 1


def test_one_known_pixel_is_enough(filler: Restorer) -> None:
    """At half and half again the size, nothing known may be left, and the recursion has no end."""
    picture = np.full((70, 150, 3), 77, np.uint8)
    mask = np.ones((70, 150), bool)
    mask[0, 0] = False
    assert filler(picture, mask=mask).shape == picture.shape


def test_masks_of_every_kind_mean_the_same(tmp_path: Path, mask: np.ndarray) -> None:
    """Programs paint masks as gray, colour, with white on nothing, or in 16 bits."""
    white = (mask * 255).astype(np.uint8)
    files = {
        "gray.png": Image.fromarray(white),
        "colour.png": Image.fromarray(np.dstack([white] * 3)),
        "painted.png": Image.fromarray(np.dstack([np.full_like(white, 255)] * 3 + [white])),
        "gray-alpha.png": Image.fromarray(np.dstack([white, np.full_like(white, 255)]), "LA"),
        "deep.png": Image.fromarray(white.astype(np.uint16) * 257),
        "palette.png": Image.fromarray(np.dstack([white] * 3)).convert("P"),
        "bits.png": Image.fromarray(mask),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        assert np.array_equal(as_mask(tmp_path / name).numpy(), mask), name
    for kind in (mask, mask[::-1].copy()[::-1], torch.from_numpy(mask), white, Image.fromarray(white)):
        assert np.array_equal(as_mask(kind).numpy(), mask)


def test_a_mask_that_cannot_be_is_told(
    filler: Restorer, restorer: Restorer, photo: np.ndarray, mask: np.ndarray
) -> None:
    """An inverted or foreign mask would replace the picture by inventions."""
    for bad, word in (
        (mask[:-1], "83x61"),
        (np.zeros_like(mask), "empty"),
        (np.ones_like(mask), "full"),
        (mask[None].repeat(2, 0), "H, W"),
        (torch.from_numpy(mask).float(), "mask > 0.5"),
        (mask.tolist(), "mask as a bool .*got list"),
        (mask.astype(np.int64) * 255, "mask as a bool .*got int64 of shape"),
        (mask.astype(np.int64), "int64 mask of 0 and 1; pass mask > 0"),
        (mask.astype(np.uint8), "uint8 mask of 0 and 1; pass mask > 0"),
        (None, "--mask"),
    ):
        with pytest.raises(UsageError, match=word) as caught:
            filler(photo, mask=bad)
        assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(UsageError, match="takes no mask"):
        restorer(photo, mask=mask)


def test_a_frame_keeps_what_it_carries(filler: Restorer, photos: Path, mask: np.ndarray) -> None:
    """The way through a guess must not lose profile, notes or resolution."""
    frame = read_image(photos / "b.jpg")
    restored = filler.frame(frame, mask=torch.from_numpy(mask))
    assert restored.meta.format == "jpg"
    assert restored.meta.jpeg == frame.meta.jpeg


def test_what_is_in_a_translucent_hole_is_never_seen(filler: Restorer, photo: np.ndarray, mask: np.ndarray) -> None:
    """The accident: colours around a translucent pixel bound it, and in a hole they are the blemish itself."""
    alpha = np.full(mask.shape, 128, np.uint8)
    alpha[:, 40:] = 255
    other = photo.copy()
    other[mask] = 255 - other[mask]
    found, expected = (filler(np.dstack((picture, alpha)), mask=mask) for picture in (other, photo))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_thin_scratches_of_a_colour_photo_are_found_where_asked(width: int) -> None:
    """The accident: `--mask auto` leaves three of four thin scratches, because colour photos have wires and stems."""
    pixels = torch.from_numpy(data.chelsea().copy())
    truth = torch.zeros(pixels.shape[:2], dtype=torch.bool)
    for left in (90, 225, 360):
        truth[:, left : left + width] = True
    pixels[truth] = 242
    found = scratch_mask(Frame(pixels, "uint8", ImageMeta(format="png", mode="RGB")), lambda _: None)
    assert found[truth].float().mean() > 0.8
    assert found.float().mean() < 0.05


def test_scratches_that_alpha_hides_are_none() -> None:
    """The accident: lines below the transparent part of a cut-out are found, and its edge is invented anew."""
    pixels = torch.from_numpy(np.dstack((data.chelsea(), np.full((300, 451, 1), 255, np.uint8))))
    pixels[:, :200, 3] = 0
    found = []
    for hidden in (0, 242):
        pixels[:, 90:92, :3] = hidden
        found.append(scratch_mask(Frame(pixels.clone(), "uint8", ImageMeta("png", "RGBA")), lambda _: None))
    assert torch.equal(*found)
