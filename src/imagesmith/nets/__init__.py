"""The networks: pure `nn.Module`s, one file per family, named in one table per role.

* Restorers have `scale`, `halo` (how many input pixels a cell of `multiple_of` pixels sees beyond itself), `channels`,
  `planes` (further channels of the input that only tell something, such as where holes are), `multiple_of`, and
  `fused()`: their inference form. Those that compute at lower resolutions have `features_per_px`: the feature maps of
  their largest tensor, counted for each input pixel.
* Video restorers have the restorers' attributes and `look_ahead`: `net(frame, state, ahead)` -> (result, state), see
  `imagesmith.nets.recurrent`. Flow networks: `flow(now, before)` -> (N, 2, H, W) in pixels.
* Generators have `latent_size`, `classes` (0: unconditional), `channels`, `size` (height, width):
  `generator(latent (N, latent_size), label (N,) | None)` -> (N, C, H, W) float32, nominally in [-1, 1].
* Discriminators have `classes`, `channels`, `size`: `discriminator(image in [-1, 1], label | None)` -> logits (N,), a
  linear function of `discriminator.features(image)` (N, F).
* Patch discriminators judge restored images, of any size that is a multiple of `multiple_of`:
  `discriminator(image (N, channels, H, W) in [0, 1])` -> float32 logits (N, 1, h, w), one for each place.
* Classifiers have `classes`, `channels`, `size`: `classifier(image in [0, 1])` -> logits (N, classes), a linear
  function of `classifier.features(image)` (N, F).
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from imagesmith.errors import ConfigError, not_one_of
from imagesmith.nets.classifier import Cnn
from imagesmith.nets.compact import Compact
from imagesmith.nets.dcgan import DcganDiscriminator, DcganGenerator
from imagesmith.nets.deconvolved import DeconvolvedUNet
from imagesmith.nets.filling import FillingUNet
from imagesmith.nets.flow import FlowNet
from imagesmith.nets.patch import PatchDiscriminator, UNetDiscriminator
from imagesmith.nets.recurrent import Recurrent
from imagesmith.nets.rpgan import RpganDiscriminator, RpganGenerator
from imagesmith.nets.unet import UNet

RESTORERS: dict[str, type[nn.Module]] = {
    "compact": Compact,
    "unet": UNet,
    "filling-unet": FillingUNet,
    "deconvolved-unet": DeconvolvedUNet,
}
VIDEO_RESTORERS: dict[str, type[nn.Module]] = {
    "recurrent": Recurrent,
}
FLOWS: dict[str, type[nn.Module]] = {
    "flow": FlowNet,
}
GENERATORS: dict[str, type[nn.Module]] = {
    "dcgan-generator": DcganGenerator,
    "rpgan-generator": RpganGenerator,
}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "dcgan-discriminator": DcganDiscriminator,
    "rpgan-discriminator": RpganDiscriminator,
}
PATCH_DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "patch-discriminator": PatchDiscriminator,
    "unet-discriminator": UNetDiscriminator,
}
CLASSIFIERS: dict[str, type[nn.Module]] = {
    "cnn": Cnn,
}
NETS: dict[str, type[nn.Module]] = (
    RESTORERS | VIDEO_RESTORERS | FLOWS | GENERATORS | DISCRIMINATORS | PATCH_DISCRIMINATORS | CLASSIFIERS
)


_MAY_BE_ZERO = ("blocks", "planes", "classes", "look_ahead")


@dataclass(frozen=True)
class NetSpec:
    """A network by name and constructor options, as configurations and weight files carry it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def build_net(spec: NetSpec) -> nn.Module:
    """The freshly initialised network of `spec`.

    ConfigError with the nearest match for an unknown name or option, and for values that no network can be built with.
    """
    if spec.name not in NETS:
        raise ConfigError(not_one_of("a network", spec.name, NETS))
    net_class = NETS[spec.name]
    known = [name for name in inspect.signature(net_class).parameters if name != "self"]
    for option in spec.options:
        if option not in known:
            raise ConfigError(not_one_of(f"an option of network '{spec.name}'", option, known))
    for option, value in spec.options.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        least = 0 if option in _MAY_BE_ZERO else 1
        if any(isinstance(number, int) and not isinstance(number, bool) and number < least for number in numbers):
            raise ConfigError(
                f"expected {option} of network '{spec.name}' of at least {least}, got {value}; set a larger number"
            )
    try:
        return net_class(**spec.options)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"expected options that make a network '{spec.name}', got {spec.options}\n{reason}"
        ) from error
