"""imagesmith makes images with GANs and mends damaged images: train, measure, ship and run the networks.

The names below are the whole public surface; importing the package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Restorer": "imagesmith.infer.restore",
    "restore": "imagesmith.infer.once",
    "restore_video": "imagesmith.infer.video.once",
    "Generator": "imagesmith.infer.generate",
    "generate": "imagesmith.infer.generate",
    "interpolate": "imagesmith.infer.generate",
    "project": "imagesmith.infer.edit",
    "variations": "imagesmith.infer.edit",
    "train_restorer": "imagesmith.train.restore",
    "train_video": "imagesmith.train.video",
    "train_gan": "imagesmith.train.gan",
    "train_classifier": "imagesmith.train.classifier",
    "evaluate_restorer": "imagesmith.evaluate",
    "evaluate_generator": "imagesmith.evaluate",
    "evaluate_classifier": "imagesmith.evaluate",
    "Report": "imagesmith.evaluate",
    "read_image": "imagesmith.data.files",
    "write_image": "imagesmith.data.files",
    "load_image_set": "imagesmith.data.image_sets",
    "load_model": "imagesmith.zoo",
    "CARDS": "imagesmith.zoo",
    "presets": "imagesmith.presets",
    "ImagesmithError": "imagesmith.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - names are loaded on first use


if TYPE_CHECKING:  # editors and type checkers look up no table
    from imagesmith import presets as presets
    from imagesmith.data.files import read_image as read_image
    from imagesmith.data.files import write_image as write_image
    from imagesmith.data.image_sets import load_image_set as load_image_set
    from imagesmith.errors import ImagesmithError as ImagesmithError
    from imagesmith.evaluate import Report as Report
    from imagesmith.evaluate import evaluate_classifier as evaluate_classifier
    from imagesmith.evaluate import evaluate_generator as evaluate_generator
    from imagesmith.evaluate import evaluate_restorer as evaluate_restorer
    from imagesmith.infer.edit import project as project
    from imagesmith.infer.edit import variations as variations
    from imagesmith.infer.generate import Generator as Generator
    from imagesmith.infer.generate import generate as generate
    from imagesmith.infer.generate import interpolate as interpolate
    from imagesmith.infer.once import restore as restore
    from imagesmith.infer.restore import Restorer as Restorer
    from imagesmith.infer.video.once import restore_video as restore_video
    from imagesmith.train.classifier import train_classifier as train_classifier
    from imagesmith.train.gan import train_gan as train_gan
    from imagesmith.train.restore import train_restorer as train_restorer
    from imagesmith.train.video import train_video as train_video
    from imagesmith.zoo import CARDS as CARDS
    from imagesmith.zoo import load_model as load_model
else:

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'imagesmith' has no attribute '{name}'")
        module = importlib.import_module(_PUBLIC[name])
        return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
