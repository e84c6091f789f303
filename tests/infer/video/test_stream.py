"""Whole films through one model: no frame missing, no frame twice, and a resumed run that differs in no bit."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import Tensor

from imagesmith.errors import ModelError, UsageError
from imagesmith.infer.network import Report
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.frames import Memory
from imagesmith.infer.video.stream import Snapshot, VideoRestorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Runtime
from imagesmith.tensors import from_float, to_float
from imagesmith.zoo import Model, describe, save_model

FLOAT32 = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")


def toy(name: str = "recurrent", **options: object) -> Model:
    small = {"scale": 2, "width": 8, "blocks": 1, **options}
    spec = NetSpec(name, small)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = build_net(spec).eval()
        for layer in ("fuse", "tail", "last"):  # which start so small that memory hardly shows
            for key, parameter in net.named_parameters():
                if layer in key:
                    parameter.data.mul_(8)
    return Model(net, describe(net, spec, f"toy-{name}"))


def ready(model: Model, **options: object) -> VideoRestorer:
    return VideoRestorer.of(model, device="cpu", dtype="fp32", **options)  # type: ignore[arg-type]


def results(restorer: VideoRestorer, frames: list[Tensor], state: Snapshot | None = None) -> list[Tensor]:
    return [frame for frame, _ in restorer.frames(frames, state=state)]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(one, other, strict=True))


KINDS: dict[str, Callable[[], VideoRestorer]] = {
    "recurrent": lambda: ready(toy()),
    "recurrent in tiles": lambda: ready(toy(fold=2), tile=16),
    "look-ahead": lambda: ready(toy(look_ahead=1)),
    "frame by frame": lambda: ready(toy("compact")),
    "temporal": lambda: ready(toy("compact"), temporal=True),
}


@pytest.fixture
def film(clip: list[Tensor]) -> list[Tensor]:
    """Two scenes of three and four frames, with a flash in the second."""
    other = [frame.flip(0, 1) // 2 for frame in clip[:4]]
    other[2] = torch.full_like(other[2], 250)
    return clip[:3] + other


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_after_any_frame_gives_the_same_bits(film: list[Tensor], kind: str) -> None:
    """The accident: a run killed on its third day goes on, and where it does so there is a jump for ever."""
    restorer = KINDS[kind]()
    whole = list(restorer.frames(film))
    assert len(whole) == len(film)
    assert [snapshot.scenes for _, snapshot in whole] == [1, 1, 1, 2, 2, 2, 2]
    for split in range(1, len(film)):
        kept = safetensors.torch.save(whole[split - 1][1].tensors())
        rest = list(KINDS[kind]().frames(film[split:], state=Snapshot.load(safetensors.torch.load(kept))))
        assert alike([frame for frame, _ in rest], [frame for frame, _ in whole[split:]])
        for (_, one), (_, other) in zip(rest, whole[split:], strict=True):
            assert one.scenes == other.scenes
            assert alike(list(one.tensors().values()), list(other.tensors().values()))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_one_scene_is_seen_in_the_other(film: list[Tensor], kind: str) -> None:
    """The accident: the last frame of a scene, or the first of the next, shines through."""
    restorer = KINDS[kind]()
    both = results(restorer, film)
    assert alike(both[:3], results(restorer, film[:3]))
    assert alike(both[3:], results(restorer, film[3:]))


@pytest.mark.parametrize("look_ahead", [0, 1])
def test_it_is_the_network_on_the_clip_and_the_memory_counts(clip: list[Tensor], look_ahead: int) -> None:
    """The accident: the state is lost on its way, all tests of resuming pass, and films are restored as pictures."""
    model = toy(look_ahead=look_ahead)
    x = torch.stack([to_float(frame, "uint8").permute(2, 0, 1) for frame in clip]).unsqueeze(0)
    with torch.no_grad():
        expected = from_float(model.net.clip(x)[0].permute(0, 2, 3, 1), "uint8")  # type: ignore[operator]
    found = torch.stack(results(ready(model, tile="off"), clip))
    assert (found.int() - expected.int()).abs().max() <= 1
    alone = torch.stack([results(ready(model), [frame])[0] for frame in clip])
    assert (found.int() - alone.int()).abs().max() > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 3)])
def test_any_number_of_frames_of_any_size(kind: str, size: tuple[int, int]) -> None:
    """The accident: the last frame waits for one that never comes; a film of one pixel stops with an error."""
    restorer = KINDS[kind]()
    for count in range(4):
        frames = [torch.full((*size, 3), 40 * i + 20, dtype=torch.uint8) for i in range(count)]
        scale = restorer.scale
        assert [tuple(frame.shape) for frame in results(restorer, frames)] == [
            (size[0] * scale, size[1] * scale, 3)
        ] * count


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_size_changes_nothing_is_remembered(clip: list[Tensor], kind: str) -> None:
    """The accident: a broadcast changes its size midway, and tensors of two sizes meet in the network."""
    restorer, narrow = KINDS[kind](), [frame[:, :33] for frame in clip[3:]]
    both = list(restorer.frames(clip[:3] + narrow))
    assert alike([frame for frame, _ in both], results(restorer, clip[:3]) + results(restorer, narrow))
    assert alike([frame for frame, _ in both[3:]], results(restorer, narrow, both[2][1]))


@pytest.mark.parametrize("kind", KINDS)
def test_deep_frames_stay_deep(clip: list[Tensor], kind: str) -> None:
    """The accident: ten bits in, eight out."""
    deep = [(frame.int() * 257).to(torch.uint16) for frame in clip[:3]]
    found = results(KINDS[kind](), deep)
    shallow = results(KINDS[kind](), clip[:3])
    for one, other in zip(found, shallow, strict=True):
        assert one.dtype == torch.uint16
        assert (one.int() - other.int() * 257).abs().float().mean() < 257
    assert any((frame.int() % 257).any() for frame in found)


def test_a_film_without_an_end_is_restored_as_it_comes(clip: list[Tensor]) -> None:
    """The accident: all frames are waited for, or kept, and memory grows with the length of the film."""
    for kind, late in (("recurrent", 2), ("look-ahead", 2), ("temporal", 2)):
        taken = 0

        def endless() -> Iterator[Tensor]:
            nonlocal taken
            while True:
                taken += 1
                yield clip[taken % len(clip)]

        stream = KINDS[kind]().frames(endless())
        for done in range(1, 4):
            _, snapshot = next(stream)
            assert taken <= done + late
            assert len(snapshot.tensors()) <= 6


def test_models_for_pictures_are_restorers_frame_by_frame(clip: list[Tensor]) -> None:
    """The accident: a film gets another network, another precision or other tiles than its frames as pictures."""
    model = toy("compact")
    each = Restorer.of(model, device="cpu", dtype="fp32")
    expected = [each(frame.numpy()) for frame in clip[:2]]
    assert alike(results(ready(model), clip[:2]), [torch.from_numpy(frame) for frame in expected])


def test_files_of_both_kinds_are_loaded(clip: list[Tensor], tmp_path) -> None:
    """The accident: what works with a network in memory was never tried with a file."""
    for name in ("recurrent", "compact"):
        model = toy(name)
        save_model(tmp_path / f"{name}.safetensors", model.net, model.card)
        loaded = VideoRestorer.load(tmp_path / f"{name}.safetensors", device="cpu", dtype="fp32", tile="16")
        assert (loaded.scale, loaded.card, loaded.runtime.dtype) == (2, model.card, torch.float32)
        assert loaded.fingerprint == ready(model).fingerprint
        assert len(results(loaded, clip[:2])) == 2


def test_a_model_of_the_wrong_kind_is_told(make_gan: Callable[..., Model]) -> None:
    """The accident: a generator is asked to restore a film, a film model a picture, and the error is about tensors."""
    with pytest.raises(ModelError, match="expected a restorer, got 'toy-dcgan-generator'"):
        ready(make_gan())
    with pytest.raises(ModelError, match=r"it is for films: imagesmith restore clip.mp4 -n toy-recurrent"):
        Restorer.of(toy())


def test_what_a_recurrent_model_does_not_have_is_refused() -> None:
    """The accident: an option is ignored without a word."""
    mask = torch.eye(8, dtype=torch.bool)
    for options, words in (
        ({"temporal": True}, "remembers by itself"),
        ({"mask": mask}, "takes no mask"),
        ({"strength": 0.5}, "only its full strength"),
    ):
        with pytest.raises(UsageError, match=words):
            ready(toy(), **options)


def test_a_mask_is_asked_for_before_the_film_begins() -> None:
    """The accident: a folder of parts is begun for a film that cannot be restored."""
    spec = NetSpec("filling-unet", {"widths": (8, 12), "blocks": (1, 1)})
    net = build_net(spec).eval()
    filler = Model(net, describe(net, spec, "toy-inpaint", task="inpaint"))
    with pytest.raises(UsageError, match="no mask tells where they are"):
        ready(filler)
    with pytest.raises(UsageError, match="takes no mask"):
        ready(toy("compact"), mask="auto")
    assert ready(filler, mask="auto").fingerprint != ready(filler, mask=torch.eye(8, dtype=torch.bool)).fingerprint


def test_what_is_said_of_every_frame_is_said_once(clip: list[Tensor]) -> None:
    """The accident: ten thousand frames leave ten thousand notes, and memory grows with the film."""

    class Talking:
        scale, looks_ahead = 1, False
        seen = 0

        def __call__(
            self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report
        ) -> tuple[Tensor, Memory]:
            self.seen += 1
            report(f"found {self.seen} scratches ({self.seen / 7:.1%})")
            return pixels, ()

        def said(self) -> Iterator[str]:
            yield f"seen {self.seen}"

    said, model = list[str](), toy("compact")
    film = VideoRestorer(Talking(), model.card, FLOAT32, "0").frames(clip, report=said.append)
    assert alike([frame for frame, _ in film], clip)
    assert said == ["found 1 scratches (14.3%)", "seen 6"]


def test_the_fingerprint_tells_apart_what_gives_other_films() -> None:
    """The accident: --resume goes on with another model, or smooths the second half only."""
    compact, other = toy("compact"), toy("compact")
    other.net.tail.bias.data.add_(0.1)  # type: ignore[union-attr, operator]
    restorers = [ready(toy()), ready(compact), ready(other), ready(compact, temporal=True)]
    assert len({restorer.fingerprint for restorer in restorers}) == 4
    assert ready(toy("compact")).fingerprint == restorers[1].fingerprint


def test_only_films_whose_edges_are_rounded_up_otherwise_begin_anew() -> None:
    """The accident: --resume goes on with mirrored edges where an earlier version had repeated them: they jump."""
    for task, is_kept in (("sr", True), ("denoise", False)):
        model = toy("compact")
        model = replace(model, card=replace(model.card, task=task))
        weights = Restorer.of(model, device="cpu", dtype="fp32").fingerprint
        before = hashlib.sha256(f"{weights} 1.0 FalseNone".encode()).hexdigest()
        assert (ready(model).fingerprint == before) == is_kept
