"""`imagesmith restore` with --mask, --strength, --consistency and --uncertainty, from the outside."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data.files import read_image
from imagesmith.nets import NetSpec, build_net
from imagesmith.tensors import imresize, to_float
from imagesmith.zoo import describe, save_model


@pytest.fixture
def mask(photos: Path) -> Path:
    """A mask of the size of face.png, 37x29: a white stroke."""
    white = np.zeros((29, 37), np.uint8)
    white[10:14, 5:30] = 255
    Image.fromarray(white).save("mask.png")
    return Path("mask.png")


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_mask_is_filled_and_all_else_is_the_file(photos: Path, models, mask: Path, call) -> None:
    """The accident: a retouched portrait whose every pixel is a little different."""
    done = call("restore", photos / "face.png", "-n", models("inpaint"), "--mask", mask, "-o", "mended.png")
    assert done.code == 0, done.err
    before, after = (pixels(path) for path in (photos / "face.png", "mended.png"))
    inside = pixels(mask) > 0
    assert np.array_equal(before[~inside], after[~inside])
    assert (before[inside] != after[inside]).mean() > 0.5


def test_scratches_are_looked_for_and_counted(photos: Path, models, call) -> None:
    """The accident: 'auto' that fails where there is nothing to do, or does not say what it took for a scratch."""
    photo = np.full((160, 200, 3), 90, np.uint8)
    Image.fromarray(photo).save("clean.png")
    photo[20:150, 100:103] = 250
    Image.fromarray(photo).save("scratched.png")
    for name, word in (("clean", "no scratches found"), ("scratched", "scratches: ")):
        done = call("restore", f"{name}.png", "-n", models("inpaint"), "--mask", "auto", "-o", f"{name}-mended.png")
        assert done.code == 0, done.err
        assert word in done.err
    assert np.array_equal(pixels("clean-mended.png"), pixels("clean.png"))
    changed = (pixels("scratched-mended.png") != photo).any(axis=2)
    assert 300 < changed.sum() < 1500


def test_masks_that_cannot_be_are_refused(photos: Path, models, mask: Path, tiny: Path, call) -> None:
    """The accident: a mask for another picture, an inverted one, a text file - and a picture full of inventions."""
    before = mask.read_bytes()
    face, inpaint = photos / "face.png", models("inpaint")
    with Image.open(mask) as image:
        image.crop((0, 0, 36, 29)).save("other.png")
    Image.new("L", (37, 29), 255).save("full.png")
    Image.new("L", (37, 29), 0).save("empty.png")
    Path("words.png").write_text("no picture")
    call("restore", face, "-n", inpaint, "--mask", "other.png").was_refused(3, "37x29", "36x29")
    call("restore", face, "-n", inpaint, "--mask", "full.png").was_refused(2, "full", "invert")
    call("restore", face, "-n", inpaint, "--mask", "empty.png").was_refused(2, "empty")
    call("restore", face, "-n", inpaint, "--mask", "words.png").was_refused(2, "--mask", "words.png")
    call("restore", face, "-n", inpaint, "--mask", "absent.png").was_refused(2, "--mask", "absent.png")
    call("restore", face, "-n", inpaint).was_refused(2, "--mask")
    call("restore", face, "-n", tiny, "--mask", mask).was_refused(2, "takes no mask")
    call("restore", face, "-n", inpaint, "--mask", mask, "-o", mask, "-y").was_refused(3, "itself the mask")
    assert mask.read_bytes() == before
    assert not list(photos.glob("*.inpaint.*"))


def test_strength_is_between_0_and_1(photos: Path, models, tiny: Path, call) -> None:
    """The accident: `--strength 50` taken for fifty times the effect."""
    face = photos / "face.png"
    call("restore", face, "-n", models("denoise"), "--strength", "50").was_refused(2, "from 0 to 1", "50")
    call("restore", face, "-n", tiny, "--strength", "0.5").was_refused(2, "faithful", "--strength")
    assert call("restore", face, "-n", models("denoise"), "--strength", "0", "-o", "same.png").code == 0
    assert np.array_equal(pixels("same.png"), pixels(face))


def test_consistency_holds_in_the_written_file(photos: Path, tiny: Path, models, call) -> None:
    """The accident: a promise kept in float that the file on the disk breaks."""
    face, cup = photos / "face.png", photos / "more" / "cup.jpg"
    done = call("restore", face, "-n", tiny, "--consistency", "-o", "large.png")
    assert done.code == 0, done.err
    assert "within half a grey level" in done.err
    large, small = (read_image(Path(path)).pixels.permute(2, 0, 1) for path in ("large.png", face))
    error = imresize(to_float(large, "uint8"), 0.5) - to_float(small, "uint8")
    assert error.abs().max() <= 0.5 / 255 + 1e-6
    assert "JPEG coefficient" in call("restore", cup, "-n", models("jpeg"), "--consistency", "-o", "cup.png").err
    call("restore", face, "-n", models("jpeg"), "--consistency").was_refused(4, "quantisation tables")
    call("restore", face, "-n", models("denoise"), "--consistency").was_refused(2, "leave --consistency out")


def test_uncertainty_is_drawn_and_told(photos: Path, tiny: Path, call) -> None:
    """The accident: a map that cannot be laid over its picture, or that writes over another one."""
    done = call("restore", photos / "face.png", "-n", tiny, "--uncertainty", "heat.png", "-o", "large.png", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)["uncertainty"]
    assert told["output"] == "heat.png"
    assert 0 < told["mean"] < told["p95"] < 64
    assert told["is_calibrated"] is False
    assert "not calibrated" in done.err, "the disagreement of any network is sold as an error in grey levels"
    assert "heat.png, lightest at 32" in done.err
    assert pixels("heat.png").shape == (58, 74, 3)
    again = call("restore", photos / "face.png", "-n", tiny, "--uncertainty", "heat.png", "-o", "other.png")
    again.was_refused(3, "heat.png exists")
    call("restore", photos, "-r", "-n", tiny, "--uncertainty", "heat.png", "-o", "out").was_refused(2, "name a folder")
    assert call("restore", photos, "-r", "-n", tiny, "--uncertainty", "maps", "-o", "out").code == 0
    assert sorted(str(path) for path in Path("maps").rglob("*.png")) == [
        "maps/face.png.heat.png",
        "maps/more/cup.jpg.heat.png",
    ]


def test_a_task_names_its_model_and_keeps_or_changes_the_size(photos: Path, models, call) -> None:
    """The accident: `--task denoise -s 4` does one of the two and says nothing."""
    face = photos / "face.png"
    call("restore", face, "--task", "denoise", "-s", "4").was_refused(2, "keeps the size")
    call("restore", face, "-n", models("denoise"), "-s", "2").was_refused(2, "keeps the size", "scale of 2")
    call("restore", face, "--task", "sr", "-s", "1").was_refused(2, "--task")
    call("restore", face, "-n", models("denoise"), "--task", "deblur").was_refused(2, "task denoise", "task deblur")
    assert call("restore", face, "-n", models("denoise"), "-s", "1").code == 0
    assert pixels(photos / "face.denoise.png").shape == (29, 37, 3)


def test_gray_stays_gray_and_colour_colour(photos: Path, models, mask: Path, call) -> None:
    """The accident: a scan of black and white comes back tinted, or a gray network refuses a colour photo."""
    with Image.open(photos / "face.png") as image:
        image.convert("L").save("gray.png")
    torch.manual_seed(2)
    spec = NetSpec("unet", {"widths": (8, 12), "blocks": (1, 1), "channels": 1})
    net = build_net(spec).eval()
    save_model(Path("gray.safetensors"), net, describe(net, spec, "gray", task="denoise"))
    assert call("restore", "gray.png", "-n", models("denoise"), "-o", "gray-mended.png").code == 0
    assert call("restore", "gray.png", "-n", models("inpaint"), "--mask", mask, "-o", "gray-filled.png").code == 0
    assert call("restore", photos / "face.png", "-n", "gray.safetensors", "-o", "colour.png").code == 0
    assert [pixels(f"{name}.png").shape for name in ("gray-mended", "gray-filled")] == [(29, 37)] * 2
    assert pixels("colour.png").shape == (29, 37, 3)
    outside = pixels(mask) == 0
    assert np.array_equal(pixels("gray-filled.png")[outside], pixels("gray.png")[outside])


def test_a_task_and_a_model_for_another_are_refused(photos: Path, models, call) -> None:
    """The accident: `--task jpeg -n denoise` runs one of the two, and which one nobody knows."""
    face = photos / "face.png"
    call("restore", face, "--task", "jpeg", "-n", models("denoise")).was_refused(2, "task denoise", "task jpeg")
    call("restore", face, "--task", "sr", "-n", models("inpaint")).was_refused(2, "task inpaint", "task sr")
    call("restore", face, "--task", "colour").was_refused(2, "--task", "denoise")
    assert sorted(path.name for path in photos.iterdir()) == ["face.png", "more", "notes.txt"]
