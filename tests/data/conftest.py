"""Toy data sets, packed in every way that people pack them."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image


class Packing:
    """Pictures as bytes, and files of any content as a folder, zip or tar."""

    @staticmethod
    def picture(
        value: int | tuple[int, ...], size: tuple[int, int] = (16, 16), mode: str = "RGB", format: str = "PNG"
    ) -> bytes:
        stream = io.BytesIO()
        Image.new(mode, (size[1], size[0]), value).save(stream, format)
        return stream.getvalue()

    @classmethod
    def six_pictures(cls, above: str = "") -> dict[str, bytes]:
        """Three cats of red 10, 11, 12 and three dogs of red 20, 21, 22; in no order."""
        reds = {"dog/2": 22, "cat/0": 10, "dog/0": 20, "cat/2": 12, "cat/1": 11, "dog/1": 21}
        return {f"{above}{name}.png": cls.picture((red, 0, 200)) for name, red in reds.items()}

    @staticmethod
    def folder(path: Path, files: dict[str, bytes]) -> Path:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path

    @staticmethod
    def zipped(path: Path, files: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    @staticmethod
    def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
        with tarfile.open(path, mode) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path


@pytest.fixture(scope="session")
def pack() -> type[Packing]:
    """See `Packing`."""
    return Packing
