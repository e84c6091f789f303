"""Laws that every restorer keeps, whoever adds it: one line in RESTORERS and all of this is asked of it."""

import inspect
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.errors import ConfigError
from imagesmith.nets import RESTORERS, NetSpec, build_net

SPECS: dict[str, list[dict[str, object]]] = {
    "compact": [{"scale": 2}, {"scale": 3}, {"scale": 4}, {"scale": 2, "channels": 1}],
    "unet": [
        {"widths": [8], "blocks": [2]},
        {"widths": [8, 12], "blocks": [1, 2], "planes": 1},
        {"widths": [8, 8, 12], "blocks": [1, 1, 1], "channels": 1},
    ],
    "deconvolved-unet": [{"widths": [8, 12], "blocks": [1, 1]}],
    "filling-unet": [{"widths": [8, 12], "blocks": [1, 1]}, {"widths": [8], "blocks": [1], "channels": 1}],
}
CASES = [
    pytest.param(NetSpec(name, options), id=f"{name}-{k}")
    for name in RESTORERS
    for k, options in enumerate(SPECS.get(name, [{}]))
]


@pytest.fixture(params=CASES)
def spec(request: pytest.FixtureRequest) -> NetSpec:
    return request.param


@pytest.fixture
def net(spec: NetSpec) -> nn.Module:
    """The network away from its initial values, where zeros and identities would hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        net = build_net(spec).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return net


def picture(net: nn.Module, height: int = 6, width: int = 9, batch: int = 2) -> Tensor:
    """Random values, planes included; sizes in units of `multiple_of`."""
    rng = torch.Generator().manual_seed(3)
    size = (batch, net.channels + net.planes, height * net.multiple_of, width * net.multiple_of)
    return torch.rand(size, generator=rng)


def test_it_declares_what_the_runtime_needs(net: nn.Module, spec: NetSpec):
    for trait in ("scale", "halo", "channels", "planes", "multiple_of"):
        assert isinstance(getattr(net, trait), int), trait
    for trait in spec.options.keys() & {"scale", "channels", "planes"}:
        assert getattr(net, trait) == spec.options[trait]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
def test_output_has_scale_times_the_size(net: nn.Module, size: tuple[int, int]):
    """A network that quietly needs even sizes fails on the first photograph of 481x321."""
    x = picture(net, *size)
    with torch.inference_mode():
        y = net(x)
    assert y.shape == (len(x), net.channels, x.shape[2] * net.scale, x.shape[3] * net.scale)
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()


def test_subpixels_then_shuffle_is_the_network(net: nn.Module):
    """The runtime shuffles integers after quantising; a bicubic base added after the shuffle would be lost."""
    x = picture(net)
    with torch.inference_mode():
        assert torch.equal(F.pixel_shuffle(net.subpixels(x), net.scale), net(x))


def test_one_pixel_reaches_no_farther_than_the_halo(net: nn.Module):
    """A halo declared one pixel short gives seams of a few grey levels that no visual check finds."""
    net, unit = net.double(), net.multiple_of
    cells = 2 * (math.ceil(net.halo / unit) + 1) + 1
    x = picture(net, cells, cells, batch=1).double()
    for centre in {x.shape[-1] // 2 // unit * unit, x.shape[-1] // 2 // unit * unit + unit - 1}:
        changed = x.clone()
        changed[..., centre, centre] = 1 - changed[..., centre, centre]
        with torch.inference_mode():
            difference = (net(changed) - net(x)).abs().amax(dim=1, keepdim=True)
        by_cell = F.max_pool2d(difference, net.scale * unit)[0, 0]
        first = torch.stack(torch.nonzero(by_cell > 1e-13, as_tuple=True)) * unit
        assert 0 < torch.maximum(first - centre, centre - first - unit + 1).max() <= net.halo


def test_the_halo_is_not_declared_too_large(net: nn.Module):
    """Every pixel of halo too many costs time on each tile. Gradients see influences that rounding would swallow."""
    net, unit = net.double(), net.multiple_of
    cells = 2 * (math.ceil(net.halo / unit) + 1) + 1
    x = picture(net, cells, cells, batch=1).double().requires_grad_()
    first = x.shape[-1] // 2 // unit * unit
    cell = slice(first * net.scale, (first + unit) * net.scale)
    (gradient,) = torch.autograd.grad(net(x)[..., cell, cell].square().sum(), x)
    reached = torch.stack(torch.nonzero(gradient[0].abs().amax(dim=0), as_tuple=True))
    assert torch.maximum(first - reached, reached - first - unit + 1).max() == net.halo


def test_images_of_a_batch_do_not_mix_and_the_input_is_left_alone(net: nn.Module):
    x = picture(net)
    before = x.clone()
    with torch.inference_mode():
        y, alone = net(x), torch.cat([net(image[None]) for image in x])
    assert torch.allclose(y, alone, atol=1e-5)
    assert torch.equal(x, before)


def test_training_and_inference_compute_the_same(net: nn.Module):
    """In-place shortcuts taken without gradients have to give what training saw."""
    x = picture(net)
    with torch.inference_mode():
        fast = net(x)
    assert torch.allclose(net.train()(x), fast, atol=1e-6)


def test_bf16_is_close_and_stays_float32_outside(net: nn.Module):
    x = picture(net, 16, 16)
    with torch.inference_mode():
        exact = net(x)
        rough = net.bfloat16()(x)
    assert rough.dtype == torch.float32, "the residual is added in the dtype of the input"
    assert not torch.equal(rough, exact), "bf16 was not really on"
    assert (rough - exact).norm() / (exact - exact.mean()).norm() < 0.03


@pytest.mark.parametrize("fill", [None, 0.0, 1.0])
def test_every_parameter_gets_a_finite_gradient(net: nn.Module, fill: float | None):
    """A branch that is built but not used trains nothing; a flat picture is where normalisations divide by zero."""
    x = picture(net) if fill is None else torch.full_like(picture(net), fill)
    net.train()(x).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert fill is not None or parameter.grad.abs().max() > 0, name


def test_the_state_dict_is_the_whole_network(net: nn.Module, spec: NetSpec):
    other = build_net(spec).eval()
    other.load_state_dict(net.state_dict())
    x = picture(net)
    with torch.inference_mode():
        assert torch.equal(other(x), net(x))


def test_fused_is_the_same_function_and_leaves_the_network_as_it_was(net: nn.Module):
    x = picture(net, 12, 12)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        expected = net(x)
        fused = net.fused()
        found = fused(x)
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for trait in ("scale", "halo", "channels", "planes", "multiple_of"):
        assert getattr(fused, trait) == getattr(net, trait)
    assert not fused.training
    assert torch.equal(F.pixel_shuffle(fused.subpixels(x), net.scale), found)


def test_fused_keeps_the_precision(net: nn.Module):
    assert {value.dtype for value in net.bfloat16().fused().state_dict().values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", RESTORERS)
def test_a_misspelt_option_is_named_with_its_nearest(name: str):
    option = next(iter(inspect.signature(RESTORERS[name]).parameters))
    with pytest.raises(ConfigError, match=f"got '{option}e'.*did you mean '{option}'") as caught:
        build_net(NetSpec(name, {f"{option}e": 1}))
    assert str(caught.value).count("\n") <= 2


def test_a_misspelt_network_is_named_with_its_nearest():
    with pytest.raises(ConfigError, match="did you mean 'compact'"):
        build_net(NetSpec("compcat"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (NetSpec("compact", {"width": 0}), "expected width of network 'compact' of at least 1, got 0; set a larger"),
        (NetSpec("compact", {"blocks": -1}), "expected blocks of network 'compact' of at least 0, got -1"),
        (NetSpec("unet", {"widths": [8, -8], "blocks": [1, 1]}), r"of at least 1, got \[8, -8\]"),
        (NetSpec("rpgan-generator", {"latent_size": 0}), "expected latent_size"),
        (NetSpec("patch-discriminator", {"widths": []}), "expected options that make"),
    ],
)
def test_sizes_that_cannot_be_are_no_bug(spec: NetSpec, words: str):
    with pytest.raises(ConfigError, match=words):
        build_net(spec)
