"""What surrounds the network: strength, the colour lock, and the spread of the turns."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.errors import ImageError, UsageError
from imagesmith.infer import named
from imagesmith.infer import restore as restoring
from imagesmith.infer.modes import colour_locked, colour_range, shown_colours, spread
from imagesmith.infer.named import model_for
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.device import Runtime
from imagesmith.tensors import imresize
from imagesmith.zoo import Model, save_model

Make = Callable[..., Restorer]


def means(x: torch.Tensor, side: int) -> torch.Tensor:
    """Mean colour of each region of `side` pixels, in grey levels."""
    return torch.nn.functional.avg_pool2d(x, side) * 255


def test_a_locked_network_shifts_no_colour_and_keeps_its_detail() -> None:
    """Networks trained to look sharp make skin redder and skies darker; a product photograph is then another product."""
    x = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0)), scale_factor=8
    )
    x = x * 0.5 + 0.25
    grain = 0.03 * torch.randn(1, 48, 48, 64, generator=torch.Generator().manual_seed(1))

    def shifting(picture: torch.Tensor) -> torch.Tensor:
        sharp = picture.repeat_interleave(16, dim=1) + grain
        sharp[:, :16] += 0.08  # redder everywhere
        sharp[:, 32:, :20] -= 0.05  # and less blue at the top
        return sharp

    y = torch.nn.functional.pixel_shuffle(colour_locked(shifting, 4, 3)(x), 4)
    free = torch.nn.functional.pixel_shuffle(shifting(x), 4)
    faithful = torch.nn.functional.interpolate(x, scale_factor=4)
    assert (means(free - faithful, 32).abs() > 8).any()
    assert means(y - faithful, 32).abs().max() < 1
    detail = (free - torch.nn.functional.avg_pool2d(free, 5, 1, 2))[..., 8:-8, 8:-8]
    kept = (y - torch.nn.functional.avg_pool2d(y, 5, 1, 2))[..., 8:-8, 8:-8]
    assert torch.corrcoef(torch.stack((detail.flatten(), kept.flatten())))[0, 1] > 0.99


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiles_show_in_no_locked_picture(make_restorer: Make, photo: np.ndarray, channels: int) -> None:
    """The lock sees farther than its network; tiles cut for the network alone would show as steps of brightness."""
    picture = np.dstack((photo, np.full(photo.shape[:2], 255, np.uint8)))[..., :channels]
    whole, tiled = (make_restorer(tile=tile, colour_lock=True)(picture).astype(int) for tile in ("off", 13))
    assert np.abs(whole - tiled).max() <= 1
    assert (whole != tiled).mean() < 0.002
    assert np.abs(whole - make_restorer(tile="off")(picture)).max() > 1, "the lock was not on"


def test_strength_goes_from_the_picture_to_the_result(make_unet: Make, photo: np.ndarray) -> None:
    """A slider whose zero is not the picture itself cannot be trusted in between."""
    full = make_unet("denoise")(photo)
    for dtype in (np.uint8, np.uint16):
        picture = photo.astype(dtype) * (257 if dtype == np.uint16 else 1)
        assert np.array_equal(make_unet("denoise", strength=0.0)(picture), picture)
    half = make_unet("denoise", strength=0.5)(photo)
    assert np.abs(half - (full.astype(float) + photo) / 2).max() <= 1.01
    assert np.abs(full.astype(int) - photo).max() > 4


@pytest.fixture
def model_files(tmp_path, make_unet: Make, make_restorer: Make) -> dict[str, str]:
    """Weight files: one that keeps the size, one that fills holes, one that enlarges."""
    restorers = {
        "denoise": make_unet("denoise"),
        "inpaint": make_unet("inpaint", planes=1),
        "sr": make_restorer(),
    }
    for name, restorer in restorers.items():
        save_model(tmp_path / f"{name}.safetensors", restorer._model_net, restorer.card)
    return {name: str(tmp_path / f"{name}.safetensors") for name in restorers}


def test_a_strength_that_cannot_be_is_told(model_files: dict[str, str], photo: np.ndarray) -> None:
    """A slider at 50 instead of 0.5 must not extrapolate, nor the text of a field end in a TypeError."""
    for strength in (-0.1, 1.5, float("nan"), "0.5"):
        with pytest.raises(UsageError, match="from 0 to 1"):
            Restorer.load(model_files["denoise"], device="cpu", dtype="fp32", strength=strength)
    for name in ("sr", "inpaint"):
        with pytest.raises(UsageError, match="leave --strength out"):
            Restorer.load(model_files[name], device="cpu", dtype="fp32", strength=0.5)
    half = Restorer.load(model_files["denoise"], device="cpu", dtype="fp32", strength=0.5)
    assert half.strength == 0.5


def test_a_partner_is_blended_with_and_locks_the_colours(
    make_restorer: Make, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slider of a sharp network goes through its weights, not through a double exposure.

    The accident: at 0 it was the faithful network behind a colour lock, and not what that one gives by its own name.
    """
    faithful = make_restorer()
    sharp = Model(make_restorer()._model_net, replace(faithful.card, name="toy-gan", faithful="toy"))
    sharp.net.tail.bias.data.add_(0.1)
    models = {"toy": Model(faithful._model_net, faithful.card), "toy-gan": sharp}
    for module in (restoring, named):
        monkeypatch.setattr(module, "load_model", lambda name: models[name])
    options = {"device": "cpu", "dtype": "fp32"}
    whole, none = (Restorer.load("toy-gan", strength=strength, **options) for strength in (1.0, 0.0))
    assert (whole.network._colour_lock, faithful.network._colour_lock) == (True, False)
    assert np.array_equal(none(photo), faithful(photo))
    locked = make_restorer(colour_lock=True)(photo)
    assert not np.array_equal(none(photo), locked)
    assert np.abs(whole(photo).astype(int) - locked).max() <= 1, "the bias of 25 grey levels is locked away"
    half = Restorer.load("toy-gan", strength=0.5, **options)
    half.network._colour_lock = False
    shift = half(photo).astype(float) - faithful(photo)
    assert np.median(shift) == pytest.approx(0.05 * 255, abs=1)
    assert whole.partner.card.name == "toy"
    assert faithful.partner is None


