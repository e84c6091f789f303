"""Pictures of the demo: those inside the scikit-image package, found without a network, and those that it writes."""

import importlib.util
from pathlib import Path

from torch import Tensor

from imagesmith.data.files import Frame, write_image
from imagesmith.errors import UsageError


def packaged_data(*files: str) -> Path:
    """The folder inside scikit-image that holds `files`, found without importing it; UsageError where they are not."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UsageError('this part needs the pictures of scikit-image: pip install "imagesmith[demo]"')
    folder = Path(package.origin).parent / "data"
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UsageError(
            f'this scikit-image lacks {", ".join(missing)}; install a newer one: pip install -U "imagesmith[demo]"'
        )
    return folder


def write_picture(image: Tensor, path: Path) -> Path:
    """Write a picture (C, H, W) uint8 as PNG, in place of an earlier one; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(Frame.of(image), path, overwrite=True)
    return path
