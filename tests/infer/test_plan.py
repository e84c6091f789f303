"""Names of results: decided before anything is computed, never two for one file."""

from pathlib import Path, PurePosixPath

import pytest

from imagesmith.data.formats import format_named
from imagesmith.data.sources import Item
from imagesmith.errors import UsageError
from imagesmith.infer.plan import check_distinct, checked_format, plan_jobs, tag_of, told_apart
from imagesmith.zoo import ModelCard


def item(name: str, folder: str = "/photos", member: str | None = None) -> Item:
    return Item(PurePosixPath(name), Path(folder) / (name if member is None else "box.zip"), member)


def outputs(items: list[Item], destination: str | None, **options: str) -> list[str]:
    return [str(job.output) for job in plan_jobs(items, destination, tag=".srx4", **options)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {}, "/photos/a.srx4.png"),
        ("deep/a.jpeg", {}, "/photos/deep/a.srx4.jpeg"),
        ("a.b.JPG", {}, "/photos/a.b.srx4.jpg"),
        ("a.gif", {}, "/photos/a.srx4.png"),
        ("a", {}, "/photos/a.srx4.png"),
        ("a.png", {"format": "webp"}, "/photos/a.srx4.webp"),
        ("a.png", {"suffix": "_big"}, "/photos/a_big.png"),
    ],
)
def test_beside_the_input(name: str, options: dict[str, str], expected: str) -> None:
    """The names users find their results by are part of the interface."""
    assert outputs([item(name)], None, **options) == [expected]


