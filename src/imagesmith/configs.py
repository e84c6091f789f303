"""Every run configuration: names and numbers only, frozen, loaded strictly, without importing torch.

A string under a field is its documentation and becomes the help text. A resolved configuration is written into the run
folder and into the weights' metadata, and `--config run/config.json` reproduces the run.
"""

import contextlib
import itertools
import json
import os
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from imagesmith.errors import ConfigError, did_you_mean


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Place = Annotated[str, BeforeValidator(_as_text)]
"""The text of a path; a `pathlib.Path` becomes it."""


def _some_weight(losses: dict[str, float]) -> dict[str, float]:
    if not any(losses.values()):
        raise ValueError(f"expected a loss with a weight above 0, got {losses}")
    return losses


Losses = Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_some_weight)]
"""The weight of each loss."""


class Config(BaseModel):
    """A frozen part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Part(Config):
    """One entry of a table (network, degradation, loss) with its constructor options."""

    name: str
    """Name in the table."""
    options: dict[str, Any] = {}
    """Options of its constructor, documented there."""


class DataConfig(Config):
    """Where the clean photographs are and how training patches are cut from them."""

    folder: Place
    """Folder of clean photographs, searched recursively."""
    degraded: Place | None = None
    """Folder of their degraded versions under the same names, for pairs that exist already instead of a recipe."""
    patch_px: int = Field(default=48, ge=8)
    """Side of a training patch, in pixels of the degraded image."""
    shrink: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0,), min_length=1)
    """One of these factors, drawn per patch, shrinks the photograph first: more detail, fewer codec traces."""
    gray: float = Field(default=0.0, ge=0, le=1)
    """Share of patches that are turned gray before they are degraded; the network sees them as R = G = B."""
    validation_images: int = Field(default=12, ge=1)
    """Photographs kept apart for validation (at most a tenth of the folder, at least one)."""
    memory_gb: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Memory for decoded photographs in each process; where they need more, only the middles of large ones are used."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that prepare patches; 'auto' chooses from the machine."""


class OptimConfig(Config):
    """The optimiser and its learning rate as a function of progress (0 at the start of training, 1 at its end)."""

    name: Literal["muon", "adam"] = "muon"
    """'muon' orthogonalises the updates of the convolutions and uses Adam for the rest; 'adam' is Adam throughout."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Highest learning rate."""
    warm_up: float = Field(default=0.02, ge=0, lt=1)
    """Share of progress over which the learning rate rises linearly from zero."""
    plateau: float = Field(default=0.3, ge=0, le=1)
    """Progress until which the learning rate stays at its highest; then it falls along a half cosine."""
    final: float = Field(default=0.001, ge=0, le=1)
    """Last learning rate as a share of the highest."""
    ema_half_life_images: int = Field(default=8192, gt=0)
    """Half-life, in images, of the moving average of the weights that is validated and shipped.

    Until the run has seen ten times as many, it is a tenth of the images seen.
    """
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """Adam's memory of gradients and of their squares; GANs want a first of 0 to 0.5."""

    @model_validator(mode="after")
    def _warm_up_before_plateau_ends(self) -> Self:
        if self.warm_up > self.plateau:
            raise ValueError(f"expected warm_up <= plateau, got {self.warm_up} > {self.plateau}")
        return self


