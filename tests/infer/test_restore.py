"""One object for every kind of picture: kind, depth and mode stay, and nothing is lost or invented on the way."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data import files
from imagesmith.data.files import Frame, ImageMeta, read_image, write_image
from imagesmith.errors import UsageError
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.device import Runtime
from imagesmith.tensors import GRAY_WEIGHTS, from_float, to_float

Make = Callable[..., Restorer]


def by_hand(restorer: Restorer, image: np.ndarray) -> torch.Tensor:
    """What the network itself makes of an (H, W, 3) uint8 picture: (H, W, 3) float, unclamped."""
    x = to_float(torch.from_numpy(image.copy()), "uint8").permute(2, 0, 1).unsqueeze(0)
    with torch.inference_mode():
        return restorer._net(x)[0].permute(1, 2, 0)


def test_a_picture_is_what_the_network_makes_of_it(restorer: Restorer, photo: np.ndarray) -> None:
    """Swapped channels, a second rounding or a shifted grid all look 'almost right'."""
    expected = from_float(by_hand(restorer, photo), "uint8").numpy()
    assert np.abs(restorer(photo).astype(int) - expected).max() <= 1
    assert (restorer(photo) != expected).mean() < 0.001


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (13, 29)])
def test_odd_sizes(restorer: Restorer, photo: np.ndarray, size: tuple[int, int]) -> None:
    """Programs that pad to even sizes crash on, or shift, the smallest pictures."""
    piece = photo[: size[0], : size[1]]
    expected = from_float(by_hand(restorer, piece), "uint8").numpy()
    assert np.abs(restorer(piece).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_an_array_stays_an_array(restorer: Restorer, photo: np.ndarray, dtype: type, channels: int) -> None:
    """A program that returns uint8 for all asks its users to guess what became of their 16 bits."""
    top = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    array = (np.dstack((photo, photo[..., 0]))[:20, :30] / 255 * top).astype(dtype)
    array = array[..., 0] if channels == 0 else array[..., :channels]
    before = array.copy()
    restored = restorer(array)
    assert restored.dtype == dtype
    assert restored.shape == (40, 60, *array.shape[2:])
    assert np.array_equal(array, before), "the picture of the caller must not change"


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_the_order_of_bytes_makes_no_difference(restorer: Restorer, photo: np.ndarray, kind: str) -> None:
    """The accident: arrays out of FITS and raw files are big-endian, and were said not to be the uint16 they are."""
    array = photo[:20, :30].astype(kind) * np.array({"u2": 257, "f4": 1 / 255}[kind], kind)
    restored = restorer(array.astype(f">{kind}"))
    assert restored.dtype == f">{kind}"
    assert np.array_equal(restored, restorer(array))


@pytest.mark.parametrize("shape", [(3, 9, 8), (1, 9, 8), (2, 3, 9, 8), (1, 4, 9, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_stays_a_tensor(restorer: Restorer, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """A batch of one is a batch; a tensor without a batch axis is given back without one."""
    restored = restorer(torch.rand(shape, dtype=dtype))
    assert restored.dtype == dtype
    assert restored.shape == (*shape[:-2], 18, 16)
    assert 0 <= restored.min() <= restored.max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_pil_image_stays_one_and_keeps_its_profile(restorer: Restorer, photo: np.ndarray, mode: str) -> None:
    """Modes that are not handled show as a crash, or as a 16-bit image in eight."""
    if mode == "I;16":
        image = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(photo[..., 0].astype(np.float32) / 255)
    else:
        image = Image.fromarray(photo).convert(mode)
    image.info["icc_profile"] = b"a profile"
    restored = restorer(image)
    assert restored.mode == {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    assert restored.size == (image.width * 2, image.height * 2)
    assert restored.info.get("icc_profile") == (None if mode == "CMYK" else b"a profile")


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "tif"), ("LAB", "tif"), ("1", "png"), ("L", "png"), ("RGB", "png")]
)
def test_a_pil_image_is_the_picture_of_its_file(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path, mode: str, kind: str
) -> None:
    """The accident: Lab was refused by Pillow, and what has a transparent colour became opaque."""
    image = Image.new(mode, (9, 8))
    image.frombytes(photo.tobytes()[: len(image.tobytes())])
    path = tmp_path / f"in.{kind}"
    image.save(path, **({"transparency": image.getpixel((0, 0))} if kind == "png" else {}))
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(restorer(opened)), np.asarray(restorer(path)))


def test_a_transparent_level_that_pillow_cannot_make_alpha_is_missed_aloud(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path
) -> None:
    """The accident: read by its path a 16-bit scan was transparent, opened by Pillow opaque, without a word."""
    deep = photo[:8, :9, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "keyed.png", transparency=int(deep[0, 0]))
    with (
        Image.open(tmp_path / "keyed.png") as opened,
        pytest.warns(UserWarning, match="transparent level is not kept\npass imagesmith.read_image") as told,
    ):
        assert restorer(opened).mode == "I;16"
    assert told[0].filename == __file__


def test_the_sizes_in_the_exif_of_a_pil_image_are_those_of_the_result(restorer: Restorer, photo: np.ndarray) -> None:
    """The accident: the EXIF of before was put over the corrected one, and the result was listed at its old size."""
    exif = Image.Exif()
    exif[0x0100] = 9
    image = Image.fromarray(photo[:8, :9])
    image.info["exif"] = exif.tobytes()
    assert restorer(image).getexif()[0x0100] == 18


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(restorer: Restorer, bad: float) -> None:
    """The accident: a float TIFF with NaN is refused, and the array that another reader made of it got invented values."""
    array = np.full((6, 5), 0.5, np.float32)
    array[2, 2] = bad
    for image in (array, torch.from_numpy(array)[None], Image.fromarray(array)):
        with pytest.raises(UsageError, match="expected finite values, got 1 that"):
            restorer(image)


def test_of_several_pictures_in_a_file_the_others_are_missed_aloud(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: of an animation one picture came back, where the command line says that it is the first of two."""
    first, second = (Image.fromarray(part[:8, :9]) for part in (photo, photo[20:]))
    first.save(tmp_path / "both.webp", save_all=True, append_images=[second])
    reads = Mock(side_effect=files.content_of)
    monkeypatch.setattr(files, "content_of", reads)
    with pytest.warns(UserWarning, match=r"both\.webp: the first of 2 pictures") as told:
        restorer(tmp_path / "both.webp")
    assert told[0].filename == __file__
    assert reads.call_count == 1, "a scan of 200 megapixels is not read twice for one number"


