"""How large tiles are: measured only where it pays, chosen by what is kept of them, never more than memory has."""

import pytest
import torch

from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime import area, remembered
from imagesmith.runtime.area import PERCENTS, WORTH_TILES, best_tile_px, measured_area
from imagesmith.runtime.device import Net, Runtime, prepare
from imagesmith.runtime.tiling import TILE_BYTES, tile_px

RUNTIME = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_known", {})
    monkeypatch.setenv("IMAGESMITH_NO_CACHE", "1")
    monkeypatch.setitem(TILE_BYTES, "cpu", 1 << 19)


@pytest.fixture
def net() -> Net:
    return prepare(build_net(NetSpec("compact", {"scale": 2, "width": 8, "blocks": 1})), RUNTIME)


def seconds(monkeypatch: pytest.MonkeyPatch, per_px: dict[int, float]) -> list[int]:
    """Let a tile of each percentage take so long a pixel that is kept; the percentages that were measured."""
    asked: list[int] = []
    monkeypatch.setattr(
        area, "_seconds_per_kept_px", lambda net, runtime, percent: asked.append(percent) or per_px[percent]
    )
    return asked


@pytest.mark.parametrize(
    ("times", "percent"), [((10, 5, 8), 50), ((10, 12, 14), 100), ((10, 9.8, 9.9), 100), ((float("inf"), 12, 14), 50)]
)
def test_smaller_tiles_only_for_a_clear_gain(
    monkeypatch: pytest.MonkeyPatch, net: Net, times: tuple[float, ...], percent: int
) -> None:
    """Taken for noise, smaller tiles compute more halo for ever; what has no memory is not taken at all."""
    seconds(monkeypatch, dict(zip(PERCENTS, times, strict=True)))
    assert measured_area(net, RUNTIME)["percent"] == percent
    assert best_tile_px(net, RUNTIME, 10_000, 10_000) == tile_px(net) * percent // 100


def test_small_pictures_are_not_measured_for(monkeypatch: pytest.MonkeyPatch, net: Net) -> None:
    """Measuring takes longer than a small picture; and what was measured is not measured again."""
    asked = seconds(monkeypatch, dict.fromkeys(PERCENTS, 1.0))
    rows = WORTH_TILES * tile_px(net) // 100
    assert best_tile_px(net, RUNTIME, rows - 1, 100) == tile_px(net)
    assert not asked
    for _ in range(2):
        best_tile_px(net, RUNTIME, rows + 1, 100)
    assert len(asked) == len(PERCENTS) + 1


def test_the_real_measurement_has_a_reason(net: Net) -> None:
    """`imagesmith doctor` tells what was measured."""
    found = measured_area(net, RUNTIME)
    assert found["percent"] in PERCENTS
    assert all(f"{percent} % " in found["reason"] for percent in PERCENTS)


def test_a_pixel_of_a_halo_does_not_count(monkeypatch: pytest.MonkeyPatch, net: Net) -> None:
    """Judged by computed pixels, small tiles look as good as large ones, of which more is kept."""
    monkeypatch.setattr(area, "least_seconds", lambda ways, *_, **__: {way: float(run.args[0].numel()) for way, run in ways.items()})  # fmt: skip
    assert area._seconds_per_kept_px(net, RUNTIME, 25) > area._seconds_per_kept_px(net, RUNTIME, 100)


def test_no_memory_is_told_from_other_errors(monkeypatch: pytest.MonkeyPatch, net: Net) -> None:
    """A tile that does not fit is no reason to end a job that smaller tiles can do; a broken network is."""

    def fail(*_: object, **__: object) -> dict:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(area, "least_seconds", fail)
    assert area._seconds_per_kept_px(net, RUNTIME, 100) == float("inf")

    def break_down(*_: object, **__: object) -> dict:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(area, "least_seconds", break_down)
    with pytest.raises(RuntimeError, match="shapes differ"):
        area._seconds_per_kept_px(net, RUNTIME, 100)
