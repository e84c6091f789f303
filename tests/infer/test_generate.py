from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagesmith.errors import ModelError, UsageError
from imagesmith.infer.generate import IMAGES_PER_PASS, Generator, Sample, generate, interpolate
from imagesmith.infer.latents import SEED_LIMIT, Seeds, latents
from imagesmith.infer.restore import Restorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe, save_model

FLOWERS = ("rose", "tulip", "daisy", "3")
MakeGan = Callable[..., Model]


@pytest.fixture
def flowers(make_gan: MakeGan) -> Generator:
    return Generator(make_gan(class_names=FLOWERS), device="cpu")


def by_key(samples: list[Sample]) -> dict[tuple[int, int | None], torch.Tensor]:
    return {(sample.seed, sample.label): sample.image for sample in samples}


WIDE = {"dcgan-generator": {"width": 32}, "rpgan-generator": {"widths": (128, 64, 32)}}
NETS = [
    ("dcgan-generator", {}),
    ("dcgan-generator", {"size": 64, "width": 32}),
    ("dcgan-generator", {"size": 32, "class_names": FLOWERS, "latent_size": 37}),
    ("rpgan-generator", {}),
    ("rpgan-generator", {"size": 32, "widths": (64, 32, 16), "class_names": FLOWERS}),
    ("rpgan-generator", {"channels": 1, "size": (12, 20)}),
]


@pytest.mark.parametrize(("name", "options"), NETS)
def test_one_seed_is_one_image(make_gan: MakeGan, name: str, options: dict) -> None:
    """The accident: seed 5 of a batch of 64 and seed 5 alone differ in their last bits, and in a few pixels."""
    generator = Generator(make_gan(name, **options), device="cpu")
    whole = by_key(list(generate(generator, range(2 * IMAGES_PER_PASS + 5))))
    shuffled = torch.randperm(len(whole), generator=torch.Generator().manual_seed(1)).tolist()
    for some in ([5], [36], [31, 4, 5], range(3, 20), shuffled):
        for key, image in by_key(list(generate(generator, some))).items():
            assert torch.equal(image, whole[key]), key
    height, width = generator.size
    assert whole[min(whole)].shape == (height, width, generator.channels)
    assert whole[min(whole)].dtype == torch.uint8