def test_the_model_of_a_task() -> None:
    """`--task denoise -s 4` would silently do one of the two."""
    assert [model_for("sr"), model_for("sr", 2), model_for("photo")] == ["sr-x4", "sr-x2", "photo-x4"]
    assert [model_for("denoise"), model_for("jpeg", 1)] == ["denoise", "jpeg"]
    for task, scale in (("denoise", 4), ("sr", 1)):
        with pytest.raises(UsageError, match="keeps the size"):
            model_for(task, scale)


def test_a_task_or_a_scale_that_is_none_is_not_looked_for_among_models() -> None:
    """The accident: "no model 'sr-x5'" for a scale of 5, and a list of models where a task was misspelt."""
    with pytest.raises(UsageError, match=r"expected a task out of sr, denoise, .*'denoiser' \(did you mean 'denoise'"):
        model_for("denoiser")
    with pytest.raises(UsageError, match="expected a scale out of 2, 3, 4 for the task sr, got 5"):
        model_for("sr", 5)
    with pytest.raises(UsageError, match="expected a scale out of 2, 4 for the task photo, got 3"):
        model_for("photo", 3)


def test_consistency_is_kept_in_every_kind_of_picture(make_restorer: Make, photo: np.ndarray) -> None:
    """A mode that the projection does not know gives a result that only seems to be checked."""
    restorer = make_restorer()
    deep = photo.astype(np.uint16) * 257
    for picture in (photo, photo[..., 0], deep, photo.astype(np.float32) / 255):
        restored = restorer(picture, consistency=True)
        assert (restored.dtype, restored.shape[:2]) == (picture.dtype, (122, 166))
        top = {np.uint8: 255, np.uint16: 65535}.get(picture.dtype.type, 1)
        x = torch.from_numpy(restored.astype(np.float64) / top)
        x = x[None] if x.ndim == 2 else x.permute(2, 0, 1)
        back = imresize(x, 0.5).numpy()
        wanted = (picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)) / top
        assert np.abs(back - wanted).max() <= 0.5 / 255 + 1e-6


