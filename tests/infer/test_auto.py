"""What is found in a picture, and which chain follows."""

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.files import Frame, read_image
from imagesmith.data.frame import ImageMeta
from imagesmith.degrade.blur import GaussianBlur
from imagesmith.infer.auto import Decision, Findings, examine, plan_chain
from imagesmith.tensors import imresize

ALL = ("deblur", "denoise", "inpaint", "jpeg", "photo-x2", "photo-x4", "sr-x2", "sr-x3", "sr-x4")
CLEAN = Findings(
    width=900,
    height=600,
    channels=3,
    noise_sigma=1.0,
    noise_light=1.0,
    jpeg_quality=None,
    jpeg_from=None,
    noise_before_jpeg=0.0,
    noise_coarse=0.5,
    blur_px=0.7,
    blur_narrowest_px=0.3,
    blur_angle=0.0,
    scratches=0.0,
)
JPEG = {"jpeg_quality": 30, "jpeg_from": "grid"}


def models(scale: int | None = None, shipped: tuple[str, ...] = ALL, **found: object) -> list[str]:
    return [link.model for link in plan_chain(replace(CLEAN, **found), shipped, scale)]


@pytest.mark.parametrize(
    ("found", "chain"),
    [
        ({}, []),
        ({"noise_sigma": 15.0}, ["denoise"]),
        (JPEG, ["jpeg"]),
        ({"jpeg_quality": 95, "jpeg_from": "tables"}, []),
        ({"blur_px": 2.5}, ["deblur"]),
        ({"blur_px": 2.5, "noise_sigma": 4.0, "noise_coarse": 1.4}, ["deblur"]),
        ({"blur_px": 2.5, "noise_sigma": 0.8, "noise_coarse": 2.9}, ["denoise"]),
        ({"noise_sigma": 1.2, "noise_coarse": 4.5}, []),
        ({"blur_px": None, "blur_angle": None}, []),
        ({"noise_sigma": 15.0, "blur_px": 2.5}, ["denoise", "deblur"]),
        ({**JPEG, "noise_before_jpeg": 20.0}, ["denoise", "jpeg"]),
        ({**JPEG, "noise_before_jpeg": 4.0, "blur_px": 2.5}, ["jpeg", "deblur"]),
        ({**JPEG, "noise_before_jpeg": 8.0, "blur_px": 2.5}, ["denoise", "jpeg"]),
        ({"jpeg_quality": 92, "jpeg_from": "tables", "noise_sigma": 2.9, "noise_before_jpeg": 15.0}, ["denoise"]),
        ({"jpeg_quality": 92, "jpeg_from": "tables", "noise_sigma": 1.2, "noise_before_jpeg": 8.0}, []),
        ({"scratches": 0.03}, ["inpaint"]),
        ({"width": 150, "height": 100}, ["sr-x4"]),
        ({"width": 390, "height": 390}, ["sr-x2"]),
        ({"width": 150, "height": 100, "noise_sigma": 15.0}, ["denoise", "sr-x4"]),
        ({"width": 150, "height": 100, "noise_sigma": 15.0, **JPEG, "noise_before_jpeg": 15.0}, ["photo-x4"]),
        ({"channels": 1, "noise_sigma": 7.5}, []),
        ({"channels": 1, "noise_sigma": 9.0}, ["denoise"]),
        ({"noise_light": 8.0}, []),
        ({"noise_light": 14.0}, ["denoise"]),
        ({**JPEG, "noise_before_jpeg": 11.0}, ["jpeg"]),
        ({"jpeg_quality": 50, "jpeg_from": "grid", "noise_before_jpeg": 11.0}, ["denoise", "jpeg"]),
    ],
)
def test_the_smallest_chain_that_mends_it(found: dict, chain: list[str]) -> None:
    """The accident: a photo sent through four networks for one damage, or a good one through any."""
    assert models(**found) == chain


