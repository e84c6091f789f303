"""Large pictures go through row by row: the same result as that of the whole, in memory that does not grow with them."""

import io
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from skimage import data

from imagesmith.data import png_bands, tiff_bands
from imagesmith.data.files import read_header, read_image
from imagesmith.errors import TooLargeError, UsageError
from imagesmith.infer import network, reading
from imagesmith.infer.chained import Auto
from imagesmith.infer.outcome import FileOptions, ItemResult, Progress
from imagesmith.infer.reading import read_picture
from imagesmith.infer.restore import Restorer
from imagesmith.runtime import memory

Make = Callable[..., Restorer]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """These small pictures are read in bands of a few rows."""
    monkeypatch.setattr(reading, "LARGE_BYTES", 1)
    for module in (png_bands, tiff_bands):
        monkeypatch.setattr(module, "_BAND_BYTES", 2000)


@pytest.fixture
def read_by_rows(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The pictures of a run that were read row by row."""
    found: list[object] = []
    real = reading.read_scanlines

    def watched(*args: object, **options: object) -> object:
        found.append(real(*args, **options))
        return found[-1]

    monkeypatch.setattr(reading, "read_scanlines", watched)
    return found


def done(restorer: Restorer, source: Path, out: Path, **options: object) -> ItemResult:
    (result,) = restorer.path(source, out, **options).results
    assert result.status == "done", result.error
    return result


def deep(photo: np.ndarray, kind: str) -> np.ndarray:
    alpha = np.where(np.arange(photo.shape[1])[None, :, None] > 40, 255, photo[..., :1] // 2).astype(np.uint8)
    pixels = {"gray": photo[..., :1], "RGB": photo, "RGBA": np.concatenate((photo, alpha), axis=2)}[
        kind.split(maxsplit=1)[0]
    ]
    if "16" in kind:
        return pixels.astype(np.uint16) * 251
    return pixels.astype(np.float32) / 90 if "float" in kind else pixels


def asked(**options: object) -> FileOptions:
    """What is asked of a run: nothing, but for `options`."""
    nothing = dict.fromkeys(("recursive", "resume", "overwrite", "partial", "self_ensemble", "consistency"), False)
    nothing |= dict.fromkeys(("suffix", "mask", "uncertainty"))
    return FileOptions(**{**nothing, "format": "keep", "max_pixels": 1 << 24, "dry_run": False, **options})


def test_a_member_that_max_ram_does_not_take_stays_packed(restorer: Restorer, tmp_path: Path) -> None:
    """The accident: a member of an archive was unpacked whole before anybody asked whether it fits --max-ram."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.png", b"\x89PNG\r\n\x1a\n" + bytes(150 << 20))
    limit = memory.resident_memory() + 100e6
    (result,) = restorer.path(tmp_path / "bomb.zip", tmp_path / "out", max_ram=limit).results
    assert "bomb.zip/x.png: declares 150 MiB, expected at most" in str(result.error)


@pytest.mark.parametrize("kind", ["gray", "RGB", "RGBA", "gray 16", "RGB 16", "RGBA 16", "RGB float"])
@pytest.mark.parametrize(("suffix", "tile"), [(".png", 16), (".tif", 16), (".tif", "auto")])
def test_by_rows_is_whole_bit_for_bit(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, read_by_rows: list, kind: str, suffix: str, tile: object
) -> None:
    """A seam in row 9,000 of a scan is found by its buyer."""
    source = tmp_path / f"a{suffix}"
    pixels = deep(photo, kind)
    if suffix == ".tif":
        tifffile.imwrite(
            source,
            pixels[..., 0] if pixels.shape[2] == 1 else pixels,
            photometric="rgb" if pixels.shape[2] > 2 else "minisblack",
            extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
            rowsperstrip=5,
        )
    elif "float" in kind or kind == "RGB 16":
        pytest.skip("PNG has no floats, and Pillow writes no deep colour")
    else:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :4].astype(np.uint8)).save(source)
    restorer = make_restorer(tile=tile)
    done(restorer, source, tmp_path / f"out{suffix}")
    assert len(read_by_rows) == 1
    whole = restorer.frame(read_image(source))
    result = read_image(tmp_path / f"out{suffix}")
    assert torch.equal(result.pixels, whole.pixels)
    assert result.depth == whole.depth