def test_where_consistency_binds_nothing_is_told(make_restorer: Make, photo: np.ndarray) -> None:
    """The accident: a cut-out is said to agree within half a level, and its soft edge is 13 levels off."""
    alpha = np.full((*photo.shape[:2], 1), 255, np.uint8)
    notes = []
    for hidden in (0, 9):
        alpha[:hidden] = 0
        frame = Frame(torch.from_numpy(np.dstack((photo, alpha))), "uint8", ImageMeta("png", "RGBA"))
        notes.append("".join(make_restorer().frame(frame, consistency=True).meta.notes))
    assert "not opaque" not in notes[0]
    assert "3 pixels from all that is not opaque" in notes[1]


@pytest.mark.parametrize("opaque", [255.0, 1.0])
def test_opacity_is_at_most_one(photo: np.ndarray, opaque: float) -> None:
    """The accident: floats whose alpha goes up to 255 have noise of 4,700 grey levels, and kernels of it."""
    pixels = torch.from_numpy(np.dstack((photo, np.zeros_like(photo[..., :1])))).float() / 255
    pixels[..., 3] = opaque
    frame = Frame(pixels, "float32", ImageMeta("tif", "RGBA"))
    assert torch.allclose(shown_colours(frame), pixels[..., :3].permute(2, 0, 1))


def test_consistency_that_means_nothing_is_told(make_unet: Make, photo: np.ndarray) -> None:
    """The noise of a picture is measured as well, and would come back."""
    with pytest.raises(UsageError, match="must not come back"):
        make_unet("denoise")(photo, consistency=True)


def test_the_level_of_a_jpeg_is_told_to_its_network(make_unet: Make, photos, photo: np.ndarray) -> None:
    """A repair that does not know a file's tables smooths all of it alike."""
    seen = []
    restorer = make_unet("jpeg", planes=1)
    net = restorer._net
    run = net.subpixels
    net.subpixels = lambda x: seen.append(x[:, 3:].unique().tolist()) or run(x)
    restorer(photos / "b.jpg")
    restorer(photo)
    assert seen[0] == pytest.approx([0.3], abs=0.1)
    assert seen[1] == [0.0]


