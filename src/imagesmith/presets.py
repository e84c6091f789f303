"""Presets: ordinary functions that return complete configurations. A variation is a function, not a file."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from imagesmith.configs import (
    AdversarialConfig,
    AugmentConfig,
    ClassifierConfig,
    ClipConfig,
    Config,
    DataConfig,
    GanConfig,
    ImageSetConfig,
    OptimConfig,
    Part,
    RestorerConfig,
    RunConfig,
    VideoConfig,
    mistakes_told,
)
from imagesmith.errors import ConfigError, not_one_of

C = TypeVar("C", bound=Config)
Made_co = TypeVar("Made_co", bound=Config, covariant=True)


class Preset(Protocol[Made_co]):
    """A configuration for the pictures in `data` and the run folder `out`; ConfigError for what cannot be."""

    def __call__(self, data: str | os.PathLike[str], out: str | os.PathLike[str], minutes: float = ...) -> Made_co: ...


def _preset(make: Callable[[str, str, float], C]) -> Preset[C]:
    @functools.wraps(make)
    def preset(*args: Any, **named: Any) -> C:
        with mistakes_told():
            return make(*args, **named)

    return preset


def _super_resolution(
    name: str, scale: int, data: str, out: str, minutes: float, *, width: int = 48, blocks: int = 7
) -> RestorerConfig:
    return RestorerConfig(
        preset=name,
        net=Part(name="compact", options={"scale": scale, "width": width, "blocks": blocks}),
        degradations=(Part(name="bicubic", options={"scale": scale}),),
        losses={"l1": 1.0},
        data=DataConfig(folder=data, shrink=(1.0, 0.75, 0.55)),
        optim=OptimConfig(learning_rate=1.5e-3),
        run=RunConfig(out=out, minutes=minutes),
    )


@_preset
def sr_x2(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Super-resolution by 2 with residual pairs of convolutions, 297k parameters."""
    return _super_resolution("sr-x2", 2, data, out, minutes)