class RunConfig(Config):
    """How long, how often and on what a run trains."""

    out: Place
    """Run folder: configuration, checkpoints, logs, samples and the final model."""
    images: int | None = Field(default=None, gt=0)
    """Training length in images seen."""
    minutes: float | None = Field(default=None, gt=0)
    """Training length in minutes; planned from the measured speed, and planned again as the speed changes."""
    batch: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Patches per optimiser step over all processes; 'auto' measures."""
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63)
    """Seed of initialisation, patches and augmentation."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """'auto', 'cpu', 'cuda' or 'cuda:N'."""
    dtype: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """Arithmetic of the networks; 'auto' takes bf16, or fp16 on a GPU without it, where a probe says that it pays.

    Weights stay float32. In fp16 the loss is multiplied by a scale, which follows what the gradients allow.
    """
    checkpoint_minutes: float = Field(default=2.0, gt=0)
    """Minutes between checkpoints."""
    graphs: bool = True
    """On one GPU, record a step as CUDA graphs and replay it: Python is asked once what a step does, not every time."""
    compile: bool | Literal["auto"] = "auto"
    """Have torch.compile fuse what the network of a restorer, classifier or generator computes; half a minute at first.

    'auto' does where a long run on a CPU gains by it. Not of films.
    """
    accumulate: int = Field(default=1, ge=1)
    """Parts into which each batch is divided to save memory; their gradients are added up.

    The result is that of the whole batch where penalty_share and perceptual_share of a part are whole images, and not
    where batch norm looks at each part by itself, as in classifiers and DCGAN.
    """
    validations: int = Field(default=20, ge=1)
    """How often the run is validated, spread evenly over its progress."""
    timeout_minutes: float = Field(default=15.0, gt=0)
    """Minutes that several processes wait for a silent one, which may be validating, before they give up."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.images is None) == (self.minutes is None):
            raise ValueError("expected exactly one of images and minutes")
        return self


class AdversarialConfig(Config):
    """A discriminator beside the restorer, and a perceptual loss: for detail that looks right rather than is right."""

    discriminator: Part = Part(name="patch-discriminator")
    """The network that tells restored pictures from clean ones."""
    objective: Literal["non_saturating", "least_squares", "hinge", "relativistic"] = "relativistic"
    """What the two networks minimise."""
    weight: float = Field(default=0.005, ge=0)
    """Weight of the adversarial loss beside `losses`."""
    penalties: dict[Literal["r1", "r2"], Annotated[float, Field(ge=0)]] = {}
    """Weight gamma of each gradient penalty on the discriminator."""
    penalty_share: float = Field(default=0.25, gt=0, le=1)
    """Share of each batch on which the penalties are computed."""
    rate_factor: float = Field(default=1.0, gt=0)
    """Learning rate of the discriminator as a multiple of the restorer's."""
    perceptual: float = Field(default=0.1, ge=0)
    """Weight of the perceptual loss."""
    perceptual_share: float = Field(default=1.0, gt=0, le=1)
    """Share of each batch on which it is computed: without a GPU it can cost more than all the rest of a step."""
    features: Place = "cifarcnn"
    """The network that it looks through: a classifier's name, or a file of VGG, LPIPS or SqueezeNet weights."""
    most_db: float = Field(default=1.5, ge=0)
    """The model kept has the truest spectrum among those that lost at most so much psnr_y since the start."""


class RestorerConfig(Config):
    """A complete training run of a restorer."""

    preset: str
    """Name of the preset this configuration came from."""
    task: Literal["sr", "denoise", "jpeg", "deblur", "inpaint", "photo"] = "sr"
    """What the restorer mends; 'photo' is a mixture of damages whose recipe nobody knows."""
    net: Part
    """The network."""
    degradations: tuple[Part, ...]
    """Applied in order to a clean photograph to make the network's input; none where `data.degraded` has it."""
    losses: Losses
    """Weight of each loss."""
    adversarial: AdversarialConfig | None = None
    """Train against a discriminator as well."""
    start_from: Place | None = None
    """A model name or file whose weights initialise those layers that have the same name and shape."""
    patience: float | None = Field(default=None, gt=0, le=1)
    """Share of the run after which it ends if no validation was better than the best before; without it, never."""
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    run: RunConfig

    @model_validator(mode="after")
    def _degraded_once(self) -> Self:
        if bool(self.degradations) == (self.data.degraded is not None):
            raise ValueError(
                "expected either degradations or data.degraded, the folder that holds what they would make"
            )
        if self.data.degraded is not None and self.data.shrink != (1.0,):
            raise ValueError("expected data.shrink=[1] with data.degraded, because shrinking would change the damage")
        return self


