"""DCGAN: the example's networks tensor by tensor at 64x64, the same rules at other sizes, labels, arithmetic."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.errors import ConfigError
from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.dcgan import DcganDiscriminator, DcganGenerator

SMALL: dict[str, Any] = {"size": (32, 16), "channels": 2, "width": 8}
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def fixed_chance():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


def latents(count: int = 4, size: int = 100) -> Tensor:
    return torch.randn(count, size)


def images(net: DcganDiscriminator, count: int = 4) -> Tensor:
    return torch.rand(count, net.channels, *net.size) * 2 - 1


def names(kernels: tuple[int, ...], norms: tuple[int, ...]) -> set[str]:
    return {f"main.{k}.weight" for k in kernels} | {f"main.{k}.{part}" for k in norms for part in BATCH_NORM}


def test_at_64_pixels_the_tensors_are_those_of_the_example():
    """A file of the example loads by name, so one layer more in front would shift them all."""
    generator, discriminator = DcganGenerator(), DcganDiscriminator()
    assert set(generator.state_dict()) == names((0, 3, 6, 9, 12), (1, 4, 7, 10))
    assert set(discriminator.state_dict()) == names((0, 2, 5, 8, 11), (3, 6, 9))
    assert sum(p.numel() for p in generator.parameters()) == 3_576_704
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_568
    assert generator.main[0].weight.shape == (100, 512, 4, 4)
    assert discriminator.main[11].weight.shape == (1, 512, 4, 4)


def test_they_compute_what_their_layers_say():
    """The first and the last layer are computed as matrix products; a permuted axis would only train badly."""
    generator, discriminator = DcganGenerator(**SMALL).eval(), DcganDiscriminator(**SMALL).eval()
    z = latents()
    fake = generator(z)
    assert torch.allclose(fake, generator.main(z[:, :, None, None]), atol=1e-5)
    # channels_last has no room to hide in: the values are the same for any layout of the images
    assert torch.allclose(discriminator(fake.contiguous()), discriminator.main(fake).flatten(), atol=1e-5)


def test_logits_are_linear_in_the_features():
    """Metrics and projections use the features; they must be what the logits are made of."""
    net = DcganDiscriminator(**SMALL).eval()
    x = images(net)
    assert net.features(x).shape == (4, 16 * 8 * 4)
    assert torch.allclose(net.features(x) @ net.main[-1].weight.flatten(), net(x), atol=1e-5)


def test_first_values_are_those_of_the_example():
    """PyTorch's own first values are ten times larger at the ends, and DCGAN does not start from them."""
    generator, discriminator = DcganGenerator(), DcganDiscriminator()
    for net in (generator, discriminator):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.weight.mean().abs().item() < 2e-3
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.35)
                assert not layer.bias.any()


@pytest.mark.parametrize(
    ("size", "base", "maps"),
    [
        (64, (4, 4), 16),
        ((96, 64), (6, 4), 16),
        (28, (7, 7), 4),
        (32, (4, 4), 8),
        (128, (4, 4), 32),
        (256, (4, 4), 32),
        ((48, 80), (6, 10), 8),
    ],
)
def test_height_and_width_are_a_base_doubled(size: Any, base: tuple[int, int], maps: int):
    generator, discriminator = DcganGenerator(size, 1, width=2), DcganDiscriminator(size, 1, width=2)
    assert generator(latents()).shape == (4, 1, *generator.size)
    assert discriminator(images(discriminator)).shape == (4,)
    assert generator.base == discriminator.base == base
    assert generator.main[0].weight.shape == (100, maps, *base)
    assert discriminator.main[-1].weight.shape == (1, maps, *base)


def test_the_variants_for_32_pixels():
    """They exist in the wild with weights: a last layer that does not enlarge, and a last feature map of 2x2."""
    generator = DcganGenerator(32, width=8, last_kernel=1)
    assert generator(latents()).shape == (4, 3, 32, 32)
    assert generator.main[12].weight.shape == (8, 3, 1, 1)
    discriminator = DcganDiscriminator(32, width=8, base=2)
    assert discriminator(images(discriminator)).shape == (4,)
    assert discriminator.main[11].weight.shape == (1, 64, 2, 2)


@pytest.mark.parametrize("size", [65, 7, (64, 63), 1000, (1024, 8), 0, -64])
def test_other_sizes_are_refused_with_examples(size: Any):
    """Layers for 1000 pixels would begin with a kernel of 125x125, and memory would end before the message."""
    for net_class in (DcganGenerator, DcganDiscriminator):
        with pytest.raises(ConfigError, match=r"doubled several times, got -?\d+x-?\d+ .*\n.*such as 64x64"):
            net_class(size)


