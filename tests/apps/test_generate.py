import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.apps.cli import app
from imagesmith.data.files import read_image
from imagesmith.data.image_sets import load_image_set
from imagesmith.errors import ImagesmithError, ModelError, NothingUsableError, OutputError, UsageError
from imagesmith.infer.generate import Generator, generate
from imagesmith.zoo import Model, save_model

CLASSES = ("rose", "hot/cold", "daisy")


@pytest.fixture(scope="module")
def models(make_gan: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two generators of 24x16 pixels: flowers.safetensors with classes, plain.safetensors without."""
    folder = tmp_path_factory.mktemp("models")
    for name, classes in (("flowers", CLASSES), ("plain", ())):
        model = make_gan(class_names=classes)
        save_model(folder / f"{name}.safetensors", model.net, model.card)
    return folder


@pytest.fixture
def call(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run `imagesmith <line>` in an empty folder; `flowers` and `plain` there mean the two models."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> None:
        words = [str(models / f"{word}.safetensors") if word in ("flowers", "plain") else word for word in line.split()]
        code = app(words, standalone_mode=False)
        assert not code

    return run


def names(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_each_seed_becomes_a_file(call: Callable[[str], None], models: Path) -> None:
    """The accident: seed 5 in a file that is called by its place in the list."""
    call("generate plain --seeds 0-1,12345 -o out -q")
    assert names("out") == ["seed00000.png", "seed00001.png", "seed12345.png"]
    (sample,) = generate(models / "plain.safetensors", [12345])
    assert torch.equal(read_image("out/seed12345.png").pixels, sample.image)


def test_the_generator_is_called_as_it_was_named(
    call: Callable[[str], None], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accident: `64 images of auto`, whichever of a dozen runs made them."""
    call("generate plain --seeds 0 -o out")
    assert f"1 image of {models / 'plain.safetensors'} in" in capsys.readouterr().err


def test_classes_are_in_the_names(call: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """The accident: --label all overwrites one class with the next, or a class name becomes a folder."""
    call("generate flowers --seeds 7 --label all -o out --json -f webp")
    assert names("out") == ["seed0007-daisy.webp", "seed0007-hot-cold.webp", "seed0007-rose.webp"]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[1] == {"output": "out/seed0007-hot-cold.webp", "seed": 7, "label": "hot/cold"}
    call("generate flowers --seeds 7 -o mixed")
    assert "no --label, so each seed draws one of 3 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("generate cut.safetensors -o jpgs -f jpg", 1),
        ("generate cut.safetensors -o sheet.jpg", 1),
        ("interpolate cut.safetensors --seconds 0.1 -o walk.gif", 1),
        ("generate cut.safetensors -o pngs", 0),
    ],
)
def test_transparency_that_is_lost_is_said_once(
    call: Callable[[str], None],
    make_gan: Callable[..., Model],
    capsys: pytest.CaptureFixture[str],
    line: str,
    times: int,
) -> None:
    """The accident: sixteen cut-out objects on white, because the format holds no alpha, and nothing told of it."""
    model = make_gan(channels=4)
    save_model(Path("cut.safetensors"), model.net, model.card)
    call(f"{line} --seeds 0-3")
    assert capsys.readouterr().err.count("transparency laid over white") == times


def test_a_picture_as_output_is_a_sheet(call: Callable[[str], None]) -> None:
    """The accident: rows taken for columns, a sheet of half the images, or 4x4 asked for and one row given."""
    call("generate plain --grid 5x2 -o wide.png -q")
    call("generate plain --seeds 0-1 --grid 4x4 -o roomy.png -q")
    call("generate plain --seeds 0-9 -o square.png -q")
    call("generate flowers --seeds 0-4 --label all -o classes.png -q")
    sheets = [read_image(f"{name}.png").pixels for name in ("wide", "roomy", "square", "classes")]
    assert [tuple(sheet.shape[:2]) for sheet in sheets] == [(96, 360), (192, 288), (144, 288), (240, 216)]
    assert sheets[1][:48, :144].any()
    assert not sheets[1][48:].any()