def test_memory_is_given_back_between_strips(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holes that tiles of several sizes leave made 1.03 GB of a picture that is promised to take less than 1."""
    given: list[int] = []
    monkeypatch.setattr(network, "give_back", lambda: given.append(1))
    Image.fromarray(photo).save(tmp_path / "a.png")
    restorer = make_restorer(tile=16)
    done(restorer, tmp_path / "a.png", tmp_path / "out.png")
    assert len(given) == -(-len(photo) // 16) - 1
    restorer(photo)
    assert len(given) == -(-len(photo) // 16) - 1, "a picture in memory is to be quick"


@pytest.mark.parametrize(("task", "planes"), [("denoise", 0), ("jpeg", 1)])
def test_networks_of_the_same_size(
    make_unet: Make, photo: np.ndarray, tmp_path: Path, read_by_rows: list, task: str, planes: int
) -> None:
    """Sizes that are no multiple of the network's, and planes beside the picture, exist by rows as well."""
    Image.fromarray(photo).save(tmp_path / "a.tif", tiffinfo={278: 7})
    restorer = make_unet(task, planes, tile=24)
    done(restorer, tmp_path / "a.tif", tmp_path / "out.tif", self_ensemble=True)
    assert len(read_by_rows) == 1
    whole = restorer.frame(read_image(tmp_path / "a.tif"), self_ensemble=True)
    assert torch.equal(read_image(tmp_path / "out.tif").pixels, whole.pixels)


@pytest.mark.parametrize("out", ["out.tif", "out.png", "out.jpg"])
def test_what_travels_with_a_picture_is_kept(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, read_by_rows: list, out: str
) -> None:
    """Resolution, profile and caption are why scans are TIFF; the format of the result is free all the same."""
    Image.fromarray(photo).save(tmp_path / "a.tif", tiffinfo={278: 7, 270: "a castle"}, dpi=(300, 300), icc_profile=ICC)
    done(make_restorer(), tmp_path / "a.tif", tmp_path / out)
    assert len(read_by_rows) == 1
    meta = read_image(tmp_path / out).meta
    assert meta.dpi == pytest.approx((300, 300), abs=0.1)
    assert meta.icc == ICC
    assert meta.exif is not None
    assert b"a castle" in meta.exif


def test_a_dry_run_reads_a_header_only(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path, read_by_rows: list
) -> None:
    """--dry-run of a folder of scans must not take the memory that the run itself would not."""
    Image.fromarray(photo).save(tmp_path / "a.tif")
    (planned,) = restorer.path(tmp_path / "a.tif", tmp_path / "out.tif", dry_run=True).results
    assert (planned.status, planned.out_size, len(read_by_rows)) == ("planned", (166, 122), 1)
    assert planned.notes == ()


def test_what_is_read_as_a_whole_says_why(restorer: Restorer, photo: np.ndarray, tmp_path: Path) -> None:
    """Who pays with gigabytes learns what else would do."""
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    Image.fromarray(photo).save(tmp_path / "a.png")
    (note,) = done(restorer, tmp_path / "a.jpg", tmp_path / "a.out.png").notes
    assert note.endswith("JPEG is decoded as a whole")
    (note,) = done(restorer, tmp_path / "a.png", tmp_path / "b.out.png", consistency=True).notes[:1]
    assert "--consistency needs all of it" in note
    (note,) = read_picture(tmp_path / "a.png", Auto.card, asked()).meta.notes
    assert "--task auto looks at all of it" in note


def test_a_jpeg_that_looks_damaged_is_told_where_it_is_examined(restorer: Restorer, tmp_path: Path) -> None:
    """The accident: the lower third of a photograph is displaced and green, and it is called in need of nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(data.astronaut()[:200, 90:290]).save(tmp_path / "a.jpg", quality=90, subsampling=0, exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    middle = len(content) // 2
    (tmp_path / "b.jpg").write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    whole, broken = (read_picture(tmp_path / name, Auto.card, asked()).meta.notes for name in ("a.jpg", "b.jpg"))
    (told,) = set(broken) - set(whole)
    share, words = told.split("% of the picture, ")
    assert 30 < float(share) < 60
    assert words == "between rows 0 and 199 (of 200), looks damaged; --partial invents it anew", "it lies on its side"
    assert told not in read_picture(tmp_path / "b.jpg", restorer.card, asked()).meta.notes, "nobody looks at it"


def test_a_limit_that_cannot_be_kept_is_refused_in_words(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's way of telling takes the whole run with it, and says nothing."""
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    (by_rows,) = restorer.path(tmp_path / "a.png", tmp_path / "b.png", max_ram=301_000_000).results
    assert "--max-ram 0.301 GB cannot be kept" in by_rows.error
    (whole,) = restorer.path(tmp_path / "a.jpg", tmp_path / "b.png", max_ram=300_010_000).results
    assert "a.jpg: expected a picture that fits into --max-ram 0.30001 GB" in whole.error
    assert "JPEG is decoded as a whole" in whole.error
    for result in (by_rows, whole):
        assert len(result.error.splitlines()) <= 3
    with pytest.raises(UsageError, match=r"more than the 0.30 GB that the program and its model hold"):
        restorer.path(tmp_path / "a.png", tmp_path / "b.png", max_ram=1000)
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("layout", [{"rowsperstrip": 61}, {"tile": (64, 16)}])
def test_a_strip_that_does_not_fit_is_refused_unread(
    restorer: Restorer, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict
) -> None:
    """The accident: a scan in one compressed strip took several times --max-ram before anybody counted."""
    tifffile.imwrite(tmp_path / "a.tif", photo, compression="deflate", photometric="rgb", **layout)
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    monkeypatch.setattr(tiff_bands.TiffBands, "_decoded", lambda *_: pytest.fail("it was decoded"))
    for dry_run in (False, True):
        (result,) = restorer.path(tmp_path / "a.tif", tmp_path / "b.tif", max_ram=300_020_000, dry_run=dry_run).results
        assert "the 0.00 GB that --max-ram leaves, the file has 61 of its 61 in one piece" in str(result.error)
        assert "(`tiffcp -r 64`)" in str(result.error)


def test_decoding_takes_no_more_than_is_counted(tmp_path: Path) -> None:
    """The accident: three times the pixels was counted for a band, and a float scan took eight times as much."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells what was held at the worst moment")
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        import numpy as np, tifffile, torch
        from imagesmith.data.scanlines import read_scanlines
        from imagesmith.infer.modes import colour_range

        def held(name):
            lines = Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

        path = Path(sys.argv[1]) / "a.tif"
        noise = np.random.default_rng(0).integers(0, 255, (800, 800, 4), np.uint8)
        for rows in (8, 800):  # libraries are loaded before anything is measured
            for pixels in (noise[..., :3], noise, noise.astype(np.uint16), noise[..., :3] / np.float32(255)):
                alpha = {"extrasamples": ["assocalpha"]} if pixels.shape[2] == 4 else {}
                options = {"compressionargs": {"level": 1}, "photometric": "rgb", "rowsperstrip": rows} | alpha
                tifffile.imwrite(path, pixels[:rows], compression="deflate", **options)
                Path("/proc/self/clear_refs").write_text("5")  # the most that was held is what is held now
                before = held("VmRSS")
                scan = read_scanlines(path, max_pixels=1 << 24, least_bytes=0)
                colour_range(scan.parts(), scan.colours, scan.depth, print)
                if rows == 800:
                    print(pixels.dtype, scan.channels, (held("VmHWM") - before) / scan.decoding_bytes)
    """)
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    shares = [float(line.split()[-1]) for line in said.stdout.splitlines()]
    assert len(shares) == 4
    assert 0.3 < max(shares) < 1, said.stdout