def test_a_base_that_does_not_fit_is_refused():
    for base in (3, (4, 8), 0, 64):
        with pytest.raises(ConfigError, match="expected an image size of the base"):
            DcganDiscriminator(64, base=base)
    with pytest.raises(ConfigError, match="expected last_kernel 4, or 1"):
        DcganGenerator(64, last_kernel=3)


def test_the_label_changes_the_image_and_the_logit():
    """A label that arrives nowhere trains an unconditional network that claims classes."""
    generator, discriminator = DcganGenerator(**SMALL, classes=3).eval(), DcganDiscriminator(**SMALL, classes=3).eval()
    z, labels = latents(1).expand(3, -1), torch.arange(3)
    fakes = generator(z, labels)
    assert min((fakes[a] - fakes[b]).abs().max() for a, b in ((0, 1), (1, 2), (2, 0))) > 1e-3
    logits = discriminator(fakes[:1].expand(3, -1, -1, -1), labels)
    assert logits.unique().numel() == 3


def test_the_discriminator_judges_labels_by_projection():
    """Logit minus unconditional logit is the product of the label's embedding and the features."""
    net = DcganDiscriminator(**SMALL, classes=3).eval()
    x, labels = images(net), torch.tensor([0, 2, 1, 2])
    plain = net.features(x) @ net.main[-1].weight.flatten()
    projection = (net.embedding.weight[labels] * net.features(x)).sum(1)
    assert torch.allclose(net(x, labels), plain + projection, atol=1e-5)


def test_classes_add_tensors_but_rename_none():
    for net_class in (DcganGenerator, DcganDiscriminator):
        plain, labelled = net_class(**SMALL), net_class(**SMALL, classes=3)
        assert set(labelled.state_dict()) == set(plain.state_dict()) | {"embedding.weight"}


def test_a_label_is_for_nets_with_classes_alone():
    with pytest.raises(AssertionError, match="a label belongs"):
        DcganGenerator(**SMALL)(latents(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(AssertionError, match="a label belongs"):
        DcganDiscriminator(**SMALL, classes=3)(torch.zeros(1, 2, 32, 16))


def test_spectral_norm_bounds_every_layer():
    """Batch norm after a normalised kernel would scale it up again, so it has to be gone."""
    net = DcganDiscriminator(**SMALL, classes=3, spectral_norm=True)
    with torch.no_grad():
        for _ in range(30):  # each pass in training improves the estimate of the singular values
            net(images(net), torch.zeros(4, dtype=torch.int64))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    for layer in [*net.main, net.embedding]:
        if isinstance(layer, nn.Conv2d | nn.Embedding):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_gradients_of_gradients_reach_the_kernels(classes: int, spectral_norm: bool):
    """R1 differentiates twice, which in-place activations could make impossible or wrong."""
    net = DcganDiscriminator(**SMALL, classes=classes, spectral_norm=spectral_norm)
    x, label = images(net).requires_grad_(), torch.arange(4) % classes if classes else None
    (gradient,) = torch.autograd.grad(net(x, label).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    kernels = [p for name, p in net.named_parameters() if not name.endswith("bias")]
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in kernels)


def test_every_parameter_of_the_pair_gets_a_gradient():
    label = torch.arange(4) % 3
    generator, discriminator = DcganGenerator(**SMALL, classes=3), DcganDiscriminator(**SMALL, classes=3)
    F.softplus(-discriminator(generator(latents(), label), label)).mean().backward()
    for net in (generator, discriminator):
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_autocast_keeps_images_and_logits_in_float32():
    """Logits rounded to bf16 differ in steps of 0.4 %, which is what a relativistic pair differs by at the end."""
    generator, discriminator = DcganGenerator(**SMALL).eval(), DcganDiscriminator(**SMALL).eval()
    z = latents()
    exact = generator(z)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(z)
        logits, features = discriminator(rough), discriminator.features(rough)
    assert {rough.dtype, logits.dtype, features.dtype} == {torch.float32}
    assert 0 < (rough - exact).abs().max() < 0.02
    assert not torch.equal(logits, logits.bfloat16().float())


def test_float64_is_kept():
    """Two processes equal one to the last digits only where nothing on the way is rounded to float32."""
    generator, discriminator = DcganGenerator(**SMALL).double(), DcganDiscriminator(**SMALL).double()
    fake = generator(latents().double())
    assert fake.dtype == discriminator(fake).dtype == torch.float64


def test_the_tables_build_them_by_name():
    """Configurations and weight files carry sizes as JSON lists."""
    options = {**SMALL, "size": [32, 16], "classes": 2}
    generator: Any = build_net(NetSpec("dcgan-generator", options))
    discriminator: Any = build_net(NetSpec("dcgan-discriminator", options))
    for net in (generator, discriminator):
        assert (net.size, net.channels, net.classes) == ((32, 16), 2, 2)
    assert generator.latent_size == 100
