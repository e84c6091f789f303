"""`imagesmith data inspect`: findings for people, for programs, and to look at."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesmith.apps.inspect import run_inspect
from imagesmith.errors import OutputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(6):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_people_read_findings_and_advice(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice is what the command is for, so it comes last, where the eye ends."""
    run_inspect(str(photos), as_json=False, sheet=None)
    text = capsys.readouterr().out
    assert "classes           a 3, b 3\n" in text
    assert "width             30\n" in text
    assert "a/broken.jpg: expected JPEG" in text
    assert text.splitlines()[-1].startswith("advice")


def test_programs_read_one_object(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tensor or an array among the findings ends in a traceback of the JSON writer."""
    run_inspect(str(photos), as_json=True, sheet=None)
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 6
    assert found["classes"] == {"a": 3, "b": 3}
    assert found["width"] == {"min": 30, "median": 30, "max": 30}
    assert (found["size"]["height"], found["size"]["width"]) == (20, 28)


def test_what_the_table_leaves_out_is_listed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The accident: a table that forgets a class, and a report in which nothing is missing."""
    (photos / "labels.csv").write_text("file,label\n" + "".join(f"{'ab'[k % 2]}/{k}.png,x\n" for k in range(5)))
    for as_json in (False, True):
        run_inspect(str(photos), as_json=as_json, sheet=None)
    text = capsys.readouterr().out
    assert "unlabelled        2\n" in text
    assert '"unlabelled": ["' in text


def test_a_sheet_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    """A hundred thousand pictures looked at, and the folder of the sheet was misspelt."""
    with pytest.raises(OutputError, match="none does not exist"):
        run_inspect(str(tmp_path / "no photos"), as_json=False, sheet=tmp_path / "none" / "sheet.png")


@pytest.mark.parametrize("classes", [True, False])
def test_the_sheet_shows_every_class(photos: Path, classes: bool, tmp_path: Path) -> None:
    """A sheet of blank cells looks like a data set of blank pictures."""
    if not classes:
        (photos / "stray.png").write_bytes((photos / "a" / "0.png").read_bytes())
    sheet = tmp_path / "sheet.png"
    run_inspect(str(photos), as_json=False, sheet=sheet)
    pixels = np.asarray(Image.open(sheet).convert("L"), dtype=float)
    if classes:
        assert pixels[:100, :150].min() < 128  # the caption
        assert pixels[:100, 150:].std() > 30
        assert pixels[100:, 150:].std() > 30
    else:
        assert pixels[:, 600:].std() > 30  # the seventh picture stands in the first row
    with pytest.raises(OutputError, match="exists"):
        run_inspect(str(photos), as_json=False, sheet=sheet)