@pytest.mark.parametrize("suffix", [".webp", ".png"])
@pytest.mark.parametrize("network", ["make_restorer", "make_deblurrer"])
def test_a_dry_run_keeps_limits_as_the_run_does(
    request: pytest.FixtureRequest,
    photo: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    network: str,
) -> None:
    """The accident: --dry-run called a thousand pictures planned, and the run refused every one of them."""
    restorer, source = request.getfixturevalue(network)(), tmp_path / f"a{suffix}"
    Image.fromarray(np.tile(photo, (2, 2, 1))).save(source)
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    monkeypatch.setattr(memory, "_RESERVE_BYTES", 0)
    seen = set()
    for room in (2e4, 2e5, 3e6, 1e9):
        planned, done = (
            restorer.path(source, tmp_path / "b.png", max_ram=3e8 + room, overwrite=True, dry_run=dry).results[0]
            for dry in (True, False)
        )
        assert (planned.status == "failed") == (done.status == "failed"), (planned.error, done.error)
        told = [[note for note in result.notes if "keep within" in note] for result in (planned, done)]
        assert told[0] == told[1]
        seen.add((planned.status, bool(told[0])))
    assert {("failed", False), ("planned", False)} <= seen
    assert (("planned", True) in seen) == (network == "make_restorer"), "this network's smallest tiles take more"


