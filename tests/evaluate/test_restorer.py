"""Evaluation of restorers: the published row of bicubic, pairs that fit and pairs that do not, reports."""

import hashlib
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

from imagesmith.errors import ImageError, ImagesmithError, NothingUsableError, UsageError
from imagesmith.evaluate import Report, evaluate_restorer, subjects
from imagesmith.infer.restore import Restorer
from imagesmith.metrics import METRICS
from imagesmith.nets import NetSpec, build_net
from imagesmith.presets import web_photo
from imagesmith.runtime.device import Runtime
from imagesmith.tensors import imresize
from imagesmith.zoo import Model, describe, save_model
from imagesmith.zoo.community import Community, PlainStack

PHOTOS = {"cat": data.chelsea()[60:161, 100:222], "cup": data.coffee()[100:190, 200:281]}


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """Photographs whose sizes are no multiple of any scale."""
    folder = tmp_path / "targets"
    folder.mkdir()
    for name, photo in PHOTOS.items():
        Image.fromarray(photo).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def degraded(tmp_path: Path) -> Path:
    """The inputs of the papers for x2, in another format than the targets."""
    folder = tmp_path / "degraded"
    folder.mkdir()
    for name, photo in PHOTOS.items():
        height, width = (size // 2 * 2 for size in photo.shape[:2])
        small = imresize(torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1), 0.5)
        Image.fromarray(small.permute(1, 2, 0).numpy()).save(folder / f"{name}.bmp")
    return folder


@pytest.fixture
def nearest_model(tmp_path: Path) -> Path:
    """A weight file whose network adds nothing to its nearest-neighbour base."""
    spec = NetSpec("compact", {"scale": 2})
    net = build_net(spec)
    with torch.no_grad():
        net.tail.weight.zero_()
        net.tail.bias.zero_()
    save_model(tmp_path / "model.safetensors", net, describe(net, spec, "nothing-x2"))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("test_set", "scale", "psnr_y", "ssim_y"),
    [
        ("set5", 2, 33.67, 0.930), ("set5", 3, 30.40, 0.868), ("set5", 4, 28.43, 0.811),
        ("set14", 2, 30.33, None), ("set14", 3, 27.63, None), ("set14", 4, 26.09, 0.704),
    ],
)  # fmt: skip
def test_bicubic_has_its_published_scores(
    test_set: str, scale: int, psnr_y: float, ssim_y: float | None, shared_data: Path
):
    """One wrong convention (crop, luma, resize, rounding) moves every score of this package away from the papers'.

    SSIM takes most of the time: on the gray and the odd pictures of Set14 at one scale, at the others on Set5 alone.
    """
    folder = shared_data / "test-sr" / test_set
    metrics = None if ssim_y else ["psnr_y"]
    report = evaluate_restorer("bicubic", folder / f"HR_x{scale}", folder / f"LR_x{scale}", metrics)
    assert report.summary["psnr_y"] == pytest.approx(psnr_y, abs=0.006)
    if ssim_y:
        assert report.summary["ssim_y"] == pytest.approx(ssim_y, abs=0.002)


def test_inputs_made_from_the_targets_are_the_papers(targets: Path, degraded: Path):
    given, made = evaluate_restorer("bicubic", targets, degraded), evaluate_restorer("bicubic", targets, scale=2)
    assert given.rows == made.rows
    assert [row["name"] for row in given.rows] == ["cat", "cup"]
    assert given.summary["psnr_y"] == pytest.approx(np.mean([row["psnr_y"] for row in given.rows]))


def test_a_weight_file_is_measured_through_the_path_of_users(targets: Path, degraded: Path, nearest_model: Path):
    names = [name for name, card in METRICS.items() if card.needs == "target"]
    found = evaluate_restorer(nearest_model, targets, degraded, names)
    for given in (("nearest", targets, degraded, names), (str(nearest_model), targets, None, names)):
        for row, same in zip(found.rows, evaluate_restorer(*given).rows, strict=True):
            expected = {key: value if key == "name" else pytest.approx(value, rel=1e-12) for key, value in same.items()}
            assert row == expected  # with AVX-512 sums depend on where memory begins
    assert len(found.provenance["weights_sha256"]) == 64
    assert "fp32" in found.provenance["runtime"]


