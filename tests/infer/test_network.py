"""A network on its device: how its tiles are cut for a picture."""

from collections.abc import Callable

import pytest
import torch

from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.infer import network
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.memory import Limits


@pytest.mark.parametrize(
    ("tile", "limits", "tiles"),
    [
        ("auto", Limits(), 4),
        (128, Limits(), 1),  # chosen by the user
        ("auto", Limits(ram=10**12), 1),  # a limit starts from the usual tiles
    ],
)
def test_the_measured_area_cuts_pictures_that_nobody_else_cuts(
    monkeypatch: pytest.MonkeyPatch, make_restorer: Callable[..., Restorer], tile: object, limits: Limits, tiles: int
) -> None:
    """What was found to be faster is not used, or overrules --tile; the pixels are the same in any case."""
    asked = []
    monkeypatch.setattr(
        network, "best_tile_px", lambda net, runtime, height, width: asked.append((height, width)) or 72 * 72
    )
    pixels = torch.randint(0, 256, (120, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frame = Frame(pixels, "uint8", ImageMeta("png", "RGB"))
    restorer = make_restorer(tile=tile)
    plans = []
    run_rows = network.run_rows

    def watched(subpixels: object, read: object, size: object, plan: object, **options: object) -> object:
        plans.append(plan)
        return run_rows(subpixels, read, size, plan, **options)

    monkeypatch.setattr(network, "run_rows", watched)
    result = restorer.frame(frame, limits=limits).pixels
    assert [len(plan) for plan in plans] == [tiles]
    assert asked == ([(120, 120)] if tiles > 1 else [])
    whole = make_restorer(tile="off").frame(frame).pixels
    assert (result.int() - whole.int()).abs().max() <= 1