@pytest.mark.parametrize("given", [bytes, io.BytesIO])
def test_a_limit_holds_for_pipes_and_archives(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, given: Callable[[bytes], bytes | io.BytesIO]
) -> None:
    """The accident: a megabyte of flat PNG out of a pipe is 200 MB of pixels before anybody asks for the limit."""
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    stream = io.BytesIO()
    Image.new("L", (3000, 3000)).save(stream, "PNG")
    content = stream.getvalue()
    fits = 300_000_000 + 3000 * 3000 * 2.4 + 2 * len(content) + 1
    assert read_picture(given(content), restorer.card, asked(max_ram=fits)).height == 3000
    monkeypatch.setattr(reading, "read_image", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(TooLargeError, match=r"^expected a picture that fits.*\n.*a pipe or an archive"):
        read_picture(given(content), restorer.card, asked(max_ram=fits - 100))


def test_a_limit_makes_tiles_smaller_and_is_told(
    make_restorer: Make, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is only hoped for is no limit; one that shaped the plan explains why a run is slower."""
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    monkeypatch.setattr(memory, "_RESERVE_BYTES", 0)
    Image.fromarray(np.tile(photo, (3, 3, 1))).save(tmp_path / "a.png")
    restorer = make_restorer()
    notes = done(restorer, tmp_path / "a.png", tmp_path / "b.png", max_ram=305_000_000).notes
    assert any("keep within --max-ram 0.305 GB" in note for note in notes), notes
    assert done(restorer, tmp_path / "a.png", tmp_path / "c.png", max_ram=10_000_000_000).notes == ()
    apart = read_image(tmp_path / "b.png").pixels.int() - read_image(tmp_path / "c.png").pixels.int()
    assert apart.abs().max() <= 1


def test_a_stop_leaves_nothing_half_written(make_restorer: Make, photo: np.ndarray, tmp_path: Path) -> None:
    """A scan that opens and is black from the middle on is taken for the result."""
    Image.fromarray(photo).save(tmp_path / "a.tif", tiffinfo={278: 7})

    def stop(event: Progress) -> None:
        if event.result is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_restorer(tile=16).path(tmp_path / "a.tif", tmp_path / "out.tif", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    """A picture of four times the height is four times the work, and no more memory."""
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np, tifffile, torch
        from imagesmith.infer import network, reading
        from imagesmith.infer.restore import Restorer
        from imagesmith.nets import NetSpec
        from imagesmith.runtime.device import Runtime
        from imagesmith.zoo import Model, describe

        class Point(torch.nn.Conv2d):
            scale, channels, planes, multiple_of, halo = 1, 3, 0, 1, 0

            def subpixels(self, x):
                return self(x)

            def fused(self):
                return self

        reading.LARGE_BYTES = 1
        net = Point(3, 3, 1)
        card = describe(net, NetSpec("compact"), "toy", task="denoise")
        restorer = Restorer(Model(net, card), Runtime(torch.device("cpu"), torch.float32, True, ""), tile=200)
        strip = np.zeros((100, 1500, 3), np.uint8)
        for height in (2000, 8000):
            with tifffile.TiffWriter(sys.argv[1] + "/a.tif") as tiff:
                strips = (strip.tobytes() for _ in range(height // 100))
                tiff.write(strips, shape=(height, 1500, 3), dtype=np.uint8, rowsperstrip=100, photometric="rgb")
            (result,) = restorer.path(sys.argv[1] + "/a.tif", sys.argv[1] + "/b.tif", overwrite=True).results
            assert result.status == "done", result
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    calm = os.environ | {"MALLOC_ARENA_MAX": "1"}  # what threads leave in arenas of their own is not what is held
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=calm)
    assert said.returncode == 0, said.stderr
    low, high = map(int, said.stdout.split())
    assert high - low < 14e6, f"{(high - low) / 1e6:.0f} MB more, for a picture that has 27 MB more"
    header = read_header(tmp_path / "b.tif")
    assert (header.width, header.height) == (1500, 8000)
