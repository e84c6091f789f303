"""A data set becomes one tensor, however it is packed; whatever is wrong with it is one clear message."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data.image_sets import ImageSet, load_image_set
from imagesmith.errors import NothingUsableError, OutputError, UsageError


def reds(image_set: ImageSet) -> list[int]:
    return image_set.images[:, 0, 0, 0].tolist()


@pytest.fixture
def plain(tmp_path: Path, pack: Any) -> Path:
    return pack.folder(tmp_path / "set", pack.six_pictures())


def test_every_packing_gives_the_same_set(tmp_path: Path, plain: Path, pack: Any) -> None:
    """The order of an archive is that of the disk it was packed on; a run must not depend on it."""
    sources = [
        plain,
        pack.zipped(tmp_path / "a.zip", pack.six_pictures()),
        pack.tarred(tmp_path / "a.tar", pack.six_pictures(), "w"),
        pack.tarred(tmp_path / "a.tar.gz", pack.six_pictures("./")),
        pack.tarred(tmp_path / "a.tar.xz", pack.six_pictures("wrapped/in/"), "w:xz"),
    ]
    for source in sources:
        found = load_image_set(source, size=(8, 8))
        assert found.images.shape == (6, 3, 8, 8)
        assert found.images.dtype == torch.uint8
        assert reds(found) == [10, 11, 12, 20, 21, 22]
        assert found.labels is not None
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert found.class_names == ("cat", "dog")
        assert [Path(name).name for name in found.names] == ["0.png", "1.png", "2.png"] * 2
        assert found.skipped == []


def test_a_part_is_named_by_the_source(tmp_path: Path, pack: Any) -> None:
    """Training on the test part makes every later measurement worthless."""
    files = pack.six_pictures("train/") | {
        name: pack.picture((99, 0, 0)) for name in ("test/cat/9.png", "test/dog/9.png")
    }
    for source in (
        pack.tarred(tmp_path / "a.tgz", files),
        pack.zipped(tmp_path / "a.zip", files),
        pack.folder(tmp_path / "a", files),
    ):
        with pytest.raises(UsageError, match=r"test \(2 pictures\), train \(6 pictures\)\nwrite .*::train"):
            load_image_set(source, size=(8, 8))
        found = load_image_set(f"{source}::train", size=(8, 8))
        assert reds(found) == [10, 11, 12, 20, 21, 22]
        assert found.class_names == ("cat", "dog")
        with pytest.raises(UsageError, match=r"expected a folder 'val' .* holds test, train"):
            load_image_set(f"{source}::val", size=(8, 8))


def test_class_folders_need_every_picture(plain: Path, pack: Any) -> None:
    """One picture left beside the folders must not become a class, nor be dropped in silence."""
    (plain / "stray.png").write_bytes(pack.picture(7))
    found = load_image_set(plain, size=(8, 8))
    assert found.labels is None
    assert found.class_names == ()
    assert len(found) == 7
    assert "stray.png" in found.notes[0]


def test_labels_can_be_refused_and_folders_of_one_picture_are_no_classes(
    tmp_path: Path, plain: Path, pack: Any
) -> None:
    """A conditional network of as many classes as pictures learns nothing but to repeat them."""
    assert load_image_set(plain, size=(8, 8), labels="none").labels is None
    single = pack.folder(tmp_path / "single", {f"{k}/a.png": pack.picture(k) for k in range(5)})
    found = load_image_set(single, size=(8, 8))
    assert found.labels is None
    assert "5 folders for 5 pictures" in found.notes[0]


def test_a_class_whose_pictures_are_all_broken_is_no_class(plain: Path) -> None:
    """A class without a picture can be asked for and never be learnt."""
    for name in ("a.png", "b.png"):
        (plain / "bird" / name).parent.mkdir(exist_ok=True)
        (plain / "bird" / name).write_bytes(b"no picture")
    found = load_image_set(plain, size=(8, 8))
    assert found.class_names == ("cat", "dog")
    assert len(found.skipped) == 2


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path, pack: Any) -> None:
    """By letters, class 10 stands before class 2, and every label of a digits set is wrong."""
    files = {f"{k}/{n}.png": pack.picture(k) for k in (10, 2, 1) for n in range(2)}
    found = load_image_set(pack.folder(tmp_path, files), size=(8, 8))
    assert found.class_names == ("1", "2", "10")
    assert found.labels is not None
    assert [found.class_names[label] for label in found.labels] == [Path(name).parts[0] for name in found.names]


def test_broken_pictures_leave_no_gap(plain: Path) -> None:
    """A skipped row that stays in the tensor shows the networks what memory held before."""
    (plain / "cat" / "1.png").write_bytes(b"no picture")
    (plain / "dog" / "0.png").write_bytes((plain / "dog" / "0.png").read_bytes()[:40])
    found = load_image_set(plain, size=(8, 8))
    assert reds(found) == [10, 12, 21, 22]
    assert found.names == ["cat/0.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert [line.partition(":")[0] for line in found.skipped] == ["cat/1.png", "dog/0.png"]
    assert all("\n" not in line and str(plain) not in line for line in found.skipped)


def test_mixed_sizes_and_modes(tmp_path: Path, pack: Any) -> None:
    """One gray, transparent, deep or tall file among colour ones ended other trainers with a shape error."""
    deep = io.BytesIO()
    Image.fromarray(np.full((9, 20), 65535, np.uint16)).save(deep, "PNG")
    files = {
        "a.png": pack.picture((10, 20, 30)),
        "b.png": pack.picture(50, (40, 10), "L"),
        "c.png": pack.picture((255, 0, 0, 0), (5, 90), "RGBA"),
        "d.png": deep.getvalue(),
        "e.jpg": pack.picture((0, 0, 0, 0), mode="CMYK", format="JPEG"),
        "f.gif": pack.picture(1, mode="P", format="GIF"),
        "g.png": pack.picture((77, 128), mode="LA"),
    }
    source = pack.folder(tmp_path, files)
    found = load_image_set(source, size=(8, 12))
    assert found.images.shape == (7, 3, 8, 12)
    assert found.images[0, :, 0, 0].tolist() == [10, 20, 30]
    assert found.images[1].unique().tolist() == [50]
    assert found.images[2].unique().tolist() == [255]  # transparent, so white
    assert found.images[3].unique().tolist() == [255]
    for channels in (1, 2, 4):
        assert load_image_set(source, size=(8, 12), channels=channels).images.shape == (7, channels, 8, 12)
    alpha = load_image_set(source, size=(8, 12), channels=4).images
    assert alpha[0, 3].unique().tolist() == [255]
    assert alpha[2, 3].unique().tolist() == [0]


def test_depth_that_is_lost_is_said(tmp_path: Path, pack: Any) -> None:
    """The accident: a set of 16 bits was trained on with 8, and nobody was told."""
    source = pack.folder(tmp_path, {"a.png": pack.picture(40_000, mode="I;16"), "b.png": pack.picture(50, mode="L")})
    told = "1 picture of more than 8 bits: brought to 8, as networks here train on no more"
    assert load_image_set(source, size=(8, 8)).notes[-1] == told
    assert load_image_set(source, size=(8, 8), channels=1).notes[-1] == told
    pack.folder(tmp_path, {"a.png": pack.picture(60, mode="L")})
    assert told not in load_image_set(source, size=(8, 8)).notes


def test_alpha_that_is_lost_is_said(tmp_path: Path, pack: Any) -> None:
    """The accident: 60 sprites with alpha, and all that is said of them is 'three channels, red, green and blue'."""

    def noted(picture: bytes, **options: Any) -> list[str]:
        source = pack.folder(tmp_path, {"a.png": picture, "b.png": pack.picture(50, mode="L")})
        notes = load_image_set(source, size=(8, 8), **options).notes
        return [note.rpartition("; ")[2] for note in notes if "laid on white" in note]

    sprite = pack.picture((9, 0, 0, 100), mode="RGBA")
    assert noted(sprite) == ["--set data.channels=4 makes images with alpha"]
    assert noted(pack.picture((9, 100), mode="LA")) == ["--set data.channels=2 makes images with alpha"]
    assert noted(sprite, channels=3) == noted(sprite, channels=4) == [], "as asked"
    assert noted(pack.picture((9, 0, 0, 255), mode="RGBA")) == [], "nothing is lost"
    np.savez(tmp_path / "a.npz", images=np.full((3, 8, 8, 4), 7, np.uint8))
    assert any("data.channels=2" in note for note in load_image_set(tmp_path / "a.npz").notes), "of arrays too"


def test_gray_pictures_in_colour_files_get_one_channel(tmp_path: Path, pack: Any) -> None:
    """Two thirds of the network would learn that all channels are equal."""
    found = load_image_set(pack.folder(tmp_path, {f"{k}.png": pack.picture((k, k, k)) for k in range(4)}), size=(8, 8))
    assert found.images.shape == (4, 1, 8, 8)
    assert reds(found) == [0, 1, 2, 3]
    assert load_image_set(tmp_path, size=(8, 8), channels=3).images.shape == (4, 3, 8, 8)


def test_the_size_is_chosen_from_the_data(tmp_path: Path, pack: Any) -> None:
    """A non-square set squeezed into a square makes thin people."""
    files = {f"{k}.png": pack.picture((k, 0, 0), (97, 60)) for k in range(3)}
    found = load_image_set(pack.folder(tmp_path, files), most_px=64)
    assert found.images.shape == (3, 3, 64, 40)
    assert any("60x97" in note for note in found.notes)


def test_portraits_stored_lying_down_are_portraits(tmp_path: Path) -> None:
    """A folder of phone photographs chose a landscape, and every portrait lost its head to the crop."""
    turned = Image.Exif()
    turned[274] = 6
    for k in range(3):
        Image.new("RGB", (97, 60), (k, 0, 0)).save(tmp_path / f"{k}.jpg", exif=turned)
    assert load_image_set(tmp_path, most_px=64).images.shape == (3, 3, 64, 40)


def test_a_table_gives_labels(plain: Path) -> None:
    """Rows and pictures that do not find each other are told, both ways."""
    rows = "file;label\ncat/0.png;b\n./cat/1.png;a\ndog\\0.png;a\ndog/1.png;b\nlost.png;a\n"
    (plain / "labels.csv").write_text("\ufeff" + rows, encoding="utf-8")
    for source in (plain, plain / "labels.csv"):
        found = load_image_set(source, size=(8, 8))
        assert found.names == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
        assert found.labels is not None
        assert [found.class_names[label] for label in found.labels] == ["b", "a", "a", "b"]
        assert found.skipped == [
            "lost.png: has a row in labels.csv and no picture",
            "cat/2.png: has no label in labels.csv",
            "dog/2.png: has no label in labels.csv",
        ]


@pytest.mark.parametrize("above", ["", "set/v2/"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_table_gives_labels_however_it_is_packed(tmp_path: Path, pack: Any, above: str, beside: bool) -> None:
    """The accident: a folder with a table is sent as an archive, and trains without labels."""
    pictures = pack.six_pictures(f"{above}images/" if beside else above)
    files = ["cat/0", "cat/1", "dog/0", "dog/1"]
    rows = "".join(f"{'images/' if beside else ''}{file}.png,{k % 2}\n" for k, file in enumerate(files))
    everything = pictures | {f"{above}labels.csv": f"file,label\n{rows}".encode()}
    for source in (
        pack.folder(tmp_path / "a", everything),
        pack.zipped(tmp_path / "a.zip", everything),
        pack.tarred(tmp_path / "a.tar.gz", everything),
    ):
        found = load_image_set(source, size=(8, 8))
        assert found.class_names == ("0", "1")
        assert reds(found) == [10, 11, 20, 21]
        assert found.labels is not None
        assert found.labels.tolist() == [0, 1, 0, 1]
        assert found.notes[0] == "labels from labels.csv: 2 classes"


def test_each_part_has_its_own_table(tmp_path: Path, pack: Any) -> None:
    files: dict[str, bytes] = {}
    for part, names in (("train", "ab"), ("test", "cd")):
        rows = "".join(f"cat/{k}.png,{names[k % 2]}\ndog/{k}.png,{names[k % 2]}\n" for k in range(3))
        files |= pack.six_pictures(f"{part}/") | {f"{part}/labels.csv": f"file,label\n{rows}".encode()}
    for source in (pack.folder(tmp_path / "a", files), pack.zipped(tmp_path / "a.zip", files)):
        assert load_image_set(f"{source}::train", size=(8, 8)).class_names == ("a", "b")
        assert load_image_set(f"{source}::test", size=(8, 8)).class_names == ("c", "d")


def test_a_wrong_table_in_an_archive_is_told_with_its_place(tmp_path: Path, pack: Any) -> None:
    source = pack.zipped(tmp_path / "a.zip", pack.six_pictures("set/") | {"set/labels.csv": b"name,kind\n"})
    with pytest.raises(UsageError, match=r"columns file and label in .*a\.zip/set/labels\.csv, got name, kind"):
        load_image_set(source, size=(8, 8))


def test_arrays_are_a_source(tmp_path: Path) -> None:
    """MNIST as everyone has it; its labels need not be 0 to K - 1."""
    images = np.arange(6, dtype=np.uint8)[:, None, None].repeat(10, 1).repeat(12, 2)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([3, 30, 3, 7, 7, 30]))
    found = load_image_set(tmp_path / "a.npz", size=(8, 8))
    assert found.images.shape == (6, 1, 8, 8)
    assert reds(found) == [0, 1, 2, 3, 4, 5]
    assert found.class_names == ("3", "7", "30")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 2, 0, 1, 1, 2]
    np.savez_compressed(tmp_path / "b.npz", images=np.stack([images, images * 0, images], axis=3))
    found = load_image_set(tmp_path / "b.npz", size=(8, 12))
    assert found.images.shape == (6, 3, 8, 12)
    assert found.labels is None


def test_arrays_of_a_class_for_each_picture_are_told(tmp_path: Path) -> None:
    """Row numbers saved as labels: a network would learn to repeat every picture."""
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    with pytest.raises(UsageError, match="at least two pictures a class"):
        load_image_set(tmp_path / "a.npz", size=(8, 8))


def test_more_than_memory_is_packed_into_a_file(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set larger than memory is killed by the system hours later, without a word."""
    (plain / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="6 at 8x8 take"):
        load_image_set(plain, size=(8, 8), memory_bytes=1000)
    place = tmp_path / "packed.bin"
    found = load_image_set(plain, size=(8, 8), memory_bytes=1000, pack_to=place)
    inside = load_image_set(plain, size=(8, 8))
    assert torch.equal(found.images, inside.images)
    assert place.stat().st_size == 6 * 3 * 8 * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed.bin", "set"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(OutputError, match="are free"):
        load_image_set(plain, size=(8, 8), memory_bytes=1000, pack_to=place)


