"""Which of the things that were named are films."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from imagesmith.infer.video.inputs import films_in_archives, sort_inputs


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with pictures, films, and both below; beside it an animation, and a folder of films alone."""
    monkeypatch.chdir(tmp_path)
    for folder in ("mixed/deep", "films"):
        Path(folder).mkdir(parents=True)
    for name in ("mixed/a.png", "mixed/deep/b.png"):
        Image.new("RGB", (4, 4)).save(name)
    for name in ("mixed/a.mp4", "mixed/deep/b.MKV", "mixed/.hidden.mp4", "films/c.mov", "mixed/notes.txt"):
        Path(name).write_bytes(b"content is looked at later")
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    red.save("moves.gif", save_all=True, append_images=[blue])
    red.save("still.gif")


def sort(*inputs: str, out: str | None = None, recursive: bool = False) -> tuple[list[str], dict[str, str]]:
    """(for pictures, {path of a film: its name below what was named})"""
    pictures, films = sort_inputs(inputs, out, recursive=recursive)
    return list(map(str, pictures)), {str(film.path): str(film.name) for film in films}


def test_a_folder_holds_both_and_each_is_found(mixed) -> None:
    """The accident: `restore holiday/` that leaves half of the holiday out."""
    assert sort("mixed") == (["mixed"], {"mixed/a.mp4": "a.mp4"})
    both = {"mixed/a.mp4": "a.mp4", "mixed/deep/b.MKV": "deep/b.MKV"}
    assert sort("mixed", recursive=True) == (["mixed"], both)
    assert sort("films") == ([], {"films/c.mov": "c.mov"}), "a folder of films alone ends in 'no pictures found'"


def test_a_folder_that_becomes_a_film_is_one(mixed) -> None:
    """The accident: ten thousand frames, each called a picture that does not fit the file out.mp4."""
    assert sort("mixed", out="out.mp4") == ([], {"mixed": "mixed"})


def test_an_animation_is_a_film_unless_a_still_picture_is_wanted(mixed) -> None:
    """The accident: all but the first picture of an animation dropped; or a film where its first picture was meant."""
    assert sort("moves.gif", "still.gif") == (["still.gif"], {"moves.gif": "moves.gif"})
    assert sort("moves.gif", out="out.webp") == ([], {"moves.gif": "moves.gif"})
    assert sort("moves.gif", out="out.png") == (["moves.gif"], {})


def test_patterns_and_repetitions_are_sorted_out(mixed) -> None:
    """The accident: a film restored twice because two patterns match it."""
    assert sort("mixed/*", "mixed/a.mp4") == (["mixed/*"], {"mixed/a.mp4": "a.mp4"})
    assert sort("films/*.mov") == ([], {"films/c.mov": "c.mov"})


def test_what_is_neither_is_left_to_those_who_say_so(mixed) -> None:
    """The accident: a misspelt name that nobody complains about."""
    assert sort("nothing.mp4", "-", "no*.png") == (["nothing.mp4", "-", "no*.png"], {})


def test_films_in_archives_are_counted(mixed: None) -> None:
    """The accident: a zip of holiday pictures and films is restored, and nobody misses the films for a year."""
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("face.png", "deep/clip.MP4", "b.mkv", "__MACOSX/b.mkv", "notes.txt"):
            archive.writestr(name, b"content is not looked at")
    Path("broken.zip").write_bytes(b"no archive")
    assert films_in_archives(["mixed", "mixed/a.png", "a.zip", "broken.zip", "-"]) == 2
    assert films_in_archives(["*.zip"]) == 2
