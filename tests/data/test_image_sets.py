"""A data set becomes one tensor, however it is packed; whatever is wrong with it is one clear message."""

import gzip
import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data.image_sets import ImageSet, load_image_set
from imagesmith.errors import ImagesmithError, NothingUsableError, OutputError, UsageError


def picture(
    value: int | tuple[int, ...], size: tuple[int, int] = (16, 16), mode: str = "RGB", format: str = "PNG"
) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (size[1], size[0]), value).save(stream, format)
    return stream.getvalue()


def six_pictures(above: str = "") -> dict[str, bytes]:
    """Three cats of red 10, 11, 12 and three dogs of red 20, 21, 22; in no order."""
    reds = {"dog/2": 22, "cat/0": 10, "dog/0": 20, "cat/2": 12, "cat/1": 11, "dog/1": 21}
    return {f"{above}{name}.png": picture((red, 0, 200)) for name, red in reds.items()}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def reds(image_set: ImageSet) -> list[int]:
    return image_set.images[:, 0, 0, 0].tolist()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return folder(tmp_path / "set", six_pictures())


def test_every_packing_gives_the_same_set(tmp_path: Path, plain: Path) -> None:
    """The order of an archive is that of the disk it was packed on; a run must not depend on it."""
    sources = [
        plain,
        zipped(tmp_path / "a.zip", six_pictures()),
        tarred(tmp_path / "a.tar", six_pictures(), "w"),
        tarred(tmp_path / "a.tar.gz", six_pictures("./")),
        tarred(tmp_path / "a.tar.xz", six_pictures("wrapped/in/"), "w:xz"),
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


def test_a_part_is_named_by_the_source(tmp_path: Path) -> None:
    """Training on the test part makes every later measurement worthless."""
    files = six_pictures("train/") | {name: picture((99, 0, 0)) for name in ("test/cat/9.png", "test/dog/9.png")}
    for source in (tarred(tmp_path / "a.tgz", files), zipped(tmp_path / "a.zip", files), folder(tmp_path / "a", files)):
        with pytest.raises(UsageError, match=r"test \(2 pictures\), train \(6 pictures\)\nwrite .*::train"):
            load_image_set(source, size=(8, 8))
        found = load_image_set(f"{source}::train", size=(8, 8))
        assert reds(found) == [10, 11, 12, 20, 21, 22]
        assert found.class_names == ("cat", "dog")
        with pytest.raises(UsageError, match=r"expected a folder 'val' .* holds test, train"):
            load_image_set(f"{source}::val", size=(8, 8))


def test_class_folders_need_every_picture(plain: Path) -> None:
    """One picture left beside the folders must not become a class, nor be dropped in silence."""
    (plain / "stray.png").write_bytes(picture(7))
    found = load_image_set(plain, size=(8, 8))
    assert found.labels is None
    assert found.class_names == ()
    assert len(found) == 7
    assert "stray.png" in found.notes[0]


def test_labels_can_be_refused_and_folders_of_one_picture_are_no_classes(tmp_path: Path, plain: Path) -> None:
    """A conditional network of as many classes as pictures learns nothing but to repeat them."""
    assert load_image_set(plain, size=(8, 8), labels="none").labels is None
    single = folder(tmp_path / "single", {f"{k}/a.png": picture(k) for k in range(5)})
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


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """By letters, class 10 stands before class 2, and every label of a digits set is wrong."""
    files = {f"{k}/{n}.png": picture(k) for k in (10, 2, 1) for n in range(2)}
    found = load_image_set(folder(tmp_path, files), size=(8, 8))
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


def test_mixed_sizes_and_modes(tmp_path: Path) -> None:
    """One gray, transparent, deep or tall file among colour ones ended other trainers with a shape error."""
    deep = io.BytesIO()
    Image.fromarray(np.full((9, 20), 65535, np.uint16)).save(deep, "PNG")
    files = {
        "a.png": picture((10, 20, 30)),
        "b.png": picture(50, (40, 10), "L"),
        "c.png": picture((255, 0, 0, 0), (5, 90), "RGBA"),
        "d.png": deep.getvalue(),
        "e.jpg": picture((0, 0, 0, 0), mode="CMYK", format="JPEG"),
        "f.gif": picture(1, mode="P", format="GIF"),
        "g.png": picture((77, 128), mode="LA"),
    }
    source = folder(tmp_path, files)
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


def test_gray_pictures_in_colour_files_get_one_channel(tmp_path: Path) -> None:
    """Two thirds of the network would learn that all channels are equal."""
    found = load_image_set(folder(tmp_path, {f"{k}.png": picture((k, k, k)) for k in range(4)}), size=(8, 8))
    assert found.images.shape == (4, 1, 8, 8)
    assert reds(found) == [0, 1, 2, 3]
    assert load_image_set(tmp_path, size=(8, 8), channels=3).images.shape == (4, 3, 8, 8)


def test_the_size_is_chosen_from_the_data(tmp_path: Path) -> None:
    """A non-square set squeezed into a square makes thin people."""
    files = {f"{k}.png": picture((k, 0, 0), (97, 60)) for k in range(3)}
    found = load_image_set(folder(tmp_path, files), most_px=64)
    assert found.images.shape == (3, 3, 56, 32)
    assert any("60x97" in note for note in found.notes)


def test_portraits_stored_lying_down_are_portraits(tmp_path: Path) -> None:
    """A folder of phone photographs chose a landscape, and every portrait lost its head to the crop."""
    turned = Image.Exif()
    turned[274] = 6
    for k in range(3):
        Image.new("RGB", (97, 60), (k, 0, 0)).save(tmp_path / f"{k}.jpg", exif=turned)
    assert load_image_set(tmp_path, most_px=64).images.shape == (3, 3, 56, 32)


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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("name,kind\ncat/0.png,a\n", "columns file and label .*, got name, kind"),
        ("", "columns file and label .*, got none"),
        ("file,label\nelsewhere/0.png,a\n", "expected file names as cat/0.png"),
        ("file,label\ncat/0.png,a\ncat/0.png,b\n", "expected one label for cat/0.png"),
        ("file,label\ncat/0.png,\n", "line 2"),
        ("file,label\ncat/0.png,a\ncat/1.png,b\ncat/2.png,c\n", "3 classes for 3 pictures"),
        ('file,label\n"cat/0.png,a\n', "cannot be read"),
        ("file,label\ncat/0.png,\xff\n", "UTF-8"),
    ],
)
def test_wrong_tables_are_told(plain: Path, rows: str, said: str) -> None:
    """A table that is half understood trains on wrong labels for hours."""
    (plain / "labels.csv").write_text(rows, encoding="latin-1")
    with pytest.raises(UsageError, match=said):
        load_image_set(plain, size=(8, 8))
    with pytest.raises(UsageError, match="cannot be read"):
        load_image_set(plain, size=(8, 8), labels=plain / "none.csv")


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


