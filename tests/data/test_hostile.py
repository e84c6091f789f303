"""Every broken, odd and hostile file at hand: a right picture or one short error, in bounded time and memory."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LIMIT_BYTES = 1 << 30
LIMIT_SECONDS = 10

# Runs in a child so that its memory can be measured and a crash of a decoder fails a test and not the test run.
READ_ALL = textwrap.dedent(
    """
    import json, resource, sys, time, warnings
    warnings.simplefilter("error")
    from imagesmith.data.files import read_image
    from imagesmith.errors import ImagesmithError
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        path, start = line.rstrip("\\n"), time.process_time()
        try:
            frame = read_image(path)
            result = [list(frame.pixels.shape), frame.depth, list(frame.meta.notes)]
        except ImagesmithError as error:
            result = [type(error).__name__, str(error)]
        except BaseException as error:
            result = ["CRASH", repr(error)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
        print(json.dumps([path, result, time.process_time() - start, peak * 1024]), flush=True)
    """
)

NOT_ON_THE_LIST = {
    ".sgi",
    ".blp",
    ".dds",
    ".psd",
    ".tga",
    ".fli",
    ".eps",
    ".cur",
    ".qoi",
    ".pgm",
    ".msp",
    ".fits",
    ".gpl",
    ".spider",
}
SUITE_NAME = re.compile(r"i?(basn|ft..n)[02346][gcpa]\d\d\.png")
MUST_FAIL = {
    "decompression_bomb.gif": "TooLargeError",
    "bmp_b_badwidth.bmp": "TooLargeError",
    "truncated_image.png": "TruncatedError",
    "truncated_end_chunk.png": "TruncatedError",
    "broken.png": "TruncatedError",
    "apng_syntax_num_frames_zero.png": "ImageError",
    "zero_width.gif": "ImageError",
    "zero_height.j2k": "ImageError",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "ImageError",
    "bmp_q_rgba16-4444.bmp": "FormatError",
}
MUST_BE = {
    "12in16bit.tif": ([100, 100, 1], "uint16"),
    "16bit.MM.cropped.tif": ([64, 64, 1], "uint16"),
    "16bit.cropped.j2k": ([64, 64, 1], "uint16"),
    "tiff_strip_planar_16bit_RGB.tiff": ([40, 100, 3], "uint16"),
    "tiff_tiled_planar_16bit_RGBa.tiff": ([40, 100, 4], "uint16"),
    "tiff_strip_cmyk_16l_jpeg.tif": ([100, 100, 3], "uint8"),
    "orientation_rectangle.jpg": ([2, 1, 3], "uint8"),
    "g4_orientation_5.tif": ([88, 590, 1], "uint8"),
    "png_decompression_dos.png": ([1, 1, 1], "uint8"),
    "apng_mode_16bit.png": ([64, 128, 4], "uint16"),
    "sugarshack_bad_mpo_header.jpg": ([480, 640, 3], "uint8"),
    "hopper_orientation_6.webp": ([128, 128, 3], "uint8"),
    "no_palette_with_transparency.gif": ([2, 2, 2], "uint8"),
}


@pytest.fixture(scope="module")
def results(shared_data: Path) -> dict[str, tuple[list, float, int]]:
    paths = sorted(path for folder in ("images", "pngsuite") for path in (shared_data / "hostile" / folder).iterdir())
    child = subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(lines) == len(paths), f"the reader died at {paths[len(lines)]}: {child.stderr[-500:]}"
    return {Path(path).name: (result, seconds, peak) for path, result, seconds, peak in lines}


def test_each_gives_a_picture_or_one_short_error(results) -> None:
    """A traceback in a batch of a thousand photos hides the 999 that went well."""
    for name, (result, _, _) in results.items():
        assert result[0] != "CRASH", (name, result)
        if isinstance(result[0], str):
            assert result[0].endswith("Error"), (name, result)
            assert 1 <= len(result[1].splitlines()) <= 3, (name, result)


def test_time_and_memory_stay_bounded(results) -> None:
    """Some of these files take minutes or all memory in a decoder without limits."""
    for name, (_, seconds, peak) in results.items():
        assert seconds < LIMIT_SECONDS, (name, seconds)
        assert peak < LIMIT_BYTES, (name, peak)


def test_only_formats_of_the_list_are_decoded(results) -> None:
    """Pillow would open most of these, each with one more parser to attack."""
    for name, (result, _, _) in results.items():
        if Path(name).suffix in NOT_ON_THE_LIST:
            assert result[0] == "FormatError", (name, result)


@pytest.mark.parametrize("name", MUST_FAIL)
def test_broken_files_fail_as_what_they_are(results, name: str) -> None:
    """The class of an error decides the advice that the user gets."""
    assert results[name][0][0] == MUST_FAIL[name]


@pytest.mark.parametrize("name", MUST_BE)
def test_odd_files_are_read_in_full(results, name: str) -> None:
    """Refusing what Pillow reads would be safe and useless."""
    assert tuple(results[name][0][:2]) == MUST_BE[name]


def test_the_png_suite_loads_at_its_depth(results) -> None:
    """The file names of the suite spell what is in them: interlace, test, colour type, bits."""
    suite = {Path(name).stem: entry for name, entry in results.items() if SUITE_NAME.fullmatch(name)}
    assert len(suite) >= 50
    for stem, (result, _, _) in suite.items():
        colour, bits = int(stem[-4]), int(stem[-2:])
        keyed = "ft" in stem and "tp0" not in stem
        assert result[1] == ("uint16" if bits == 16 else "uint8"), stem
        assert result[0] == [32, 32, {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour] + keyed], stem