class ClipConfig(Config):
    """Where photographs and films are, and how training clips are made of them."""

    folder: Place
    """Folder of clean photographs, which are set in motion; searched recursively."""
    films: Place | None = None
    """Folder of clean films, searched recursively."""
    real: float = Field(default=0.5, ge=0, le=1)
    """Share of training clips that are cut from films; without films, none."""
    patch_px: int = Field(default=48, ge=8)
    """Side of a training clip's frames, in pixels of the degraded frames."""
    frames: int = Field(default=7, ge=2)
    """Length of a training clip."""
    short_side_px: int = Field(default=360, ge=64)
    """Films with a longer short side are shrunk to it: fewer traces of their codec."""
    validation_images: int = Field(default=6, ge=1)
    """Photographs kept apart for validation, beside the last tenth of each film."""
    memory_gb: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Memory for decoded photographs and films in each process; films that need more are cut short."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that prepare clips; 'auto' chooses from the machine."""


class VideoConfig(Config):
    """A complete training run of a restorer of films, or of the flow network in it."""

    preset: str
    """Name of the preset this configuration came from."""
    task: Literal["sr", "denoise", "flow"] = "sr"
    """What the network does; 'flow' trains a flow network by itself, on photographs set in motion."""
    net: Part
    """The network."""
    degradations: tuple[Part, ...] = Field(min_length=1)
    """Applied in order to clean clips to make the network's input."""
    losses: Losses = {"charbonnier": 1.0}
    """Weight of each loss on frames."""
    change_loss: float = Field(default=0.1, ge=0)
    """Weight of the mean error of the change from frame to frame: what flickers costs more."""
    flow_loss: float = Field(default=0.002, ge=0)
    """Weight of the mean error of the flow, in its own pixels, where it is known."""
    adversarial: AdversarialConfig | None = None
    """Train against a discriminator of frames as well."""
    start_from: Place | None = None
    """A model name or file whose weights initialise those layers that have the same name and shape."""
    flow_from: Place | None = None
    """A model name or file of a flow network, or of a restorer of films that has one, to take it from."""
    data: ClipConfig
    optim: OptimConfig = OptimConfig()
    run: RunConfig


class ImageSetConfig(Config):
    """The pictures that a generator or a classifier learns from."""

    folder: Place
    """Folder of pictures or of class folders, zip, tar(.gz) or npz; `archive.zip::part` names a part of it."""
    size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | Literal["auto"] = "auto"
    """Height and width of the images to make, or one number for both; 'auto' chooses from the pictures."""
    most_px: int = Field(default=64, ge=8)
    """Longest side that 'auto' chooses."""
    channels: Annotated[int, Field(ge=1, le=4)] | Literal["auto"] = "auto"
    """1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha; 'auto' takes gray where all pictures are gray, else RGB."""
    labels: Place = "auto"
    """'auto' takes labels.csv or class folders where there are any, 'none' ignores them; or a table `file,label`."""
    flip: bool = True
    """Show half of the pictures mirrored; not for text, digits or anything else with a left and a right."""
    held_out: int = Field(default=1000, ge=0)
    """Pictures kept apart to measure on (at most a tenth)."""
    memory_gb: float = Field(default=4.0, gt=0)
    """Memory for the decoded pictures; what needs more is kept in a file of the run folder."""

    @field_validator("size", mode="before")
    @classmethod
    def _square_by_one_number(cls, size: Any) -> Any:
        if isinstance(size, int):
            return size, size
        if size != "auto" and not (isinstance(size, (list, tuple)) and len(size) == 2):
            raise ValueError(f"expected auto, one number, or [height,width], got {size!r}")
        return size


