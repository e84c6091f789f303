"""Laws that every generator and discriminator keeps, whoever adds it: one line in a table and all of this is asked."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imagesmith.errors import ConfigError
from imagesmith.losses.adversarial import squared_gradient_norms
from imagesmith.nets import DISCRIMINATORS, GENERATORS, NetSpec, build_net

SMALL: dict[str, dict[str, Any]] = {
    "dcgan-generator": {"width": 8},
    "dcgan-discriminator": {"width": 8},
    "rpgan-generator": {"widths": [16, 8]},
    "rpgan-discriminator": {"widths": [16, 8]},
}
SHAPES = [((16, 16), 3, 0), ((16, 24), 1, 0), ((32, 16), 4, 3), ((16, 16), 2, 5)]


def options(table: dict[str, type[nn.Module]]) -> list[Any]:
    return [
        pytest.param(NetSpec(name, SMALL[name] | {"size": size, "channels": channels, "classes": classes}),
                     id=f"{name}-{size[0]}x{size[1]}-{channels}ch-{classes}classes")
        for name in table
        for size, channels, classes in SHAPES
    ]  # fmt: skip


def built(spec: NetSpec) -> Any:
    """The network away from its initial values, where zeros would hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = build_net(spec)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def labels(net: Any, count: int) -> Tensor | None:
    return torch.arange(count) % net.classes if net.classes else None


def latents(net: Any, count: int = 4) -> Tensor:
    return torch.randn(count, net.latent_size, generator=torch.Generator().manual_seed(1))


def images(net: Any, count: int = 4) -> Tensor:
    return torch.rand(count, net.channels, *net.size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("spec", options(GENERATORS))
def test_a_generator_says_what_it_makes_and_makes_it(spec: NetSpec):
    net = built(spec).eval()
    assert (net.size, net.channels, net.classes) == tuple(spec.options[key] for key in ("size", "channels", "classes"))
    made = net(latents(net), labels(net, 4))
    assert made.shape == (4, net.channels, *net.size)
    assert made.dtype == torch.float32
    assert made.isfinite().all()
    assert (made[0] - made[1]).abs().max() > 1e-4, "the latent decides the image"
    alone = torch.cat(
        [net(latents(net)[k : k + 1], None if labels(net, 4) is None else labels(net, 4)[k : k + 1]) for k in range(4)]
    )
    torch.testing.assert_close(alone, made, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [case for case in options(GENERATORS) if case.values[0].options["classes"]])
def test_a_label_decides_and_is_asked_for(spec: NetSpec):
    """A conditional generator that ignores its label trains as well as any other, and answers every wish alike."""
    net = built(spec).eval()
    z = latents(net, 1)
    assert (net(z, torch.tensor([0])) - net(z, torch.tensor([1]))).abs().max() > 1e-4
    with pytest.raises(AssertionError):
        net(z)


@pytest.mark.parametrize("spec", options(DISCRIMINATORS))
def test_a_discriminator_gives_one_logit_an_image(spec: NetSpec):
    net = built(spec).eval()
    logits = net(images(net), labels(net, 4))
    assert logits.shape == (4,)
    assert logits.dtype == torch.float32
    assert net.features(images(net)).shape[0] == 4
    assert net.features(images(net)).ndim == 2
    if net.classes:
        other = net(images(net), (labels(net, 4) + 1) % net.classes)
        assert (other - logits).abs().min() > 1e-6, "the label decides what is real"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("spec", options(DISCRIMINATORS))
def test_a_penalty_on_gradients_reaches_every_weight_that_can_feel_it(spec: NetSpec, dtype: str):
    """R1 is a gradient of a gradient: an operation without a second derivative fails on the first step, or is silent."""
    net = built(spec).train().to(memory_format=torch.channels_last)
    x = images(net).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        penalty = squared_gradient_norms(net(x, labels(net, 4)), x).mean()
        penalty.backward()
    assert penalty > 0
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("spec", options(GENERATORS) + options(DISCRIMINATORS))
def test_every_parameter_learns_and_the_state_dict_is_the_whole_network(spec: NetSpec):
    net = built(spec).train()
    made = net(latents(net) if spec.name in GENERATORS else images(net), labels(net, 4))
    (made * torch.randn(made.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    other = build_net(spec)
    other.load_state_dict(net.state_dict())
    given = latents(net) if spec.name in GENERATORS else images(net)
    assert torch.equal(other.eval()(given, labels(net, 4)), net.eval()(given, labels(net, 4)))


@pytest.mark.parametrize("name", ["rpgan-generator", "rpgan-discriminator"])
def test_impossible_values_are_the_users_mistake(name: str):
    """`--set 'generator.options.widths=["a"]'` ended in fifteen lines of torch's signatures."""
    with pytest.raises(ConfigError, match=rf"options that make a network '{name}', got .*'a'"):
        build_net(NetSpec(name, {"widths": ["a"]}))
