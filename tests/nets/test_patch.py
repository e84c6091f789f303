"""Discriminators of restored images: a map of logits, local where it is meant to be, and safe to penalise."""

from typing import Any

import pytest
import torch

from imagesmith.errors import ConfigError
from imagesmith.losses.adversarial import squared_gradient_norms
from imagesmith.nets import PATCH_DISCRIMINATORS, NetSpec, build_net

SPECS = [
    pytest.param(NetSpec(name, {"widths": [8, 12, 16], "channels": channels, "spectral": spectral}),
                 id=f"{name}-{channels}ch-{'spectral' if spectral else 'plain'}")
    for name in PATCH_DISCRIMINATORS
    for channels, spectral in ((3, False), (1, True))
]  # fmt: skip


def built(spec: NetSpec) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build_net(spec)


def images(net: Any, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(2, net.channels, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
def test_logits_are_a_map_of_full_precision(spec: NetSpec, dtype: str):
    """The accident: relativistic differences of bf16 logits are multiples of 1/128, and small ones vanish."""
    net = built(spec)
    x = images(net)
    if dtype == "fp64":
        net, x = net.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        logits = net(x)
    assert logits.dtype == (torch.float64 if dtype == "fp64" else torch.float32)
    step = 1 if spec.name == "unet-discriminator" else net.multiple_of
    assert logits.shape == (2, 1, 24 // step, 32 // step)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_penalty_on_gradients_reaches_every_kernel(spec: NetSpec, dtype: str):
    """The accident: an operation without a second derivative makes R1 silent, or fails hours later on a GPU."""
    net = built(spec).train().to(memory_format=torch.channels_last)
    x = images(net).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        penalty = squared_gradient_norms(net(x), x).mean()
        penalty.backward()
    assert penalty > 0
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def test_a_patch_sees_no_farther_than_it_says():
    """The accident: a judge of texture that sees the whole picture judges composition, which no restorer can change."""
    net = built(NetSpec("patch-discriminator", {"widths": [8, 8, 8]})).double()
    x = images(net, 128, 128).double().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 0, 8, 8], x)
    rows, columns = torch.nonzero(gradient[0].abs().amax(dim=0), as_tuple=True)
    for places in (rows, columns):
        assert places.max() - places.min() + 1 == 54


def test_spectral_norm_holds_a_kernel_at_norm_1_and_is_part_of_the_state():
    """The accident: the vectors of the power iteration are not saved, and a resumed run takes another course."""
    spec = NetSpec("unet-discriminator", {"widths": [8, 12, 16]})
    net, other = built(spec), build_net(spec)
    with torch.no_grad():
        for _ in range(200):
            net(images(net))
    kernel = net.shrink[0].weight.flatten(1)
    assert torch.linalg.matrix_norm(kernel, 2).item() == pytest.approx(1, abs=1e-3)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(images(net)), net(images(net)))


def test_impossible_values_are_the_users_mistake():
    with pytest.raises(ConfigError, match="options that make a network 'patch-discriminator'"):
        build_net(NetSpec("patch-discriminator", {"widths": ["a"]}))
    with pytest.raises(ConfigError, match="did you mean 'spectral'"):
        build_net(NetSpec("unet-discriminator", {"spectrall": True}))
