"""Checkpoints that prove whole, or are passed over.

A checkpoint is one safetensors file: the tensors, and in its metadata one JSON value and a sha256 over both. They are
named by the images seen; the newest one that proves whole is loaded, a damaged one is passed over with a word.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imagesmith.atomic import write_whole
from imagesmith.errors import IntegrityError

KEEP = 3
_DIGITS = 12  # in the name of a checkpoint


def checkpoints_in(folder: Path) -> list[Path]:
    """Those of a folder, the oldest first; a file of any other name is somebody's own, as a copy put by."""
    return sorted(folder.glob(f"{'[0-9]' * _DIGITS}.safetensors"))


def save_checkpoint(
    folder: Path, images_seen: int, tensors: dict[str, Tensor], values: Any, spared: int | None = None
) -> Path:
    """Write `<folder>/<images_seen>.safetensors` whole, then remove all but the newest few and that of `spared`."""
    path = _at(folder, images_seen)
    text = json.dumps(values)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"values": text, "sha256": _digest(tensors, text)}
    write_whole(path, safetensors.torch.save(tensors, metadata))
    kept = [_at(folder, images) for images in (images_seen, spared) if images is not None]  # newer ones may be damaged
    for old in checkpoints_in(folder)[:-KEEP]:
        if old not in kept:
            old.unlink(missing_ok=True)
    return path


def drop_checkpoints(folder: Path, beyond: int) -> None:
    """Remove those of more than `beyond` images: a run that went back must not be resumed from what it left."""
    for path in checkpoints_in(folder):
        if int(path.stem) > beyond:
            path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors and values of one checkpoint; IntegrityError if a byte of it is wrong or missing."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        text = metadata["values"]
        values = json.loads(text)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise IntegrityError(f"expected a whole checkpoint in {path}, got: {error}") from error
    if metadata.get("sha256") != _digest(tensors, text):
        raise IntegrityError(f"checkpoint {path} is damaged: its content does not match its sha256")
    return tensors, values


def load_newest(
    folder: Path, warn: Callable[[str], None], most_images: int | None = None
) -> tuple[dict[str, Tensor], Any] | None:
    """The newest whole checkpoint of a folder, or None; damaged ones are reported to `warn` and passed over.

    With `most_images` the newest of those up to there, or the oldest one that is left.
    """
    paths = checkpoints_in(folder)[::-1]
    if most_images is not None:
        paths = [path for path in paths if int(path.stem) <= most_images] or paths[::-1]
    for path in paths:
        try:
            return load_checkpoint(path)
        except IntegrityError as error:
            warn(f"{error}; the next one is tried" if path != paths[-1] else f"{error}; it was the last one")
    return None


def _at(folder: Path, images_seen: int) -> Path:
    return folder / f"{images_seen:0{_DIGITS}d}.safetensors"


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
