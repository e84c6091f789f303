"""Weight files: written atomically, read strictly, verified against their sha256 and against a golden output.

Nothing here unpickles. What a file holds is explained in `imagesmith.zoo.cards`.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imagesmith.atomic import write_whole
from imagesmith.errors import ConfigError, IntegrityError, ModelError, did_you_mean
from imagesmith.nets import VIDEO_RESTORERS, NetSpec, build_net
from imagesmith.tensors import to_float
from imagesmith.zoo.cards import (
    CARDS,
    FORMAT,
    GOLDEN_SUFFIX,
    METADATA_KEY,
    NO_DIGEST,
    ModelCard,
    is_foreign,
    read_header,
    shipped_path,
)

RUN_WEIGHTS = "model.safetensors"
"""The file inside a training run's folder that holds its best weights so far."""
GOLDEN_TOLERANCE = 1e-4
"""Largest difference from the golden output that another machine's float32 kernels may make."""
_TRAITS = ("channels", "scale", "halo", "classes", "size", "latent_size")
"""What a network may tell its card about itself."""


@dataclass(frozen=True)
class Model:
    """A network with its weights, in evaluation mode and not yet fused, and what is known about it."""

    net: nn.Module
    card: ModelCard


def describe(net: nn.Module, spec: NetSpec, name: str, **facts: Any) -> ModelCard:
    """The card of `net`: what the network itself tells (parameters, channels, size, ...) and the given `facts`."""
    own = {trait: value for trait in _TRAITS if not isinstance(value := getattr(net, trait, None), nn.Module | None)}
    params = sum(parameter.numel() for parameter in net.parameters())
    return ModelCard(name=name, net=spec.name, options=dict(spec.options), params=params, **own, **facts)


def save_model(path: str | Path, net: nn.Module, card: ModelCard, dtype: torch.dtype = torch.float32) -> None:
    """Write the tensors of the unfused `net` and its card as one file, which appears whole or not at all.

    As float16 or bfloat16 they take half of the room and lose digits that no picture shows; once loaded they are
    float32 again.
    """
    fresh = build_net(NetSpec(card.net, card.options))
    assert _shapes(fresh.state_dict()) == _shapes(net.state_dict()), f"the card's network {card.net} is not this one"
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in net.state_dict().items()}
    own = {"format": FORMAT, "sha256": NO_DIGEST, "card": json.loads(card.to_json())}
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    blank = safetensors.torch.save(tensors, metadata={METADATA_KEY: text})
    digest = hashlib.sha256(blank).hexdigest()
    write_whole(Path(path), blank.replace(NO_DIGEST.encode(), digest.encode(), 1))


def load_model(name_or_path: str | Path) -> Model:
    """The model of a shipped name, a weight file, or a training run's folder.

    A string that is a shipped name means that one; write `./name` for a file or folder called so. A PyTorch file
    (.pth) or foreign safetensors are taken for another project's restorer, see `imagesmith.zoo.community`.
    Raises ModelError for an unknown name or another kind of file, IntegrityError for a damaged one.
    """
    path = find_weights(name_or_path)
    if is_foreign(path):
        from imagesmith.zoo.community import load_community  # which needs `Model` from here

        model = load_community(path)
    else:
        model = _load_own(path)
    if _is_shipped(name_or_path):
        return model
    return replace(model, card=replace(model.card, path=os.fspath(name_or_path)))


def _load_own(path: Path) -> Model:
    card, data = _read_verified(path)
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelError(f"cannot read the tensors of '{path}': {error}") from None
    try:
        # loading must not move the caller's random numbers
        with torch.random.fork_rng(devices=[]), _AtMost(sum(tensor.numel() for tensor in tensors.values())):
            net = build_net(NetSpec(card.net, card.options))
    except (ConfigError, LookupError, RuntimeError) as error:  # torch's own for sizes that cannot be
        raise ModelError(f"'{path}' needs a network that this imagesmith lacks: {error}") from None
    expected, found = _shapes(net.state_dict()), _shapes(tensors)
    if expected != found:
        raise ModelError(f"'{path}' does not fit network '{card.net}': {_first_difference(expected, found)}")
    net.load_state_dict(tensors)
    return Model(net.eval(), card)