def test_weights_of_other_projects_are_measured_too(targets: Path, tmp_path: Path):
    """The accident: `restore` takes a DnCNN's .pth, and `evaluate` looks in it for a card that only our files have."""
    net = PlainStack(3, width=4, depth=3)
    torch.nn.init.zeros_(net.model[-1].weight)
    torch.nn.init.zeros_(net.model[-1].bias)
    torch.save(net.state_dict(), tmp_path / "dncnn.pth")
    report = evaluate_restorer(tmp_path / "dncnn.pth", targets, degrade="gaussian_noise:sigma=[15,15],rounded=0")
    assert report.summary["psnr_rgb"] == pytest.approx(20 * math.log10(255 / 15), abs=0.5)  # it takes nothing away
    expected = hashlib.sha256((tmp_path / "dncnn.pth").read_bytes()).hexdigest()
    assert report.provenance["weights_sha256"] == expected


class Seeing(nn.Conv2d):
    """Remembers the sizes of all it is given."""

    seen: ClassVar[list[tuple[int, ...]]] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.append(tuple(input.shape[2:]))
        return super().forward(input)


def test_tiles_are_those_of_the_restorer_and_told_where_they_are_not_exact(targets: Path):
    """A network's score was that of its tiles, without a word, though the whole pictures were asked for."""
    (targets / "cup.png").unlink()
    net = Community(Seeing(3, 3, 1), lambda model, x: model(x), scale=1, channels=3, multiple_of=1)
    model = Model(net, describe(net, NetSpec("community:Family", {}), "foreign", task="denoise"))
    runtime = Runtime(torch.device("cpu"), torch.float32, False, "")
    for tile, is_told in (("off", False), (64, True)):
        Seeing.seen.clear()
        restorer = Restorer.of(model, tile=tile, runtime=runtime)
        report = evaluate_restorer(restorer, targets, degrade="gaussian_noise:sigma=[15,15],rounded=0")
        assert ("tiles that overlap by 64 px" in report.caption) is is_told
        assert ("tiles" in report.provenance) is is_told
        assert (len(Seeing.seen) > report.provenance["images"]) is is_told


def test_the_precision_can_be_chosen(targets: Path, nearest_model: Path):
    for path in targets.glob("*.png"):  # small ones, for processors that emulate bf16
        Image.open(path).crop((0, 0, 48, 48)).save(path)
    report = evaluate_restorer(nearest_model, targets, dtype="bf16")
    assert "bf16" in report.provenance["runtime"]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_gray_alpha_and_16_bits_are_measured_too(mode: str, targets: Path, nearest_model: Path):
    """Set14 holds a gray image, and a report that skips it has another mean than the papers'."""
    gray = np.asarray(Image.open(targets / "cup.png").convert("L")).astype(np.uint16) * 257
    picture = Image.fromarray(gray) if mode == "I;16" else Image.open(targets / "cup.png").convert(mode)
    picture.save(targets / "cup.png")
    found = evaluate_restorer(nearest_model, targets)
    expected = evaluate_restorer("nearest", targets, scale=2)
    assert found.rows[1]["psnr_y"] == pytest.approx(expected.rows[1]["psnr_y"], abs=0.05)
    assert 20 < found.rows[1]["psnr_y"] < 40


def test_what_is_hidden_under_alpha_is_not_measured(targets: Path, degraded: Path):
    """Black hidden under full transparency counted as 15 dB of error that nobody could see."""
    for path in degraded.iterdir():
        small = np.asarray(Image.open(path)).copy()
        small[:, : small.shape[1] // 2] = 255
        Image.fromarray(small).save(path)
        target = targets / f"{path.stem}.png"
        pixels = np.dstack([PHOTOS[path.stem], np.full(PHOTOS[path.stem].shape[:2], 255, np.uint8)])
        pixels[:, : small.shape[1] // 2 * 2] = 0
        Image.fromarray(pixels).save(target)
    assert min(row["psnr_y"] for row in evaluate_restorer("nearest", targets, degraded).rows) > 25


@pytest.mark.parametrize("beyond", ["target", "degraded"])
@pytest.mark.parametrize(
    ("dtype", "factor", "black", "words"),
    [
        (np.int16, 8, 1000, r"float pixels in \[0, 1\], got -.* to .*; scale"),
        (np.uint16, 16, 0, r"16-bit values that use their range, got at most \d{4} of 65535; scale"),
    ],
)
def test_pictures_whose_values_eight_bits_spoil_are_refused(
    dtype: type, factor: int, black: int, words: str, beyond: str, targets: Path, degraded: Path
):
    """The accident: CT slices are scored as black and white, X-rays as black, and the numbers look like any other."""
    path = targets / "cup.png" if beyond == "target" else degraded / "cup.bmp"
    values = np.asarray(Image.open(path).convert("L")).astype(dtype) * factor - black
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), values)
    with pytest.raises(ImageError, match=rf"cup\.tif: expected {words}"):
        evaluate_restorer("bicubic", targets, degraded)