def test_a_generated_data_set_can_be_trained_on(call: Callable[[str], None]) -> None:
    """The accident: pictures for augmentation whose labels the own loader does not read."""
    call("generate flowers --seeds 0-3 --label all --dataset -o set -q")
    with open("set/labels.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert rows[1] == {"file": "hot-cold/seed0000.png", "label": "hot/cold", "seed": "0"}
    loaded = load_image_set("set", size=None, channels=None)
    assert len(loaded) == 12
    assert sorted(loaded.class_names) == sorted(CLASSES)
    assert loaded.labels is not None
    assert torch.bincount(loaded.labels).tolist() == [4, 4, 4]


def test_a_generated_data_set_grows(call: Callable[[str], None]) -> None:
    """The accident: more seeds rewrite labels.csv, and half of the pictures have lost their labels."""
    call("generate flowers --seeds 0-3 --label all --dataset -o set -q")
    call("generate flowers --seeds 4-5 --label all --dataset -o set -q")
    call("generate flowers --seeds 5-6 --label rose --dataset -o set -q -y")
    loaded = load_image_set("set", size=None, channels=None)
    assert loaded.labels is not None
    assert torch.bincount(loaded.labels).tolist() == [6, 6, 7]
    with open("set/labels.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["seed"] for row in rows if row["label"] == "rose"] == list("0123456")


def test_a_sample_of_a_data_set_has_one_file(call: Callable[[str], None]) -> None:
    """The accident: seed 10000 needs five digits, and seed 3 is there twice, as seed0003.png and as seed00003.png."""
    call("generate flowers --seeds 0-4 --label rose --dataset -o set -q")
    with pytest.raises(OutputError, match=r"rose/seed0003\.png exists already"):
        call("generate flowers --seeds 3,10000 --label rose --dataset -o set -q")
    call("generate flowers --seeds 3,10000 --label rose --dataset -o set -q -y")
    files = ["labels.csv", *(f"rose/seed000{seed}.png" for seed in range(5)), "rose/seed10000.png"]
    assert names("set") == files
    with open("set/labels.csv", newline="") as table:
        assert [row["file"] for row in csv.DictReader(table)] == files[1:]


def test_an_interrupted_data_set_has_a_row_for_each_picture(
    call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: labels.csv came at the end; a run that was killed left pictures that had no label for anybody."""
    images = Generator.images

    def dying(self: Generator, *args: Any) -> torch.Tensor:
        if names("set"):
            raise RuntimeError("power cut")
        return images(self, *args)

    line = "generate flowers --seeds 0-15 --label all --dataset -o set -q"
    monkeypatch.setattr(Generator, "images", dying)
    with pytest.raises(RuntimeError, match="power cut"):
        call(line)
    left = load_image_set("set", size=None, channels=None)
    assert sorted(left.class_names) == sorted(CLASSES)
    assert 0 < len(left) < 48
    assert len(left.skipped) == 48 - len(left), "what the table names and nobody made is told"
    monkeypatch.setattr(Generator, "images", images)
    call(f"{line} -y")
    assert len(load_image_set("set", size=None, channels=None)) == 48


@pytest.mark.parametrize("content", [b"file,label\na.png,rose\n", b"file,label,seed\na.png,ro", b"", b'\xff"'])
def test_a_table_of_another_hand_is_never_replaced(call: Callable[[str], None], content: bytes) -> None:
    """The accident: `-y` for the pictures, and labels that somebody typed are gone."""
    Path("set").mkdir()
    Path("set/labels.csv").write_bytes(content)
    with pytest.raises(OutputError, match=r"set/labels\.csv[\s\S]*name another folder"):
        call("generate flowers --seeds 0 --label all --dataset -o set -q -y")
    assert names("set") == ["labels.csv"]
    assert Path("set/labels.csv").read_bytes() == content


def test_a_walk_becomes_a_film_or_a_folder(call: Callable[[str], None]) -> None:
    """The accident: a walk of another length than asked for."""
    call("interpolate flowers --seeds 3,17,3 --seconds 0.2 --fps 20 --label rose -o frames -q")
    assert names("frames") == [f"frame{k:04}.png" for k in range(9)]
    assert torch.equal(read_image("frames/frame0000.png").pixels, read_image("frames/frame0008.png").pixels)
    call("interpolate flowers --seeds 3,17 --seconds 0.2 --fps 20 --loop -o walk.mp4 -q")
    call("interpolate plain --seeds 3,17 --seconds 0.2 --fps 20 -o walk.gif -q")
    assert Path("walk.mp4").stat().st_size > 500
    with Image.open("walk.gif") as film:
        assert film.n_frames == 5


def test_variations_of_a_photograph(call: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """The accident: a reconstruction whose quality nobody is told."""
    Image.fromarray(data.chelsea()).save("cat.jpg")
    call("variations flowers cat.jpg --seeds 0-2 --steps 3 -o out")
    assert names("out") == ["photo.png", "reconstruction.png", *(f"seed000{k}.png" for k in range(3)), "sheet.png"]
    said = capsys.readouterr().err
    assert "cat.jpg: cropped around the centre and resized from 451x300 to 24x16" in said
    assert "dB (psnr_rgb) as found" in said


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("generate plain --seeds 3-1 -o out", UsageError, "write 1-3"),
        ("generate plain --seeds 1,1 -o out", UsageError, "got 1 twice"),
        ("generate plain --seeds x -o out", UsageError, "expected seeds such as 0-63"),
        ("generate plain --label rose -o out", UsageError, "trained without labels"),
        ("generate plain --dataset -o out", UsageError, "leave --dataset out"),
        ("generate flowers --dataset -o out.png", UsageError, "expected a folder for --dataset"),
        ("generate flowers --label ross -o out", UsageError, "did you mean 'rose'"),
        ("generate plain --truncation 2 -o out", UsageError, "expected a truncation from 0"),
        ("generate plain --grid 2x2 -o out", UsageError, "name a file such as out.png"),
        ("generate plain --grid 8 -o out.png", UsageError, "columns x rows such as 8x8"),
        ("generate plain --grid 0x8 -o out.png", UsageError, "columns x rows such as 8x8"),
        ("generate plain --grid 2x2 --seeds 0-4 -o out.png", UsageError, "at most 4 images"),
        ("generate plain --seeds 0-99999999 -o out.png", UsageError, "at most 200 megapixels"),
        ("generate plain --seeds 0 --grid 9999x9999 -o out.png", UsageError, "at most 200 megapixels"),
        ("variations plain taken.png --seeds 0-99999999 -o out", UsageError, "take fewer seeds"),
        ("generate plain -f exe -o out", UsageError, "expected one of jpg, png"),
        ("generate plain -f dcm -o out", UsageError, "avif, jp2, got 'dcm'"),
        ("generate flowers --dataset -f DICOM -o out", UsageError, "avif, jp2, got 'DICOM'"),
        ("generate plain -o out.dcm", UsageError, "expected a folder or a picture such as out.png"),
        ("generate plain -o out.mp4", UsageError, "expected a folder or a picture such as out.png"),
        ("generate plain -o taken/out", OutputError, "cannot make the folder"),
        ("generate absent -o none/out.png", OutputError, "the folder none does not exist"),  # told before it is loaded
        ("interpolate absent --seeds 1,2 -o none/out.mp4", OutputError, "the folder none does not exist"),
        ("generate plain -o taken.png", OutputError, "exists already"),
        ("generate sr-x4 -o out", ModelError, "expected a generator, got 'sr-x4'"),
        ("interpolate plain --seeds 1 -o out.mp4", UsageError, "at least two seeds"),
        ("interpolate plain --seeds 1,2 -o out.avi", UsageError, "ends in .mp4 or .gif"),
        ("interpolate plain --seeds 1,2 -o out.gif --fps 60", UsageError, "1 to 50 frames"),
        ("interpolate flowers --seeds 1,2 -o out.mp4 --label all", UsageError, "one label for the whole way"),
        ("interpolate plain --seeds 1,2 -o out --fps 0", UsageError, "at least one frame a second"),
        ("variations flowers taken.png --label all -o out", UsageError, "one label for the photograph"),
        ("variations plain taken -o out", NothingUsableError, "taken: expected"),  # the codes that restore has for them
        ("variations plain none.jpg -o out", UsageError, "expected an existing picture, got 'none.jpg'"),
        ("variations plain . -o out", UsageError, "got the folder '.'; name a picture in it"),
        ("variations plain taken.png -o out.png", UsageError, "expected a folder"),
        ("variations plain taken.png -o loop", OutputError, "cannot make the folder loop"),
        ("variations sr-x4 taken.png -o out", ModelError, "expected a generator"),
        ("restore taken.png -n plain -o out.jpg", ModelError, "expected a restorer"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(
    call: Callable[[str], None], line: str, error: type[ImagesmithError], said: str
) -> None:
    """The accident: a traceback, or minutes of work before a mistake on the command line is noticed."""
    Path("taken").write_text("not a folder, not a picture")
    Image.new("RGB", (20, 20)).save("taken.png")
    Path("loop").symlink_to("loop")
    with pytest.raises(error, match=said.replace(".", r"\.")) as caught:
        call(line)
    assert len(str(caught.value).splitlines()) <= 3
    assert not Path("out").exists() or not names("out")


def test_files_are_replaced_only_on_request(call: Callable[[str], None]) -> None:
    """The accident: a folder of chosen images overwritten by a second run."""
    call("generate plain --seeds 0 -o out -q")
    before = Path("out/seed0000.png").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        call("generate plain --seeds 0 --truncation 0.5 -o out -q")
    assert Path("out/seed0000.png").read_bytes() == before
    call("generate plain --seeds 0 --truncation 0.5 -o out -q -y")
    assert Path("out/seed0000.png").read_bytes() != before


@pytest.mark.parametrize("name", ["photo.png", "seed0001.png"])
def test_variations_never_take_the_place_of_the_photograph(call: Callable[[str], None], name: str) -> None:
    """The accident: `-y` for last week's variations, and the only copy of a photograph is 64 pixels wide."""
    Path("out").mkdir()
    Image.fromarray(data.chelsea()[:40, :50]).save(f"out/{name}")
    before = Path("out", name).read_bytes()
    for replaces in ("", " -y"):
        with pytest.raises(OutputError, match=f"out/{name} is itself the input"):
            call(f"variations plain out/{name} --seeds 0-1 --steps 1 -o ./out/../out{replaces} -q")
    assert Path("out", name).read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        "generate flowers --label all --seeds 0-40 -o out",
        "generate flowers --label all --seeds 0-40 --dataset -o out",
        "interpolate flowers --seeds 0,1 --seconds 1 --fps 41 -o out",
        "variations flowers photo.png --seeds 0-40 --steps 1 -o out",
    ],
)
def test_a_file_in_the_way_is_told_before_any_is_made(call: Callable[[str], None], line: str) -> None:
    """The accident: the last of a thousand names was taken, and the other 999 lie mixed with those of last week."""
    Image.fromarray(data.chelsea()[:40, :50]).save("photo.png")
    call(f"{line} -q")
    taken = [name for name in names("out") if "40" in name or "0039" in name][-1]
    for name in names("out"):
        if name != taken:
            Path("out", name).unlink()
    with pytest.raises(OutputError, match=f"{taken} exists already"):
        call(f"{line} -q")
    assert names("out") == [taken]
