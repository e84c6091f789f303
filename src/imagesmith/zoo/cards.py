"""What a weight file says about itself, read from its header alone, without torch.

A weight file is one safetensors file with a single metadata entry, `imagesmith`: a JSON object with `format`, the
`sha256` of the whole file (computed with these 64 digits set to zero, so that it covers header and tensors alike) and
the `card`. What a card says is written nowhere else: `CARDS` and docs/models.md read it from the files.
"""

import dataclasses
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from imagesmith.errors import IntegrityError, ModelError

FORMAT = 1
METADATA_KEY = "imagesmith"
NO_DIGEST = "0" * 64
WEIGHTS = Path(__file__).parent / "weights"
GOLDEN_SUFFIX = ".golden.safetensors"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".pth.tar")
"""Of PyTorch's own files, which `pytorch_files` reads."""

_EXPECTED = "expected a weight file written by imagesmith (.safetensors)"
_HEADER_LIMIT = 1 << 20
_ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# Either of them tells one of our files, so that a damaged byte in one still leaves the other.
_MARKS = (b'"imagesmith":', b'\\"sha256\\":')
_FOREIGN = "a safetensors file without imagesmith's metadata"
_KINDS = {
    b"PK\x03\x04": "a zip archive, or a PyTorch checkpoint that is not called .pth",
    b"\x80": "a Python pickle, or an old PyTorch checkpoint that is not called .pth",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8": "a JPEG image",
    b"version https://git-lfs": "a git-lfs pointer, not the file itself",
}
_MIRRORING_TASKS = ("denoise", "inpaint")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything there is to know about a weight file besides its tensors.

    What a kind of network does not have keeps its default: restorers have no classes, the others no halo.
    """

    name: str
    net: str
    """Name of the network in `imagesmith.nets.NETS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its constructor options."""
    params: int
    channels: int
    scale: int = 1
    halo: int = 0
    """Receptive radius in input pixels."""
    classes: int | None = None
    """How many labels there are; 0 for an unconditional generator."""
    class_names: tuple[str, ...] = ()
    """What the labels 0, 1, ... mean."""
    size: tuple[int, int] | None = None
    """Height and width of the images it makes, or was trained to classify."""
    latent_size: int | None = None
    """Numbers that a generator makes one image from."""
    task: str = "sr"
    """What it is for: sr, denoise, jpeg, deblur, inpaint, photo, generate or classify."""
    faithful: str | None = None
    """Of a network that invents detail: the shipped name of the one that does not, with which it can be blended."""
    description: str = ""
    train_data: str = ""
    licence: str = "Apache-2.0"
    commit: str = ""
    """The commit of imagesmith that trained it."""
    protocol: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores by test set and metric: {"set5": {"psnr_y": 31.9, "ssim_y": 0.889}}."""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was trained: images seen, minutes, the resolved configuration."""
    created: str = ""
    """Date in ISO 8601."""
    path: str | None = field(default=None, compare=False)
    """The run folder or file by which it was loaded, as it was named; None for shipped weights. No file holds it."""

    @property
    def mirrors_edges(self) -> bool:
        """How a picture is rounded up to the size that its network needs: mirrored, or by repeating the last pixels.

        Noise that is repeated is streaks, which no network takes for noise; blur and JPEG go on as the last pixels are.
        """
        return self.task in _MIRRORING_TASKS

    @property
    def title(self) -> str:
        """What its user calls it, who may have trained many of one preset: the path it was loaded by, else its name."""
        return self.path or self.name

    def to_json(self) -> str:
        """One JSON object as a file holds it, without the fields that this kind of network does not have."""
        fields = {name: value for name in _STORED if (value := getattr(self, name)) not in (None, ())}
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)


_STORED = {field.name: field.type for field in dataclasses.fields(ModelCard) if field.name != "path"}
"""The fields that files hold, and their types."""


@dataclass(frozen=True)
class Header:
    """The metadata of a weight file whose layout is consistent; neither the card nor the tensors are examined yet."""

    path: Path
    sha256: str
    format: int
    fields: dict[str, Any]

    @property
    def card(self) -> ModelCard:
        """The card; ModelError where another version of imagesmith wrote it, or something else."""
        if self.format != FORMAT:
            raise ModelError(
                f"'{self.path}' has weight format {self.format}, expected format {FORMAT}; upgrade imagesmith"
            )
        if not isinstance(self.fields, dict):
            raise ModelError(
                f"expected fields by name as the card in '{self.path}', got {type(self.fields).__name__}; "
                "export the model again"
            )
        if unknown := sorted(self.fields.keys() - _STORED.keys()):
            raise ModelError(f"the card in '{self.path}' has unknown fields {', '.join(unknown)}; upgrade imagesmith")
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in self.fields.items()}
        if odd := next((name for name, value in fields.items() if not _fits(value, _STORED[name])), None):
            wanted = inspect.formatannotation(_STORED[odd]).replace("typing.", "")
            raise ModelError(
                f"expected '{odd}' of the card in '{self.path}' to be {wanted}, got {self.fields[odd]!r:.50}; "
                "export the model again"
            )
        try:
            return ModelCard(**fields)
        except TypeError as error:  # a required field is absent
            raise ModelError(f"the card in '{self.path}' is incomplete ({error}); export the model again") from None


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON, a list made a tuple, is of the type `kind` of a field."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is UnionType:
        return any(_fits(value, one) for one in inner)
    if outer is dict:
        return isinstance(value, dict) and all(_fits(part, inner[1]) for part in value.values())
    if outer is tuple:
        kinds = inner[:1] * len(value) if isinstance(value, tuple) and inner[-1] is Ellipsis else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    return kind is Any or type(value) is kind or (kind is float and type(value) is int)


def read_header(path: Path) -> Header:
    """The header of a weight file.

    ModelError for another kind of file and for one cut short, IntegrityError for a damaged one. Damage that leaves the
    layout consistent is found by the sha256 alone, which `imagesmith.zoo.load_model` checks.
    """
    start, size = _start_and_size(path)
    if not any(mark in start for mark in _MARKS):
        raise ModelError(f"{_EXPECTED}, got {_kind(start)}: '{path}'")
    length = int.from_bytes(start[:8], "little")
    try:
        entries = json.loads(start[8 : 8 + length])
        own = json.loads(entries.pop("__metadata__")[METADATA_KEY])
        header = Header(path, own["sha256"], own["format"], own["card"])
        expected_size = 8 + length + _tensor_bytes(entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if 8 + length > size and not _is_complete(start[8:]):
            raise _cut_short(path, size) from None
        raise IntegrityError(f"the header of '{path}' is damaged; fetch or copy the file again") from None
    if size < expected_size:
        raise _cut_short(path, size, expected_size)
    if size > expected_size or not re.fullmatch("[0-9a-f]{64}", str(header.sha256)):
        raise IntegrityError(f"'{path}' does not have the layout its header declares; fetch or copy the file again")
    return header


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file is called like one of PyTorch's own."""
    return str(path).lower().endswith(CHECKPOINT_SUFFIXES)


def is_foreign(path: Path) -> bool:
    """Whether a file can only hold another project's weights: one of PyTorch, or safetensors without our metadata.

    ModelError where it cannot be opened.
    """
    if path.suffix.lower() != ".safetensors":
        return is_checkpoint(path)
    start, _ = _start_and_size(path)
    return not any(mark in start for mark in _MARKS) and _kind(start) == _FOREIGN


def _start_and_size(path: Path) -> tuple[bytes, int]:
    """What any header lies in, and how many bytes the whole file has."""
    try:
        with path.open("rb") as file:
            return file.read(8 + _HEADER_LIMIT), file.seek(0, 2)
    except OSError as error:
        raise ModelError(f"cannot read the weight file '{path}': {error.strerror or error}") from None


def _tensor_bytes(entries: dict[str, Any]) -> int:
    """Bytes of all tensors; ValueError where shapes and offsets contradict each other, as after one damaged digit."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != end or last - first != math.prod(entry["shape"]) * _ITEM_BYTES[entry["dtype"]]:
            raise ValueError(entry)
        end = last
    return end


def _is_complete(text: bytes) -> bool:
    """Whether a whole JSON value stands at the start of `text`, whatever follows."""
    try:
        json.JSONDecoder().raw_decode(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _cut_short(path: Path, size: int, expected: int | None = None) -> ModelError:
    declared = f"{expected} bytes" if expected else "a whole header"
    return ModelError(f"'{path}' is cut short: expected {declared}, got {size} bytes; fetch or copy the file again")


def _kind(start: bytes) -> str:
    """What a foreign file is, from its first bytes, in words."""
    if not start:
        return "an empty file"
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            return kind
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return _FOREIGN
    if start[:512].isascii() and b"\0" not in start[:512]:
        return "a text file"
    return "a file of an unknown kind"


class _ShippedCards(Mapping[str, ModelCard]):
    """Cards of the weights inside the package by name; each is read when asked for, so one bad file hides no other."""

    def __getitem__(self, name: str) -> ModelCard:
        if name not in self._names():
            raise KeyError(name)
        return read_header(shipped_path(name)).card

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    @staticmethod
    def _names() -> list[str]:
        files = WEIGHTS.glob("*.safetensors")
        return sorted(file.name.removesuffix(".safetensors") for file in files if not file.name.endswith(GOLDEN_SUFFIX))


def shipped_path(name: str) -> Path:
    """Where the shipped weights called `name` lie, whether or not they exist."""
    return WEIGHTS / f"{name}.safetensors"


CARDS: Mapping[str, ModelCard] = _ShippedCards()