def test_a_path_gives_a_pil_image_and_a_frame_a_frame(restorer: Restorer, photos: Path, photo: np.ndarray) -> None:
    """All ways to hand over the same picture give the same picture."""
    restored = restorer(photos / "a.png")
    assert isinstance(restored, Image.Image)
    assert np.array_equal(np.asarray(restored), restorer(photo))
    assert np.array_equal(restorer(read_image(photos / "a.png")).pixels.numpy(), restorer(photo))


def test_bits_that_a_pil_image_cannot_have_are_missed_aloud(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path
) -> None:
    """The accident: of a 16-bit scan 8 bits came back without a word; gray, for which Pillow has a mode, keeps them."""
    deep = torch.from_numpy(photo.astype(np.uint16) * 257)
    write_image(Frame(deep, "uint16", ImageMeta("png", "RGB")), tmp_path / "colour.png")
    write_image(Frame(deep[..., :1], "uint16", ImageMeta("png", "L")), tmp_path / "gray.png")
    with pytest.warns(UserWarning, match=r"colour\.png: .* 8 bits .* uint16\npass imagesmith\.read_image"):
        assert restorer(tmp_path / "colour.png").mode == "RGB"
    assert restorer(read_image(tmp_path / "colour.png")).depth == "uint16"
    assert restorer(tmp_path / "gray.png").mode == "I;16"


@pytest.mark.parametrize(
    "bad",
    [
        np.ones((4, 4), np.int64),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4), bool),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(4, 4),
        torch.zeros(3, 4, 4, device="meta"),
        torch.zeros(3, 4, 4).to_sparse(),
        np.ma.masked_less(np.zeros((4, 4), np.float32), 1),
        Image.new("I", (3, 3)),
        Image.new("RGB", (0, 3)),
        17,
    ],
)
def test_other_things_are_refused_in_words(restorer: Restorer, bad: object) -> None:
    """An int array from 0 to 255 taken for floats in [0, 1] would give a white picture."""
    with pytest.raises(UsageError, match=r"expected .* got"):
        restorer(bad)


def test_sixteen_bits_stay_sixteen_bits(make_restorer: Make, photo: np.ndarray) -> None:
    """Bit depth guessed from the brightest pixel makes a dark 16-bit picture 257 times too bright."""
    restorer = make_restorer()
    deep = photo.astype(np.uint16) // 4 + 7
    x = to_float(torch.from_numpy(deep), "uint16").permute(2, 0, 1).unsqueeze(0)
    with torch.inference_mode():
        expected = from_float(restorer._net(x)[0].permute(1, 2, 0), "uint16").numpy()
    assert np.abs(restorer(deep).astype(int) - expected).max() <= 2


