"""The degradations: frozen dataclasses (image, rng) -> image, named in one table, applied in order by `Chain`."""

import dataclasses
import typing
from typing import Any

from imagesmith.degrade.blur import DefocusBlur, GaussianBlur, MotionBlur, UnsharpMask
from imagesmith.degrade.clips import H264, degrade_clip
from imagesmith.degrade.combine import Chain, Degradation, OneOf, Shuffled, Sometimes
from imagesmith.degrade.jpeg import Jpeg
from imagesmith.degrade.masks import Holes
from imagesmith.degrade.noise import GaussianNoise, PoissonGaussianNoise
from imagesmith.degrade.old import OldPhoto
from imagesmith.degrade.options import check_option
from imagesmith.degrade.scale import BicubicDown, GaussianDown, Resize
from imagesmith.degrade.transmission import CutStream, MissingBlocks
from imagesmith.errors import ConfigError, not_one_of

__all__ = ["DEGRADATIONS", "Chain", "Degradation", "build_degradation", "degrade_clip"]

DEGRADATIONS: dict[str, type[Any]] = {
    "bicubic": BicubicDown,
    "chain": Chain,
    "cut_stream": CutStream,
    "defocus_blur": DefocusBlur,
    "gaussian_blur": GaussianBlur,
    "gaussian_down": GaussianDown,
    "gaussian_noise": GaussianNoise,
    "h264": H264,
    "holes": Holes,
    "jpeg": Jpeg,
    "missing_blocks": MissingBlocks,
    "motion_blur": MotionBlur,
    "old_photo": OldPhoto,
    "one_of": OneOf,
    "poisson_gaussian_noise": PoissonGaussianNoise,
    "resize": Resize,
    "shuffled": Shuffled,
    "sometimes": Sometimes,
    "unsharp_mask": UnsharpMask,
}


def build_degradation(name: str, options: dict[str, Any]) -> Degradation:
    """The degradation called `name`; unknown names and options are ConfigErrors that name the nearest match.

    Degradations inside `options` are written as in a configuration: {"name": ..., "options": {...}}.
    """
    if name not in DEGRADATIONS:
        raise ConfigError(not_one_of("a degradation", name, DEGRADATIONS))
    fields = dataclasses.fields(DEGRADATIONS[name])
    known = [field.name for field in fields]
    for option in options:
        if option not in known:
            raise ConfigError(not_one_of(f"an option of degradation '{name}'", option, known))
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in options:
            raise ConfigError(f"expected option '{field.name}' of degradation '{name}', got none; add it")
    built = {option: _built(value) for option, value in options.items()}
    kinds = typing.get_type_hints(DEGRADATIONS[name])
    for option, value in built.items():
        check_option(name, option, kinds[option], value)
    return DEGRADATIONS[name](**built)


def _built(value: Any) -> Any:
    """An option's value with the degradations in it built."""
    if isinstance(value, list | tuple):
        return tuple(_built(each) for each in value)
    if not isinstance(value, dict):
        return value
    unknown = [key for key in value if key not in ("name", "options")]
    if unknown or "name" not in value:
        raise ConfigError(f'expected a degradation as {{"name": ..., "options": {{...}}}}, got the keys {list(value)}')
    return build_degradation(value["name"], value.get("options", {}))