def test_gray_pictures_that_memory_does_not_hold_stay_in_their_file(tmp_path: Path, pack: Any) -> None:
    """The accident: a set is packed into a file because it is too large, and its gray channel copied into memory."""
    source = pack.folder(tmp_path / "set", {f"{k}.png": pack.picture((k, k, k)) for k in range(4)})
    options = {"size": (8, 8), "pack_to": tmp_path / "packed.bin"}
    packed, inside = (load_image_set(source, memory_bytes=room, **options).images for room in (4 * 64 - 1, 4 * 64))
    assert packed.shape == inside.shape == (4, 1, 8, 8)
    assert torch.equal(packed, inside)
    assert packed.untyped_storage().nbytes() == 3 * 4 * 64, "that of the file"
    assert inside.untyped_storage().nbytes() == 4 * 64


def test_nothing_usable_is_told(tmp_path: Path, pack: Any) -> None:
    """An empty set must not become an empty tensor that fails somewhere in training."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError, match="found none"):
        load_image_set(tmp_path / "empty")
    broken = pack.folder(tmp_path / "broken", {"a.png": b"no picture"})
    for size in (None, (8, 8)):
        with pytest.raises(NothingUsableError, match=r"none can be used; first problem: a\.png: "):
            load_image_set(broken, size=size)
    with pytest.raises(UsageError, match="where there is nothing"):
        load_image_set(tmp_path / "misspelt")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"expected a folder, .*\.npz, got a file named"):
        load_image_set(tmp_path / "a.txt")


def test_one_picture_is_a_set(tmp_path: Path, pack: Any) -> None:
    """Too few pictures are explained, not refused."""
    found = load_image_set(pack.folder(tmp_path, {"a.jpg": pack.picture(9, format="JPEG")}))
    assert len(found) == 1
    assert found.labels is None


@pytest.mark.slow
def test_a_real_archive_loads(shared_data: Path) -> None:
    """What people really have: archives of many thousand members in the order of a disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_image_set(shared_data / "gan" / "flowers.tar.gz", size=(16, 16))
    assert found.images.shape == (4317, 3, 16, 16)
    assert found.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert found.skipped == []


def test_real_digits_load(shared_data: Path) -> None:
    digits = load_image_set(shared_data / "gan" / "mnist_test.npz")
    assert digits.images.shape == (10000, 1, 28, 28)
    assert digits.labels is not None
    assert digits.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
