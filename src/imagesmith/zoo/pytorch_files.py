"""Weights in PyTorch's own files (`CHECKPOINT_SUFFIXES`), read without running any code that such a file may hold."""

import contextlib
import errno
import pickle
import pickletools
import re
import struct
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from imagesmith.errors import ModelError

NESTED = (
    *("params_ema", "params-ema", "params"),
    *("netG", "netG_state_dict", "net_g", "generator", "generator_state_dict", "G_state_dict", "G", "g"),
    *("model_ema", "ema", "state_dict", "model_state_dict", "model", "network", "net"),
    *("netD", "netD_state_dict", "discriminator", "discriminator_state_dict", "D_state_dict", "D"),
)
"""Where checkpoints keep the tensors of the network that is wanted, the first that has any."""


def read_state_dict(path: Path, *, nested: bool = False) -> dict[str, Tensor]:
    """The tensors by name of a file written by `torch.save(net.state_dict(), path)`, on the CPU.

    Where they may be `nested` in a checkpoint, those under the first of the names `NESTED` that it has, if not empty.
    Names are `unwrapped`. ModelError for files that hold anything but tensors, are damaged or cannot be opened.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # a TorchScript archive warns before it is refused
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch looks for the end of a zip before the beginning of the file
            raise ModelError(_refusal(path, "")) from None
        reason = error.strerror or error
        raise ModelError(f"cannot read the weights '{path}': {reason}\ncheck the path, and the file's rights") from None
    except (
        struct.error,
        SafetensorError,  # of a file called so, which torch reads as well
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ModelError(_refusal(path, str(error))) from None
    if nested and isinstance(tensors, dict):
        tensors = next((part for name in NESTED if isinstance(part := tensors.get(name), dict) and part), tensors)
    if not isinstance(tensors, dict) or not tensors:
        raise ModelError(f"{_EXPECTED}, got a {type(tensors).__name__} in '{path}'\n{_DO}")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            held = ", ".join(f"{key!r}" for key in [*tensors][:_NAMED])
            found = f"got {type(value).__name__} under {name!r} in '{path}', which holds {held}"
            raise ModelError(f"{_EXPECTED}, {found}{', ...' * (len(tensors) > _NAMED)}\n{_DO}")
        if not _is_plain(value):
            raise ModelError(f"{_EXPECTED}, got one of an unusual kind, '{name}', in '{path}'\n{_DO}")
    return unwrapped(tensors)


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of DataParallel and torch.compile, and that of a trainer's part which all names have."""
    tensors = {_WRAPPED.sub("", name): value for name, value in tensors.items()}
    for part in _PARTS if tensors else ():
        if all(name.startswith(part) for name in tensors):
            return unwrapped({name.removeprefix(part): value for name, value in tensors.items()})
    return tensors


_EXPECTED = "expected a PyTorch state dict, the tensors of one network by name"
_DO = "save it with torch.save(net.state_dict(), path)"
_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
_PARTS = ("netG.", "net_g.", "generator.")
_NAMED = 8  # names that a refusal shows
_SCANNED_BYTES = 2**20


def _is_plain(value: Tensor) -> bool:
    """Whether all numbers of a tensor are real ones and lie in the file: a view may claim terabytes of one number."""
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        return False
    return value.nbytes <= value.untyped_storage().nbytes()


def _refusal(path: Path, reason: str) -> str:
    """What is wrong with a file that `torch.load` refuses."""
    told = re.search(r"GLOBAL ([\w.]+)", reason)
    if code := told[1] if told else _called(path):
        found = f"'{path}' calls {code} when it is loaded, which is refused because it may be any code"
        return f"{_EXPECTED}; {found}\n{_DO}"
    found = f"'{path}' is another kind of file, or damaged or cut short"
    return f"{_EXPECTED}; {found}\nfetch or copy the file again, or {_DO}"


def _called(path: Path) -> str | None:
    """The first thing that a pickle outside of a zip calls, read without running it; None where nothing is found.

    Of newer protocols than its own, `torch.load` says only that it does not know an instruction.
    """
    with open(path, "rb") as stream:
        start = stream.read(_SCANNED_BYTES)
    if not start.startswith(pickle.PROTO):
        return None
    words = list[str]()
    with contextlib.suppress(ValueError):  # damaged, or cut here
        for opcode, value, _ in pickletools.genops(start):
            if opcode.name == "GLOBAL":
                words = str(value).split(" ")
            if "GLOBAL" in opcode.name:
                name = ".".join(words[-2:])
                return name if re.fullmatch(r"[\w.]{1,99}", name) else "something"
            if isinstance(value, str):
                words.append(value)
    return None
