"""First convolutions in float32: what low precision changes in a result is less, and networks see no difference."""

import pytest
import torch
from skimage import data

from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Net, Runtime, placed, prepare
from imagesmith.runtime.exact_head import ExactHead
from imagesmith.runtime.tiling import tile_px
from imagesmith.zoo import load_model

CPU = torch.device("cpu")
EXACT, LOW = (Runtime(CPU, dtype, channels_last=True, reason="") for dtype in (torch.float32, torch.bfloat16))


def without(net: Net) -> Net:
    """As prepared, but for the head."""
    ready = prepare(net, LOW)
    ready.head = placed(net, LOW).head
    return ready


@torch.inference_mode()
@pytest.mark.parametrize(("name", "run"), [("sr-x4", "subpixels"), ("vsr-x2", "clip")])
def test_results_come_nearer_to_float32(name: str, run: str) -> None:
    net = load_model(name).net
    assert type(prepare(net, LOW).head) is ExactHead
    photo = torch.from_numpy(data.astronaut()[:96, :96]).permute(2, 0, 1) / 255
    x = photo[None] if run == "subpixels" else torch.stack([photo[:, :90], photo[:, 2:92]])[None]
    expected, usual, own = (getattr(ready, run)(x) for ready in (prepare(net, EXACT), without(net), prepare(net, LOW)))
    assert own.dtype == expected.dtype
    assert (own - expected).abs().mean() < 0.8 * (usual - expected).abs().mean()


def test_the_rest_stays_low() -> None:
    """Tiles are as large as before, and what a network is loaded from keeps its precision."""
    net = build_net(NetSpec("compact", {}))
    ready = prepare(net, LOW)
    assert ready.head.weight.dtype == torch.float32
    assert {parameter.dtype for name, parameter in ready.named_parameters() if "head" not in name} == {torch.bfloat16}
    assert tile_px(ready) == tile_px(placed(net, LOW))
    assert torch.equal(ready.head.weight, net.head.weight)
    ready.head.weight.data.zero_()
    assert net.head.weight.any()


def test_float32_has_nothing_to_keep() -> None:
    assert type(prepare(build_net(NetSpec("compact", {})), EXACT).head) is torch.nn.Conv2d


def test_a_head_of_many_channels_is_not_worth_it() -> None:
    net = build_net(NetSpec("unet", {}))
    assert prepare(net, LOW).head.weight.dtype == torch.bfloat16


def test_the_layout_is_the_chosen_one() -> None:
    """The accident: a head in channels_last, after which networks measured as contiguous were not."""
    net = build_net(NetSpec("compact", {}))
    for channels_last, layout in ((True, torch.channels_last), (False, torch.contiguous_format)):
        head = prepare(net, Runtime(CPU, torch.bfloat16, channels_last, reason="")).head
        assert type(head) is ExactHead
        assert head(torch.rand(1, 3, 8, 8).to(memory_format=layout)).is_contiguous(memory_format=layout)