def test_deep_pictures_are_computed_in_float32_unless_told_otherwise(make_restorer: Make, photo: np.ndarray) -> None:
    """bf16 keeps 8 bits: a 16-bit file restored with it would be one in name only."""
    half = Runtime(torch.device("cpu"), torch.bfloat16, channels_last=True, reason="")
    deep = photo.astype(np.uint16) * 257
    exact = make_restorer()(deep)
    assert np.array_equal(make_restorer(runtime=half)(deep), exact)
    assert not np.array_equal(make_restorer(runtime=half, deep_exactly=False)(deep), exact)
    assert np.abs(make_restorer(runtime=half)(photo).astype(int) - make_restorer()(photo)).max() <= 6


def test_gray_is_the_luma_of_what_the_colour_network_makes(restorer: Restorer, photo: np.ndarray) -> None:
    """Averaging three channels alike, or taking one of them, makes gray pictures lighter or noisier."""
    gray = photo[..., 1]
    colour = by_hand(restorer, np.repeat(gray[..., None], 3, axis=2))
    luma = sum(weight * colour[..., k] for k, weight in enumerate(GRAY_WEIGHTS))
    assert np.abs(restorer(gray).astype(int) - from_float(luma, "uint8").numpy()).max() <= 1


def test_a_gray_network_takes_colours_one_by_one(make_restorer: Make, photo: np.ndarray) -> None:
    """A network for X-rays must not crash on a colour scan, nor mix its channels."""
    restorer = make_restorer(channels=1)
    restored = restorer(photo)
    for channel in range(3):
        assert np.array_equal(restored[..., channel], restorer(photo[..., channel]))


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("channels", [2, 4])
def test_constant_alpha_stays_exactly_constant(
    restorer: Restorer, photo: np.ndarray, value: int, channels: int
) -> None:
    """A network wobbles on flat alpha: 254 instead of 255 makes an opaque picture shine through."""
    picture = np.dstack((photo[..., : channels - 1], np.full(photo.shape[:2], value, np.uint8)))
    restored = restorer(picture)
    assert (restored[..., -1] == value).all()
    if value == 255:
        opaque = restorer(photo if channels == 4 else photo[..., 0])
        assert np.abs(restored[..., :-1].squeeze().astype(int) - opaque).max() <= 1


def test_transparent_pixels_bring_no_halo(restorer: Restorer) -> None:
    """Invisible black around a bright object bleeds into its edge when colour is not weighed by alpha."""
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[10:30, 10:30] = 200, 120, 40, 255
    restored = restorer(picture).astype(int)
    visible = restored[..., 3] > 24
    inside = restored[30:50, 30:50, :3]
    spread = np.abs(inside - np.median(inside, axis=(0, 1))).max()
    off = np.abs(restored[..., :3][visible] - np.median(inside, axis=(0, 1)))
    straight = restorer(picture[..., :3].copy()).astype(int)
    off_straight = np.abs(straight[visible] - np.median(inside, axis=(0, 1)))
    assert off.mean() < 0.5 * off_straight.mean() + spread
    assert (restored[:8, :8, 3] == 0).all()
    assert (restored[32:48, 32:48, 3] == 255).all()


@pytest.mark.parametrize("scale", [2, 3])
def test_a_hard_edge_brings_no_rim(make_restorer: Make, scale: int) -> None:
    """Trained networks overshoot at cut-out logos: specks around them, holes within, and a rim of foreign colours."""
    restorer = make_restorer(scale=scale)
    picture = np.full((24, 24, 4), (0, 255, 0, 0), np.uint8)
    picture[8:16, 8:16] = 220, 30, 30, 255
    restored = restorer(picture)
    alpha = restored[..., 3]
    first, last = 8 * scale - scale // 2, 16 * scale + scale // 2
    outside = np.ones(alpha.shape, bool)
    outside[first:last, first:last] = False
    assert (alpha[outside] == 0).all()
    assert (alpha[first + scale : last - scale, first + scale : last - scale] == 255).all()
    rim = (alpha > 0) & (alpha < 255)
    assert rim.any()
    assert (restored[rim][:, :3] == (220, 30, 30)).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_tiles_show_in_no_mode(make_restorer: Make, photo: np.ndarray, channels: int, self_ensemble: bool) -> None:
    """Whatever surrounds the network - alpha, gray, turns - has to be as exact in tiles as the network."""
    rings = np.hypot(*np.mgrid[-30:31, -41:42]) % 23 * 11
    picture = np.dstack((photo, rings.astype(np.uint8)))[..., [0, 3]] if channels == 2 else None
    picture = np.dstack((photo, rings.astype(np.uint8)))[..., :channels] if picture is None else picture
    whole = make_restorer(tile="off")(picture, self_ensemble=self_ensemble)
    tiled = make_restorer(tile=17)(picture, self_ensemble=self_ensemble)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole != tiled).mean() < 0.002


