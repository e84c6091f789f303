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


def by_machine(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by the machine in words on which they were measured."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(machine(row["environment"]), []).append(row)
    return groups


def precision(runtime: str) -> str:
    """`bf16`, `float32`, ... of what a Runtime says of itself."""
    name = runtime.replace(",", " ").split()[1]
    return {"fp32": "float32"}.get(name, name)


def machine(environment: dict[str, Any]) -> str:
    """Where something was measured, in words; commands that choose their threads have all cores."""
    count, unit = (environment["threads"], "thread") if environment["threads"] else (environment["cores"], "core")
    facts = [environment["processor"], f"{count} {unit}{'s' * (count > 1)}", f"torch {environment['torch']}"]
    return ", ".join([*facts, *([environment["capability"]] if "capability" in environment else [])])