@pytest.mark.parametrize("name", ["dcgan-generator", "rpgan-generator"])
def test_every_pass_has_one_shape_and_places_are_equal(
    make_gan: MakeGan, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The accident: the padding is dropped as a waste; then most floats change with the batch, and pixels with them."""
    generator = Generator(make_gan(name, size=32, **WIDE[name]), device="cpu")
    made: list[torch.Tensor] = []
    net = generator.net

    def recorded(latent: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        made.append(net(latent, label))
        return made[-1]

    monkeypatch.setattr(generator, "net", recorded)
    for seeds in (range(IMAGES_PER_PASS), [13], [2, 13, 5], range(13, 13 + IMAGES_PER_PASS + 1)):
        list(generate(generator, seeds))
    assert {len(images) for images in made} == {IMAGES_PER_PASS}
    whole, alone, among, later, _ = made
    assert torch.equal(alone[0], whole[13])
    assert torch.equal(among[:3], whole[[2, 13, 5]])
    assert torch.equal(later[:3], whole[13:16])


def test_a_class_can_be_named_in_every_way(flowers: Generator) -> None:
    """The accident: a class called '3' that is reached as number 3 only when there happen to be four of them."""
    assert [sample.label for sample in generate(flowers, [1, 2], label="tulip")] == [1, 1]
    assert [sample.label for sample in generate(flowers, [1], label=2)] == [2]
    assert [sample.label for sample in generate(flowers, [1], label="2")] == [2]
    assert [(s.seed, s.label) for s in generate(flowers, [1, 2], label="all")] == [
        (seed, label) for seed in (1, 2) for label in range(4)
    ]
    renamed = Generator(Model(flowers.net, describe_as(flowers, ("3", "0", "all", "mixed"))), device="cpu")
    assert renamed.label("3") == 0
    assert [sample.label for sample in generate(renamed, [1], label="all")] == [2]
    assert [sample.label for sample in generate(renamed, [1], label="mixed")] == [3]


def describe_as(generator: Generator, class_names: tuple[str, ...]):
    spec = NetSpec(generator.card.net, generator.card.options)
    return describe(generator.net, spec, "renamed", task="generate", class_names=class_names)


def test_without_a_label_each_seed_has_its_own(flowers: Generator) -> None:
    """The accident: labels drawn in the order of the seeds, so that a seed changes its class with its neighbours."""
    labels = {sample.seed: sample.label for sample in generate(flowers, range(40))}
    assert set(labels.values()) == set(range(4))
    assert [sample.label for sample in generate(flowers, [33, 2], label="mixed")] == [labels[33], labels[2]]


@pytest.mark.parametrize(
    ("label", "said"),
    [("ros", "got 'ros' .did you mean 'rose'"), (4, "from 0 to 3, got 4"), (-1, "got -1"), ("17", "got 17")],
)
def test_a_label_that_is_none_is_told_at_once(flowers: Generator, label: int | str, said: str) -> None:
    """The accident: an index error inside an embedding, when the first image is asked for."""
    with pytest.raises(UsageError, match=said):
        generate(flowers, [0], label=label)


def test_a_hundred_classes_do_not_fill_the_screen(make_gan: MakeGan) -> None:
    """The accident: one typo answered with 102 names of flowers."""
    many = Generator(make_gan(class_names=tuple(f"flower {k}" for k in range(102))), device="cpu")
    with pytest.raises(UsageError, match=r"\(102 in all\), got 'flowr 77' \(did you mean 'flower 77'\?\)") as caught:
        many.label("flowr 77")
    assert len(str(caught.value)) < 300


def test_without_classes_a_label_is_refused(make_gan: MakeGan) -> None:
    """The accident: --label silently ignored, and a data set full of the wrong thing."""
    generator = Generator(make_gan(), device="cpu")
    assert next(generate(generator, [3])).label is None
    for label in ("rose", 0, "all", "mixed"):
        with pytest.raises(UsageError, match="trained without labels"):
            generate(generator, [3], label=label)


def test_truncation_draws_images_together(flowers: Generator) -> None:
    """The accident: a truncation that scales nothing, or that scales the image."""
    whole, half, none = (
        torch.stack([sample.image for sample in generate(flowers, range(8), label=0, truncation=share)]).float()
        for share in (1.0, 0.5, 0.0)
    )
    assert whole.std(dim=0).mean() > half.std(dim=0).mean() > 0
    assert torch.equal(none, none[:1].expand_as(none))
    for wrong in (-0.1, 1.5, float("nan"), True, "1"):
        with pytest.raises(UsageError, match="expected a truncation from 0"):
            generate(flowers, [0], truncation=wrong)
        with pytest.raises(UsageError, match="expected a truncation from 0"):
            interpolate(flowers, [0, 1], truncation=wrong)


@pytest.mark.parametrize("seeds", [np.arange(2), np.arange(2, dtype=np.uint8), torch.arange(2), range(2)])
def test_seeds_of_any_library_are_the_same_seeds(flowers: Generator, seeds: Iterable[int]) -> None:
    """The accident: 64 bits of NumPy that overflow, an unsigned byte that wraps, a tensor that torch will not mask."""
    samples = list(generate(flowers, seeds, label=np.int64(1)))
    assert all(type(number) is int for sample in samples for number in (sample.seed, sample.label))
    assert [sample.seed for sample in samples] == [0, 1]
    for sample, same in zip(samples, generate(flowers, [0, 1], label=1), strict=True):
        assert torch.equal(sample.image, same.image)
    frames = list(interpolate(flowers, seeds, frames=1, label=1))
    assert torch.equal(frames[1], samples[1].image)


@pytest.mark.parametrize("seeds", [[1.5, 2.5], "12", [None, None], np.ones(2), torch.ones(2), 5, np.array(5)])
def test_what_is_no_row_of_seeds_is_refused(flowers: Generator, seeds: Any) -> None:
    """The accident: seeds of np.linspace, or one seed without brackets, end in a TypeError about masks or iteration."""
    with pytest.raises(UsageError, match=r"expected (whole numbers as|several) seeds.* got"):
        list(generate(flowers, seeds))
    with pytest.raises(UsageError, match=r"expected (whole numbers as|several) seeds.* got"):
        interpolate(flowers, seeds)


@pytest.mark.parametrize("label", [1.7, np.float32(1), b"rose", [1], True])
def test_what_is_no_label_is_refused(flowers: Generator, label: Any) -> None:
    """The accident: 1.7, a mean of labels perhaps, is class 1."""
    with pytest.raises(UsageError, match="expected the name or the number of a label, got"):
        generate(flowers, [0], label=label)


def test_samples_come_as_they_are_asked_for(flowers: Generator) -> None:
    """The accident: a million seeds that are all generated before the first image is written."""
    samples = generate(flowers, Seeds.parse(f"0-{SEED_LIMIT - 1}"))
    assert [next(samples).seed for _ in range(3)] == [0, 1, 2]
    assert list(generate(flowers, [])) == []


def test_latents_of_another_length_are_refused(flowers: Generator) -> None:
    """The accident: a matrix product that fails deep in a network, without a word about latents."""
    with pytest.raises(UsageError, match="expected latents of 100 numbers"):
        flowers.images(torch.zeros(2, 64), [0, 0])


def test_bf16_is_near_float32_and_not_the_default(flowers: Generator, make_gan: MakeGan) -> None:
    """The accident: coarse arithmetic for one-off images, where nobody needs the speed."""
    coarse = Generator(make_gan(class_names=FLOWERS), device="cpu", dtype="bf16")
    latent, label = latents(range(4), 100), [0, 1, 2, 3]
    difference = (coarse.images(latent, label).int() - flowers.images(latent, label).int()).abs()
    assert 0 < difference.max() < 12


def test_a_diverged_generator_says_so(make_gan: MakeGan) -> None:
    """The accident: NaN becomes black, and a failed training looks like a picture of the night."""
    model = make_gan()
    model.net.main[0].weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        next(generate(Generator(model, device="cpu"), [0]))


def test_generator_and_restorer_do_not_take_each_other(make_gan: MakeGan, tmp_path: Path) -> None:
    """The accident: 'DcganGenerator' object has no attribute 'subpixels'."""
    spec = NetSpec("compact", {"scale": 2, "width": 8, "blocks": 1})
    net = build_net(spec)
    save_model(tmp_path / "mends.safetensors", net, describe(net, spec, "mends"))
    with pytest.raises(ModelError, match=r"expected a generator, got '.*mends\.safetensors'"):
        Generator.load(tmp_path / "mends.safetensors")
    model = make_gan()
    save_model(tmp_path / "makes.safetensors", model.net, model.card)
    with pytest.raises(ModelError, match=r"expected a restorer, got '.*makes\.safetensors'"):
        Restorer.load(tmp_path / "makes.safetensors")


def test_a_saved_generator_makes_the_same_images(make_gan: MakeGan, tmp_path: Path) -> None:
    """The accident: class names or the size lost on the way through the file."""
    model = make_gan("rpgan-generator", class_names=FLOWERS)
    save_model(tmp_path / "model.safetensors", model.net, model.card)
    direct = list(generate(Generator(model, device="cpu"), [4], label="daisy"))
    for source in (tmp_path, str(tmp_path / "model.safetensors")):
        (loaded,) = generate(source, [4], label="daisy", device="cpu")
        assert torch.equal(loaded.image, direct[0].image)


def test_a_generator_leaves_the_network_alone(make_gan: MakeGan) -> None:
    """The accident: sampling during training that leaves the network in evaluation mode, without gradients."""
    model = make_gan()
    model.net.train()
    next(generate(Generator(model, device="cpu"), [0]))
    assert model.net.training
    assert all(parameter.requires_grad for parameter in model.net.parameters())


@pytest.mark.parametrize("loop", [False, True])
def test_a_walk_passes_through_its_seeds(flowers: Generator, loop: bool) -> None:
    """The accident: a frame shown twice at each seed, or a loop that jumps at its end."""
    frames = torch.stack(list(interpolate(flowers, [3, 17, 42], frames=20, label="rose", loop=loop)))
    stops = torch.stack([sample.image for sample in generate(flowers, [3, 17, 42], label="rose")])
    assert len(frames) == (60 if loop else 41)
    assert torch.equal(frames[[0, 20, 40]], stops)
    jumps = (frames[1:].float() - frames[:-1].float()).pow(2).mean(dim=(1, 2, 3))
    assert jumps.min() > 0
    assert jumps.max() < 5 * jumps.median()
    if loop:
        assert (frames[0].float() - frames[-1].float()).pow(2).mean() < 5 * jumps.median()


def test_a_walk_keeps_the_class_of_its_first_seed(flowers: Generator) -> None:
    """The accident: a walk that changes its class from one frame to the next."""
    (first,) = generate(flowers, [8])
    walk = list(interpolate(flowers, [8, 9], frames=2))
    assert torch.equal(walk[-1], next(generate(flowers, [9], label=first.label)).image)


def test_what_is_no_walk_is_refused(flowers: Generator) -> None:
    """The accident: an empty video."""
    with pytest.raises(UsageError, match="at least two seeds"):
        interpolate(flowers, [1])
    for frames in (0, 2.5, "2"):
        with pytest.raises(UsageError, match=f"whole number of frames for each step, at least one, got {frames!r}"):
            interpolate(flowers, [1, 2], frames=frames)
    with pytest.raises(UsageError, match="one label for the whole way"):
        interpolate(flowers, [1, 2], label="all")


@pytest.mark.parametrize("name", ["netG_epoch_24.pth", "netG.ckpt"])
def test_a_checkpoint_of_the_example_generates(make_gan: MakeGan, tmp_path: Path, name: str) -> None:
    """The accident: netG_epoch_24.pth taken for a damaged weight file, and netG.ckpt for a restorer of others."""
    model = make_gan(size=64)
    torch.save(model.net.state_dict(), tmp_path / name)
    (loaded,) = generate(tmp_path / name, [3], device="cpu")
    assert torch.equal(loaded.image, next(generate(Generator(model, device="cpu"), [3])).image)
