"""What the user names becomes items: complete, in order, and never outside the folder that the results go to."""

import io
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from imagesmith.data.files import read_image
from imagesmith.data.sources import list_items
from imagesmith.errors import ImageError, NothingUsableError, TooLargeError, UsageError


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.webp", "sub/deep/d.tif", ".git/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    return tmp_path


def names(items) -> list[str]:
    return [str(item.name) for item in items]


def test_a_folder_is_sorted_and_counts_what_it_skips(tree: Path) -> None:
    """The order of a directory differs from machine to machine."""
    items = list_items([tree], recursive=False)
    assert names(items) == ["a.JPG", "b.png"]
    assert items.skipped == 3  # notes.txt, .hidden.png, .git


def test_recursion_mirrors_the_tree(tree: Path) -> None:
    """Two IMG_0001.jpg from two folders must not overwrite each other."""
    assert names(list_items([tree], recursive=True)) == ["a.JPG", "b.png", "sub/c.webp", "sub/deep/d.tif"]


def test_each_picture_once(tree: Path) -> None:
    """`*.png b.png .` names b.png three times."""
    items = list_items([tree / "b.png", tree, str(tree / "*.png")], recursive=False)
    assert names(items) == ["b.png", "a.JPG"]


def test_patterns_work_without_a_shell(tree: Path) -> None:
    """Windows and quoted arguments leave the pattern to the program; a file with brackets is no pattern."""
    assert names(list_items([str(tree / "**" / "*.tif")], recursive=False)) == ["d.tif"]
    (tree / "photo[1].png").write_bytes(picture())
    assert names(list_items([str(tree / "photo[1].png")], recursive=False)) == ["photo[1].png"]


def test_links_in_a_circle_end(tree: Path) -> None:
    """A backup folder that links to its own parent is walked for ever."""
    (tree / "sub" / "loop").symlink_to(tree, target_is_directory=True)
    assert names(list_items([tree], recursive=True)) == ["a.JPG", "b.png", "sub/c.webp", "sub/deep/d.tif"]


@pytest.mark.parametrize("recursive", [True, False])
def test_nothing_to_do_is_said(tmp_path: Path, recursive: bool) -> None:
    """Success with zero pictures is a failure that nobody notices."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NothingUsableError, match=r"expected pictures \(JPEG, .* \(1 other files: 1 \.txt\)"):
        list_items([tmp_path], recursive=recursive)


@pytest.mark.parametrize("given", ["folder", "pattern", "zip"])
def test_pictures_that_are_not_read_are_told(tree: Path, given: str) -> None:
    """A phone's folder of .HEIC beside one .webp was 'done', with exit code 0 and no word of the rest."""
    (tree / "IMG_1.HEIC").write_bytes(b"heic")
    packed = archive(tree / "x.zip", {"IMG_1.HEIC": b"heic", "notes.txt": b"", "b.png": picture()})
    items = list_items([{"folder": tree, "pattern": f"{tree}/*", "zip": packed}[given]], recursive=False)
    assert items.passed_over[".txt"] >= 1
    with pytest.raises(ImageError, match=r"IMG_1\.HEIC: expected JPEG.*got '\.HEIC'\nconvert it"):
        items[names(items).index("IMG_1.HEIC")].read()


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.NII", "scan.mha", "old.tga", "net.pgm", "slide.svs", "back.3fr"])
def test_pictures_of_laboratories_and_old_programs_are_told(tree: Path, name: str) -> None:
    """The accident: a folder of volumes beside one PNG was 'done', the volumes counted as `.gz` in the last words."""
    (tree / name).write_bytes(b"volume")
    items = list_items([tree], recursive=False)
    suffix = name[name.index(".") :]
    with pytest.raises(ImageError, match=rf"expected JPEG.*got '\{suffix}'\nconvert it"):
        items[names(items).index(name)].read()


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: `restore "$PICTURES"` where that is not set, and a result beside every picture that lies around."""
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert len(list_items(["."], recursive=False)) == 1
    with pytest.raises(UsageError, match="empty name"):
        list_items([""], recursive=False)


def test_a_misspelt_name_is_a_usage_error(tmp_path: Path) -> None:
    """And it names what was typed."""
    with pytest.raises(UsageError, match="phto"):
        list_items([tmp_path / "phto.png"], recursive=False)


def test_an_unreadable_folder_says_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so the refusal is played."""
    real = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageError, match="sub: the folder cannot be read: Permission denied"):
        list_items([tree / "sub"], recursive=True)[0].read()
    items = list_items([tree], recursive=True)
    assert names(items) == ["a.JPG", "b.png", "sub"]  # not passed over in silence
    with pytest.raises(ImageError, match="Permission denied"):
        items[2].read()


