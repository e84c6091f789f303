"""No reader ever sees half a file, and a failure leaves what was there."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagesmith.atomic import check_place, check_writable, make_folder, remove_abandoned, replacing, write_whole
from imagesmith.errors import DiskFullError, OutputError


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "FAT takes none over 4 GB.*`ulimit -f`")]
)
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, number, said):
    """A disk that takes no more, or no larger file, costs what was there, or leaves hidden halves behind."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OutputError, match=said), replacing(path, overwrite=True) as stream:
        stream.write(b"half")
        raise OSError(number, "what the system says")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_room_for_a_folder_is_a_full_disk(tmp_path, monkeypatch):
    """A run over many subfolders computed all of them for nothing: only files told that the disk was full."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFullError, match="cannot make the folder"):
        make_folder(tmp_path / "new")


def test_what_is_wrong_with_another_file_is_not_told_of_this_one(tmp_path):
    """A photo that was moved away while it was read: "out.png cannot be written: its folder does not exist"."""
    with pytest.raises(FileNotFoundError, match=r"moved\.tif"), replacing(tmp_path / "file"):
        (tmp_path / "moved.tif").read_bytes()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="nowhere does not exist"), replacing(tmp_path / "nowhere" / "file"):
        pass


def test_nothing_is_visible_before_the_end(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as stream:
        stream.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_a_place_where_no_file_can_be_is_told_at_once(tmp_path):
    """An hour of work, and the folder of its sheet was misspelt."""
    (tmp_path / "taken").write_text("old")
    (tmp_path / "folder").mkdir()
    for place, overwrite, said in (
        ("none/file", False, "none does not exist; create it first"),
        ("taken/file", True, "taken is no folder"),
        ("folder", True, "it is a folder"),
        ("taken", False, "exists already"),
    ):
        with pytest.raises(OutputError, match=said):
            check_place(tmp_path / place, overwrite=overwrite)
    check_place(tmp_path / "taken", overwrite=True)
    check_place(tmp_path / "folder" / "file")


def test_existing_files_are_kept_unless_asked(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OutputError, match="exists already"), replacing(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("has_links", [True, False])
def test_what_appears_meanwhile_is_kept_unless_asked(tmp_path, monkeypatch, has_links):
    """Two minutes of computing after a look at an empty place, the photo that was put there in between was gone."""
    path = tmp_path / "file"
    if not has_links:

        def refuse(*places):
            raise OSError(errno.EPERM, "FAT has no links")

        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputError, match="exists already"), replacing(path) as stream:
        stream.write(b"new")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    with replacing(path, overwrite=True) as stream:
        stream.write(b"new")
    assert path.read_text() == "new"
    path.unlink()
    with replacing(path) as stream:
        stream.write(b"newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_leads_nowhere_is_kept_unless_asked(tmp_path):
    """A link to a disk that is not mounted looks like a free place, and became a file."""
    path = tmp_path / "file"
    path.symlink_to(tmp_path / "unmounted" / "file")
    with pytest.raises(OutputError, match="exists already"), replacing(path) as stream:
        stream.write(b"new")
    assert path.is_symlink()


def test_only_what_nobody_writes_any_more_is_abandoned(tmp_path, monkeypatch):
    """A kill left gigabytes in hidden files for ever; a run that tidies must not take those of the run beside it."""
    others = {".theirs.part", "0123456789ab.part", ".0123456789ab.part.png"}
    for name in (".0123456789ab.part", *others):
        (tmp_path / name).write_bytes(b"half")
    link = os.link

    def late(*places):
        remove_abandoned(tmp_path)
        link(*places)

    monkeypatch.setattr(os, "link", late)
    with replacing(tmp_path / "file") as stream:
        remove_abandoned(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == others | {Path(stream.name).name}
    assert {path.name for path in tmp_path.iterdir()} == others | {"file"}


def test_write_whole_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, "grün")
    write_whole(path, "größer")
    assert path.read_text("utf-8") == "größer"
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_whole(path / "below", b"")


@pytest.mark.parametrize(
    ("is_read_only", "told"), [(True, "Read-only file system; choose another"), (False, "Permission denied; choose")]
)
def test_a_folder_that_takes_no_file_is_told_by_looking(tmp_path, monkeypatch, is_read_only, told):
    """A rehearsal that promises what a disk without rights, or one for reading only, then refuses."""
    check_writable(tmp_path / "new" / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)  # nothing is kept from root otherwise
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY if is_read_only else 0))
    with pytest.raises(OutputError, match=f"cannot make the folder .*new: {told}"):
        check_writable(tmp_path / "new" / "file")
    with pytest.raises(OutputError, match="file cannot be written: no permission in"):
        check_writable(tmp_path / "file")
    assert not list(tmp_path.iterdir())
