"""Many files: one bad file is only one bad file, nothing is overwritten, and a stop loses nothing that was done."""

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith import atomic
from imagesmith.data import encode
from imagesmith.data.files import read_header, read_image
from imagesmith.data.sources import outside_runs
from imagesmith.errors import NothingUsableError, OutputError, UsageError
from imagesmith.estimate.jpeg import quality_of_tables
from imagesmith.infer import batch, manifest
from imagesmith.infer.holes import MaskFile
from imagesmith.infer.intervals import Intervals
from imagesmith.infer.manifest import FILE_NAME, settings_digest
from imagesmith.infer.outcome import ItemResult, Progress, Summary, UntilDiskIsFull
from imagesmith.infer.restore import Restorer
from imagesmith.runtime import memory
from imagesmith.tensors import imresize, to_float

Make = Callable[..., Restorer]


def statuses(summary: object) -> dict[str, str]:
    return {Path(result.input).name: result.status for result in summary.results}


def pixels(path: Path) -> np.ndarray:
    return read_image(path).pixels.numpy()


def test_a_folder_is_done_in_spite_of_a_broken_file(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """A batch that dies at picture 3 of 1000 at night is found in the morning."""
    summary = restorer.path(photos, tmp_path / "out", recursive=True)
    assert statuses(summary) == {"a.png": "done", "b.jpg": "done", "c.png": "done", "d.png": "done", "e.png": "failed"}
    assert summary.exit_code == 3
    for name in ("a.png", "c.png", "deep/d.png"):
        assert np.array_equal(pixels(tmp_path / "out" / name), restorer.frame(read_image(photos / name)).pixels)
    assert not (tmp_path / "out" / "e.png").exists()
    failed = next(result for result in summary.results if result.status == "failed")
    assert failed.error
    assert len(failed.error.splitlines()) <= 3
    done = summary.results[0]
    assert (done.in_size, done.out_size, done.scale) == ((83, 61), (166, 122), 2)
    assert done.to_dict()["status"] == "done"


@pytest.mark.parametrize("kind", ["jpg", "webp", "tif", "bmp", "png"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_files_keep_their_kind(restorer: Restorer, photo: np.ndarray, tmp_path: Path, kind: str, mode: str) -> None:
    """What comes out opens with the same program as what went in, and shows the same."""
    if mode in ("LA", "RGBA") and kind in ("jpg", "bmp"):
        pytest.skip(f"{kind} holds no alpha")
    source = tmp_path / f"x.{kind}"
    Image.fromarray(photo).convert(mode).save(source)
    (result,) = restorer.path(source).results
    assert result.status == "done", result.error
    assert result.output == str(tmp_path / f"x.srx2.{kind}")
    restored = pixels(tmp_path / f"x.srx2.{kind}")
    expected = restorer.frame(read_image(source)).pixels.numpy()
    if kind in ("png", "tif", "bmp"):
        assert np.array_equal(restored, expected)
    assert np.abs(restored[..., 0].astype(int) - expected[..., 0]).mean() < 6


def with_hole(photo: np.ndarray) -> torch.Tensor:
    hole = torch.zeros(photo.shape[:2], dtype=torch.bool)
    hole[20:30, 30:50] = True
    return hole


@pytest.mark.parametrize("kind", ["jpg", "webp", "avif", "png"])
def test_outside_the_mask_the_file_is_the_file(make_unet: Make, photo: np.ndarray, tmp_path: Path, kind: str) -> None:
    """The accident: 'copied bit by bit', and 83% of a photograph were other pixels once it was written as JPEG."""
    source, hole, kept = tmp_path / f"x.{kind}", with_hole(photo), "webp" if kind == "webp" else "png"
    Image.fromarray(photo).save(source)
    filler = make_unet("inpaint", planes=1)
    (planned,) = filler.path(source, mask=hole, dry_run=True).results
    (result,) = filler.path(source, mask=hole, resume=True).results
    assert planned.output == result.output == str(tmp_path / f"x.inpaint.{kept}")
    before, after = read_image(source).pixels, read_image(Path(str(result.output))).pixels
    assert after[~hole].equal(before[~hole])
    assert not after[hole].equal(before[hole])
    said = f"written as png: {kind} would change what has to stay"
    assert [said in result.notes, said in planned.notes] == [kind in ("jpg", "avif")] * 2
    (again,) = filler.path(source, mask=hole, resume=True).results
    assert again.status == "skipped"


def test_a_format_that_changes_what_should_stay_is_told(make_unet: Make, photo: np.ndarray, tmp_path: Path) -> None:
    """The accident: `-o x.jpg` breaks the promise of the mask without a word; WebP need not break it."""
    source, hole = tmp_path / "x.jpg", with_hole(photo)
    Image.fromarray(photo).save(source)
    filler = make_unet("inpaint", planes=1)
    (named,) = filler.path(source, tmp_path / "y.jpg", mask=hole).results
    (asked,) = filler.path(source, tmp_path / "out", mask=hole, format="jpg").results
    assert [read_header(str(result.output)).format for result in (named, asked)] == ["jpg", "jpg"]
    assert "jpg changes every pixel a little, also what has to stay (png keeps it)" in named.notes
    assert named.notes == asked.notes
    filler.path(source, tmp_path / "y.webp", mask=hole)
    assert read_image(tmp_path / "y.webp").pixels[~hole].equal(read_image(source).pixels[~hole])


def test_a_consistent_result_is_consistent_in_the_file(
    make_restorer: Make, make_unet: Make, photo: np.ndarray, tmp_path: Path
) -> None:
    """The accident: 'within half a grey level', 5.9 levels off in the file; 'in the interval', up to 3 outside."""
    source = tmp_path / "x.jpg"
    Image.fromarray(photo).save(source, quality=20)
    frame = read_image(source)
    for model, scale in ((make_restorer(), 2), (make_unet("jpeg", planes=1), 1)):
        (result,) = model.path(source, tmp_path / "out", consistency=True, overwrite=True).results
        assert result.output == str(tmp_path / "out" / "x.png")
        written = to_float(read_image(tmp_path / "out" / "x.png").pixels, "uint8").permute(2, 0, 1)
        error = imresize(written, 1 / scale) - to_float(frame.pixels, "uint8").permute(2, 0, 1)
        intervals = Intervals(to_float(frame.pixels, "uint8").permute(2, 0, 1), frame.meta.jpeg)
        lacking = error.abs().max() * 255 - 0.6 if scale > 1 else intervals.correction(written, 0.0)[1]
        assert lacking <= 0, result.notes


def test_a_mended_jpeg_is_not_spoilt_again(
    make_restorer: Make, make_unet: Make, photo: np.ndarray, tmp_path: Path
) -> None:
    """The accident: of 2.4 dB that the artefacts of a JPEG had cost, writing the result as JPEG took 0.3 back."""
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=60)
    for name, restorer, quality in (("same", make_unet("jpeg", planes=1), 98), ("large", make_restorer(), 95)):
        restorer.path(tmp_path / "a.jpg", tmp_path / name)
        tables = read_image(tmp_path / name / "a.jpg").meta.jpeg
        assert tables is not None
        assert (quality_of_tables(tables.luma), tables.subsampling) == (quality, (1, 1))


def test_two_inputs_that_become_one_png_keep_their_names(make_unet: Make, photo: np.ndarray, tmp_path: Path) -> None:
    """The accident: x.jpg beside x.png, and --mask refuses the folder that is restored without it."""
    (folder := tmp_path / "in").mkdir()
    for name in ("x.jpg", "x.png"):
        Image.fromarray(photo).save(folder / name)
    inpainter, out = make_unet("inpaint", planes=1), tmp_path / "out"
    summary = inpainter.path(folder, out, mask=with_hole(photo))
    assert [Path(str(result.output)).name for result in summary.results] == ["x.jpg.png", "x.png"]
    again = inpainter.path(folder, out, mask=with_hole(photo), resume=True)
    assert [result.status for result in again.results] == ["skipped", "skipped"]


def test_sixteen_bits_and_floats_stay_in_files(restorer: Restorer, photo: np.ndarray, tmp_path: Path) -> None:
    """Science and photography pay for depth; a program that returns eight bits takes it away."""
    import tifffile

    Image.fromarray(photo[..., 0].astype(np.uint16) * 200).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "float.tif", photo.astype(np.float32) / 100, photometric="rgb")
    summary = restorer.path([tmp_path / "deep.png", tmp_path / "float.tif"])
    assert [result.status for result in summary.results] == ["done", "done"], summary
    assert read_image(tmp_path / "deep.srx2.png").depth == "uint16"
    assert read_image(tmp_path / "float.srx2.tif").depth == "float32"
    assert pixels(tmp_path / "float.srx2.tif").max() > 2
    assert any("scaled" in note for note in summary.results[1].notes)


def test_nothing_is_overwritten_unless_asked(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The one result that the user had retouched by hand."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    summary = restorer.path(photos, out)
    assert statuses(summary)["a.png"] == "failed"
    assert "exists" in summary.results[0].error
    assert (out / "a.png").read_bytes() == b"precious"
    assert statuses(restorer.path(photos / "a.png", out, overwrite=True))["a.png"] == "done"
    assert (out / "a.png").read_bytes() != b"precious"


def test_an_input_is_never_a_result(restorer: Restorer, photos: Path) -> None:
    """-o into the folder of the inputs with -y would destroy the originals."""
    before = (photos / "a.png").read_bytes()
    summary = restorer.path(photos, photos, overwrite=True)
    assert "itself an input" in summary.results[0].error
    assert (photos / "a.png").read_bytes() == before


@pytest.mark.parametrize("out", ["o.png", "-"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_an_input_is_never_a_heat_map(
    restorer: Restorer, photos: Path, tmp_path: Path, out: str, dry_run: bool
) -> None:
    """The accident: `--uncertainty a.png` with -y, meant as `-o`, and the photograph was its own heat map."""
    source, before = photos / "a.png", (photos / "a.png").read_bytes()
    place = out if out == "-" else tmp_path / out
    options = {"uncertainty": photos / "deep" / ".." / "a.png", "overwrite": True, "dry_run": dry_run}
    summary = restorer.path(source, place, **options)
    assert "is itself an input\nname another place with --uncertainty" in summary.results[0].error
    assert source.read_bytes() == before
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("option", ["destination", "uncertainty"])
def test_a_mask_is_never_a_result(make_unet: Make, photo: np.ndarray, tmp_path: Path, option: str) -> None:
    """The accident: `--mask m.png -o m.png` with -y, and hours of painting were gone."""
    source, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(photo).save(source)
    Image.fromarray(with_hole(photo).numpy()).save(mask)
    before, filler = mask.read_bytes(), make_unet("inpaint", planes=1)
    for given in (mask, MaskFile(mask, with_hole(photo))):
        for dry_run in (True, False):
            (result,) = filler.path(source, mask=given, overwrite=True, dry_run=dry_run, **{option: mask}).results
            assert result.error.startswith(f"{mask} is itself the mask\n")
            assert mask.read_bytes() == before


def test_results_beside_inputs_are_not_enlarged_again(restorer: Restorer, photos: Path) -> None:
    """Running the same command twice silently turned x4 into x16 elsewhere."""
    restorer.path(photos)
    assert (photos / "a.srx2.png").exists()
    again = restorer.path(photos, resume=True)
    assert statuses(again) == {"a.png": "skipped", "b.jpg": "skipped", "c.png": "skipped", "e.png": "failed"}
    assert not list(photos.glob("*.srx2.srx2.*"))


@pytest.mark.parametrize(
    "option",
    [
        {"engine": "slurm"},
        {"workers": 0},
        {"workers": -3},
        {"workers": "2"},
        {"max_ram": "1G"},
        {"max_vram": -1},
        {"max_pixels": 0},
        {"max_pixels": "1M"},
        {"max_pixels": None},
    ],
)
def test_options_that_the_command_line_refuses_are_refused(
    restorer: Restorer, photos: Path, tmp_path: Path, option: dict
) -> None:
    """The accident: another engine ran here all the same, no workers were one, and limits in words failed everything."""
    with pytest.raises(UsageError, match=r"expected .* got '?" + str(*option.values())):
        restorer.path(photos, tmp_path / "out", **option)


def test_two_inputs_for_one_result_start_nothing(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Whichever came second would have won."""
    Image.open(photos / "a.png").convert("P").save(photos / "a.gif")
    with pytest.raises(UsageError, match="both become"):
        restorer.path(photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_raw_file_beside_its_jpeg_stops_neither(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Cameras write both under one name; what is not read takes no place, and the others are done."""
    (photos / "b.dng").write_bytes(b"raw")
    (photos / "notes.txt").write_text("x")
    summary = restorer.path(photos, tmp_path / "out", format="png", uncertainty=tmp_path / "maps")
    assert statuses(summary)["b.dng"] == "failed"
    assert (statuses(summary)["b.jpg"], summary.passed_over[".txt"], summary.exit_code) == ("done", 1, 3)


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_contents_for_one_result_are_told(
    restorer: Restorer, photos: Path, tmp_path: Path, overwrite: bool
) -> None:
    """A PNG called x.jpg beside an x.png: with -y the second replaced the first, and both were 'done'."""
    (photos / "a.jpg").write_bytes((photos / "c.png").read_bytes())
    sources = [photos / "a.jpg", photos / "a.png"]
    planned = restorer.path(sources, tmp_path / "out", overwrite=overwrite, dry_run=True)
    summary = restorer.path(sources, tmp_path / "out", overwrite=overwrite)
    assert [result.status for result in planned.results] == ["failed", "planned"]
    assert [result.status for result in summary.results] == ["failed", "done"]
    assert "rename one of them" in summary.results[0].error
    assert pixels(tmp_path / "out" / "a.png").shape == (122, 166, 3)


def test_a_source_that_cannot_be_opened_is_only_one_source(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """One broken archive on the command line ended the run before the first picture."""
    (tmp_path / "bad.zip").write_bytes(b"PK no archive")
    summary = restorer.path([tmp_path / "bad.zip", photos / "a.png"], tmp_path / "out")
    assert statuses(summary) == {"bad.zip": "failed", "a.png": "done"}
    assert summary.exit_code == 3


def test_a_picture_that_may_not_be_read_is_told_in_words(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: `PermissionError: [Errno 13]`, by what looks whether it was done before, and nothing to do."""

    def refused(path: str, *rest: Any) -> int:
        if path == str(photos / "a.png"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *rest)

    def refusing(path: Any, *rest: Any, **options: Any) -> Any:
        if path == photos / "a.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return plain(path, *rest, **options)

    opened, plain = os.open, open
    monkeypatch.setattr(os, "open", refused)  # nothing is kept from root otherwise
    monkeypatch.setattr(manifest, "open", refusing, raising=False)
    summary = restorer.path([photos / "a.png", photos / "b.jpg"], tmp_path / "out")
    assert statuses(summary) == {"a.png": "failed", "b.jpg": "done"}
    error = f"{photos}/a.png: cannot be read: Permission denied; check that it exists and is readable"
    assert (summary.results[0].error, summary.results[0].error_kind) == (error, "ImageError")


def test_a_link_to_itself_is_only_one_source(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: 'a bug, please report it: Symlink loop', and none of the other pictures was restored."""
    (photos / "loop.png").symlink_to("loop.png")
    summary = restorer.path(photos, tmp_path / "out")
    assert statuses(summary)["a.png"] == "done"
    errors = [str(result.error) for result in summary.results if result.input.endswith("loop.png")]
    assert errors == [f"{photos}/loop.png: is a link that leads nowhere; copy the picture to its place"]


def test_a_taken_name_is_told_before_computing(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that leads nowhere, such as to a disk that is not mounted, was told after hours of a scan."""
    (tmp_path / "out.png").symlink_to("nowhere.png")
    monkeypatch.setattr(Restorer, "strips", lambda *_, **__: pytest.fail("it was computed"))
    (result,) = restorer.path(next(photos.glob("*.png")), tmp_path / "out.png").results
    assert "out.png exists already" in str(result.error)


def test_a_folder_of_one_picture_is_not_enlarged_twice(restorer: Restorer, photos: Path) -> None:
    """Its result lies beside it, and the next night it was a second picture of the folder."""
    restorer.path(photos / "deep")
    again = restorer.path(photos / "deep", overwrite=True)
    assert statuses(again) == {"d.png": "done"}
    assert again.passed_over["of an earlier run"] == 1
    (photos / "deep" / "d.png").unlink()
    with pytest.raises(NothingUsableError, match="results of an earlier run"):
        restorer.path(photos / "deep", overwrite=True)


def test_results_are_no_pictures_wherever_the_next_ones_go(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Made one by one they were enlarged with the folder, and made beside their pictures with the first -o."""
    restorer.path(photos / "deep" / "d.png")
    assert statuses(restorer.path(photos / "deep", tmp_path / "out")) == {"d.png": "done"}
    assert statuses(restorer.path(tmp_path / "out", tmp_path / "larger")) == {"d.png": "done"}, "meant itself"
    result = photos / "deep" / "d.srx2.png"
    assert statuses(restorer.path(result, tmp_path / "other")) == {"d.srx2.png": "done"}, "named by itself"


def test_a_name_too_long_is_told_before_computing(restorer: Restorer, photos: Path) -> None:
    """`<stem>.srx2.png` may be longer than a file system takes."""
    long = photos / ("x" * 250 + ".png")
    long.write_bytes((photos / "a.png").read_bytes())
    for source in (long, photos):
        result = next(result for result in restorer.path(source).results if result.input == str(long))
        assert result.error_kind == "OutputError"
        assert "too long" in result.error


def test_resume_does_what_is_left_or_has_changed(make_restorer: Make, photos: Path, tmp_path: Path) -> None:
    """Skipping by name alone keeps stale results; redoing everything costs the night again."""
    restorer, out = make_restorer(), tmp_path / "out"
    restorer.path(photos, out)
    Image.open(photos / "c.png").rotate(90).save(photos / "c.png")
    Image.open(photos / "c.png").save(photos / "new.png")
    (out / "b.jpg").unlink()
    summary = restorer.path(photos, out, resume=True)
    assert statuses(summary) == {
        "a.png": "skipped",
        "b.jpg": "done",
        "c.png": "done",
        "e.png": "failed",
        "new.png": "done",
    }
    assert np.array_equal(pixels(out / "c.png"), pixels(out / "new.png"))
    other = make_restorer(scale=3)
    assert set(statuses(other.path(photos, out, resume=True)).values()) == {"done", "failed"}


def test_two_runs_that_go_on_at_a_time_do_not_fail_each_other(
    make_restorer: Make, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: the slower one tells of what the other has just finished as failed, and ends with code 3."""
    slower, faster, others = make_restorer(), make_restorer(), list[Summary]()
    plain = slower.strips

    def overtaken(frame: object, **options: object) -> object:
        if not others:
            others.append(faster.path(photos, tmp_path / "out", resume=True))
        yield from plain(frame, **options)

    (photos / "e.png").unlink()  # which is no picture
    monkeypatch.setattr(slower, "strips", overtaken)
    summary = slower.path(photos, tmp_path / "out", resume=True)
    assert set(statuses(others[0]).values()) == {"done"}
    assert set(statuses(summary).values()) == {"skipped"}
    assert [result.output for result in summary.results] == [result.output for result in others[0].results]


def test_resume_makes_anew_what_an_earlier_version_rounded_up_otherwise(
    make_unet: Make, restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: half of a batch has streaks along two edges, as only the other half was made with mirrored ones."""

    def before(settings: dict[str, object]) -> str:
        return settings_digest({name: value for name, value in settings.items() if name != "edges"})

    for name, model, status in (("denoise", make_unet("denoise"), "done"), ("sr", restorer, "skipped")):
        with monkeypatch.context() as patch:
            patch.setattr(batch, "settings_digest", before)
            model.path(photos / "a.png", tmp_path / name, resume=True)
        assert statuses(model.path(photos / "a.png", tmp_path / name, resume=True)) == {"a.png": status}
        assert statuses(model.path(photos / "a.png", tmp_path / name, resume=True)) == {"a.png": "skipped"}


def test_resume_keeps_a_result_that_was_touched_since(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """An evening of retouching on a result, and the same command with --resume made it anew."""
    out = tmp_path / "out"
    restorer.path(photos, out)
    edited = (out / "a.png").read_bytes() + b"an edit"
    (out / "a.png").write_bytes(edited)
    again = restorer.path(photos, out, resume=True)
    assert statuses(again)["a.png"] == "failed"
    assert "exists already" in str(again.results[0].error)
    assert (out / "a.png").read_bytes() == edited
    assert statuses(restorer.path(photos, out, resume=True, overwrite=True))["a.png"] == "done"


def test_resume_touches_nothing_that_others_made(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """--resume is not --overwrite."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    assert statuses(restorer.path(photos, out, resume=True))["a.png"] == "failed"
    assert (out / "a.png").read_bytes() == b"precious"


@pytest.mark.parametrize("is_linked", [False, True])
def test_resume_replaces_no_result_of_another_folder(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, is_linked: bool
) -> None:
    """Cameras count from 1 each day: the second day's results took the places of the first's, also through a link."""
    out, link = tmp_path / "out", tmp_path / "today"
    for day in (1, 2):
        (folder := tmp_path / f"day{day}").mkdir()
        Image.fromarray(np.roll(photo, day, axis=0)).save(folder / "IMG_0001.png")
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        (result,) = make_restorer().path(link if is_linked else folder, out, resume=True).results
        if day == 1:
            before = (out / "IMG_0001.png").read_bytes()
    assert result.status == "failed"
    assert "exists already" in str(result.error)
    assert (out / "IMG_0001.png").read_bytes() == before


KILLED = """
    import sys, time
    from pathlib import Path
    import torch
    from imagesmith.infer.restore import Restorer
    torch.set_num_threads(1)
    restorer = Restorer.load(sys.argv[1], device="cpu", dtype="fp32")
    def slow(progress):
        if progress.result:
            print(progress.result.output, flush=True)
            time.sleep(0.05)
    restorer.path(sys.argv[2], sys.argv[3], resume=True, on_progress=slow)
"""


def test_a_killed_run_is_resumed(model_file: Path, photo: np.ndarray, tmp_path: Path) -> None:
    """SIGKILL at any moment: no half-written picture under a final name, and no finished one done again."""
    source, out = tmp_path / "many", tmp_path / "out"
    source.mkdir()
    for k in range(12):
        Image.fromarray(np.roll(photo, k, axis=0)).save(source / f"{k:02}.png")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(model_file), str(source), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 4 <= len(finished) < 12
    restorer = Restorer.load(model_file, device="cpu", dtype="fp32")
    summary = restorer.path(source, out, resume=True)
    skipped = [name for name, status in statuses(summary).items() if status == "skipped"]
    assert len(skipped) >= len(finished) - 1, "at most the picture without its manifest line is done again"
    assert all((out / name).stat().st_mtime_ns == finished[name] for name in skipped)
    assert all(pixels(out / f"{k:02}.png").shape == (122, 166, 3) for k in range(12))


def test_resuming_tidies_up_after_a_kill(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Each SIGKILL left a hidden file as large as a result; nobody finds them until the disk is full."""
    out = tmp_path / "out"
    out.mkdir()
    (part := out / ".0123456789ab.part").write_bytes(b"half")
    restorer.path(photos / "a.png", out)
    restorer.path(photos, out, resume=True, dry_run=True)
    assert part.exists(), "nobody asked for it"
    restorer.path(photos, out, resume=True)
    assert not part.exists()


def test_one_interrupt_stops_between_tiles_and_can_be_resumed(
    make_restorer: Make, photos: Path, tmp_path: Path
) -> None:
    """Ctrl-C must not leave a temporary file, a torn picture or a thread that never ends."""
    restorer, out = make_restorer(tile=16), tmp_path / "out"

    def interrupt(progress: Progress) -> None:
        if Path(progress.item).name == "c.png" and progress.result is None and progress.fraction < 1:
            signal.raise_signal(signal.SIGINT)

    summary = restorer.path(photos, out, on_progress=interrupt)
    assert summary.cancelled
    assert summary.exit_code == 130
    assert statuses(summary) == {"a.png": "done", "b.jpg": "done"}
    assert sorted(path.name for path in out.iterdir()) == [FILE_NAME, "a.png", "b.jpg"]
    again = restorer.path(photos, out, resume=True)
    assert statuses(again) == {"a.png": "skipped", "b.jpg": "skipped", "c.png": "done", "e.png": "failed"}


def test_a_second_interrupt_stops_at_once(make_restorer: Make, photos: Path, tmp_path: Path) -> None:
    """Who presses Ctrl-C twice does not want to wait, and still wants no half-written file."""

    def interrupt(progress: Progress) -> None:
        if progress.result is None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_restorer(tile=16).path(photos, tmp_path / "out", on_progress=interrupt)
    assert not list((tmp_path / "out").glob(".*.part"))


def test_an_error_of_the_caller_comes_through(make_restorer: Make, photos: Path, tmp_path: Path) -> None:
    """A progress bar that raises must not leave the writing thread waiting for ever."""

    def bad(progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_restorer(tile=16).path(photos, tmp_path / "out", on_progress=bad)


def test_an_unexpected_error_is_that_items_error(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug that one strange picture brings out must not cost the other pictures."""
    plain = restorer.strips

    def sick(frame: object, **options: object) -> object:
        if frame.pixels.shape[2] == 1:
            raise ValueError("a bug")
        yield from plain(frame, **options)

    monkeypatch.setattr(restorer, "strips", sick)
    summary = restorer.path(photos, tmp_path / "out")
    assert statuses(summary) == {"a.png": "done", "b.jpg": "done", "c.png": "failed", "e.png": "failed"}
    assert summary.results[2].error == "ValueError: a bug"
    assert not (tmp_path / "out" / "c.png").exists()


def test_a_full_disk_is_that_items_error(
    make_restorer: Make, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing fails in another thread: the computing one must hear of it and go on with the next picture."""

    class Full:
        def __init__(self, *sizes: object, **options: object) -> None: ...

        def write_rows(self, rows: object) -> None:
            raise OSError(28, "No space left on device")

        def abandon(self) -> None: ...

    monkeypatch.setattr(encode, "PngWriter", Full)
    summary = make_restorer(tile=8).path(photos, tmp_path / "out")
    assert statuses(summary) == {"a.png": "failed", "b.jpg": "done", "c.png": "failed", "e.png": "failed"}
    assert "disk is full" in summary.results[0].error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [FILE_NAME, "b.jpg"]


def test_a_disk_that_stays_full_ends_the_run(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: a thousand pictures computed all night for a disk that was full after ten."""
    source = tmp_path / "in"
    source.mkdir()
    for k in range(20):
        Image.fromarray(np.roll(photo, k, axis=0)).save(source / f"{k:02}.png")

    def full(place: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    summary = make_restorer().path(source, tmp_path / "out", workers=1)
    assert summary.found_disk_full
    assert summary.exit_code == 3
    assert 3 <= len(summary.results) < 10, "those at work are finished"
    assert {(result.status, result.error_kind) for result in summary.results} == {("failed", "DiskFullError")}


def test_only_results_in_a_row_without_room_end_a_run() -> None:
    """A single large result that does not fit says nothing of the small ones after it."""
    asked, told = threading.Event(), list[Progress]()
    listener = UntilDiskIsFull(asked, told.append)

    def tell(status: Literal["done", "skipped", "failed"], kind: str | None = None) -> bool:
        result = ItemResult("a", "b", status, "m", 1, error_kind=kind)
        listener(Progress(1, 9, "a", 1.0, result))
        listener(Progress(1, 9, "a", 0.5))
        return asked.is_set()

    assert not any(tell("failed", "DiskFullError") for _ in range(2))
    assert not tell("done")
    assert not any(tell("failed", "DiskFullError") for _ in range(2))
    assert not tell("failed", "OutputError")
    assert not any(tell("failed", "DiskFullError") for _ in range(2))
    assert not tell("skipped")
    assert tell("failed", "DiskFullError")
    assert len(told) == 20
    assert listener.concluded(Summary(cancelled=True)).found_disk_full


def test_an_interrupt_is_one_whatever_had_no_room_before() -> None:
    """Ctrl-C hours after three large results had found no room was told as a full disk, with exit code 3."""
    asked, results = threading.Event(), list[ItemResult]()
    listener = UntilDiskIsFull(asked, lambda _: None)
    for kind in ("DiskFullError", None) * 3:
        results.append(ItemResult("a", "b", "failed" if kind else "done", "m", 1, error_kind=kind))
        listener(Progress(len(results), 9, "a", 1.0, results[-1]))
    asked.set()
    summary = listener.concluded(Summary(results, cancelled=True))
    assert not summary.found_disk_full
    assert summary.exit_code == 130


def test_a_result_too_large_for_memory_is_refused_in_words(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's OOM killer explains nothing; PNG needs a few rows only and goes on."""
    monkeypatch.setattr(memory, "available_memory", lambda: 50_000)
    summary = restorer.path(photos, tmp_path / "out")
    assert statuses(summary) == {"a.png": "done", "b.jpg": "failed", "c.png": "done", "e.png": "failed"}
    assert "-f png" in summary.results[1].error


def test_dry_run_says_all_and_writes_nothing(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """What --dry-run promises is what the run does."""
    told: list[Progress] = []
    planned = restorer.path(photos, tmp_path / "out", dry_run=True, on_progress=told.append)
    assert not (tmp_path / "out").exists()
    assert [event.result for event in told] == planned.results, "a thousand pictures would be examined in silence"
    assert set(statuses(planned).values()) == {"planned", "failed"}
    done = restorer.path(photos, tmp_path / "out")
    for one, other in zip(planned.results, done.results, strict=True):
        assert (one.output, one.out_size) == (other.output, other.out_size)


def agreed(restorer: Restorer, source: Path, out: Path | None = None, **options: object) -> str:
    """The error that a run over one picture ends in, which the rehearsal has to end in as well."""
    (planned,), (done,) = (restorer.path(source, out, dry_run=dry, **options).results for dry in (True, False))
    assert (planned.status, done.status) == ("failed", "failed")
    assert (planned.error, planned.error_kind) == (done.error, done.error_kind)
    return str(planned.error)


def test_dry_run_refuses_what_the_run_refuses(
    restorer: Restorer, make_unet: Make, photos: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: 'planned' for all, and a run that failed at every picture after the night."""
    filler, png = make_unet("inpaint", planes=1), photos / "a.png"
    assert "got 82x61" in agreed(filler, png, mask=with_hole(photo)[:, :-1])
    assert "without quantisation tables" in agreed(make_unet("jpeg", planes=1), png, consistency=True)
    (photos / "heat.png").write_bytes(b"precious")
    assert "exists already" in agreed(restorer, png, uncertainty=photos / "heat.png")
    monkeypatch.setattr(memory, "available_memory", lambda: 50_000)
    assert "-f png" in agreed(restorer, photos / "b.jpg")
    assert (photos / "heat.png").read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["taken/more/a.png", "taken/a.png", "gone/a.png"])
def test_dry_run_refuses_a_folder_that_cannot_be(restorer: Restorer, photos: Path, tmp_path: Path, place: str) -> None:
    """The accident: 'planned' below a file that has the folder's name, and every picture fails at its very end."""
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "gone").symlink_to("nowhere")
    assert "cannot make the folder" in agreed(restorer, photos / "a.png", out=tmp_path / place)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_dry_run_gives_sizes_as_they_will_be(restorer: Restorer, photo: np.ndarray, tmp_path: Path, kind: str) -> None:
    """The accident: a photo that its camera turned is planned as 2000x3000, and comes out as 3000x2000."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(photo).save(tmp_path / f"a.{kind}", exif=exif)
    planned, done = (restorer.path(tmp_path / f"a.{kind}", dry_run=dry).results[0] for dry in (True, False))
    assert (planned.in_size, planned.out_size) == (done.in_size, done.out_size) == ((61, 83), (122, 166))


def test_dry_run_knows_how_a_picture_lies(make_unet: Make, photo: np.ndarray, tmp_path: Path) -> None:
    """The accident to come: a mask painted over the upright picture, compared with how the camera stored it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif)
    upright = with_hole(photo).T.contiguous()
    (planned,) = make_unet("inpaint", planes=1).path(tmp_path / "a.jpg", mask=upright, dry_run=True).results
    assert (planned.status, planned.in_size) == ("planned", (61, 83)), planned.error


@pytest.mark.parametrize("content", ["nothing", "broken"])
def test_nothing_usable_is_exit_code_4(restorer: Restorer, tmp_path: Path, content: str) -> None:
    """A script must be able to tell an empty folder from a full success."""
    (tmp_path / "in").mkdir()
    if content == "broken":
        (tmp_path / "in" / "x.png").write_bytes(b"junk")
        assert restorer.path(tmp_path / "in", tmp_path / "out").exit_code == 4
    else:
        with pytest.raises(NothingUsableError):
            restorer.path(tmp_path / "in", tmp_path / "out")


def test_a_zip_is_restored_beside_itself(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Archives are how photos travel."""
    with zipfile.ZipFile(tmp_path / "box.zip", "w") as archive:
        archive.write(photos / "a.png", "x/a.png")
    assert restorer.path(tmp_path / "box.zip").exit_code == 0
    assert pixels(tmp_path / "box.srx2" / "x" / "a.png").shape == (122, 166, 3)


def test_a_pipe(restorer: Restorer, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cat a.png | imagesmith restore - > big.png`"""

    class Stream:
        buffer = io.BytesIO((photos / "a.png").read_bytes())

    class Out:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdin", Stream)
    monkeypatch.setattr(sys, "stdout", Out)
    assert restorer.path("-").exit_code == 0
    assert np.array_equal(read_image(Out.buffer.getvalue()).pixels, restorer.frame(read_image(photos / "a.png")).pixels)


def test_what_a_result_no_longer_carries_is_told(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: a thumbnail dropped in silence, while the same picture as a Frame tells of it."""
    resource = b"Photoshop 3.0\x008BIM\x04\x0c\0\0\0\0\0\x02\xff\xd8"  # number 1036, no name, two bytes
    segment = b"\xff\xed" + (2 + len(resource)).to_bytes(2, "big") + resource
    Image.open(photos / "a.png").convert("RGB").save(photos / "t.jpg", extra=segment)
    done = restorer.path(photos / "t.jpg", tmp_path / "t.jpg")
    assert [note for note in done.results[0].notes if "thumbnail dropped" in note] != []


def test_a_folder_that_cannot_be_made_is_told(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """A file where the folder should be: told in words before anything is computed, and none hangs."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        restorer.path(photos, tmp_path / "out")
    single = restorer.path(photos / "a.png", tmp_path / "out" / "b.png")
    assert single.results[0].error_kind == "OutputError"


@pytest.mark.slow
def test_sixteen_megapixels_in_bounded_memory(make_restorer: Make, tmp_path: Path) -> None:
    """256 megapixels are 768 MB as bytes and 3 GB as floats: held as a whole they end most laptops."""
    height, width = 4000, 4000
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
    Image.fromarray(np.tile(noise, (8, 8, 1))).save(tmp_path / "large.png")
    script = textwrap.dedent("""
        import sys, resource
        from imagesmith.nets import NetSpec, build_net
        from imagesmith.zoo import Model, describe
        from imagesmith.runtime.device import pick_runtime
        from imagesmith.infer.restore import Restorer
        spec = NetSpec("compact", {"scale": 4, "blocks": 1})
        net = build_net(spec)
        restorer = Restorer(Model(net, describe(net, spec, "toy")), pick_runtime(net, "cpu", sys.argv[3]))
        (result,) = restorer.path(sys.argv[1], sys.argv[2]).results
        assert result.status == "done", result
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """)
    for dtype in ("bf16", "fp32"):
        out = tmp_path / f"{dtype}.png"
        command = [sys.executable, "-c", script, str(tmp_path / "large.png"), str(out), dtype]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        header = read_header(out, max_pixels=1 << 30)
        assert (header.width, header.height) == (4 * width, 4 * height)
        assert peak < 2.5e9, f"{peak / 1e9:.2f} GB resident in {dtype}"


def test_a_model_that_cannot_travel_stays_where_it_is(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for processes: a model that cannot be handed to them must still do the folder."""
    monkeypatch.setattr(batch, "workers_for", lambda *run: 2)
    restorer.stays = lambda: None  # type: ignore[attr-defined]
    assert statuses(restorer.path(photos, tmp_path / "out"))["a.png"] == "done"


def test_what_was_skipped_keeps_its_place(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """Two pictures that become one file: on resume the second took the place of the first, which was skipped."""
    (photos / "x.jpg").write_bytes((photos / "a.png").read_bytes())
    (photos / "x.webp").write_bytes((photos / "c.png").read_bytes())
    sources = [photos / "x.jpg", photos / "x.webp"]
    assert list(statuses(restorer.path(sources, tmp_path / "out")).values()) == ["done", "failed"]
    again = restorer.path(sources, tmp_path / "out", resume=True)
    assert list(statuses(again).values()) == ["skipped", "failed"]
    assert pixels(tmp_path / "out" / "x.png").shape == (122, 166, 3)


def test_a_heat_map_of_a_killed_run_stops_no_resume(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: the map was written and the result was not, and the same command fails for ever."""
    maps, out = tmp_path / "maps", tmp_path / "out"
    options = {"uncertainty": maps, "resume": True}
    restorer.path(photos, out, **options)
    before = statuses(restorer.path(photos, out, **options))
    next(path for path in out.rglob("*.png") if path.is_file()).unlink()
    after = statuses(restorer.path(photos, out, **options))
    assert list(before.values()).count("failed") == list(after.values()).count("failed")
    assert list(after.values()).count("done") == list(before.values()).count("done") + 1


def test_half_a_heat_map_of_a_killed_run_is_tidied_away(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: hidden files in the folders of maps that nobody ever deletes; those of results went."""
    (folder := tmp_path / "maps" / "deep").mkdir(parents=True)
    (folder / ".0123456789ab.part").write_bytes(b"half")
    options = {"uncertainty": tmp_path / "maps", "resume": True}
    restorer.path(photos / "deep", tmp_path / "out", **options)
    assert (folder / ".0123456789ab.part").exists(), "no folder of this run"
    restorer.path(photos, tmp_path / "out", recursive=True, **options)
    assert [path.name for path in folder.iterdir()] == ["d.png.heat.png"]


def test_maps_that_are_asked_for_later_are_made(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: --resume --uncertainty skips what was finished without a map, and no map is there."""
    restorer.path(photos, tmp_path / "out", resume=True)
    restorer.path(photos, tmp_path / "out", resume=True, uncertainty=tmp_path / "maps")
    assert list((tmp_path / "maps").rglob("*.heat.png"))


def test_two_inputs_for_one_heat_map_start_nothing(restorer: Restorer, photo: np.ndarray, tmp_path: Path) -> None:
    """The accident: the map of 2020/a.png takes the place of that of 2019/a.png."""
    for year in ("2019", "2020"):
        (tmp_path / year).mkdir()
        Image.fromarray(photo).save(tmp_path / year / "a.png")
    with pytest.raises(UsageError, match="would both become"):
        restorer.path([tmp_path / "2019", tmp_path / "2020"], uncertainty=tmp_path / "maps")


def test_heat_maps_are_no_photographs(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: maps beside the photographs, and the next run over the folder enlarged them, trainings took them."""
    pictures = ["a.png", "b.jpg", "c.png", "e.png"]
    options = {"uncertainty": photos, "resume": True}
    restorer.path(photos, tmp_path / "out", **options)
    assert (photos / "a.png.heat.png").exists()
    assert list(statuses(restorer.path(photos, tmp_path / "again", dry_run=True))) == pictures
    assert {path.name for path in outside_runs(photos) if path.suffix in (".png", ".jpg")} == {*pictures, "d.png"}
    again = restorer.path(photos, tmp_path / "out", **options)
    assert statuses(again) == dict.fromkeys(pictures[:3], "skipped") | {"e.png": "failed"}


def test_the_heat_map_of_a_single_picture_is_no_photograph(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """The accident: one map named by hand beside its photograph; only batches would have noted it."""
    restorer.path(photos / "a.png", uncertainty=photos / "doubt.png")
    (result,) = restorer.path(photos / "a.png", resume=True, uncertainty=photos / "doubt.png").results
    assert result.status == "skipped", "the line of the map stands for that of the result"
    assert "doubt.png" not in statuses(restorer.path(photos, tmp_path / "out", dry_run=True))
    restorer.path(photos / "a.png", tmp_path / "x.png", uncertainty=tmp_path / "y.png")
    assert not (tmp_path / FILE_NAME).exists()


def test_a_manifest_that_cannot_be_read_stops_only_who_goes_on(restorer: Restorer, photos: Path) -> None:
    """The accident: a colleague's manifest in a shared folder, mode 0600, and nobody else could restore one picture."""
    (photos / FILE_NAME).mkdir()
    for options in ({}, {"dry_run": True}, {"uncertainty": photos / "doubt.png"}):
        (result,) = restorer.path(photos / "a.png", overwrite=True, **options).results
        assert result.status == ("planned" if "dry_run" in options else "done"), result.error
        assert result.notes[0].startswith(f"what was made is not noted: cannot read {photos / FILE_NAME}")
        assert len(result.notes) == 1
    assert set(statuses(restorer.path(photos, overwrite=True)).values()) == {"done", "failed"}
    with pytest.raises(OutputError, match="cannot read"):
        restorer.path(photos / "a.png", resume=True)


def test_a_lone_small_picture_is_written_where_it_is_computed(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handing its one strip to a thread took a twentieth of the time that 256x256 pixels take from file to file."""
    writers = list[threading.Thread]()
    write = batch.Stages.write

    def watched(*given: Any) -> Any:
        writers.append(threading.current_thread())
        return write(*given)

    monkeypatch.setattr(batch.Stages, "write", watched)
    start, told = time.perf_counter(), list[float]()
    summary = restorer.path(
        photos / "a.png", tmp_path / "one.png", on_progress=lambda event: told.append(event.fraction)
    )
    took = time.perf_counter() - start
    assert 0.2 * took < summary.results[0].seconds < took, "reading, computing and writing"
    assert told[-2:] == [1.0, 1.0]
    restorer.path([photos / "a.png", photos / "c.png"], tmp_path / "two")
    assert [writer is threading.main_thread() for writer in writers] == [True, False, False]
