"""A network on its device: how its tiles are cut for a picture."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.errors import ImageError
from imagesmith.infer import network
from imagesmith.infer.restore import Restorer
from imagesmith.runtime import tiling
from imagesmith.runtime.device import Runtime
from imagesmith.runtime.memory import Limits
from imagesmith.runtime.tiling import TilePlan, tile_px

WHOLE = slice(None), slice(None)
Make = Callable[..., Restorer]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[TilePlan]:
    """The tiles of each run, as they were computed."""
    found: list[TilePlan] = []
    run_rows = tiling.run_rows

    def watched(subpixels: object, read: object, size: object, plan: TilePlan, **options: object) -> object:
        found.append(plan)
        return run_rows(subpixels, read, size, plan, **options)

    for module in (network, tiling):
        monkeypatch.setattr(module, "run_rows", watched)
    return found


def noise(side: int, depth: str = "uint8") -> Frame:
    pixels = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(0))
    return Frame(pixels.to(getattr(torch, depth)), depth, ImageMeta("png", "RGB"))


@pytest.mark.parametrize(
    ("tile", "limits", "tiles"),
    [
        ("auto", Limits(), 4),
        (128, Limits(), 1),  # chosen by the user
        ("auto", Limits(ram=10**12), 1),  # a limit starts from the usual tiles
    ],
)
def test_the_measured_area_cuts_pictures_that_nobody_else_cuts(
    monkeypatch: pytest.MonkeyPatch,
    make_restorer: Make,
    plans: list[TilePlan],
    tile: object,
    limits: Limits,
    tiles: int,
) -> None:
    """What was found to be faster is not used, or overrules --tile; the pixels are the same in any case."""
    asked = []
    monkeypatch.setattr(
        network, "best_tile_px", lambda net, runtime, height, width: asked.append((height, width)) or 72 * 72
    )
    frame = noise(120)
    result = make_restorer(tile=tile).frame(frame, limits=limits).pixels
    assert [len(plan) for plan in plans] == [tiles]
    assert asked == ([(120, 120)] if tiles > 1 else [])
    whole = make_restorer(tile="off").frame(frame).pixels
    assert (result.int() - whole.int()).abs().max() <= 1


@pytest.mark.parametrize("deblurs", [False, True])
def test_tiles_are_planned_with_all_that_they_see(
    monkeypatch: pytest.MonkeyPatch, make_restorer: Make, make_deblurrer: Make, plans: list[TilePlan], deblurs: bool
) -> None:
    """The accidents: what a colour lock or a deconvolution sees came on top of tiles whose memory was counted without
    it; or tiles within the usual area with it, so small that two fifths more pixels were computed."""
    restorer = make_deblurrer() if deblurs else make_restorer(colour_lock=True)
    side = 180 if deblurs else 60
    monkeypatch.setitem(tiling.TILE_BYTES, "cpu", side**2 * (12 if deblurs else 48))
    monkeypatch.setattr(network, "kernel_of", lambda piece, mended: mended(WHOLE, torch.ones(1, 1)).new_ones(1, 1))
    assert tile_px(restorer.net) == side**2
    restorer.frame(noise(2 * side))
    assert len(plans) == 1 + deblurs
    assert all(plan.halo >= restorer.net.halo + restorer.network._farther for plan in plans)
    alone = [replace(plan, halo=plan.halo - restorer.network._farther) for plan in plans]
    assert all(len(plan) > 1 and plan.largest_px <= side**2 for plan in alone)


def test_deep_pictures_are_cut_for_the_precision_that_computes_them(
    monkeypatch: pytest.MonkeyPatch, make_restorer: Make, plans: list[TilePlan]
) -> None:
    """The accident: tiles as large as bf16 has them, computed in float32, take twice the memory that was meant."""
    monkeypatch.setitem(tiling.TILE_BYTES, "cpu", 60**2 * 48)
    bf16, fp32 = (
        make_restorer(runtime=Runtime(torch.device("cpu"), dtype, channels_last=True, reason=""), scale=1)
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert tile_px(bf16.net) > tile_px(fp32.net)
    for limits in (Limits(), Limits(ram=10**12)):
        for restorer in (bf16, fp32):
            restorer.frame(noise(120, "uint16"), limits=limits)
    assert len(plans[0]) > 1
    assert len(set(plans)) == 1
    assert fp32.network._exact is fp32.net, "one of two copies would do"


def test_what_a_limit_refuses_is_not_deblurred_first(monkeypatch: pytest.MonkeyPatch, make_deblurrer: Make) -> None:
    """The accident: the search for the kernel, longer than all else, before a limit that cannot be kept is told."""
    monkeypatch.setattr(network, "kernel_of", lambda *_: pytest.fail("a kernel was looked for"))
    with pytest.raises(ImageError, match="cannot be kept"):
        make_deblurrer().frame(noise(60), limits=Limits(ram=1))