@pytest.mark.parametrize(
    ("path", "scale", "tag"),
    [
        (None, 4, ".srx4"),
        (None, 1, ".sr"),
        ("runs/mine", 4, ".mine-x4"),
        ("runs/mine/", 1, ".mine"),
        ("runs/mine/model.safetensors", 4, ".mine-x4"),
        ("runs/v1.2 (old)", 4, ".v1-2-old-x4"),
        ("runs/sr-x4", 4, ".sr-x4"),
        ("their_x4plus.pth", 4, ".their_x4plus-x4"),
        ("...", 4, ".srx4"),
    ],
)
def test_results_are_tagged_with_their_model(
    path: str | None, scale: int, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of one's own model and of the shipped one had one name: `photo.srx4.jpg exists already`."""
    monkeypatch.chdir(tmp_path)
    if path and Path(path).suffix not in (".safetensors", ".pth"):
        Path(path).mkdir(parents=True)
    card = ModelCard(name="sr-x4", net="compact", params=1, channels=3, scale=scale, path=path)
    assert tag_of(card) == tag


def test_a_folder_mirrors_the_tree(tmp_path: Path) -> None:
    """Flattening a tree loses pictures of the same name."""
    names = outputs([item("x/a.png"), item("y/a.png")], str(tmp_path))
    assert names == [str(tmp_path / "x/a.png"), str(tmp_path / "y/a.png")]


def test_members_of_an_archive_go_into_a_folder_of_its_name() -> None:
    """A thousand members strewn beside the archive are not what anybody wants."""
    assert outputs([item("x/a.png", member="x/a.png")], None) == ["/photos/box.srx4/x/a.png"]


def test_one_picture_may_be_given_its_name() -> None:
    """`-o big.tif` names file and format in one."""
    (job,) = plan_jobs([item("a.png")], "/out/big.tif", tag="")
    assert (str(job.output), job.format) == ("/out/big.tif", "tif")


@pytest.mark.parametrize(
    ("given", "content", "expected"),
    [
        ("a.png", ("png", "uint8", 3, 99), "a.png"),
        ("a.jpeg", ("jpg", "uint8", 3, 99), "a.jpeg"),
        ("a.jpg", ("png", "uint8", 3, 99), "a.png"),
        ("a", ("jpg", "uint8", 3, 99), "a.jpg"),
        ("a.webp", ("webp", "uint8", 3, 20000), "a.png"),
        ("a.png", ("png", "float32", 3, 99), "a.tif"),
    ],
)
def test_what_is_kept_is_the_format_of_the_content(given: str, content: tuple, expected: str) -> None:
    """A lossless picture with the wrong name came out as JPEG; a large WebP failed after all was computed."""
    (job,) = plan_jobs([item(given)], "/out", tag="")
    assert str(job.for_content(*content).output) == f"/out/{expected}"


@pytest.mark.parametrize(("given", "expected"), [("a.jpeg", "a.png"), ("a.avif", "a.png"), ("a.webp", "a.webp")])
def test_an_exact_result_keeps_no_format_that_changes_it(given: str, expected: str) -> None:
    """The name that --dry-run and the search for collisions go by must be the one that the content then leads to."""
    (job,) = plan_jobs([item(given)], "/out", tag="", exact=True)
    settled = job.for_content(format_named(Path(given).suffix), "uint8", 3, 99)
    assert str(job.output) == str(settled.output) == f"/out/{expected}"
    assert (job.name, settled.name) == (expected, expected), "--resume looks for another name than was remembered"


def test_what_is_lost_of_an_exact_result_is_said_once_it_is() -> None:
    """A note at every PNG is noise, and none at a JPEG that was asked for is a promise that does not hold."""
    jobs = plan_jobs([item("a.jpg")], "/out", tag="", exact=True)
    jobs += plan_jobs([item("a.jpg")], "/out/x.jpg", tag="", exact=True)
    jobs += plan_jobs([item("a.jpg")], "/out", tag="", exact=True, format="png")
    jobs += plan_jobs([item("a.jpg")], "/out", tag="")
    kept, named, chosen, inexact = (job.losses("jpg") for job in jobs)
    assert kept == ("written as png: jpg would change what has to stay",)
    assert named == ("jpg changes every pixel a little, also what has to stay (png keeps it)",)
    assert chosen == inexact == jobs[0].losses("png") == ()


def test_a_format_that_was_asked_for_is_not_changed() -> None:
    """`-o cut-out.jpg` wrote cut-out.png."""
    for destination, options in (("/out/big.jpg", {}), ("/out", {"format": "jpg"}), ("/out/big.jpg", {"exact": True})):
        (job,) = plan_jobs([item("a.png")], destination, tag="", **options)
        assert job.for_content("png", "uint16", 4, 99) == job


@pytest.mark.parametrize("name", ["x.zip", "x.HEIC", "x.mp4"])
def test_an_output_that_cannot_be_written_makes_no_folder(tmp_path: Path, name: str) -> None:
    """`-o photos.zip` made a folder called photos.zip."""
    with pytest.raises(UsageError, match="expected a folder or a picture"):
        plan_jobs([item("a.png")], tmp_path / name, tag="")
    assert plan_jobs([item("a.png")], f"{tmp_path / name}/", tag="")[0].root == tmp_path / name


def test_standard_input_goes_to_standard_output() -> None:
    """A filter in a pipe needs no -o."""
    (job,) = plan_jobs([Item(PurePosixPath("stdin"), None)], None, tag="")
    assert (job.output, job.format) == (None, "png")


@pytest.mark.parametrize(
    ("items", "destination", "options"),
    [
        ([item("a.png"), item("b.png")], "/out/one.png", {}),
        ([item("a.png"), item("b.png")], "-", {}),
        ([item("a.png")], "/out/one.png", {"format": "jpg"}),
        ([item("a.png"), Item(PurePosixPath("stdin"), None)], None, {}),
        ([item("a.png")], None, {"suffix": "/../x"}),
    ],
)
def test_contradictions_are_told_at_once(items: list[Item], destination: str | None, options: dict[str, str]) -> None:
    """Found after an hour, they cost an hour."""
    with pytest.raises(UsageError, match="expected"):
        plan_jobs(items, destination, tag=".srx4", **options)


def test_two_inputs_for_one_name_are_told_at_once() -> None:
    """The second would overwrite the first, with exit code 0."""
    jobs = plan_jobs([item("a.png", "/one"), item("a.gif", "/two")], "/out", tag="")
    with pytest.raises(UsageError, match=r"would both become '/out/a\.png'"):
        check_distinct(jobs)


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["x.jpg", "x.png", "y.jpg"], {}, ["x.jpg.png", "x.png", "y.png"]),
        (["x.jpg", "x.jpeg"], {}, ["x.jpg.png", "x.jpeg.png"]),
        (["x.jpg", "x.png"], {"suffix": "_new"}, ["x.jpg_new.png", "x_new.png"]),
        (["d/x.jpg", "x.png"], {}, ["d/x.png", "x.png"]),
        (["x.gif", "x.png"], {}, ["x.png", "x.png"]),
        (["x.jpg", "x.png"], {"format": "png"}, ["x.png", "x.png"]),
    ],
)
def test_a_name_taken_by_becoming_png_is_given_back(names: list[str], options: dict, expected: list[str]) -> None:
    """The accident: a folder with x.jpg and x.png, and --mask or --consistency refuses all of it."""
    jobs = told_apart(plan_jobs([item(name) for name in names], "/out", tag="", exact=True, **options))
    assert [str(job.output) for job in jobs] == [f"/out/{name}" for name in expected]
    assert [job.name for job in jobs] == expected, "--resume looks for another name than was remembered"
    settled = jobs[0].for_content("jpg", "uint8", 3, 99)
    assert settled.output == jobs[0].output


def test_formats_are_what_users_call_them() -> None:
    """jpeg, JPG and .jpg are one; a misspelt one is a mistake of the command, not of the picture."""
    assert [checked_format(text) for text in ("keep", "jpeg", ".JPG", "tiff")] == ["keep", "jpg", "jpg", "tif"]
    with pytest.raises(UsageError, match="pgn"):
        checked_format("pgn")