def test_several_damages_are_undone_in_order_and_in_the_size_of_the_picture() -> None:
    """The accidents: a photo comes back four times as large, because one model for all that it has enlarges; what JPEG
    has made of noise is taken for texture by the model for JPEG, and sharpened by that for blur."""
    assert models(**JPEG, noise_before_jpeg=20.0, blur_px=3.0) == ["denoise", "jpeg"]
    assert models(2, **JPEG, noise_before_jpeg=20.0, blur_px=3.0) == ["photo-x2"]
    assert models(shipped=(), noise_sigma=20.0) == []


def test_a_wished_scale_is_kept() -> None:
    """The accident: 'keep the size' that enlarges thumbnails all the same, or -s 2 that gives 4 times."""
    assert models(2) == ["sr-x2"]
    assert models(1, width=100, height=80) == []
    assert models(4, noise_sigma=9.0, blur_px=2.0) == ["photo-x4"]
    assert models(1, noise_sigma=9.0, blur_px=2.0) == ["denoise", "deblur"]


def test_the_reason_is_told_in_words() -> None:
    """The accident: a network was used and nobody learns why; or noise is found and 'nothing to mend' is said."""
    noisy = replace(CLEAN, noise_sigma=15.0)
    said = str(Decision(noisy, plan_chain(noisy, ALL)))
    assert "denoise for noise of 15 grey levels" in said
    assert str(Decision(CLEAN, ())).endswith("nothing to mend")
    assert str(Decision(noisy, ())).endswith("no shipped model mends noise of 15 grey levels")


def test_the_noise_that_is_told_is_the_noise_that_decides() -> None:
    """The accident: 'found noise 4.6' and nothing is done, where noise of 3.2 is mended: another estimate decided."""
    fine = replace(CLEAN, noise_sigma=2.0, noise_before_jpeg=4.6, jpeg_quality=95, jpeg_from="grid")
    assert "found noise 2.0" in str(Decision(fine, ()))
    coarse = replace(fine, jpeg_quality=30)
    assert "found noise 4.6" in str(Decision(coarse, ()))


def frame(array: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(array.copy()), "uint8", ImageMeta(format="png", mode="RGB"))


def test_damages_of_a_real_photo_are_found() -> None:
    """The accident: thresholds right for the sums of a paper and wrong for pictures."""
    photo = data.coffee()[:300, :420]
    clean = examine(frame(photo))
    assert plan_chain(clean, ALL) == ()
    assert (clean.width, clean.height, clean.channels) == (420, 300, 3)
    grain = np.random.default_rng(0).normal(0, 20, photo.shape)
    noisy = examine(frame((photo + grain).clip(0, 255).astype(np.uint8)))
    assert [link.model for link in plan_chain(noisy, ALL)] == ["denoise"]
    assert noisy.noise_sigma == pytest.approx(20, rel=0.15)


def toned(light: np.ndarray) -> np.ndarray:
    """A sepia print (H, W, 3) of brightness (H, W) from 0 to 255."""
    return (light[..., None] * (1.0, 0.85, 0.65) + (0, 5, 8)).round().clip(0, 255).astype(np.uint8)


def test_noise_alike_in_all_channels_is_found() -> None:
    """The accident: a toned scan and the grain of a film have 'noise 1.3, nothing to mend': differences show none."""
    photo = data.coffee()[:300, :420]
    light = photo.mean(axis=2)
    grain = np.random.default_rng(0).normal(0, 1, light.shape)
    alike = (photo + 14 * grain[..., None]).round().clip(0, 255).astype(np.uint8)
    for noisy in (toned(light + 15 * grain), alike):
        found = examine(frame(noisy))
        assert [link.model for link in plan_chain(found, ALL)] == ["denoise"]
        assert 12 < found.noise < 18
        assert asdict(found)["noise"] == found.noise, "data say less than words"
    assert plan_chain(examine(frame(toned(light))), ALL) == ()


