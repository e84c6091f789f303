"""`imagesmith evaluate`: what is written where, and what is told first."""

from pathlib import Path

import pytest

from imagesmith.apps.cli import app
from imagesmith.apps.cli.evaluate import _tell
from imagesmith.errors import ImagesmithError, OutputError
from imagesmith.evaluate import Report

COMMANDS = {
    "restorer none --targets nowhere": "--json",
    "generator nothing --reference nowhere": "--json",
    "generator nothing --reference nowhere ": "--nearest",
    "classifier nothing --reference nowhere": "--json",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_is_replaced_unasked(command: str, tmp_path: Path) -> None:
    """The accident: `--degrade recipe.json --json recipe.json`, and the recipe is a report."""
    taken = tmp_path / "taken.png"
    taken.write_text("kept")
    words = ["evaluate", *command.split(), COMMANDS[command], str(taken)]
    with pytest.raises(OutputError, match=r"taken\.png exists already"):
        app(words, standalone_mode=False)
    with pytest.raises(ImagesmithError, match=r"nothing|nowhere"):  # with -y it goes on, to what is missing
        app([*words, "-y"], standalone_mode=False)
    assert taken.read_text() == "kept"


def test_the_table_is_printed_though_a_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accident: an hour of measuring, a full disk, and not one number."""
    rows = [{"name": "swd", "value": 1.5}]
    (tmp_path / "file").touch()
    measured = Report(rows, {"swd": 1.5}, {}, rows_are="metric")
    with pytest.raises(OutputError):
        _tell(measured, tmp_path / "file" / "report.json")
    assert "1.5" in capsys.readouterr().out
    measured = Report(rows, {"swd": 1.5}, {"nearest": {"error": "sheet.png cannot be written"}}, rows_are="metric")
    with pytest.raises(OutputError, match=r"sheet\.png cannot be written"):
        _tell(measured, tmp_path / "report.json")
    assert "1.5" in capsys.readouterr().out
    assert (tmp_path / "report.json").is_file()


def test_features_may_be_a_shipped_classifier() -> None:
    """The accident: "no model or file is called 'cifarcnn' (did you mean 'cifarcnn'?)"."""
    words = ["evaluate", "generator", "nothing", "--reference", "nowhere", "--features", "cifarcnn"]
    with pytest.raises(ImagesmithError, match="'nothing'"):
        app(words, standalone_mode=False)
