"""A network that remembers, in tiles: an error of a tile is not gone with its frame, it is warped through the film."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imagesmith.errors import ImageError, ModelError
from imagesmith.infer.video.frames import Memory
from imagesmith.infer.video.recurrent import Remembering
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Runtime
from imagesmith.runtime.tiling import Tile
from imagesmith.tensors import from_float, to_float
from imagesmith.zoo import Model, describe

FLOAT32 = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")
BFLOAT16 = replace(FLOAT32, dtype=torch.bfloat16)
Trunk = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


def lively(**options: object) -> Model:
    """A small network in which the memory, moved by several pixels, decides about the result."""
    spec = NetSpec("recurrent", {"scale": 2, "width": 8, "blocks": 1, "flow_width": 8, **options})
    random = torch.Generator().manual_seed(2)
    net = build_net(spec).eval()
    for name, parameter in net.named_parameters():
        spread = (1.0 if name.startswith(("flow", "fuse")) else 0.7) / math.sqrt(parameter[0].numel())
        parameter.data.copy_(torch.randn(parameter.shape, generator=random) * spread)
    return Model(net, describe(net, spec, "toy"))


def prepared(model: Model, runtime: Runtime = FLOAT32, *, tile: Tile = "off", deep_exactly: bool = True) -> Remembering:
    return Remembering(model, runtime, tile=tile, deep_exactly=deep_exactly)


def through(
    steps: Remembering, clip: list[Tensor], report: Callable[[str], None] = lambda _: None
) -> tuple[list[Tensor], list[Memory]]:
    results, memories = [], [()]
    for i, frame in enumerate(clip):
        ahead = clip[i + 1] if steps.looks_ahead and i + 1 < len(clip) else None
        restored, memory = steps(frame, ahead, memories[-1], report)
        results.append(restored)
        memories.append(memory)
    return results, memories[1:]


def farthest(one: list[Memory], other: list[Memory]) -> float:
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
    return max((x.float() - y.float()).abs().max().item() for x, y in pairs)


@pytest.mark.parametrize("options", [{}, {"look_ahead": 1}, {"scale": 1, "fold": 2, "look_ahead": 1}, {"fold": 3}])
def test_tiled_is_whole_over_many_frames_with_motion(clip: list[Tensor], options: dict[str, int]) -> None:
    """The accident: a seam of the first frame is remembered, moved and sharpened until it crosses the picture."""
    model = lively(**options)
    results, memories = through(prepared(model), clip)
    assert farthest(memories[:1], [memories[0][:1] + memories[-1][1:]]) > 0.05, "the memory must have changed"
    for tile in (7, 16):
        tiled, remembered = through(prepared(model, tile=tile), clip)
        assert farthest(memories, remembered) < 2e-5
        for one, other in zip(results, tiled, strict=True):
            assert (one.int() - other.int()).abs().max() <= 1


def test_one_pixel_less_halo_is_seen(clip: list[Tensor]) -> None:
    """If the test above also passed with a halo that is too small, it would prove nothing."""
    model = lively()
    _, memories = through(prepared(model), clip)
    model.net.halo -= 1  # type: ignore[operator]
    _, remembered = through(prepared(model, tile=16), clip)
    assert farthest(memories, remembered) > 1e-3


@pytest.mark.parametrize("look_ahead", [0, 1])
def test_frame_by_frame_is_the_network_on_the_whole_clip(clip: list[Tensor], look_ahead: int) -> None:
    """The accident: files get something else than the network was trained and measured on."""
    model = lively(look_ahead=look_ahead)
    x = torch.stack([to_float(frame, "uint8").permute(2, 0, 1) for frame in clip])
    with torch.no_grad():
        expected = model.net.clip(x.unsqueeze(0))[0]  # type: ignore[operator]
    results, _ = through(prepared(model), clip)
    for one, other in zip(results, expected, strict=True):
        assert (one.int() - from_float(other, "uint8").permute(1, 2, 0).int()).abs().max() <= 1


def test_out_of_memory_makes_smaller_tiles_and_loses_no_frame(
    clip: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: the frame that did not fit is left out, and from there on the sound is late."""
    model, said = lively(), list[str]()
    _, memories = through(prepared(model), clip)
    steps = prepared(model)
    trunk, areas = steps.net.trunk, list[int]()

    def small_machine(x: Tensor, aligned: Tensor | None) -> tuple[Tensor, Tensor]:
        areas.append(x.shape[2] * x.shape[3])
        if areas[-1] > 600 or len(areas) == 9:
            raise MemoryError if len(areas) % 2 else RuntimeError("DefaultCPUAllocator: not enough memory")
        return trunk(x, aligned)

    monkeypatch.setattr(steps.net, "trunk", small_machine)
    results, remembered = through(steps, clip, said.append)
    assert len(results) == len(clip)
    assert farthest(memories, remembered) < 2e-5
    assert said
    assert all(note.startswith("out of memory: from here on in tiles of") for note in said)
    assert max(areas[10:]) <= 600, "what did not fit once is not tried again for each frame"


