"""What results/restoration.json and its page say of where a row was measured."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def test_rows_that_are_kept_keep_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: five networks measured again, and ten others pass for measured on that machine by that commit."""
    restoration = import_module("restoration")
    here = import_module("timing").environment(2)

    def measured(names: list[str], data: Path, **_: Any) -> Iterator[Any]:
        for name in names:
            yield restoration.Row("1 megapixel of result", name, "seconds", 1.0)

    monkeypatch.setattr(restoration, "measure_all", measured)
    for name, processor in (("denoise", "slow"), ("jpeg", "fast")):
        monkeypatch.setattr(restoration, "environment", lambda threads, told=processor: here | {"processor": told})
        folders = ["--data", ".", "--docs", str(tmp_path), "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["restoration.py", *folders, "--only", name])
        restoration.main()
    found = json.loads((tmp_path / "restoration.json").read_text())
    machines = {row["network"]: row["environment"]["processor"] for row in found["rows"]}
    assert machines == {"denoise": "slow", "jpeg": "fast"}
    assert found.keys() == {"rows"}
    page = (tmp_path / "numbers.md").read_text()
    assert page.count("result: slow, 2 threads") == page.count("result: fast, 2 threads") == 1
