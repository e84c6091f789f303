"""Networks for perceptual losses: a shipped or own classifier, or published ones from weight files of the user's."""

import re
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from imagesmith.data.arrays import load_tensors
from imagesmith.errors import ModelError, NothingUsableError
from imagesmith.nets import CLASSIFIERS
from imagesmith.nets.squeezenet import SqueezeNet
from imagesmith.nets.vgg import Vgg
from imagesmith.zoo.cards import CHECKPOINT_SUFFIXES, is_checkpoint
from imagesmith.zoo.pytorch_files import read_state_dict
from imagesmith.zoo.weights import load_model

_FORMATS = (*CHECKPOINT_SUFFIXES, ".npz", ".safetensors")
_KNOWN = "VGG-16, VGG-19, LPIPS with VGG-16, or SqueezeNet 1.0"


def load_features(name_or_path: str | Path) -> Any:
    """A frozen network with `stages` and `heads` (see `losses/perceptual.py`), in evaluation mode on the CPU.

    A classifier of `CARDS`, a run folder or weight file of one; or VGG-16, VGG-19, LPIPS or SqueezeNet 1.0 as they are
    published, in a .pth, .npz or .safetensors file. ModelError for anything else.
    """
    path = Path(name_or_path)
    published = path.suffix.lower() in _FORMATS and path.is_file() and _published(path)
    if published:
        return published.requires_grad_(False).eval()
    model = load_model(name_or_path)
    if model.card.net not in CLASSIFIERS or model.card.channels != 3:
        raise ModelError(
            f"expected a classifier of colour pictures for a perceptual loss, got '{model.card.title}' with the "
            f"network '{model.card.net}' and {model.card.channels} channels\nname cifarcnn, or a file of {_KNOWN}"
        )
    return model.net.requires_grad_(False)


def _published(path: Path) -> Any:
    """The network whose weights the file holds; None for a safetensors file that may be one of imagesmith's own."""
    tensors = _read(path)
    if "conv1.weight" in tensors:
        net: Any = SqueezeNet()
    elif "features.0.weight" in tensors:
        net = Vgg(19 if "features.34.weight" in tensors else 16)
    elif "net.slice1.0.weight" in tensors:
        net = Vgg(16, weighted=True)
        tensors = _as_vgg(tensors)
    elif path.suffix.lower() == ".safetensors":
        return None
    else:
        raise ModelError(
            f"expected the weights of {_KNOWN} in '{path}', got tensors such as '{min(tensors, default='')}'"
        )
    own = net.state_dict()
    for name, value in own.items():
        found = tuple(tensors[name].shape) if name in tensors else "none"
        if found != tuple(value.shape):
            raise ModelError(
                f"expected the weights of {_KNOWN} in '{path}': '{name}' is {found}, not {tuple(value.shape)}"
            )
    net.load_state_dict({name: tensors[name] for name in own})  # what comes after the features is left out
    return net


def _read(path: Path) -> dict[str, Tensor]:
    if is_checkpoint(path):
        return read_state_dict(path)
    try:
        return load_tensors(path) if path.suffix.lower() == ".npz" else safetensors.torch.load_file(path)
    except (NothingUsableError, SafetensorError, OSError) as error:
        raise ModelError(f"cannot read the weights '{path}': {error}") from None


def _as_vgg(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of LPIPS' whole state dict as `Vgg` has them."""
    names = {re.sub(r"^net\.slice\d\.", "features.", name): value for name, value in tensors.items()}
    heads = {f"heads.{k}": f"lin{k}.model.1.weight" for k in range(5)}
    return names | {own: names[given].flatten() for own, given in heads.items() if given in names}