class TestPairs:
    def test_a_missing_counterpart_is_named(self, targets: Path, degraded: Path):
        (degraded / "cup.bmp").unlink()
        with pytest.raises(UsageError, match=r"2 targets and 1 degraded images\n'cup' is missing in .*degraded"):
            evaluate_restorer("bicubic", targets, degraded)

    def test_a_missing_target_is_named(self, targets: Path, degraded: Path):
        (targets / "cat.png").unlink()
        with pytest.raises(UsageError, match=r"'cat' is missing in .*targets"):
            evaluate_restorer("bicubic", targets, degraded)

    def test_a_pair_of_unequal_size_is_named(self, targets: Path, degraded: Path):
        """Resizing one of them silently gives a score of something else."""
        Image.open(degraded / "cup.bmp").crop((0, 0, 39, 45)).save(degraded / "cup.bmp")
        with pytest.raises(ImageError, match=r"2 times .* 39x45, got 80x90 \(pair 'cup'\)"):
            evaluate_restorer("bicubic", targets, degraded)

    def test_two_images_of_one_name_are_refused(self, targets: Path):
        Image.open(targets / "cat.png").save(targets / "cat.bmp")
        with pytest.raises(UsageError, match=r"cat\.bmp and cat\.png"):
            evaluate_restorer("bicubic", targets, scale=2)

    def test_an_empty_or_absent_folder_is_named(self, tmp_path: Path):
        with pytest.raises(NothingUsableError, match="found none"):
            evaluate_restorer("bicubic", tmp_path, scale=2)
        with pytest.raises(UsageError, match="expected a folder"):
            evaluate_restorer("bicubic", tmp_path / "absent", scale=2)

    def test_a_broken_image_is_named(self, targets: Path):
        (targets / "cup.png").write_bytes((targets / "cup.png").read_bytes()[:999])
        with pytest.raises(ImageError, match=r"cup\.png"):
            evaluate_restorer("bicubic", targets, scale=2)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"metrics": ["psnr_x"], "scale": 2}, "did you mean 'psnr_y'"),
            ({}, "pass the scale"),
            ({"scale": 200}, "smaller than the scale"),
        ],
    )
    def test_impossible_calls_say_what_to_do(self, arguments: dict, words: str, targets: Path):
        with pytest.raises(ImagesmithError, match=words) as caught:
            evaluate_restorer("bicubic", targets, **arguments)
        assert str(caught.value).count("\n") <= 2

    def test_a_model_at_another_scale_is_refused(self, targets: Path, nearest_model: Path):
        with pytest.raises(UsageError, match="enlarges by 2, got scale=4"):
            evaluate_restorer(nearest_model, targets, scale=4)


class TestReport:
    def test_json_is_strict_even_for_a_perfect_result(self, tmp_path: Path):
        report = Report([{"name": "a", "psnr_y": float("inf")}], {"psnr_y": float("inf")}, {"scale": 2})
        report.save(tmp_path / "report.json")
        saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
        assert float(saved["summary"]["psnr_y"]) == float("inf")

    def test_the_table_shows_rows_mean_and_protocol(self, targets: Path):
        """A number without its protocol cannot be compared with any other."""
        lines = evaluate_restorer("nearest", targets, scale=2).table().splitlines()
        assert [line.split()[0] for line in lines[:4]] == ["image", "cat", "cup", "mean"]
        assert len({len(line) for line in lines[:4]}) == 1
        assert "nearest x2: both images rounded to 8 bits, 2 pixels cropped" in lines[4]
        assert "bicubic (imresize)" in lines[4]


def test_a_picture_too_small_for_a_metric_is_named(targets: Path):
    """Among a thousand pictures, "got 8x8" names none."""
    Image.fromarray(PHOTOS["cup"][:14, :14]).save(targets / "tiny.png")
    with pytest.raises(ImageError, match=r"'tiny': ssim_y needs"):
        evaluate_restorer("bicubic", targets, metrics=["ssim_y"], scale=2)