U8 = np.zeros((4, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": U8}, "expected an array 'images' .*, got x"),
        ({"images": U8 / 255}, "as uint8, got float64"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, "transpose"),
        ({"images": np.zeros((4, 8, 8, 7), np.uint8)}, "1 to 4 channels"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "expected pictures"),
        ({"images": np.zeros((4, 8), np.uint8)}, r"\(N, H, W\)"),
        ({"images": U8, "labels": np.zeros(3, np.int64)}, "4 integers"),
        ({"images": U8, "labels": np.zeros(4)}, "float64"),
        ({"images": U8, "labels": np.array([1, "a", None, 2], dtype=object)}, "Python objects"),
        ({"images": np.array([{"run": "me"}], dtype=object)}, "Python objects"),
        ({"images": U8, "labels": np.arange(4)}, "at least two pictures a class"),
    ],
)
def test_wrong_arrays_are_told(tmp_path: Path, arrays: dict, said: str) -> None:
    """Loading a pickled array runs whatever its maker wanted."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ImagesmithError, match=said):
        load_image_set(tmp_path / "a.npz", size=(8, 8))


def test_an_array_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Zeros pack to a thousandth of their size."""
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((100, 100, 100), np.uint8))
    with pytest.raises(UsageError, match=r"at most 0\.0 GB"):
        load_image_set(tmp_path / "a.npz", size=(8, 8), memory_bytes=1e5)
    (tmp_path / "b.npz").write_bytes(b"PK\3\4 not really")
    with pytest.raises(NothingUsableError, match="cannot be read"):
        load_image_set(tmp_path / "b.npz")


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


