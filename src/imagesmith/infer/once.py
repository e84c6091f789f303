"""One picture in one call, for those who need no Restorer to keep."""

import functools
import numbers
from pathlib import Path
from typing import Any

import torch

from imagesmith.errors import UsageError
from imagesmith.infer.chained import Auto
from imagesmith.infer.named import check_asked, model_for
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.tiling import Tile
from imagesmith.zoo.weights import find_weights


def restore(
    image: Any,
    scale: int | None = None,
    *,
    task: str | None = None,
    model: str | Path | None = None,
    mask: Any = None,
    strength: float = 1.0,
    consistency: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    tile: Tile | str = "auto",
    self_ensemble: bool = False,
) -> Any:
    """`image` restored by the shipped model for `task`, or by `model`; kinds and options as for `Restorer`.

    Without both it is enlarged `scale` times (4) by `sr-x<scale>`; with a `mask` its holes are filled. The task 'auto'
    looks at the picture and takes the models that mend it, or none; without a `scale` it enlarges only small pictures.
    A path gives a PIL image, whose colour has 8 bits; a warning tells where the file has more, or several pictures.
    What else was changed, `imagesmith.restore(imagesmith.read_image(path)).meta.notes` tells. `imagesmith.write_image`
    saves both with profile, EXIF and XMP, which PIL's own `save` leaves out of a JPEG.
    """
    _check(scale, model, device=device, dtype=dtype, tile=tile, strength=strength)
    if task == "auto" and model is None:
        if mask is not None or consistency or strength != 1:
            raise UsageError(
                "mask, strength and consistency belong to one model; name another task than auto, or a model"
            )
        return _chooser(scale, device, dtype, tile)(image, self_ensemble=self_ensemble)
    if model is None:
        model = model_for(task or ("inpaint" if mask is not None else "sr"), scale)
    state = _state(find_weights(model))
    restorer = _loaded(model, state, device=device, dtype=dtype, tile=tile, strength=strength)
    check_asked(restorer.card, task, scale)
    return restorer(image, mask=mask, self_ensemble=self_ensemble, consistency=consistency)


_OPTIONS = {
    "device": "auto, cpu, cuda or mps",
    "dtype": "auto, fp32, bf16 or fp16",
    "tile": "auto, off or a number of pixels",
    "strength": "a number from 0 to 1",
}


def _check(scale: object, model: object, **options: object) -> None:
    """UsageError for what is no scale, no model or no single value of an option, before it is looked for."""
    if scale is not None and not isinstance(scale, numbers.Integral):
        raise UsageError(f"expected a whole number as scale, got {scale!r}")
    if model is not None and not isinstance(model, str | Path):
        raise UsageError(
            f"expected the name or the file of a model, got {type(model).__name__}; call a Restorer itself instead"
        )
    for name, value in options.items():
        if not isinstance(value, str | numbers.Real | torch.device):
            raise UsageError(f"expected {_OPTIONS[name]} as {name}, got {value!r}; give one value")


def _state(file: Path) -> tuple[Path, int, int]:
    """What differs once the file of a model is another one: a training writes better weights to the same place."""
    status = file.stat()
    return file.absolute(), status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _loaded(
    model: str | Path, state: tuple[Path, int, int], *, device: str, dtype: str, tile: Tile | str, strength: float
) -> Restorer:
    """The Restorer of a model whose file is in this `state`."""
    return Restorer.load(model, device=device, dtype=dtype, tile=tile, strength=strength)


@functools.lru_cache(maxsize=1)
def _chooser(scale: int | None, device: str, dtype: str, tile: Tile | str) -> Auto:
    return Auto(scale, device=device, dtype=dtype, tile=tile)