def test_in_gray_lines_may_be_things_and_in_toned_prints_they_are_scratches() -> None:
    """The accident: the default command paints the window bars of clean gray photos over, unasked."""
    gray = data.camera()
    found = examine(frame(gray[..., None]))
    assert plan_chain(found, ALL) == ()
    assert "(perhaps 1." in str(found)
    assert "(perhaps" not in str(replace(found, is_measured=True))
    scratched = data.chelsea()[:, :300].mean(axis=2)
    scratched[:, ::90] = scratched[:, 1::90] = 230
    assert plan_chain(examine(frame(toned(scratched))), ALL)[0].model == "inpaint"


def test_a_gray_picture_with_three_equal_channels_is_gray() -> None:
    """The accident: texture of a black-and-white scan saved as RGB is judged by the threshold of colours as noise."""
    gray = data.gravel()[:300, :420]
    assert plan_chain(examine(frame(gray[..., None].repeat(3, 2))), ALL) == plan_chain(
        examine(frame(gray[..., None])), ALL
    )


def test_noise_is_found_where_jpeg_has_halved_the_colours() -> None:
    """The accident: files as phones and the web have them, of which 4:2:0 took the noise of the colours, are 'clean'."""
    photo = data.coffee()[:300, :420]
    for sigma, chain in ((0, []), (20, ["denoise"])):
        noisy = (photo + np.random.default_rng(0).normal(0, sigma, photo.shape)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=92)
        found = examine(read_image(io.BytesIO(stream.getvalue())))
        assert [link.model for link in plan_chain(found, ALL)] == chain


def test_grain_that_was_smoothed_is_not_sharpened() -> None:
    """The accident: noise as cameras leave it looks like a blurred picture, and comes out of deblurring as more noise."""
    photo = torch.from_numpy(data.coffee()[:300, :420].copy()).permute(2, 0, 1) / 255
    rng = torch.Generator().manual_seed(0)
    grain = imresize(0.03 * torch.randn(3, 150, 210, generator=rng), 2)
    grainy = GaussianBlur((1.3, 1.3), anisotropic=0)(photo, rng) + grain
    found = examine(frame((255 * grainy).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()))
    assert [link.model for link in plan_chain(found, ALL)] == ["denoise"]


def test_a_plain_border_hides_nothing() -> None:
    """The accident: the mat around a photo is its calmest part, and has no noise."""
    photo = data.coffee()[:300, :420]
    noisy = (photo + np.random.default_rng(0).normal(0, 20, photo.shape)).clip(0, 255).astype(np.uint8)
    framed = np.full((500, 620, 3), (225, 220, 205), np.uint8)
    framed[100:400, 100:520] = noisy
    found = examine(frame(framed))
    assert (found.width, found.height) == (620, 500)
    assert found.noise_sigma == pytest.approx(20, rel=0.15)
    assert examine(frame(np.full((64, 64, 3), 90, np.uint8))).noise_sigma == 0


def test_what_was_lost_is_not_looked_at() -> None:
    """The accident: the gray that stands for the lost half of a file is its calmest part."""
    photo = data.coffee()[:300, :420]
    noisy = (photo + np.random.default_rng(0).normal(0, 20, photo.shape)).clip(0, 255).astype(np.uint8)
    noisy[170:] = np.random.default_rng(1).integers(127, 130, noisy[170:].shape)
    lost = torch.zeros(300, 420, dtype=torch.bool)
    lost[165, 200:] = lost[166:] = True
    found = examine(replace(frame(noisy), lost=lost))
    assert found.noise_sigma == pytest.approx(20, rel=0.15)