def test_nothing_usable_is_told(tmp_path: Path) -> None:
    """An empty set must not become an empty tensor that fails somewhere in training."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError, match="found none"):
        load_image_set(tmp_path / "empty")
    broken = folder(tmp_path / "broken", {"a.png": b"no picture"})
    for size in (None, (8, 8)):
        with pytest.raises(NothingUsableError, match=r"none can be used; first problem: a\.png: "):
            load_image_set(broken, size=size)
    with pytest.raises(UsageError, match="where there is nothing"):
        load_image_set(tmp_path / "misspelt")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"expected a folder, .*\.npz, got a file named"):
        load_image_set(tmp_path / "a.txt")


def test_one_picture_is_a_set(tmp_path: Path) -> None:
    """Too few pictures are explained, not refused."""
    found = load_image_set(folder(tmp_path, {"a.jpg": picture(9, format="JPEG")}))
    assert len(found) == 1
    assert found.labels is None


def test_members_that_lead_out_are_told(tmp_path: Path) -> None:
    """An archive that was made to write elsewhere is not trusted with its pictures either."""
    bad = {"/etc/a.png": picture(1), "../b.png": picture(2), "c/../../d.png": picture(3), "C:/e.png": picture(4)}
    hidden = {"__MACOSX/f.png": picture(5), "._g.png": picture(6), "notes.txt": b"x"}
    for source in (
        zipped(tmp_path / "a.zip", bad | hidden | six_pictures()),
        tarred(tmp_path / "a.tar.gz", bad | hidden | six_pictures()),
    ):
        found = load_image_set(source, size=(8, 8), labels="none")
        assert reds(found) == [10, 11, 12, 20, 21, 22]
        assert sorted(line.partition(": ")[0] for line in found.skipped) == sorted(bad)


def test_archives_inside_archives_and_links_are_told(tmp_path: Path) -> None:
    """A set packed twice looked like an empty one."""
    inner = zipped(tmp_path / "inner.zip", six_pictures()).read_bytes()
    for source in (
        zipped(tmp_path / "a.zip", {"inner.zip": inner}),
        tarred(tmp_path / "a.tar", {"inner.zip": inner}, "w"),
    ):
        with pytest.raises(NothingUsableError, match=r"inner\.zip: an archive inside the archive is not opened"):
            load_image_set(source)
    path = tarred(tmp_path / "b.tar", six_pictures(), "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = load_image_set(path, size=(8, 8))
    assert len(found) == 6
    assert found.skipped == ["cat/link.png: is a link or device; pack the picture itself"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte that unpacks to a terabyte keeps the machine busy until somebody pulls the plug."""
    monkeypatch.setattr("imagesmith.data.archives._HARMLESS_BYTES", 1 << 20)
    bomb = six_pictures() | {"bomb.png": bytes(8 << 20)}
    for source in (zipped(tmp_path / "a.zip", bomb), tarred(tmp_path / "a.tar.gz", bomb)):
        with pytest.raises(NothingUsableError, match=r"unpack to .* GB and more"):
            load_image_set(source)
    monkeypatch.undo()
    monkeypatch.setattr("imagesmith.data.sources._MOST_MEMBER_BYTES", 1 << 20)
    for source in (tmp_path / "a.zip", tmp_path / "a.tar.gz"):
        found = load_image_set(source, size=(8, 8), labels="none")
        assert found.skipped == ["bomb.png: declares 8 MiB; unpack it yourself if you trust it"]


def test_damaged_archives_are_told(tmp_path: Path) -> None:
    """An interrupted download is the usual reason."""
    noise = {f"{k}.bmp": np.random.default_rng(k).bytes(5000) for k in range(9)}
    whole = tarred(tmp_path / "whole.tar.gz", six_pictures() | noise).read_bytes()
    for name, content in {
        "a.tar.gz": whole[: len(whole) // 2],
        "b.tar": b"no tar",
        "c.zip": b"no zip",
        "d.tgz": gzip.compress(b"x"),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NothingUsableError, match="not a readable archive"):
            load_image_set(tmp_path / name)


def test_real_sets_load(shared_data: Path) -> None:
    """What people really have: archives of many thousand members in the order of a disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_image_set(shared_data / "gan" / "flowers.tar.gz", size=(16, 16))
    assert found.images.shape == (4317, 3, 16, 16)
    assert found.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert found.skipped == []
    digits = load_image_set(shared_data / "gan" / "mnist_test.npz")
    assert digits.images.shape == (10000, 1, 28, 28)
    assert digits.labels is not None
    assert digits.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
