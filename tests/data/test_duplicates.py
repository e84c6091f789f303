"""Copies that were saved again are found; pictures that only resemble each other are not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from imagesmith.data.duplicates import SMALL_PX, alike, near_duplicates, small_version

skimage_data = pytest.importorskip("skimage.data")


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX))


def found(*images: Image.Image) -> list[tuple[int, int]]:
    return near_duplicates(torch.from_numpy(np.stack([small(image) for image in images])))


def again(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


PHOTOS = [Image.fromarray(getattr(skimage_data, name)()) for name in ("astronaut", "chelsea", "coffee")]


@pytest.mark.parametrize("photo", PHOTOS)
def test_copies_saved_again_are_found(photo: Image.Image) -> None:
    """The same photograph from three web pages, at three sizes and qualities, is seen three times as often."""
    width, height = photo.size
    copies = [
        again(photo, 30),
        photo.resize((width // 3, height // 3)),
        ImageEnhance.Brightness(photo).enhance(0.85),
        photo.crop((width // 100, height // 100, width, height)),
    ]
    assert [later for later, _ in found(*PHOTOS, *copies)] == [3, 4, 5, 6]


def test_a_copy_is_found_among_given_ones_at_any_size() -> None:
    """The accident: of a copy in full size only every n-th pixel is looked at, and it is another picture for that."""
    sizes = [(96, 64), (600, 400), (3000, 2000)]
    coffee = [PHOTOS[2].resize(size) for size in sizes]
    others = torch.stack([small_version(as_tensor(photo)) for photo in PHOTOS[:2]])
    copies = torch.stack([small_version(as_tensor(photo)) for photo in coffee])
    assert alike(copies, torch.cat([others, copies[1:2]])) == [(0, 2), (1, 2), (2, 2)]
    assert alike(copies, others) == []


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_other_pictures_are_not_found() -> None:
    """Advice to remove good pictures costs data; parts of one photograph are different pictures."""
    astronaut = PHOTOS[0]
    tiles = [astronaut.crop((x, y, x + 128, y + 128)) for y in range(0, 512, 128) for x in range(0, 512, 128)]
    assert found(*PHOTOS, *tiles) == []
    assert found(astronaut, astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == []


def test_flat_pictures_resemble_none() -> None:
    """A correlation of nothing with nothing is a division by zero, and flat pictures are told apart by colour alone."""
    assert found(*(Image.new("RGB", (32, 32), (value, 0, 0)) for value in (0, 1, 100, 200))) == []


def test_the_earlier_one_is_named_over_all_blocks() -> None:
    """Rows are compared in blocks; a copy in another block than its original must be found too."""
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1200, SMALL_PX, SMALL_PX, 3), np.uint8))
    noise[1100] = noise[3]
    noise[511] = noise[510]
    assert near_duplicates(noise) == [(511, 510), (1100, 3)]
    assert near_duplicates(noise[:1]) == []
