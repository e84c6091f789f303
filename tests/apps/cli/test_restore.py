"""Tiles and workers, as `imagesmith restore` reads them."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imagesmith import containers
from imagesmith.apps import restore
from imagesmith.apps.cli import app
from imagesmith.apps.cli.restore import parse_tile, parse_workers
from imagesmith.infer.bulk import process


def test_tiles_are_words_or_pixels() -> None:
    """The accident: --tile 0, and a division by it an hour later."""
    assert [parse_tile(text) for text in ("auto", "off", "256")] == ["auto", "off", "256"]
    for text in ("0", "-1", "big", "1.5", ""):
        with pytest.raises(typer.BadParameter):
            parse_tile(text)


def test_workers_are_counted_or_left_to_the_program() -> None:
    """The accident: --workers 0, and a run that waits for nobody."""
    assert [parse_workers(text) for text in ("auto", "1", "16")] == ["auto", 1, 16]
    for text in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(typer.BadParameter, match="number of processes"):
            parse_workers(text)


@pytest.mark.parametrize(
    ("pictures", "options", "cores", "starts"),
    [
        (process.MANY, [], 2, True),
        (process.MANY, ["--device", "cpu", "--workers", "auto"], 2, True),
        (2, ["--workers", "2"], 1, True),
        (process.MANY - 1, [], 2, False),
        (process.MANY, [], 1, False),
        (process.MANY, ["--dry-run"], 2, False),
        (process.MANY, ["--max-ram", "2G"], 2, False),
        (process.MANY, ["--device", "cuda"], 2, False),
        (process.MANY, ["--engine", "ray"], 2, False),
        (process.MANY, ["--workers", "1"], 2, False),
        (1, ["--workers", "2"], 2, False),
        (0, ["--workers", "2"], 2, False),
    ],
)
def test_a_worker_starts_with_the_command_where_several_will_be_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: int, options: list[str], cores: int, starts: bool
) -> None:
    """The accident: a process for nothing beside every command, or one that is never ended."""
    started: list[bool] = []
    monkeypatch.setattr(process, "start_early", lambda: started.append(True))
    monkeypatch.setattr(containers, "usable_cores", lambda: cores)
    monkeypatch.setattr(restore, "run_restore", lambda *args, **kwargs: 0)
    for k in range(pictures):
        (tmp_path / f"{k}.png").touch()
    assert CliRunner().invoke(app, ["restore", str(tmp_path), "-o", "out", *options]).exit_code == 0
    assert started == [True] * starts
