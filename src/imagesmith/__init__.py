"""imagesmith makes images with GANs and mends damaged images: train, measure, ship and run the networks.

The names below are the whole public surface; importing the package does not import torch.
"""

import importlib
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'imagesmith' has no attribute '{name}'")
    module = importlib.import_module(_PUBLIC[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