@_preset
def sr_x3(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Super-resolution by 3, 304k parameters."""
    return _super_resolution("sr-x3", 3, data, out, minutes)


@_preset
def sr_x4(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Super-resolution by 4, 313k parameters."""
    return _super_resolution("sr-x4", 4, data, out, minutes)


@_preset
def sr_x4_large(data: str, out: str, minutes: float = 240) -> RestorerConfig:
    """Super-resolution by 4 with 1.3M parameters; worth it with hours of training or a GPU."""
    return _super_resolution("sr-x4-large", 4, data, out, minutes, width=80, blocks=11)


def _mending(
    task: Literal["denoise", "jpeg", "deblur", "inpaint"],
    net: Part,
    data: DataConfig,
    run: RunConfig,
    *degradations: Part,
) -> RestorerConfig:
    """A restorer that leaves the size as it is."""
    return RestorerConfig(
        preset=task,
        task=task,
        net=net,
        degradations=degradations,
        losses={"l1": 1.0},
        data=data,
        optim=OptimConfig(learning_rate=1.5e-3),
        run=run,
    )


@_preset
def denoise(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Blind denoising of colour and gray pictures, Gaussian noise of 0 to 55 grey levels; 1.06M parameters."""
    photos = DataConfig(folder=data, patch_px=64, shrink=(1.0, 0.75), gray=0.2)
    noise = Part(name="gaussian_noise")
    return _mending("denoise", Part(name="unet"), photos, RunConfig(out=out, minutes=minutes), noise)


@_preset
def jpeg(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """JPEG repair for any quality, with or without the file's quantisation tables; 1.06M parameters."""
    photos = DataConfig(folder=data, patch_px=64, shrink=(0.75, 0.55), gray=0.4)
    net = Part(name="unet", options={"planes": 1})
    codec = Part(name="jpeg", options={"table_plane": True})
    return _mending("jpeg", net, photos, RunConfig(out=out, minutes=minutes), codec)


@_preset
def deblur(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Blind deblurring: camera shake, soft lenses, and some noise; 1.4M parameters.

    The network mends what deconvolution leaves. A quarter of the blurs is a short shake, another one a soft lens.
    """
    photos = DataConfig(folder=data, patch_px=96, shrink=(1.0, 0.75), gray=0.1)
    net = Part(name="deconvolved-unet")
    blurs = [
        {"name": "motion_blur", "options": {"length": [1, 7]}},
        {"name": "motion_blur", "options": {"length": [4, 15]}},
        {"name": "motion_blur", "options": {"length": [4, 15]}},
        {"name": "gaussian_blur", "options": {"sigma": [0.3, 2.5]}},
    ]
    blur = Part(name="one_of", options={"parts": blurs})
    noise = Part(name="gaussian_noise", options={"sigma": [0, 4]})
    return _mending("deblur", net, photos, RunConfig(out=out, minutes=minutes), blur, noise)


@_preset
def inpaint(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Filling holes that a mask tells: strokes, boxes, scratches; 1.4M parameters."""
    photos = DataConfig(folder=data, patch_px=96, shrink=(1.0, 0.75, 0.55), gray=0.1)
    holes = Part(name="holes")
    return _mending("inpaint", Part(name="filling-unet"), photos, RunConfig(out=out, minutes=minutes), holes)


@_preset
def sr_x4_gan(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Super-resolution by 4 that invents detail: sr-x4 trained on against a discriminator, 313k parameters."""
    return sr_x4(data, out, minutes).model_copy(
        update={
            "preset": "sr-x4-gan",
            "losses": {"l1": 1.0},
            "adversarial": AdversarialConfig(
                weight=0.02, penalties={"r1": 0.01, "r2": 0.01}, rate_factor=2.0, perceptual_share=0.25, most_db=1.2
            ),
            "start_from": "sr-x4",
            "data": DataConfig(folder=data, patch_px=32, shrink=(1.0, 0.75, 0.55)),
            "optim": OptimConfig(
                name="adam", learning_rate=2e-4, plateau=0.5, final=0.02, ema_half_life_images=2048, betas=(0.5, 0.99)
            ),
            "run": RunConfig(out=out, minutes=minutes, batch=8),
        }
    )


def _sometimes(probability: float, name: str, **options: Any) -> dict[str, Any]:
    """A degradation within another's options that is applied as often as `probability` says."""
    part = {"name": name, "options": options}
    return {"name": "sometimes", "options": {"part": part, "probability": probability}}


def web_photo(scale: int) -> tuple[Part, ...]:
    """What an unknown photograph from the web went through: an imperfect lens, a sensor, a camera's JPEG, one more size
    on the way to that of the result, and a weaker second round of blur, noise, sharpening and JPEG.

    Every damage is left out now and then, so that a clean picture belongs to the mixture as well.
    """
    lens = [
        {"name": "gaussian_blur", "options": {"sigma": [0.2, 0.7 * scale]}},
        {"name": "defocus_blur", "options": {"radius": [0.5, 0.8 * scale]}},
        {"name": "motion_blur", "options": {"length": [1, 2 * scale]}},
    ]
    sensor = [
        {"name": "gaussian_noise", "options": {"sigma": [0, 15], "rounded": 1}},
        {"name": "poisson_gaussian_noise", "options": {"shot": [0, 0.004], "read": [0, 5], "rounded": 1}},
    ]
    camera = [_sometimes(0.5, "one_of", parts=sensor), _sometimes(0.6, "jpeg", quality=[50, 95])]
    parts = [
        _sometimes(0.6, "one_of", parts=lens),
        {"name": "resize", "options": {"scale": scale, "factor": [1.2 / scale, 1], "between": camera}},
        _sometimes(0.2, "gaussian_blur", sigma=[0.2, 0.6]),
        _sometimes(0.3, "gaussian_noise", sigma=[0, 5], rounded=1),
        _sometimes(0.3, "unsharp_mask", radius=[0.5, 1.3]),
        _sometimes(0.8, "jpeg", quality=[35, 95]),
    ]
    return tuple(Part(**part) for part in parts)


def _photo(scale: int, data: str, out: str, minutes: float) -> RestorerConfig:
    name = f"photo-x{scale}"
    return _super_resolution(name, scale, data, out, minutes).model_copy(
        update={"task": "photo", "degradations": web_photo(scale), "start_from": f"sr-x{scale}"}
    )


@_preset
def photo_x2(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Enlarging photographs from the web by 2 and mending what they went through; 297k parameters."""
    return _photo(2, data, out, minutes)


@_preset
def photo_x4(data: str, out: str, minutes: float = 60) -> RestorerConfig:
    """Enlarging photographs from the web by 4 and mending what they went through; 313k parameters."""
    return _photo(4, data, out, minutes)


def fine_tuned(config: RestorerConfig, start_from: str, task: str, net: Part) -> RestorerConfig:
    """`config` for going on from weights of this task and network: at a fifth of the rate, until it no longer improves.

    The network is theirs where they were made for the same thing; else what fits of them is only a start.
    """
    same = task == config.task and net.options.get("scale") == config.net.options.get("scale")
    slower = {
        "learning_rate": config.optim.learning_rate / 5,
        "warm_up": 0.05,
        "plateau": 0.1,
        "ema_half_life_images": min(config.optim.ema_half_life_images, 2048),
    }
    return config.model_copy(
        update={
            "start_from": start_from,
            "net": net if same else config.net,
            "optim": config.optim.model_copy(update=slower),
            "patience": 0.3,
        }
    )


RESTORER_PRESETS: dict[str, Callable[..., RestorerConfig]] = {
    "sr-x2": sr_x2,
    "sr-x3": sr_x3,
    "sr-x4": sr_x4,
    "sr-x4-large": sr_x4_large,
    "sr-x4-gan": sr_x4_gan,
    "denoise": denoise,
    "jpeg": jpeg,
    "deblur": deblur,
    "inpaint": inpaint,
    "photo-x2": photo_x2,
    "photo-x4": photo_x4,
}


def _codec(probability: float) -> Part:
    """What a film went through before it came to us, now and then."""
    return Part(
        name="sometimes",
        options={"probability": probability, "part": {"name": "h264", "options": {"crf": [15, 32]}}},
    )


@_preset
def flow(data: str, out: str, minutes: float = 10) -> VideoConfig:
    """The flow network of the restorers of films by itself, 21k parameters, taught by photographs set in motion."""
    noise = {"name": "gaussian_noise", "options": {"sigma": [0, 30]}}
    return VideoConfig(
        preset="flow",
        task="flow",
        net=Part(name="flow"),
        degradations=(
            Part(name="bicubic", options={"scale": 2}),
            Part(name="sometimes", options={"probability": 0.3, "part": noise}),
        ),
        data=ClipConfig(folder=data, real=0.0, patch_px=64, frames=3),
        optim=OptimConfig(learning_rate=2e-3, ema_half_life_images=2048),
        run=RunConfig(out=out, minutes=minutes),
    )


def _video_super_resolution(scale: int, data: str, out: str, minutes: float) -> VideoConfig:
    return VideoConfig(
        preset=f"vsr-x{scale}",
        net=Part(name="recurrent", options={"scale": scale}),
        degradations=(Part(name="bicubic", options={"scale": scale}), _codec(0.15)),
        change_loss=0.5,
        start_from=f"sr-x{scale}",
        flow_from="vsr-x4",
        data=ClipConfig(folder=data),
        optim=OptimConfig(learning_rate=6e-4, plateau=0.3, ema_half_life_images=512),
        run=RunConfig(out=out, minutes=minutes, validations=12),
    )


@_preset
def vsr_x4(data: str, out: str, minutes: float = 120) -> VideoConfig:
    """Super-resolution of films by 4: sr-x4 that remembers, 376k parameters."""
    return _video_super_resolution(4, data, out, minutes)


@_preset
def vsr_x2(data: str, out: str, minutes: float = 120) -> VideoConfig:
    """Super-resolution of films by 2: sr-x2 that remembers, 345k parameters."""
    return _video_super_resolution(2, data, out, minutes)


@_preset
def video_denoise(data: str, out: str, minutes: float = 120) -> VideoConfig:
    """Blind denoising of films: Gaussian noise of 0 to 50 grey levels, sensors' noise, codecs; 343k parameters."""
    noises = [
        {"name": "gaussian_noise", "options": {"sigma": [0, 50]}},
        {"name": "gaussian_noise", "options": {"sigma": [0, 50]}},
        {"name": "poisson_gaussian_noise"},
    ]
    return VideoConfig(
        preset="video-denoise",
        task="denoise",
        net=Part(name="recurrent", options={"scale": 1, "fold": 2}),
        degradations=(Part(name="one_of", options={"parts": noises}), _codec(0.15)),
        flow_from="vsr-x4",
        data=ClipConfig(folder=data, patch_px=96),
        optim=OptimConfig(learning_rate=1.5e-3, plateau=0.3, ema_half_life_images=512),
        run=RunConfig(out=out, minutes=minutes, validations=12),
    )


VIDEO_PRESETS: dict[str, Callable[..., VideoConfig]] = {
    "vsr-x4": vsr_x4,
    "vsr-x2": vsr_x2,
    "video-denoise": video_denoise,
    "flow": flow,
}


@_preset
def cifarcnn(data: str, out: str, minutes: float = 30) -> ClassifierConfig:
    """A classifier of small colour pictures with 612k parameters and 192 features."""
    return ClassifierConfig(
        preset="cifarcnn",
        net=Part(name="cnn", options={"width": 32, "features": 192}),
        data=ImageSetConfig(folder=data, size=(32, 32), channels=3, held_out=5000),
        optim=OptimConfig(plateau=0.2),
        run=RunConfig(out=out, minutes=minutes, batch=128),
    )


@_preset
def mnistcnn(data: str, out: str, minutes: float = 8) -> ClassifierConfig:
    """A classifier of handwritten digits with 172k parameters and 128 features; any size from 28 pixels on."""
    return ClassifierConfig(
        preset="mnistcnn",
        net=Part(name="cnn", options={"width": 16, "features": 128}),
        data=ImageSetConfig(folder=data, size=(28, 28), channels=1, flip=False, held_out=5000),
        shift_px=2,
        optim=OptimConfig(plateau=0.2),
        run=RunConfig(out=out, minutes=minutes, batch=128),
    )


CLASSIFIER_PRESETS: dict[str, Callable[..., ClassifierConfig]] = {
    "cifarcnn": cifarcnn,
    "mnistcnn": mnistcnn,
}


@_preset
def rpgan(data: str, out: str, minutes: float = 60) -> GanConfig:
    """The modern recipe: residual networks, relativistic pairs, R1 and R2, class labels; sized by time and machine."""
    return GanConfig(
        preset="rpgan",
        generator=Part(name="rpgan-generator"),
        discriminator=Part(name="rpgan-discriminator"),
        objective="relativistic",
        penalties={"r1": 4.0, "r2": 4.0},
        penalty_final=0.1,
        penalty_share=0.25,
        data=ImageSetConfig(folder=data),
        optim=OptimConfig(name="adam", learning_rate=1e-3, betas=(0.0, 0.99), final=0.02, ema_half_life_images=10_000),
        run=RunConfig(out=out, minutes=minutes),
    )


@_preset
def dcgan(data: str, out: str, minutes: float = 60) -> GanConfig:
    """The classic of Radford et al. 2016 as PyTorch's example trains it: unconditional, batch 64, a constant rate."""
    return GanConfig(
        preset="dcgan",
        generator=Part(name="dcgan-generator"),
        discriminator=Part(name="dcgan-discriminator"),
        objective="non_saturating",
        augment=AugmentConfig(strength=0.0),
        guard="watch",
        data=ImageSetConfig(folder=data, labels="none", flip=False),
        optim=OptimConfig(
            name="adam", learning_rate=2e-4, betas=(0.5, 0.999), warm_up=0.0, plateau=1.0, ema_half_life_images=10_000
        ),
        run=RunConfig(out=out, minutes=minutes, batch=64),
    )


@_preset
def auto_gan(data: str, out: str, minutes: float = 60) -> GanConfig:
    """For people who do not want to choose: rpgan, with every choice made from pictures, machine and time."""
    return rpgan(data, out, minutes).model_copy(update={"preset": "auto"})


GAN_PRESETS: dict[str, Callable[..., GanConfig]] = {"auto": auto_gan, "rpgan": rpgan, "dcgan": dcgan}


def preset_of(presets: Mapping[str, Callable[..., C]], name: str) -> Callable[..., C]:
    """The preset function called `name`; ConfigError names the nearest match."""
    if name not in presets:
        raise ConfigError(not_one_of("a preset", name, presets))
    return presets[name]