class _AtMost(TorchFunctionMode):
    """Lets this thread build networks of about so many numbers; ValueError for far larger ones, before they are filled.

    Else a forged card of a kilobyte could ask for terabytes, or for a million layers.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._numbers, self._left = numbers, 2 * numbers  # of a slightly larger one the first odd tensor is told

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.empty, torch.randn):  # whatever parameters are made of
            self._left -= max(1, made.numel())
            if self._left < 0:
                raise ValueError(f"the file holds {self._numbers:,} numbers, which are too few for it")
        return made


def find_weights(name_or_path: str | Path) -> Path:
    """The weight file that `name_or_path` means, see `load_model`."""
    if _is_shipped(name_or_path):
        return shipped_path(str(name_or_path))
    path = Path(name_or_path)
    if os.path.isdir(path):  # which, unlike Path.is_dir, has an answer for names that no file can have
        if not (path / RUN_WEIGHTS).is_file():
            raise ModelError(
                f"expected a training run's folder with {RUN_WEIGHTS} in it, got '{path}' without one\n"
                "name another folder or a weight file; a run has its weights from its first validation on"
            )
        return path / RUN_WEIGHTS
    if os.path.isfile(path):
        return path
    raise ModelError(
        f"no model or file is called '{name_or_path}'{did_you_mean(str(name_or_path), CARDS)}\n"
        f"expected one of {', '.join(CARDS) or 'no shipped models'}, a .safetensors file or a training run's folder"
    )


def _is_shipped(name_or_path: str | Path) -> bool:
    """Whether a shipped name is meant; a Path never means one."""
    return isinstance(name_or_path, str) and name_or_path in CARDS


def verify_model(name: str) -> float:
    """Check shipped weights against their sha256 and their golden output; the largest difference found there.

    Raises IntegrityError where the file is damaged or the output differs by more than GOLDEN_TOLERANCE.
    """
    model, golden = load_model(name), _golden_path(name)
    try:
        with safe_open(golden, framework="pt") as file:
            weights_digest = file.metadata()["weights_sha256"]
            given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            expected = given.pop("output")
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read the golden output '{golden}': {error}") from None
    if weights_digest != read_header(find_weights(name)).sha256:
        raise IntegrityError(f"the golden output of '{name}' was made with other weights; install imagesmith again")
    difference = float((_run(model, **given) - expected).abs().max())
    if not difference <= GOLDEN_TOLERANCE:
        raise IntegrityError(
            f"'{name}' does not reproduce its golden output here: expected a difference of at most "
            f"{GOLDEN_TOLERANCE:g}, got {difference:g}; run `imagesmith doctor` and report this machine"
        )
    return difference


def write_golden(name: str, input: Tensor, label: Tensor | None = None) -> Path:
    """Keep what the shipped model `name` makes of its input beside its weights.

    `input` is an image, uint8 (H, W, C), or for a generator latents, float32 (N, latent_size), with an int64 `label`
    (N,) where it has classes.
    """
    model, golden = load_model(name), _golden_path(name)
    tensors = {"input": input.contiguous()} | ({} if label is None else {"label": label.contiguous()})
    metadata = {"weights_sha256": read_header(find_weights(name)).sha256}
    tensors["output"] = _run(model, **tensors).contiguous()
    write_whole(golden, safetensors.torch.save(tensors, metadata=metadata))
    return golden


def _run(model: Model, input: Tensor, label: Tensor | None = None) -> Tensor:
    """The float32 output for a golden input: images of latents, logits of an image, or a restored image.

    Restorers run in the form that users run, without a batch dimension; those of films see the image drift by a pixel
    a frame, and the third result counts.
    """
    net: Any = model.net
    with torch.inference_mode():
        if model.card.task == "generate":
            return net(input, label)
        image = to_float(input.permute(2, 0, 1).unsqueeze(0), "uint8")
        if model.card.net in VIDEO_RESTORERS:
            return net.fused().clip(torch.stack([image.roll(t, dims=-1) for t in range(3)], dim=1))[0, -1]
        return (net if model.card.task == "classify" else net.fused())(image).squeeze(0)


def _golden_path(name: str) -> Path:
    return shipped_path(name).with_name(f"{name}{GOLDEN_SUFFIX}")


def _read_verified(path: Path) -> tuple[ModelCard, bytes]:
    header = read_header(path)
    data = path.read_bytes()
    found = hashlib.sha256(data.replace(header.sha256.encode(), NO_DIGEST.encode(), 1)).hexdigest()
    if found != header.sha256:
        raise IntegrityError(
            f"'{path}' is damaged: expected sha256 {header.sha256[:16]}..., got {found[:16]}...; "
            "fetch or copy the file again"
        )
    return header.card, data


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _first_difference(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    name = min(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    return f"expected tensor '{name}' {expected.get(name, 'to be absent')}, got {found.get(name, 'none')}"