def test_a_scale_of_nothing_and_a_folder_that_cannot_be_read_are_told(targets: Path, monkeypatch: pytest.MonkeyPatch):
    """Both ended as a bug: a division by zero and a PermissionError."""
    with pytest.raises(UsageError, match="at least 1"):
        evaluate_restorer("bicubic", targets, scale=0)

    def refuse(path: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(NothingUsableError, match="Permission denied"):
        evaluate_restorer("bicubic", targets, scale=2)


def test_hidden_files_are_no_targets(targets: Path):
    """macOS leaves ._photo.png beside photo.png on foreign disks: a broken file by a picture's name."""
    (targets / "._cat.png").write_bytes(b"\0\5\x16\7junk")
    assert {row["name"] for row in evaluate_restorer("bicubic", targets, metrics="psnr_y", scale=2).rows} == {*PHOTOS}


@pytest.fixture
def plain_model(tmp_path: Path):
    """Weight files of U-Nets that add nothing to the picture they are given, with so many planes and channels."""

    def save(task: str = "denoise", planes: int = 0, channels: int = 3) -> Path:
        spec = NetSpec("unet", {"widths": [8], "blocks": [1], "planes": planes, "channels": channels})
        net = build_net(spec)
        with torch.no_grad():
            net.tail.weight.zero_()
        path = tmp_path / f"{task}{planes}{channels}.safetensors"
        save_model(path, net, describe(net, spec, f"plain-{task}", task=task))
        return path

    return save


class TestRecipes:
    def test_noise_has_the_score_that_its_strength_says(self, targets: Path):
        """Noise that is clipped, rounded or scaled on its way scores better than what the papers measure on."""
        Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(targets / "gray.png")
        report = evaluate_restorer("none", targets, degrade="gaussian_noise:sigma=[25,25],rounded=0")
        assert list(report.summary) == ["psnr_rgb", "ssim_y"]
        assert report.rows[-1]["psnr_rgb"] == pytest.approx(20.17, abs=0.1)
        assert "0 pixels cropped" in report.caption
        assert report.provenance["recipe"] == [{"name": "gaussian_noise", "options": {"sigma": [25, 25], "rounded": 0}}]

    def test_the_same_images_are_drawn_for_every_subject(self, targets: Path, plain_model):
        """A model measured on other noise than its rival is compared with nothing."""
        recipe = "gaussian_noise:sigma=[5,50],rounded=0"
        rows = evaluate_restorer("none", targets, degrade=recipe).rows
        assert rows == evaluate_restorer(plain_model(), targets, degrade=recipe).rows
        assert rows[0]["psnr_rgb"] != rows[1]["psnr_rgb"]

    def test_networks_see_noise_unclipped(self, targets: Path, plain_model, monkeypatch: pytest.MonkeyPatch):
        """Scaled into [0, 1], as unusual float files are, every noise level is another than the one that is reported."""
        seen = []
        monkeypatch.setattr(subjects, "run_tiled", lambda net, x, plan: seen.append(x) or x)
        evaluate_restorer(plain_model(), targets, degrade="gaussian_noise:sigma=[50,50],rounded=0")
        assert min(x.min() for x in seen) < -0.1
        assert max(x.max() for x in seen) > 1.1

    def test_planes_are_told_or_zero(self, targets: Path, plain_model, monkeypatch: pytest.MonkeyPatch):
        """A table level in the place of a mask, or a plane too many, is a crash at best."""
        seen = []
        monkeypatch.setattr(subjects, "run_tiled", lambda net, x, plan: seen.append(x) or x[:, :3])
        jpeg = plain_model("jpeg", planes=1)
        evaluate_restorer(jpeg, targets, degrade="jpeg:quality=[10,10],table_plane=true,blind=0")
        evaluate_restorer(jpeg, targets, degrade="jpeg:quality=[10,10]")
        evaluate_restorer(plain_model(), targets, degrade="jpeg:quality=[10,10],table_plane=true,blind=0")
        told, blind, without = seen[0], seen[2], seen[4]
        assert told.shape[1] == blind.shape[1] == 4
        assert told[:, 3].unique().item() > 0.8
        assert (blind[:, 3] == 0).all()
        assert without.shape[1] == 3

    def test_holes_are_scored_inside(self, targets: Path, plain_model):
        holes = 'holes:share=[0.2,0.3],kinds=["free_form"]'
        report = evaluate_restorer(plain_model("inpaint", planes=1), targets, degrade=holes)
        assert list(report.summary) == ["psnr_hole", "psnr_rgb"]
        assert all(5 < row["psnr_rgb"] - row["psnr_hole"] < 8 for row in report.rows), "a share of 20 to 30 %"
        with pytest.raises(UsageError, match="measured inside holes"):
            evaluate_restorer("none", targets, metrics=["psnr_hole"], degrade="jpeg:quality=[10,10]")

    def test_a_gray_file_gets_the_noise_of_one_channel(self, targets: Path):
        """Independent noise in three copies of a gray picture averages out: DnCNN scored 1.4 dB over its paper."""
        Image.fromarray(np.full((90, 90), 128, np.uint8)).save(targets / "gray.png")
        noise = "gaussian_noise:sigma=[25,25],rounded=0"
        report = evaluate_restorer("none", targets, degrade=noise, metrics=["psnr_gray"])
        assert report.rows[-1]["psnr_gray"] == pytest.approx(20.17, abs=0.2)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_gray_is_the_studio_range_luma(self, channels: int, targets: Path, plain_model):
        """Gray of another range differs from every published JPEG score by 0.7 dB."""
        recipe = "jpeg:quality=[10,10],shifted=0"
        report = evaluate_restorer("none", targets, degrade=recipe, gray=True)
        assert list(report.summary) == ["psnr_gray", "psnr_b"]
        expected = []
        for photo in (PHOTOS["cat"], PHOTOS["cup"]):
            luma = np.floor(photo @ np.array([65.481, 128.553, 24.966]) / 255 + 16.5).astype(np.uint8)
            Image.fromarray(luma).save(targets / "luma.jpg", quality=10)
            error = np.asarray(Image.open(targets / "luma.jpg")).astype(float) - luma
            expected.append(10 * np.log10(255**2 / np.mean(error**2)))
        (targets / "luma.jpg").unlink()
        assert [row["psnr_gray"] for row in report.rows] == pytest.approx(expected, abs=1e-6)
        model = plain_model("jpeg", planes=1, channels=channels)
        assert evaluate_restorer(model, targets, degrade=recipe, gray=True).rows == report.rows

    def test_super_resolution_by_recipe_is_that_of_the_papers(self, targets: Path, nearest_model: Path):
        found = evaluate_restorer(nearest_model, targets, degrade="bicubic:scale=2")
        expected = evaluate_restorer(nearest_model, targets, scale=2).summary
        assert found.summary == pytest.approx(expected, abs=1e-3)

    def test_a_recipe_with_a_name_is_that_of_the_table(self, targets: Path, nearest_model: Path):
        """A row 'kodak24 web photo' of the table that no command of users could measure again."""
        expected = evaluate_restorer(nearest_model, targets, degrade=web_photo(2))
        for model, degrade in ((nearest_model, "web_photo"), ("nearest", "web_photo:scale=2")):
            found = evaluate_restorer(model, targets, degrade=degrade)
            assert [row["psnr_y"] for row in found.rows] == pytest.approx(
                [row["psnr_y"] for row in expected.rows], abs=0.01
            )
            assert (found.provenance["recipe"], "web_photo" in found.caption) == (expected.provenance["recipe"], True)

    @pytest.mark.parametrize(
        ("model", "arguments", "words"),
        [
            ("none", {"degrade": "web_photo"}, "scale of 2 and more.*write web_photo:scale=2"),
            ("bicubic", {"degrade": "web_photo:scale=2,quality=3"}, "no other option, got .*quality"),
            ("none", {"scale": 2}, "the targets' size"),
            ("none", {"gray": True}, "expected a recipe"),
            ("none", {"degrade": "jpeg", "degraded": "x"}, "leave one out"),
            ("none", {"degrade": "jpg"}, "did you mean 'jpeg'"),
            ("none", {"degrade": "jpeg:quality"}, "name:option=value"),
            ("bicubic", {"degrade": "bicubic:scale=2", "scale": 3}, "shrinks by 2"),
            ("none", {"degrade": "absent.json"}, "absent.json cannot be read"),
            ("none", {"scale": 1}, "got the targets alone"),
        ],
    )
    def test_impossible_recipes_say_what_to_do(self, model: str, arguments: dict, words: str, targets: Path):
        with pytest.raises(UsageError, match=words) as caught:
            evaluate_restorer(model, targets, **arguments)
        assert str(caught.value).count("\n") <= 2


@pytest.mark.parametrize(("quality", "psnr_gray", "psnr_b"), [(10, 27.77, 25.33), (40, 32.35, 29.96)])
def test_unrestored_jpegs_have_their_published_scores(quality: int, psnr_gray: float, psnr_b: float, shared_data: Path):
    """LIVE1 as every JPEG paper has it: one wrong convention, and no row of ours can be compared with any of theirs."""
    recipe = f"jpeg:quality=[{quality},{quality}],shifted=0"
    report = evaluate_restorer("none", shared_data / "test-jpeg" / "live1", degrade=recipe, gray=True)
    assert report.summary["psnr_gray"] == pytest.approx(psnr_gray, abs=0.01)
    assert report.summary["psnr_b"] == pytest.approx(psnr_b, abs=0.015)