def test_what_is_half_taken_leaves_half_of_the_error(make_unet, photo: np.ndarray) -> None:
    """The accident: the less was mended, the surer the map, for what stays in the picture was not counted."""
    picture = photo.astype(np.float32) / 255
    frames, _ = restoring.images.unwrap(picture)
    whole, half = (make_unet("denoise", strength=strength).uncertainty(frames[0]) for strength in (1.0, 0.5))
    mended = 255 * torch.from_numpy(make_unet("denoise")(picture) - picture).abs().mean(dim=2)
    assert torch.allclose(half, torch.hypot(whole, mended / 2), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_uncertainty_is_the_spread_of_the_turns(make_restorer: Make, photo: np.ndarray, channels: int) -> None:
    """A map of another size, of alpha, or of one turn alone says nothing about the result."""
    restorer = make_restorer(runtime=Runtime(torch.device("cpu"), torch.float32, channels_last=False, reason=""))
    alpha = np.full(photo.shape[:2], 200, np.uint8)
    picture = np.dstack((photo, alpha))[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    frames, _ = restoring.images.unwrap(picture)
    found = restorer.uncertainty(frames[0])
    assert found.shape == (122, 166)
    colours = picture[..., : 3 if channels > 2 else 1].astype(np.float32) / 255
    turns = []
    for k in range(4):
        for flip in (False, True):
            x = np.rot90(colours[:, ::-1] if flip else colours, k)
            y = np.rot90(restorer(np.ascontiguousarray(x)), -k)
            turns.append(y[:, ::-1] if flip else y)
    spread = np.stack(turns).std(axis=0, ddof=1).mean(axis=2) * 255
    inside = (found.numpy() > 0.05) & (np.stack(turns).min(axis=(0, 3)) > 0) & (np.stack(turns).max(axis=(0, 3)) < 1)
    assert inside.mean() > 0.5
    if channels > 2:
        assert np.abs(found.numpy() - spread)[inside].max() < 0.05
    else:
        assert np.corrcoef(found.numpy()[inside], spread[inside])[0, 1] > 0.8


def test_nothing_is_uncertain_outside_of_a_mask(make_unet: Make, photo: np.ndarray) -> None:
    """What is copied is certain."""
    mask = np.zeros(photo.shape[:2], bool)
    mask[20:30, 20:40] = True
    frames, _ = restoring.images.unwrap(photo)
    found = make_unet("inpaint", planes=1).uncertainty(frames[0], mask=mask).numpy()
    assert (found[~mask] == 0).all()
    assert (found[mask] > 0).mean() > 0.9


def test_answers_beyond_black_and_white_agree() -> None:
    """Black letters on white paper had a mean expected error of 23 levels where all eight answers were black."""
    brighter = iter(range(8))

    def answers(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x + 1.2 + 0.1 * next(brighter), -x], dim=1)

    found = spread(answers, 1)(torch.zeros(1, 1, 6, 5))
    assert not found[:, :1].any()
    assert not found[:, 1:].any()


@pytest.mark.parametrize(("opaque", "is_said"), [(1.0, False), (1.0000001, False), (255.0, True)])
def test_alpha_beyond_opaque_is_said(opaque: float, is_said: bool) -> None:
    """The accident: an alpha of 0 to 255 in floats is clipped to 0 and 1, and nobody is told."""
    said: list[str] = []
    pixels = torch.tensor([0.2, 0.3, 0.4, 0.0, 0.2, 0.3, 0.4, opaque]).view(1, 2, 4)
    assert colour_range([pixels], 3, "float32", said.append) == (0, 1)
    assert [line.split(" was")[0] for line in said] == ["alpha up to 255"] * is_said


HEIGHTS = torch.linspace(0, 100, 40 * 30).view(40, 30, 1)


def said_of(pixels: torch.Tensor) -> list[str]:
    """What is reported of a gray float picture, besides that it was scaled."""
    said: list[str] = []
    colour_range(pixels.split(16), 1, "float32", said.append)
    return [line for line in said if "scaled into" not in line]


@pytest.mark.parametrize("filled", [1, 30, 1100])
@pytest.mark.parametrize("filler", [-9999.0, 32767.0])
def test_a_filler_that_flattens_the_picture_is_said(filler: float, filled: int) -> None:
    """The accident: one -9999 decides the range, heights come back 8 metres off, 'done'."""
    pixels = HEIGHTS.clone()
    pixels.view(-1)[:filled] = filler
    (line,) = said_of(pixels)
    assert "networks see them as flat; replace what fills" in line


def test_a_filler_that_leaves_no_digits_is_refused() -> None:
    """The accident: with the least float as a filler every height comes back as 0 or as 1e34."""
    pixels = HEIGHTS.clone()
    pixels[3, 4] = torch.finfo(torch.float32).min
    with pytest.raises(ImageError, match=r"got some far from all others: 98 % of the values .*\nreplace what fills"):
        said_of(pixels)


def test_legitimate_float_pictures_are_left_alone() -> None:
    """The accident: a white page, a blank one and a night sky are all told that they are flat."""
    sky = torch.rand(HEIGHTS.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    sky[5, 5] = 1.0
    page = torch.full(HEIGHTS.shape, 255.0)
    page[10:14, 3:20] = 0
    blank = torch.full(HEIGHTS.shape, 0.1) * (1 + 1e-7 * (torch.arange(30) % 2).view(30, 1))
    blank[7, 7] = 4.0
    assert [said_of(pixels) for pixels in (sky, page, blank, HEIGHTS, HEIGHTS * 0 + 500)] == [[]] * 5


@pytest.mark.parametrize("difference", [10.0, 1.0, 0.05])
def test_large_values_that_hardly_differ_are_said_and_not_refused(difference: float) -> None:
    """The accident: a map of the air's pressure in pascals comes back as one gray, and nobody is told."""
    pixels = 101325 + difference * torch.rand(HEIGHTS.shape, generator=torch.Generator().manual_seed(0))
    (line,) = said_of(pixels)
    assert "networks see them as flat" in line
    first, last = re.findall(r"101\d+[.\d]*", line)[:2]
    assert first != last
    pixels[3, 4] = torch.finfo(torch.float32).min
    with pytest.raises(ImageError, match="got some far from all others"):
        said_of(pixels)
