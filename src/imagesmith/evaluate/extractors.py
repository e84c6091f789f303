"""Where features come from: a shipped or own classifier, or the 2015 Inception network from a file of the user's."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.shapes import without_alpha
from imagesmith.errors import ModelError
from imagesmith.nets import CLASSIFIERS
from imagesmith.nets.inception import Inception2015
from imagesmith.runtime.device import pick_device
from imagesmith.tensors import from_float, to_float, to_gray
from imagesmith.zoo import load_model
from imagesmith.zoo.cards import CARDS, is_checkpoint, read_header
from imagesmith.zoo.pytorch_files import read_state_dict
from imagesmith.zoo.weights import find_weights

INCEPTION = "inception"
INCEPTION_FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
"""The names under which one and the same file is published."""
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
UNVERIFIED = "inception_unverified"
"""What the network is called when its weights are not the published ones: its distance is not FID."""

_BATCH = 64
_LAYOUT = torch.channels_last  # several times faster on a processor


@dataclass(frozen=True)
class Extractor:
    """A network whose features describe an image; called with uint8 images (N, C, H, W), gives float32 (N, F)."""

    name: str
    """What stands in the names of its metrics: inception, cifarcnn, ..."""
    net: Any
    channels: int
    size: tuple[int, int] | None
    """(height, width) to which images are resized here; None where the network does that by itself."""
    device: torch.device
    facts: dict[str, Any] = field(default_factory=dict)
    """What a number must say about it: weights, sha256, filter."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features on the network's device, computed in batches."""
        assert images.dtype == torch.uint8, f"expected uint8 images, got {images.dtype}"
        batches = (self._prepared(batch).contiguous(memory_format=_LAYOUT) for batch in images.split(_BATCH))
        return torch.cat([self.net.features(batch).float() for batch in batches])

    def _prepared(self, images: Tensor) -> Tensor:
        x = _with_channels(on_white(images.to(self.device)), self.channels)
        if self.size is None:
            return x
        x = to_float(x, "uint8") if x.dtype == torch.uint8 else x / 255
        if x.shape[-2:] == self.size:
            return x
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)


def on_white(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) as they look on white: what alpha hides is no part of an image, and how it is cut out is."""
    if images.shape[1] in (1, 3):
        return images
    return from_float(without_alpha(to_float(images, "uint8")), "uint8")


def _with_channels(images: Tensor, channels: int) -> Tensor:
    """Gray is repeated, colour becomes gray (as float, still up to 255)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    return to_gray(images.float())


def load_extractor(name_or_path: str | Path, *, device: str = "auto") -> Extractor:
    """A classifier by shipped name, run folder or weight file; or the 2015 Inception network from its .pth file.

    An Inception file whose sha256 is not the published one makes an extractor named `inception_unverified`, and an own
    classifier called as a shipped one is, as every one of that preset is, one named `cifarcnn_own`.
    Raises ModelError for anything else.
    """
    chosen = pick_device(device)
    if is_checkpoint(name_or_path):
        return _load_inception(Path(name_or_path), chosen)
    model = load_model(name_or_path)
    if model.card.net not in CLASSIFIERS:
        raise ModelError(
            f"expected a classifier for features, got '{model.card.title}', a network '{model.card.net}' for the task "
            f"{model.card.task}\nname cifarcnn, mnistcnn, a run folder of `train classifier`, or {INCEPTION_FILES[0]}"
        )
    net: Any = model.net.requires_grad_(False).to(chosen, memory_format=_LAYOUT)  # type: ignore[call-overload]
    height, width = net.size
    digest, name = _digest(name_or_path), model.card.name
    facts = {
        "weights": str(name_or_path),
        "sha256": digest,
        "filter": f"antialiased bilinear to {width}x{height} where the size differs",
    }
    if name in CARDS and digest != (shipped := _digest(name)):
        facts["note"] = f"the shipped '{name}' has the sha256 {shipped[:16]}...: these scores are not comparable to its"
        name += "_own"
    return Extractor(name, net, net.channels, net.size, chosen, facts)


def _digest(name_or_path: str | Path) -> str:
    """The sha256 of a weight file, as its header states it."""
    return read_header(find_weights(name_or_path)).sha256


def _load_inception(path: Path, device: torch.device) -> Extractor:
    net = Inception2015().eval()
    tensors = _read_checkpoint(path)
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items() if _counts(name, value)}
    found = {name: tuple(value.shape) for name, value in tensors.items() if _counts(name, value)}
    if expected != found:
        odd = min(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ModelError(
            f"expected the weights of the 2015 Inception network in '{path}', got others: "
            f"'{odd}' is {found.get(odd, 'missing')}, not {expected.get(odd, 'expected at all')}\n{_where_from()}"
        )
    net.load_state_dict(tensors, strict=False)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = digest == INCEPTION_SHA256
    facts = {
        "weights": str(path),
        "sha256": digest,
        "filter": "bilinear to 299x299 without antialiasing, as TensorFlow 1 resizes",
    }
    if not known:
        facts["note"] = f"the published weights have the sha256 {INCEPTION_SHA256[:16]}...: this is not FID"
    name = INCEPTION if known else UNVERIFIED
    return Extractor(name, net.requires_grad_(False).to(device), 3, None, device, facts)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of the user's file; where it is none, the error says which file is meant."""
    try:
        return read_state_dict(path)
    except ModelError as error:
        raise ModelError(f"{str(error).splitlines()[0]}\n{_where_from()}") from None


def _counts(name: str, value: Tensor) -> bool:
    """Whether a tensor matters; batch norm's counters are absent from files of old PyTorch versions."""
    return not (name.endswith("num_batches_tracked") and value.ndim == 0)


def _where_from() -> str:
    return f"give the file published as {' or '.join(INCEPTION_FILES)}"
