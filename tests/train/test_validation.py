"""What a validation leaves behind."""

import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from imagesmith import presets
from imagesmith.configs import RestorerConfig, override
from imagesmith.data.datasets import PhotoFolder
from imagesmith.degrade import Chain
from imagesmith.infer.named import of_strength
from imagesmith.train import validation
from imagesmith.train.machine import Arithmetic
from imagesmith.train.state import Plan, TrainState
from imagesmith.train.validation import SHEET_PX, Validation, curve, is_better, sheet_row, stacked
from imagesmith.zoo import Model, ModelCard, load_model, save_model


def test_the_first_time_of_a_call_does_not_count(monkeypatch: pytest.MonkeyPatch):
    """The accident: a rehearsal that builds kernels tells of minutes, and no validation is held but the last."""
    now = 0.0

    def call() -> None:
        nonlocal now
        now += 1.0 if now else 60.0

    monkeypatch.setattr(validation.time, "monotonic", lambda: now)
    assert validation.second_time(call) == 1.0


def test_a_rehearsal_is_scaled_to_all_photographs(monkeypatch: pytest.MonkeyPatch):
    """The accident: the first of twelve photographs is small, and a validation takes twelve times what was planned."""
    judge = object.__new__(validation.Validation)
    judge.pairs = [(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, side, side)) for side in (8, 16, 16)]
    monkeypatch.setattr(validation, "second_time", lambda call: 2.0)
    state = SimpleNamespace(averages={"restorer": None})
    assert judge.rehearse(cast(Any, state)) == 2.0 * (1 + 4 + 4)


def test_curve_is_a_picture_of_its_points():
    """The curve is drawn by hand, so a bad number would draw outside the frame or break the file."""
    for points in ([(10, 20.0)], [(10, 20.0), (20, 20.0)], [(16, 20.5), (32, 24.125), (48, 23.0)]):
        root = ET.fromstring(curve(points, "psnr_y"))
        line = next(element for element in root if element.tag.endswith("polyline"))
        places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert len(places) == len(points)
        assert all(0 <= x <= 640 and 0 <= y <= 320 for x, y in places)
        texts = [element.text for element in root if element.tag.endswith("text")]
        assert f"{max(y for _, y in points):.3f}" in texts
    assert places[1][1] < places[2][1] < places[0][1], "better is higher"


def test_sheet_row_shows_the_same_place_three_times():
    target = torch.rand(1, 3, 400, 300)
    row = sheet_row(target[..., ::4, ::4], target, target)
    assert row.shape == (3, SHEET_PX, 3 * SHEET_PX)
    assert torch.equal(row[..., SHEET_PX : 2 * SHEET_PX], row[..., 2 * SHEET_PX :])
    small = torch.rand(1, 3, 40, 60)
    assert sheet_row(small, small, small).shape == (3, 40, 180)


def test_sheet_rows_of_small_photographs_go_below_those_of_large_ones():
    """The accident: one photograph narrower than the others ends a run at its first validation."""
    sheet = stacked([torch.ones(3, 20, 60), torch.ones(3, 40, 30)])
    assert sheet.shape == (3, 60, 60)
    assert float(sheet[:, 20:, 30:].max()) == 0


def better(best: dict[str, float], psnr_y: float, spectrum: float, *, adversarial: bool = True) -> bool:
    config = (presets.sr_x4_gan if adversarial else presets.sr_x4)(data="photos", out="run")
    if adversarial:
        config = override(config, ["adversarial.most_db=1"])
    state = TrainState(nets={}, plan=Plan(100), best=best, extras={"start": {"psnr_y": 30.0, "spectrum": 1.0}})
    return is_better({"psnr_y": psnr_y, "spectrum": spectrum}, state, config.adversarial)


def test_of_sharp_networks_that_lost_little_the_one_with_the_truest_spectrum_is_kept():
    """The accident: psnr_y decides, and what is kept of an adversarial run is its very first validation."""
    best = {"psnr_y": 29.8, "spectrum": 0.9}
    assert better({}, 25, 2), "the first is the best so far"
    assert better(best, 29.1, 0.5)
    assert not better(best, 29.9, 0.95)
    assert not better(best, 28.9, 0.1), "it lost too much"
    lost = {"psnr_y": 28.5, "spectrum": 0.1}
    assert better(lost, 28.6, 0.2), "nearer to what may be lost"
    assert not better(lost, 28.4, 0.05)
    assert better(lost, 29.5, 0.8)
    assert better({"psnr_y": 29.8}, 29.9, 5.0, adversarial=False)
    assert not better({"psnr_y": 29.8}, 29.7, 0.1, adversarial=False)


def card_of(config: RestorerConfig, model: Model) -> ModelCard:
    """What a run of `config` writes beside the weights of `model`."""
    photos = PhotoFolder(training=[], validation=[], skipped=[], most_px=None)
    validation = Validation(config, photos, Chain(()), Arithmetic("cpu", "fp32", channels_last=False), log=None)
    best = {"psnr_y": 30.0, "spectrum": 1.0}
    return validation._card(TrainState(nets={}, plan=Plan(1), averages={"restorer": model.net}, best=best))


def test_a_run_against_a_discriminator_has_the_faithful_partner_it_began_with(tmp_path: Path):
    """The accident: of one's own sharp network there is no --strength and no lock of colours, which the page promises."""
    config, sharp = presets.sr_x4_gan(data="photos", out=str(tmp_path)), load_model("sr-x4-gan")
    save_model(tmp_path / "model.safetensors", sharp.net, card_of(config, sharp))
    (weakened, _), (between, _) = (of_strength(load_model(tmp_path), strength) for strength in (0, 0.5))
    kernel, ends = "tail.weight", (load_model("sr-x4"), sharp)
    faithful, own = (model.net.state_dict()[kernel] for model in ends)
    assert torch.equal(weakened.net.state_dict()[kernel], faithful)
    assert torch.equal(between.net.state_dict()[kernel], torch.lerp(faithful, own, 0.5))
    assert card_of(override(config, [f"start_from={tmp_path}"]), sharp).faithful == "sr-x4", "a run from that run"
    plain = override(presets.sr_x4(data="photos", out="run"), ["start_from=sr-x4"])
    assert card_of(plain, sharp).faithful is None, "it invents nothing"


@pytest.mark.parametrize("start", ["null", "sr-x2", "gone"])
def test_without_a_shipped_network_of_the_same_layers_there_is_no_partner(start: str, tmp_path: Path):
    """The accident: weights that do not fit each other are blended, or a run cannot go on without what it began with."""
    config = presets.sr_x4_gan(data="photos", out=str(tmp_path))
    assert card_of(override(config, [f"start_from={start}"]), load_model("sr-x4-gan")).faithful is None