def test_self_ensemble_is_the_mean_of_the_eight_turns(restorer: Restorer, photo: np.ndarray) -> None:
    """A turn that is not turned back averages a picture with its mirror image."""
    x = to_float(torch.from_numpy(photo), "uint8").permute(2, 0, 1).unsqueeze(0)
    turns = []
    with torch.inference_mode():
        for k in range(4):
            for flip in (False, True):
                y = restorer._net(torch.rot90(x.flip(2) if flip else x, k, (2, 3)))
                y = torch.rot90(y, -k, (2, 3))
                turns.append(y.flip(2) if flip else y)
    expected = from_float(torch.stack(turns).mean(0)[0].permute(1, 2, 0), "uint8").numpy()
    assert np.abs(restorer(photo, self_ensemble=True).astype(int) - expected).max() <= 1


def test_float_pictures_beyond_white_keep_their_range(restorer: Restorer, photo: np.ndarray) -> None:
    """A bright sky of 4.0 cut to 1.0 is lost; told, it is only scaled."""
    bright = photo.astype(np.float32) / 255 * 5 - 1
    notes: list[str] = []
    frame = Frame(torch.from_numpy(bright), "float32", ImageMeta("tif", "float RGB"))
    restored = torch.cat([rows for _, rows in restorer.strips(frame, report=notes.append)])
    scaled = restorer((bright - bright.min()) / (bright.max() - bright.min()))
    expected = scaled * (bright.max() - bright.min()) + bright.min()
    assert np.abs(restored.numpy() - expected).max() < 1e-4
    assert any("-1" in note and "scaled" in note for note in notes)


def test_float_pictures_with_holes_are_mended_and_told(restorer: Restorer, photo: np.ndarray) -> None:
    """One NaN of a bad scan spreads over the whole receptive field, or stops the run."""
    holed = photo.astype(np.float32) / 255
    holed[5, 5] = np.nan
    holed[9, 9, 1] = np.inf
    frame = restorer.frame(Frame(torch.from_numpy(holed), "float32", ImageMeta("tif", "float RGB")))
    assert torch.isfinite(frame.pixels).all()
    assert any("not finite" in note for note in frame.meta.notes)


@pytest.mark.parametrize("tile", ["auto", "off", "32", 32, np.int64(32)])
def test_load_takes_what_the_command_line_has(model_file: Path, photo: np.ndarray, tile: object) -> None:
    """Text from a flag and a number from Python mean the same."""
    restorer = Restorer.load(model_file, device="cpu", dtype="fp32", tile=tile)
    assert restorer.scale == 2
    assert restorer(photo).shape == (122, 166, 3)


def test_an_impossible_tile_or_device_is_told(model_file: Path, photo: np.ndarray) -> None:
    """A misspelt flag must not fall back to something slow or wrong in silence."""
    with pytest.raises(UsageError):
        Restorer.load(model_file, device="tpu")
    with pytest.raises(UsageError):
        Restorer.load(model_file, tile="huge")(photo)


def test_the_fingerprint_tells_weights_apart(make_restorer: Make) -> None:
    """`--resume` trusts it: two models with one name must not be taken for each other."""
    one, other = make_restorer(), make_restorer()
    assert one.fingerprint == other.fingerprint
    changed = make_restorer()
    changed._model_net.tail.bias.data.add_(1e-3)
    assert changed.fingerprint != one.fingerprint


def test_flat_alpha_is_cut_nowhere_or_everywhere(make_restorer: Make, photo: np.ndarray) -> None:
    """The accident: an edge of alpha far away changes how a translucent pixel is bounded, in its tile and no other."""
    alpha = np.full(photo.shape[:2], 128, np.uint8)
    alpha[:20, :20] = 255
    picture = np.dstack((photo, alpha))
    whole, tiled = (make_restorer(tile=tile)(picture).astype(int) for tile in ("off", 17))
    assert np.abs(whole - tiled).max() <= 1
    even = make_restorer(tile="off")(np.dstack((photo, np.full_like(alpha, 128)))).astype(int)
    assert np.abs(whole[80:, 80:] - even[80:, 80:]).max() <= 1
