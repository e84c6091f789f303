"""What restorers of films promise besides being restorers: a state, tiles, a look ahead."""

import pytest
import torch
from torch import Tensor

from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.compact import Compact
from imagesmith.nets.recurrent import Recurrent

OPTIONS = [
    {"scale": 2},
    {"scale": 4, "look_ahead": 1},
    {"scale": 1, "fold": 2},
    {"scale": 2, "fold": 2, "look_ahead": 1},
]


@pytest.fixture(params=OPTIONS, ids=str)
def net(request: pytest.FixtureRequest) -> Recurrent:
    """A small network away from its initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Recurrent(width=8, blocks=1, flow_width=8, **request.param).eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        net.doubt.weight.mul_(0.05)  # noise trusts nothing
    return net


def moving(frames: int = 4, height: int = 12, width: int = 16) -> Tensor:
    """(1, T, 3, H, W): noise that drifts to the right."""
    still = torch.rand(1, 3, height, width + frames, generator=torch.Generator().manual_seed(1))
    return torch.stack([still[..., frames - t : frames - t + width] for t in range(frames)], dim=1)


def test_a_clip_is_its_frames_one_by_one(net: Recurrent):
    """The accident: a state that is not passed on, or one frame early, as only films over several frames show."""
    clip = moving()
    state, results = None, []
    for t in range(4):
        ahead = clip[:, t + 1] if net.look_ahead and t < 3 else None
        result, state = net(clip[:, t], state, ahead)
        results.append(result)
    assert torch.equal(net.clip(clip), torch.stack(results, dim=1))
    assert results[0].shape == (1, 3, 12 * net.scale, 16 * net.scale)


def test_what_is_remembered_changes_the_result_and_nothing_remembered_is_the_first_frame(net: Recurrent):
    clip = moving()
    whole = net.clip(clip)
    alone = net.clip(clip[:, 1:])
    assert not torch.allclose(whole[:, 1], alone[:, 0], atol=1e-4)
    assert torch.equal(net.clip(clip[:, 1:2]), net(clip[:, 1])[0].unsqueeze(1))


def test_the_trunk_in_two_tiles_is_the_trunk(net: Recurrent):
    """The accident: a halo one convolution too small, seen as a seam in every frame of every large film."""
    clip = moving(height=32, width=40)
    x, (_, state) = clip[:, 1], net(clip[:, 0])
    known = net.aligned(x, state, clip[:, 2] if net.look_ahead else None)
    assert known is not None
    whole, hidden = net.trunk(x, known)
    unit, cut = net.multiple_of, 16
    reach = cut + net.halo
    left, left_hidden = net.trunk(x[..., :reach], known[..., : reach // unit])
    assert torch.allclose(left[..., : cut * net.scale], whole[..., : cut * net.scale], atol=1e-5)
    assert torch.allclose(left_hidden[..., : cut // unit], hidden[..., : cut // unit], atol=1e-5)


def test_weights_of_the_single_picture_network_are_a_start():
    """The accident: a renamed layer, and two hours of training begin from nothing without a word."""
    compact, net = Compact(scale=4, width=8, blocks=2).eval(), Recurrent(scale=4, width=8, blocks=2).eval()
    own = net.state_dict()
    assert compact.state_dict().keys() <= own.keys()
    net.load_state_dict(own | compact.state_dict())
    x = torch.rand(2, 3, 7, 9)
    with torch.no_grad():
        assert torch.allclose(net(x)[0], compact(x), atol=1e-6)


def test_a_frame_that_looks_like_nothing_before_is_not_trusted():
    """The accident: a scene cut that no detector found draws the old scene into the new one."""
    net = Recurrent(scale=2, width=8, blocks=1)
    same, other = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.9)
    with torch.no_grad():
        assert net._trust(same, same, 0).mean() > 0.8
        assert net._trust(same, other, 0).mean() < 0.05


@pytest.mark.parametrize("name", ["vsr-x4", "vsr-x2", "video-denoise"])
def test_the_presets_networks_stay_below_their_size(name: str):
    from imagesmith.presets import VIDEO_PRESETS

    part = VIDEO_PRESETS[name](data="", out="").net
    net = build_net(NetSpec(part.name, part.options))
    assert sum(parameter.numel() for parameter in net.parameters()) <= 600_000


def test_a_look_of_two_frames_is_refused():
    with pytest.raises(ValueError, match="look_ahead must be 0 or 1"):
        Recurrent(look_ahead=2)