def test_motion_that_does_not_fit_is_told(clip: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: motion is sought on whole frames, and endlessly smaller tiles never help."""
    steps = prepared(lively())

    def exhausted(x: Tensor, state: object, ahead: Tensor | None) -> None:
        raise MemoryError

    monkeypatch.setattr(steps.net, "aligned", exhausted)
    with pytest.raises(ImageError, match="out of memory for the motion of a frame of 42x30"):
        through(steps, clip)


def test_no_memory_at_all_is_told_and_other_errors_pass(clip: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: an endless loop of ever smaller tiles, or a broken kernel that is called a lack of memory."""
    steps = prepared(lively())
    for error, expected, words in (
        (MemoryError(), ImageError, "free some memory"),
        (RuntimeError("kernel is broken"), RuntimeError, "kernel is broken"),
    ):

        def failing(x: Tensor, aligned: Tensor | None, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(steps.net, "trunk", failing)
        with pytest.raises(expected, match=words):
            through(steps, clip)


def test_a_frame_that_overflows_is_computed_again_in_float32(
    clip: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: one NaN in the features, and every frame up to the next cut is black."""
    model, said = lively(), list[str]()
    exact, _ = through(prepared(model), clip[:3])
    for broken in (0, 1):  # the result, the features
        steps = prepared(model, BFLOAT16)
        trunk = steps.net.trunk

        def overflowing(x: Tensor, aligned: Tensor | None, trunk: Trunk = trunk, broken: int = broken) -> list[Tensor]:
            parts = list(trunk(x, aligned))
            parts[broken][..., 0, 0] = math.nan
            return parts

        monkeypatch.setattr(steps.net, "trunk", overflowing)
        results, memories = through(steps, clip[:3], said.append)
        assert all(torch.isfinite(part).all() for memory in memories for part in memory)
        assert all(one.equal(other) for one, other in zip(results, exact, strict=True))
    assert set(said) == {"overflow in torch.bfloat16: a frame was computed again in float32"}


def test_weights_that_do_not_fit_are_told(clip: list[Tensor]) -> None:
    """The accident: a film of black frames, written to its end without a word."""
    model = lively()
    model.net.tail.bias.data.fill_(math.inf)  # type: ignore[union-attr]
    for runtime in (FLOAT32, BFLOAT16):
        with pytest.raises(ModelError, match="not finite, even in float32"):
            through(prepared(model, runtime), clip)


def test_deep_frames_are_computed_in_float32(clip: list[Tensor]) -> None:
    """The accident: 10 bits go in, bf16 has 8 of them, and the sky has bands."""
    model, deep = lively(), [(frame.int() * 257).to(torch.uint16) for frame in clip[:3]]
    exact, _ = through(prepared(model), deep)
    asked, _ = through(prepared(model, BFLOAT16, deep_exactly=False), deep)
    results, _ = through(prepared(model, BFLOAT16), deep)
    assert all(result.dtype == torch.uint16 for result in results)
    assert all(one.equal(other) for one, other in zip(results, exact, strict=True))
    assert not all(one.equal(other) for one, other in zip(asked, exact, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2)])
@pytest.mark.parametrize("fold", [1, 2])
def test_frames_smaller_than_the_pyramid_of_the_flow(size: tuple[int, int], fold: int) -> None:
    """The accident: a thumbnail of a film ends in an error about padding."""
    steps = prepared(lively(look_ahead=1, fold=fold), tile="auto")
    frames = [torch.full((*size, 3), 60 * i, dtype=torch.uint8) for i in range(3)]
    results, _ = through(steps, frames)
    assert [result.shape for result in results] == [(size[0] * 2, size[1] * 2, 3)] * 3
