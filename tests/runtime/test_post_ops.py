"""ReLU and sum inside of oneDNN's convolutions: what PyTorch computes, or nearer to it than PyTorch in low precision."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.compact import Pair
from imagesmith.runtime import post_ops
from imagesmith.runtime.device import Runtime, has_bf16, placed, prepare
from imagesmith.runtime.post_ops import PostOpsPair, install

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _available() -> None:
    if not post_ops._is_right(torch.float32):
        pytest.skip("this PyTorch has no such operators")


def own(pair: Pair) -> Pair:
    pair = copy.deepcopy(pair)
    install(pair)
    assert type(pair) is PostOpsPair
    return pair


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (2, 16, 13, 9), (1, 16, 1, 1), (1, 16, 1, 70)])
def test_it_is_the_pair(shape: tuple[int, ...], channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pair = Pair(16).to(memory_format=layout)
    x = torch.randn(shape).to(memory_format=layout)
    with torch.inference_mode():
        expected = pair(x.clone())
        assert torch.allclose(own(pair)(x), expected, atol=1e-5)


@torch.inference_mode()
def test_pieces_of_larger_tensors_are_right() -> None:
    """A tile cut out of a picture, or some of the channels of another tensor: neither lies in one piece."""
    pair = Pair(16)
    for x in (torch.randn(1, 16, 20, 20)[..., 2:11, 3:14], torch.randn(1, 32, 9, 9)[:, 5:21]):
        around = x.clone()
        assert torch.allclose(own(pair)(around), pair(x.clone()), atol=1e-5)
        assert torch.allclose(own(pair)(x), around, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["compact", "unet"])
def test_networks_in_bf16_come_nearer_to_float32(name: str) -> None:
    if not has_bf16(CPU):
        pytest.skip("this processor emulates bf16")
    net = build_net(NetSpec(name, {}))
    exact, low = (Runtime(CPU, dtype, channels_last=True, reason="") for dtype in (torch.float32, torch.bfloat16))
    ready = prepare(net, low)
    assert any(type(module) is PostOpsPair for module in ready.modules())
    x = torch.rand(1, net.channels + net.planes, 64, 64).contiguous(memory_format=torch.channels_last)
    expected, usual, own = (each.subpixels(x) for each in (placed(net, exact), placed(net, low), ready))
    assert (own - expected).abs().mean() < (usual - expected).abs().mean()


def test_gradients_are_pytorchs() -> None:
    """A prepared network is also what latents are searched through."""
    pair = Pair(16)
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    (given,) = torch.autograd.grad(own(pair)(x).square().sum(), x)
    (expected,) = torch.autograd.grad(pair(x).square().sum(), x)
    assert torch.equal(given, expected)


def test_broken_weights_stay_visible() -> None:
    """oneDNN's ReLU makes 0 of what is not a number, so the result would look like a picture."""
    pair = Pair(16)
    pair.first.weight.data[0, 0, 0, 0] = float("nan")
    install(pair)
    assert type(pair) is Pair
    with torch.inference_mode():
        assert pair(torch.randn(1, 16, 8, 8)).isnan().any()


@pytest.mark.parametrize("replaced", ["first", "second"])
def test_other_layers_are_left_alone(replaced: str) -> None:
    class Scaled(nn.Conv2d):
        """A convolution that does more."""

    pair = Pair(16)
    setattr(pair, replaced, Scaled(16, 16, 3, padding=1))
    install(pair)
    assert type(pair) is Pair


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("recording", [torch.compile, torch.jit.trace, torch.export.export])
@torch.no_grad()
def test_compilers_and_exporters_see_pytorchs_layers(recording: Any) -> None:
    """The accident: 'Operator does not support running with fake tensors' for `torch.compile(restorer.net)`."""
    pair, x = own(Pair(16)), torch.randn(1, 16, 8, 8)
    expected = pair(x.clone())
    if recording is torch.compile:
        found = torch.compile(pair, backend="eager", fullgraph=True)(x)
    elif recording is torch.export.export:
        found = torch.export.export(pair, (x,)).module()(x)
    else:
        found = torch.jit.trace(pair, x)(x)
    assert torch.allclose(found, expected, atol=1e-5)


@torch.inference_mode()
def test_autocast_is_obeyed() -> None:
    """The accident: 'Input type (CPUBFloat16Type) and weight type (torch.FloatTensor) should be the same'."""
    net = build_net(NetSpec("compact", {"width": 16, "blocks": 1}))
    runtime = Runtime(CPU, torch.float32, channels_last=True, reason="")
    x = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(prepare(net, runtime)(x), placed(net, runtime)(x), atol=1e-2)


def test_whoever_computes_in_autocast_at_first_gets_them_too() -> None:
    post_ops._is_right.cache_clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert post_ops._is_right(torch.float32)


@torch.inference_mode()
def test_a_machine_without_them_computes_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, x = pickle.loads(pickle.dumps(own(Pair(16)))), torch.randn(1, 16, 8, 8)
    monkeypatch.setattr(post_ops, "_is_right", lambda _: False)
    monkeypatch.setattr(post_ops, "_added", None)
    assert pair(x).shape == x.shape
