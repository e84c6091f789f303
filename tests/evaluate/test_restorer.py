"""Evaluation of restorers: the published row of bicubic, pairs that fit and pairs that do not, reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.errors import ImageError, ImagesmithError, NothingUsableError, UsageError
from imagesmith.evaluate import Report, evaluate_restorer
from imagesmith.metrics import METRICS
from imagesmith.nets import NetSpec, build_net
from imagesmith.tensors import imresize
from imagesmith.zoo import describe, save_model

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
        ("set14", 2, 30.33, 0.869), ("set14", 3, 27.63, 0.775), ("set14", 4, 26.09, 0.704),
    ],
)  # fmt: skip
def test_bicubic_has_its_published_scores(test_set: str, scale: int, psnr_y: float, ssim_y: float, shared_data: Path):
    """One wrong convention (crop, luma, resize, rounding) moves every score of this package away from the papers'."""
    folder = shared_data / "test-sr" / test_set
    report = evaluate_restorer("bicubic", folder / f"HR_x{scale}", folder / f"LR_x{scale}")
    assert report.summary["psnr_y"] == pytest.approx(psnr_y, abs=0.006)
    assert report.summary["ssim_y"] == pytest.approx(ssim_y, abs=0.002)


def test_inputs_made_from_the_targets_are_the_papers(targets: Path, degraded: Path):
    given, made = evaluate_restorer("bicubic", targets, degraded), evaluate_restorer("bicubic", targets, scale=2)
    assert given.rows == made.rows
    assert [row["name"] for row in given.rows] == ["cat", "cup"]
    assert given.summary["psnr_y"] == pytest.approx(np.mean([row["psnr_y"] for row in given.rows]))


def test_a_weight_file_is_measured_through_the_path_of_users(targets: Path, degraded: Path, nearest_model: Path):
    names = [name for name, card in METRICS.items() if card.needs == "target"]
    found = evaluate_restorer(nearest_model, targets, degraded, names)
    assert found.rows == evaluate_restorer("nearest", targets, degraded, names).rows
    assert found.rows == evaluate_restorer(str(nearest_model), targets, metrics=names).rows
    assert len(found.provenance["weights_sha256"]) == 64
    assert "fp32" in found.provenance["runtime"]


def test_the_precision_can_be_chosen(targets: Path, nearest_model: Path):
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
    assert {row["name"] for row in evaluate_restorer("bicubic", targets, metrics=["psnr_y"], scale=2).rows} == {*PHOTOS}
