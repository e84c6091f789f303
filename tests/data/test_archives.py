"""Archives are opened once and read front to back, and made to do nothing else."""

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesmith.data.archives import look_at, open_collection
from imagesmith.errors import ImageError, NothingUsableError, UsageError


def open_whole(path: Path) -> None:
    with open_collection(path):
        pass


def test_every_packing_holds_the_same_pictures(tmp_path: Path, pack: Any) -> None:
    """A picture is called by its place below the collection, however that was packed; the last of one name counts."""
    files = pack.six_pictures()
    for source in (
        pack.folder(tmp_path / "a", files | {"notes.txt": b"x"}),
        pack.zipped(tmp_path / "a.zip", files | {"notes.txt": b"x"}),
        pack.tarred(tmp_path / "a.TAR.GZ", files | {"./notes.txt": b"x", "./cat/0.png": files["cat/0.png"]}),
    ):
        with open_collection(source) as found:
            contents = dict(look_at(found.entries, lambda _, it: it.read_bytes() if isinstance(it, Path) else it))
            assert (found.others, found.refused) == (1, [])
        assert contents == files
    with pytest.raises(UsageError, match=r"expected a folder, \.zip, .* where there is nothing"):
        open_whole(tmp_path / "misspelt")


def test_a_look_that_fails_says_which_picture_in_one_line(tmp_path: Path, pack: Any) -> None:
    """One broken picture of fifty thousand ended the run, without its name."""

    def look(name: str, content: object) -> str:
        if name == "dog/1.png":
            raise ImageError("two\nlines")
        return name.upper()

    with open_collection(pack.zipped(tmp_path / "a.zip", pack.six_pictures())) as found:
        seen = dict(look_at(found.entries, look))
    assert str(seen["dog/1.png"]) == "dog/1.png: two; lines"
    assert seen["dog/0.png"] == "DOG/0.PNG"


def test_members_that_lead_out_are_told(tmp_path: Path, pack: Any) -> None:
    """An archive that was made to write elsewhere is not trusted with its pictures either."""
    bad = {
        "/etc/a.png": pack.picture(1),
        "../b.png": pack.picture(2),
        "c/../../d.png": pack.picture(3),
        "C:/e.png": pack.picture(4),
    }
    hidden = {"__MACOSX/f.png": pack.picture(5), "._g.png": pack.picture(6), "notes.txt": b"x"}
    for source in (
        pack.zipped(tmp_path / "a.zip", bad | hidden | pack.six_pictures()),
        pack.tarred(tmp_path / "a.tar.gz", bad | hidden | pack.six_pictures()),
    ):
        with open_collection(source) as found:
            assert sorted(entry.name for entry in found.entries) == sorted(pack.six_pictures())
            assert sorted(line.partition(": ")[0] for line in found.refused) == sorted(bad)
            assert found.others == len(hidden)


def test_archives_inside_archives_and_links_are_told(tmp_path: Path, pack: Any) -> None:
    """A set packed twice looked like an empty one."""
    inner = pack.zipped(tmp_path / "inner.zip", pack.six_pictures()).read_bytes()
    for source in (
        pack.zipped(tmp_path / "a.zip", {"inner.zip": inner}),
        pack.tarred(tmp_path / "a.tar", {"inner.zip": inner}, "w"),
    ):
        with pytest.raises(NothingUsableError, match=r"inner\.zip: an archive inside the archive is not opened"):
            open_whole(source)
    path = pack.tarred(tmp_path / "b.tar", pack.six_pictures(), "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with open_collection(path) as found:
        assert len(found.entries) == 6
        assert found.refused == ["cat/link.png: is a link or device; pack the picture itself"]


def test_bombs_are_refused(tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte that unpacks to a terabyte keeps the machine busy until somebody pulls the plug."""
    monkeypatch.setattr("imagesmith.data.archives._HARMLESS_BYTES", 1 << 20)
    bomb = pack.six_pictures() | {"bomb.png": bytes(8 << 20)}
    for source in (pack.zipped(tmp_path / "a.zip", bomb), pack.tarred(tmp_path / "a.tar.gz", bomb)):
        with pytest.raises(NothingUsableError, match=r"unpack to .* GB and more"):
            open_whole(source)
    monkeypatch.undo()
    monkeypatch.setattr("imagesmith.data.sources._MOST_MEMBER_BYTES", 1 << 20)
    for source in (tmp_path / "a.zip", tmp_path / "a.tar.gz"):
        with open_collection(source) as found:
            seen = dict(look_at(found.entries, lambda name, content: len(content)))
        assert str(seen.pop("bomb.png")).startswith("bomb.png: declares 8 MiB, expected at most ")
        assert seen == {name: len(content) for name, content in pack.six_pictures().items()}


def test_damaged_archives_are_told(tmp_path: Path, pack: Any) -> None:
    """An interrupted download is the usual reason."""
    noise = {f"{k}.bmp": np.random.default_rng(k).bytes(5000) for k in range(9)}
    whole = pack.tarred(tmp_path / "whole.tar.gz", pack.six_pictures() | noise).read_bytes()
    for name, content in {
        "a.tar.gz": whole[: len(whole) // 2],
        "b.tar": b"no tar",
        "c.zip": b"no zip",
        "d.tgz": gzip.compress(b"x"),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NothingUsableError, match="not a readable archive"):
            open_whole(tmp_path / name)
