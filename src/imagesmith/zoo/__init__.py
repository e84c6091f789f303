"""The shipped models: weights, their cards, and the one way to save, load and verify a weight file.

`CARDS` answers without importing torch, so that listing models is instant; the rest is imported when first used.
"""

from typing import TYPE_CHECKING, Any

from imagesmith.zoo.cards import CARDS, ModelCard

if TYPE_CHECKING:
    from imagesmith.zoo.dcgan_files import load_dcgan
    from imagesmith.zoo.weights import Model, describe, load_model, save_model, verify_model, write_golden

__all__ = [
    "CARDS",
    "Model",
    "ModelCard",
    "describe",
    "load_dcgan",
    "load_model",
    "save_model",
    "verify_model",
    "write_golden",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from imagesmith.zoo import dcgan_files, weights

    return getattr(dcgan_files if name == "load_dcgan" else weights, name)