class AugmentConfig(Config):
    """What the discriminator sees instead of the images, see `train/gan/augment.py`."""

    strength: Annotated[float, Field(ge=0, le=0.8)] | Literal["adaptive"] = "adaptive"
    """How often each transform acts; 'adaptive' raises it while the discriminator overfits."""
    speed_images: int = Field(default=100_000, gt=0)
    """Images in which an adaptive strength can go from 0 to 1."""


class GanConfig(Config):
    """A complete training run of a generator against a discriminator."""

    preset: str
    """Name of the preset this configuration came from."""
    generator: Part
    """The generator; size, channels and classes come from the pictures, widths from time and machine if not given."""
    discriminator: Part
    """The discriminator, likewise."""
    objective: Literal["non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"] = "relativistic"
    """What the two networks minimise."""
    penalties: dict[Literal["r1", "r2", "wasserstein"], Annotated[float, Field(ge=0)]] = {}
    """Weight gamma of each gradient penalty; r1 and r2 for 32x32 pixels, more in proportion for larger images."""
    penalty_final: float = Field(default=1.0, gt=0, le=1)
    """Share of those weights that is left at the end, reached along a half cosine."""
    penalty_share: float = Field(default=1.0, gt=0, le=1)
    """Share of each batch on which the penalties are computed: they cost more than all the rest of a step."""
    augment: AugmentConfig = AugmentConfig()
    start_from: Place | None = None
    """Run folder of a GAN whose networks, kinds and widths with them, this one begins with."""
    guard: Literal["act", "watch"] = "act"
    """Whether the guard may change learning rate, penalties and augmentation, or roll back; 'watch' only tells.

    Either way steps that are not finite are left out, and after ten in a row the run rolls back; 'watch' then keeps the
    learning rate.
    """
    data: ImageSetConfig
    optim: OptimConfig = OptimConfig()
    run: RunConfig


