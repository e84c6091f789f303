"""Steadying: flicker goes, and nothing that moves is blurred, doubled or left behind."""

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.frames import FrameByFrame, Memory
from imagesmith.infer.video.smooth import Smoothed, steadied
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe


def photo(height: int, width: int) -> Tensor:
    """A part of a photograph, (1, 3, H, W) in [0, 1]."""
    part = np.ascontiguousarray(data.astronaut()[20 : 20 + height, 120 : 120 + width])
    return torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0) / 255


def noise(like: Tensor, sigma: float, seed: int) -> Tensor:
    return sigma / 255 * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def played(results: list[Tensor], scale: int = 1) -> list[Tensor]:
    """What `steadied` makes of results of films."""
    out = results[:1]
    for result in results[1:]:
        out.append(steadied(result, out[-1], scale))
    return out


def enlarged(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear")


@pytest.mark.parametrize("sigma", [2, 15])
@pytest.mark.parametrize("scale", [1, 2])
def test_flicker_of_a_still_noisy_scene_is_halved(sigma: int, scale: int) -> None:
    """The accident: smoothing that takes noise for motion, follows it, and leaves the flicker as it was."""
    still = photo(48, 64)
    inputs = [(still + noise(still, sigma, i)).clamp(0, 1) for i in range(8)]
    results = [enlarged(x, scale) for x in inputs]
    steady = played(results, scale)
    flicker, left = (torch.stack(clip[4:]).diff(dim=0).abs().mean() for clip in (results, steady))
    assert left < 0.5 * flicker
    target = enlarged(still, scale)
    assert (steady[-1] - target).square().mean() < 0.5 * (results[-1] - target).square().mean()


def test_flicker_of_the_network_goes_where_the_film_is_still() -> None:
    """The accident: detail that a network invents anew in each frame is taken for motion, and boils on."""
    still = photo(48, 64)
    results = [enlarged(still, 2) + noise(enlarged(still, 2), 20, i) for i in range(8)]
    steady = played(results, 2)
    assert torch.stack(steady[4:]).diff(dim=0).abs().mean() < 0.5 * torch.stack(results[4:]).diff(dim=0).abs().mean()


@pytest.mark.parametrize("shift", [(0, 1), (2, 3), (-5, 9), (0.4, 0.7)])
def test_what_moves_stays_sharp(shift: tuple[float, float]) -> None:
    """The accident: the frames are averaged, and everything that moves is blurred or doubled."""
    large = photo(120, 200)
    places = F.affine_grid(torch.eye(2, 3)[None], [1, 3, 120, 200], align_corners=False)
    step = 2 * torch.tensor([shift[1] / 200, shift[0] / 120])
    clip = [F.grid_sample(large, places + i * step, "bicubic", align_corners=False) for i in range(5)]
    clip = [frame.clamp(0, 1)[..., 40:88, 60:140] for frame in clip]
    for steady, frame in zip(played(clip), clip, strict=True):
        assert (steady - frame).abs().mean() < 1.5 / 255
        assert (steady - frame).abs().max() < 12 / 255
        contrast, left = (image.diff(dim=-1).square().mean() for image in (frame, steady))
        assert left > 0.95 * contrast


def test_flicker_goes_where_the_film_moves_as_well() -> None:
    """The accident: steady only where nothing happens, so that a pan begins to boil."""
    large = photo(80, 120)
    inputs = [large[..., 2 * i : 2 * i + 48, 3 * i : 3 * i + 64] for i in range(6)]
    results = [frame + noise(frame, 12, i) for i, frame in enumerate(inputs)]
    steady = played(results)
    before, after = ((x - y).square().mean() for x, y in ((results[-1], inputs[-1]), (steady[-1], inputs[-1])))
    assert after < 0.6 * before


def test_a_thing_that_appears_or_goes_leaves_no_ghost() -> None:
    """The accident: whoever walks through the picture is followed by a shadow of himself."""
    still = photo(48, 64)
    with_ball = still.clone()
    with_ball[..., 16:32, 20:36] = torch.tensor([0.9, 0.2, 0.1]).view(1, 3, 1, 1)
    clip = [still, with_ball, still]
    for steady, frame in zip(played(clip), clip, strict=True):
        assert (steady - frame).abs().max() < 6 / 255


def test_the_smoothed_results_are_remembered_and_the_dtype_stays(clip: list[Tensor]) -> None:
    """The accident: each frame is mixed with the unsmoothed one before, or the memory is rounded to the file's bits."""
    spec = NetSpec("compact", {"scale": 2, "width": 8, "blocks": 1})
    net = build_net(spec).eval()
    each = FrameByFrame(Restorer.of(Model(net, describe(net, spec, "toy")), device="cpu", dtype="fp32"))
    steps = Smoothed(each)
    memory: Memory = ()
    for i in range(3):
        flickering = (clip[0] // 2 + 4 * i).contiguous()
        restored, memory = steps(flickering, None, memory, lambda _: None)
        alone, _ = each(flickering, None, (), lambda _: None)
        assert restored.equal(alone) == (i == 0)
        assert (restored.float() / 255 - memory[0][0].permute(1, 2, 0)).abs().max() < 0.51 / 255
        assert restored.dtype == alone.dtype


def test_only_the_holes_of_a_mask_are_steadied(clip: list[Tensor]) -> None:
    """The accident: what a mask promises to leave bit by bit is mixed with the frame before."""
    mask = torch.zeros(30, 42, dtype=torch.bool)
    mask[5:9, 20:30] = True
    spec = NetSpec("filling-unet", {"widths": (8, 12), "blocks": (1, 1)})
    net = build_net(spec).eval()
    model = Model(net, describe(net, spec, "toy-inpaint", task="inpaint"))
    steps = Smoothed(FrameByFrame(Restorer.of(model, device="cpu", dtype="fp32"), mask))
    memory: Memory = ()
    for i in range(3):
        frame = clip[0] // 2 + 3 * i
        restored, memory = steps(frame, None, memory, lambda _: None)
        assert restored[~mask].equal(frame[~mask])
