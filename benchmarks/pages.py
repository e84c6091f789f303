"""What all pages share that are written from results/."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def table(rows: Iterable[tuple[str, ...]], headings: tuple[str, ...]) -> list[str]:
    """A Markdown table."""
    lines = [headings, ("---",) * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def result_of(path: Path) -> Any:
    """What a JSON file holds, None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def machine(environment: dict[str, Any]) -> str:
    """Where something was measured, in words; commands that choose their threads have all cores."""
    count, unit = (environment["threads"], "thread") if environment["threads"] else (environment["cores"], "core")
    facts = [environment["processor"], f"{count} {unit}{'s' * (count > 1)}", f"torch {environment['torch']}"]
    return ", ".join([*facts, *([environment["capability"]] if "capability" in environment else [])])