class ClassifierConfig(Config):
    """A complete training run of a classifier."""

    preset: str
    """Name of the preset this configuration came from."""
    net: Part
    """The network; the data tell it classes, channels and size."""
    data: ImageSetConfig
    shift_px: int = Field(default=4, ge=0)
    """Move each picture by up to so many pixels; what comes in at the edges is mirrored."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    optim: OptimConfig = OptimConfig()
    run: RunConfig


_TRAININGS: dict[type, tuple[str, str]] = {
    RestorerConfig: ("sr_x4", "train_restorer"),
    VideoConfig: ("vsr_x4", "train_video"),
    GanConfig: ("auto_gan", "train_gan"),
    ClassifierConfig: ("cifarcnn", "train_classifier"),
}
"""A preset that makes each kind of configuration, and the function that takes it."""

C = TypeVar("C", bound=Config)
_BRANCH = re.compile(r"constrained-\w+|\w*\[.*\]")  # what pydantic calls a branch of a union, or a key of a dictionary


def load_config(path: str | Path, kind: type[C]) -> C:
    """The configuration of this kind in a JSON file; ConfigError with the nearest match for a misspelt key."""
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a JSON configuration in {path}, got: {error}") from error
    return build_config(values, kind)


def check_kind(config: object, kind: type[Config]) -> None:
    """ConfigError where `config` is not what a training of this kind takes; it says which one takes it."""
    if isinstance(config, kind):
        return
    found = type(config)
    other = f"; imagesmith.{_TRAININGS[found][1]} takes it" if found in _TRAININGS else ""
    preset = _TRAININGS[kind][0]
    raise ConfigError(f"expected a {kind.__name__}, as presets.{preset} makes, got {found.__name__}{other}")


def recipe(text: str) -> tuple[Part, ...]:
    """The degradations that a text or a JSON file describes; ConfigError where it cannot be read.

    A text is `name:option=value,option=value`, values in JSON, several degradations joined by `+`. A file, whose name
    ends in .json, holds a list of parts, or an object with such a list as `degradations`, as a run's configuration has.
    """
    if text.endswith(".json"):
        try:
            values = json.loads(Path(text).read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"the recipe {text} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"expected a JSON recipe in {text}, got: {error}") from None
        values = values.get("degradations") if isinstance(values, dict) else values
    else:
        values = [_part(part.strip()) for part in text.split("+")]
    if not values or not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f"expected a recipe with at least one degradation, got '{text}'")
    return tuple(build_config(value, Part) for value in values)


def _part(text: str) -> dict[str, Any]:
    """`name:option=value,option=value` as the values of a Part; commas inside brackets and quotes separate nothing."""
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for assignment in re.split(r",(?=\s*\w+\s*=)", rest) if rest else []:
        option, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"expected name:option=value,option=value, got '{text}'")
        try:
            options[option.strip()] = json.loads(value)
        except ValueError:
            options[option.strip()] = value.strip()
    return {"name": name, "options": options}


def build_config(values: dict[str, Any], kind: type[C]) -> C:
    """A validated configuration from plain values; ConfigError says what was expected, found and to do."""
    with mistakes_told(kind):
        return kind.model_validate(values)


@contextlib.contextmanager
def mistakes_told(kind: type[Config] = Config) -> Iterator[None]:
    """ConfigError for what is wrong with a configuration made in the block; `kind` knows the nearest keys."""
    try:
        yield
    except ValidationError as error:
        lines = [_explain(place, list(items), kind) for place, items in itertools.groupby(error.errors(), key=_place)]
        raise ConfigError("; ".join(lines[:3])) from None


def override(config: C, assignments: list[str]) -> C:
    """A copy with `a.b=value` assignments applied; values are JSON, anything else is taken as text."""
    values = config.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"expected --set key=value, got '{assignment}'")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        node = values
        *parents, last = key.strip().split(".")
        for name in parents:
            if name in node and not isinstance(node[name], dict):
                found = json.dumps(node[name])
                raise ConfigError(f"expected a group '{name}' in '{key}', got {found}; set all of it, as JSON")
            if name not in node:
                raise ConfigError(f"configuration has no group '{name}' in '{key}'{_nearest(name, list(node))}")
            node = node[name]
        node[last] = value
        if key in ("run.images", "run.minutes") and value is not None:
            node["minutes" if last == "images" else "images"] = None
    return build_config(values, type(config))


def _place(item: Any) -> tuple[Any, ...]:
    """Where a value stands: of a union, above its branches, each of which has its own complaint."""
    return tuple(itertools.takewhile(lambda part: not _BRANCH.fullmatch(str(part)), item["loc"]))


def _explain(location: tuple[Any, ...], items: list[Any], kind: type[Config]) -> str:
    place, last = ".".join(str(part) for part in location), items[-1]
    if last["type"] == "extra_forbidden":
        return f"configuration has no key '{place}'{_nearest(str(location[-1]), _fields_at(location[:-1], kind))}"
    found = "" if last["type"] in ("missing", "value_error") else f", got {last['input']!r}"
    if last["type"] == "literal_error":
        found += did_you_mean(str(last["input"]), re.findall("'(.*?)'", last["ctx"]["expected"]))
    first, *others = dict.fromkeys(item["msg"].removeprefix("Value error, ") for item in items)
    wanted = ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return f"configuration key '{place}': {wanted}{found}" if place else f"configuration: {wanted}{found}"


def _fields_at(location: tuple[Any, ...], kind: type[Config]) -> list[str]:
    model: Any = kind
    for part in location:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = model.model_fields[part].annotation
            if typing.get_origin(model) in (tuple, list, types.UnionType):
                model = typing.get_args(model)[0]
    return list(getattr(model, "model_fields", {}))


def _nearest(word: str, known: list[str]) -> str:
    return did_you_mean(word, known) or (f"; it has {', '.join(known)}" if known else "")