def test_what_alpha_hides_is_not_looked_at() -> None:
    """The accident: random colours below the transparent part of a cut-out, and its clean pixels are denoised."""
    photo, rng = data.coffee()[:300, :420], np.random.default_rng(0)
    noisy = (photo + rng.normal(0, 10, photo.shape)).clip(0, 255).astype(np.uint8)
    alpha = np.full((300, 420, 1), 255, np.uint8)
    alpha[:, :200] = 0
    noisy[:, :200] = 0
    black = examine(frame(np.dstack((noisy, alpha))))
    noisy[:, :200] = rng.integers(0, 256, noisy[:, :200].shape)
    assert examine(frame(np.dstack((noisy, alpha)))) == black
    assert black.noise_sigma == pytest.approx(10, rel=0.15)


def test_the_tables_of_a_file_count_before_its_pixels() -> None:
    """The accident: a quality guessed from pixels where the file itself tells it."""
    stream = io.BytesIO()
    Image.fromarray(data.coffee()[:300, :420]).save(stream, "JPEG", quality=25)
    read = read_image(io.BytesIO(stream.getvalue()))
    found = examine(read)
    assert (found.jpeg_quality, found.jpeg_from) == (25, "tables")
    pixels_alone = examine(replace(read, meta=replace(read.meta, jpeg=None)))
    assert (pixels_alone.jpeg_quality, pixels_alone.jpeg_from) == (25, "grid")
    assert [link.model for link in plan_chain(found, ALL)] == ["jpeg"]


def test_a_fine_file_of_a_coarse_one_is_coarse() -> None:
    """The accident: a picture saved by a messenger at 30 and once more at 96 counts as a fine JPEG."""
    first, second = io.BytesIO(), io.BytesIO()
    Image.fromarray(data.coffee()[:300, :420]).save(first, "JPEG", quality=30)
    with Image.open(first) as image:
        image.save(second, "JPEG", quality=96, subsampling="4:4:4")
    read = read_image(io.BytesIO(second.getvalue()))
    found = examine(read)
    assert found.jpeg_from == "grid"
    assert found.jpeg_quality == pytest.approx(30, abs=3)


def test_every_depth_and_shape_can_be_examined() -> None:
    """The accident: an icon, a mask with alpha or a float file with infinities ends the run."""
    for shape in ((1, 1, 1), (3, 5, 2), (40, 1, 4), (70, 90, 3)):
        pixels = torch.rand(shape)
        pixels[0, 0] = float("nan")
        for depth, values in (("float32", pixels * 3 - 1), ("uint16", (torch.rand(shape) * 65535).to(torch.uint16))):
            found = examine(Frame(values, depth, ImageMeta(format="tiff", mode="")))
            assert found.channels == (1 if shape[2] < 3 else 3)


def test_a_float_picture_of_another_range_is_judged_as_the_network_sees_it() -> None:
    """The accident: values of 0 to 65535 are clipped to white, in which nothing is found to mend."""
    noisy = np.clip(data.camera()[:128, :128] / 255 + np.random.default_rng(0).normal(0, 0.1, (128, 128)), 0, 1)
    plain, wide = (
        examine(Frame(torch.from_numpy(noisy * top)[..., None].float(), "float32", ImageMeta("tif", "gray")))
        for top in (1.0, 65535.0)
    )
    assert plain.noise > 15
    assert wide.noise == pytest.approx(plain.noise, rel=0.02)


def test_a_jpeg_smaller_than_a_block_can_be_examined() -> None:
    """The accident: one thumbnail of 1x1 ends the examination of a folder of thousands."""
    for size in ((1, 1), (200, 5)):
        stream = io.BytesIO()
        Image.new("RGB", size, "red").save(stream, "JPEG")
        assert examine(read_image(stream.getvalue())).noise_before_jpeg == 0


def test_in_what_an_instrument_measured_nothing_is_invented() -> None:
    """The accident: bright lines in a slice of a head are painted out as scratches, and the slice is enlarged."""
    found = replace(CLEAN, width=256, height=256, scratches=0.05)
    assert [link.model for link in plan_chain(found, ALL)] == ["inpaint", "sr-x3"]
    assert plan_chain(replace(found, is_measured=True), ALL) == ()