def test_a_link_to_nowhere_is_told_and_costs_only_itself(tree: Path) -> None:
    """A link to itself raised, and took the whole folder with it; then a dead one was only counted as a `.png`."""
    before = names(list_items([tree], recursive=True))
    (tree / "loop.png").symlink_to("loop.png")
    (tree / "gone.png").symlink_to("nothing.png")
    (tree / "gone.txt").symlink_to("nothing.txt")
    items = list_items([tree], recursive=True)
    dead = [item for item in items if str(item.name) not in before]
    assert names(dead) == ["gone.png", "loop.png"]
    for item in dead:
        with pytest.raises(ImageError, match=rf"{item.name}: is a link that leads nowhere"):
            item.read()


def test_a_name_no_file_can_have_is_told_when_read(tree: Path) -> None:
    """Asking whether it exists raises; the answer belongs to this item, not to the run."""
    items = list_items([tree / "b.png", "x" * 300 + ".png"], recursive=False)
    assert len(items) == 2
    with pytest.raises(ImageError, match="name too long"):
        read_image(items[1].read())


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def test_archives_are_read_member_by_member(tmp_path: Path) -> None:
    """Members are items like files."""
    members = {"b/two.png": picture(), "a.png": picture(), "readme.txt": b"", "__MACOSX/a.png": b"", "b/": b""}
    items = list_items([archive(tmp_path / "set.zip", members)], recursive=False)
    assert names(items) == ["a.png", "b/two.png"]
    assert items.skipped == 2
    assert read_image(items[1].read()).pixels.shape == (2, 3, 3)
    assert str(items[1]).endswith("set.zip/b/two.png")


def test_no_member_leads_out_of_the_output_folder(tmp_path: Path) -> None:
    """Zip slip: ../../.bashrc as a member name."""
    names_out = ["../up.png", "a/../../up.png", "/etc/root.png", "C:/windows.png", "..\\back.png"]
    path = archive(tmp_path / "slip.zip", {**dict.fromkeys(names_out, picture()), "fine.png": picture()})
    items = list_items([path], recursive=False)
    assert names(items) == ["fine.png"]
    assert items.skipped == len(names_out)


def test_an_archive_is_listed_once_for_all_its_members_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 thumbnails in a zip each began with reading the names of all of them, for hours."""
    path, opened = tmp_path / "set.zip", []
    items = list_items([archive(path, {f"{k}.png": picture() + bytes([k]) for k in range(9)})], recursive=False)
    zip_file = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: opened.append(path) or zip_file(path))
    assert [item.read() for item in items] == [picture() + bytes([k]) for k in range(9)]
    assert len(opened) == 1
    monkeypatch.undo()
    archive(path, {f"{k}.png": picture() + b"new" for k in range(9)})
    assert items[3].read() == picture() + b"new"


def test_zip_bombs_and_broken_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared size is checked before a byte is unpacked; damage is an error of that item only."""
    path = archive(tmp_path / "bomb.zip", {"a.png": bytes(5 << 20)})
    monkeypatch.setattr("imagesmith.data.sources._MOST_MEMBER_BYTES", 1 << 20)
    with pytest.raises(TooLargeError, match="declares 5 MiB"):
        list_items([path], recursive=False)[0].read()
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"bomb\.zip"):
        list_items([path], recursive=False)[0].read()
    path.write_bytes(b"PK\3\4 not really")
    with pytest.raises(ImageError, match="not a readable zip"):
        list_items([path], recursive=False)[0].read()


@pytest.mark.parametrize(
    ("head", "most", "words"), [(b"", None, "got content that"), (picture()[:8], 1 << 20, "declares 64 MiB")]
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, head: bytes, most: int | None, words: str) -> None:
    """The accident: 1.5 MB of zeros called x.png took 3.35 GB, whatever --max-ram said, until it was no picture."""
    path = archive(tmp_path / "bomb.zip", {"x.png": head + bytes(64 << 20)})
    (item,) = list_items([path], recursive=False)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=rf"bomb\.zip/x\.png: .*{words}"):
            item.read(most)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    """An archive may say anything, and an empty name has no first part."""
    path = archive(tmp_path / "odd.zip", {"": b"", "a.png": picture()})
    assert names(list_items([path], recursive=False)) == ["a.png"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cat a.png | imagesmith restore -`."""
    (item,) = list_items(["-"], recursive=False)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture())))
    assert item.name == PurePosixPath("stdin")
    assert read_image(item.read()).pixels.shape == (2, 3, 3)
