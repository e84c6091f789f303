"""Cards and headers: what a weight file says about itself, and what is said about a file that is none."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from imagesmith.errors import IntegrityError, ModelError
from imagesmith.zoo import CARDS, Model, load_model, save_model
from imagesmith.zoo.cards import FORMAT, GOLDEN_SUFFIX, WEIGHTS, Header, read_header


def test_listing_models_does_not_import_torch():
    """`imagesmith models` once took two seconds, all of them spent importing what a list does not need."""
    code = "import sys; from imagesmith.zoo import CARDS; list(CARDS.values()); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_card_comes_back_as_it_was_written(weight_file: Path, model: Model):
    assert read_header(weight_file).card == model.card


def test_cards_are_those_of_the_folder(shipped: str, model: Model):
    assert dict(CARDS) == {shipped: model.card}
    assert shipped in CARDS
    assert "tiny" not in CARDS


def test_every_shipped_file_has_its_own_name_and_a_golden_output():
    """A file copied under another name would be loaded, verified and reported as the wrong model."""
    for name, card in CARDS.items():
        assert card.name == name
        assert (WEIGHTS / f"{name}{GOLDEN_SUFFIX}").is_file(), f"{name} lacks its golden output"


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


FOREIGN = {
    "zip": (_zip, "zip archive"),
    "pth": (lambda path: torch.save({"w": torch.zeros(2)}, path), ".pth"),
    "old pth": (lambda path: torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False), "pickle"),
    "safetensors": (lambda path: save_file({"w": torch.zeros(2)}, path), "without imagesmith's metadata"),
    "text": (lambda path: path.write_text("<html>404</html>"), "text file"),
    "lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
    "png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "PNG image"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "noise": (lambda path: path.write_bytes(bytes(range(200, 256)) * 9), "unknown kind"),
    "tensor list too long": (lambda path: path.write_bytes(b"\xff" * 8 + b'{"a":'), "unknown kind"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_kind_of_file_is_named(kind: str, tmp_path: Path):
    """A web page saved in place of the weights gave 'Error while deserializing header'."""
    write, words = FOREIGN[kind]
    write(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=words) as caught:
        load_model(tmp_path / "model.safetensors")
    assert "expected a weight file written by imagesmith" in str(caught.value)
    assert not isinstance(caught.value, IntegrityError)


def test_one_flipped_bit_anywhere_is_an_integrity_error(weight_file: Path):
    """A digest over the tensors alone lets a damaged card, shape or length pass or be called a foreign file."""
    data = weight_file.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    for place in [*range(header_end), *range(header_end, len(data), 37)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        weight_file.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            load_model(weight_file)


def test_a_file_cut_short_anywhere_says_so(weight_file: Path):
    data = weight_file.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    for length in [*range(60, header_end, 11), *range(header_end, len(data), 23), len(data) - 1]:
        weight_file.write_bytes(data[:length])
        with pytest.raises(ModelError, match="cut short") as caught:
            load_model(weight_file)
        assert not isinstance(caught.value, IntegrityError)


def test_trailing_bytes_are_damage(weight_file: Path):
    weight_file.write_bytes(weight_file.read_bytes() + b"\0")
    with pytest.raises(IntegrityError):
        load_model(weight_file)


def test_messages_have_at_most_three_lines(weight_file: Path):
    weight_file.write_bytes(weight_file.read_bytes()[:-1])
    with pytest.raises(ModelError) as caught:
        load_model(weight_file)
    assert str(caught.value).count("\n") <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "upgrade"),
        ({"card": {"name": "x", "colour": 1}}, "colour"),
        ({"card": {"name": "x"}}, "params"),
        *(({"card": card}, f"got {type(card).__name__}") for card in ([1], "x", None, 5)),
        ({"card": {"scale": "4"}}, "'scale' .* to be int, got '4'"),
        ({"card": {"params": True}}, "'params' .* to be int, got True"),
        ({"card": {"options": [1]}}, r"'options' .* to be dict\[str, Any\], got \[1\]"),
        ({"card": {"class_names": 5}}, "'class_names' .* got 5"),
        ({"card": {"class_names": ["a", 5]}}, "'class_names' .* got"),
        ({"card": {"size": [1, 2, 3]}}, "'size' .* got"),
        ({"card": {"protocol": {"set5": {"psnr_y": "high"}}}}, "'protocol' .* got"),
        ({"card": {"description": "x" * 9999, "task": None}}, "'task' .* to be str, got None"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_card_that_cannot_be_understood_is_not_called_damaged(
    change: dict, words: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: a card that is a list, or a scale that is a text, ends in 'a bug, please report it'."""
    path = tmp_path / "future.safetensors"
    plain = json.dumps
    with monkeypatch.context() as patch:
        patch.setattr("imagesmith.zoo.weights.json.dumps", lambda own, **options: plain({**own, **change}, **options))
        save_model(path, model.net, model.card)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(path)
    assert not isinstance(caught.value, IntegrityError)


def test_values_of_a_card_may_be_whole_numbers_or_absent():
    """The accident: a score of exactly 31 dB is refused, because JSON writes it without a point."""
    fields = {"name": "x", "net": "toy", "params": 1, "channels": 3, "size": [2, 3], "faithful": None, "protocol": {}}
    card = Header(Path("x"), "", FORMAT, fields | {"protocol": {"set5": {"psnr_y": 31}}}).card
    assert (card.size, card.faithful, card.protocol) == ((2, 3), None, {"set5": {"psnr_y": 31}})


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_may_not_be_read_is_told(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: weights of another account, and a bare PermissionError that asks to be reported."""
    path = tmp_path / f"model{suffix}"
    path.touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for opener in ("pathlib.Path.open", "torch.load"):
        monkeypatch.setattr(opener, refuse)
    with pytest.raises(ModelError, match=r"cannot read the weight.*Permission denied"):
        load_model(path)
