"""A module imports only from floors strictly below it, and only the third-party packages its floor allows."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "imagesmith"

GROUND = "errors"  # imports nothing, so every floor may stand on it, floor 0 included
FLOORS = {
    "errors": 0, "configs": 0, "containers": 0,
    "tensors": 1, "presets": 1, "atomic": 1,
    "nets": 2, "losses": 2, "metrics": 2, "degrade": 2, "estimate": 2,
    "runtime": 3, "data": 3,
    "zoo": 4,
    "infer": 5,
    "evaluate": 6,
    "train": 7,
    "apps": 8,
}  # fmt: skip
PACKAGES = {
    "errors": set(), "configs": {"pydantic"}, "containers": set(),
    "tensors": {"torch"}, "presets": set(), "atomic": set(),
    "nets": {"torch"}, "losses": {"torch"}, "metrics": {"torch"}, "degrade": {"torch", "numpy", "PIL", "av"},
    "estimate": {"torch"},
    "runtime": {"torch", "safetensors", "tensorboard"}, "data": {"torch", "numpy", "PIL", "av", "tifffile", "pydicom"},
    "zoo": {"torch", "safetensors", "spandrel"},
    "infer": {"torch", "numpy", "PIL", "ray"},
    "evaluate": {"torch"},
    "train": {"torch"},
    "apps": {"typer", "rich", "torch", "PIL"},
}  # fmt: skip


def imported(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import in `tree`, wherever it stands; `package` resolves relative ones."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            # `from imagesmith import nets` imports a room, so the names matter as well as the module
            names += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return names


def is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def violations(source: Path) -> list[str]:
    """One line for every import below `source` (the package folder) that breaks the table."""
    found = []
    for file in sorted(source.rglob("*.py")):
        inside = file.relative_to(source)
        room, tree = inside.parts[0].removesuffix(".py"), ast.parse(file.read_text("utf-8"))
        if room == "__init__":  # the public surface loads its names lazily, through importlib
            floor, allowed = -1, set()
            tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
        elif room == "__main__":  # `python -m imagesmith`, the one door above the apps
            floor, allowed = max(FLOORS.values()) + 1, set()
        elif room not in FLOORS:
            found.append(f"{inside}: the room '{room}' stands on no floor; add it to the table and to DESIGN.md")
            continue
        else:
            floor, allowed = FLOORS[room], PACKAGES[room]
        package = ".".join(("imagesmith", *inside.parent.parts))
        for line, name in imported(tree, package):
            top, _, rest = name.partition(".")
            if top == "imagesmith":
                other = rest.partition(".")[0]
                if other in FLOORS and other not in {room, GROUND} and FLOORS[other] >= floor:
                    found.append(f"{inside}:{line}: {room} (floor {floor}) imports {other} (floor {FLOORS[other]})")
            elif top not in sys.stdlib_module_names and top not in allowed:
                found.append(f"{inside}:{line}: {room} may not use the package {top}")
    return found


def test_every_module_imports_only_from_below() -> None:
    """The accident: a net that reads a file, a metric that knows the trainer, and soon nothing can be changed alone."""
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("nets/x.py", "from imagesmith.train.loop import fit", "nets (floor 2) imports train (floor 7)"),
        ("nets/x.py", "from ..train.loop import fit", "nets (floor 2) imports train (floor 7)"),
        ("nets/x.py", "from .. import zoo", "nets (floor 2) imports zoo (floor 4)"),
        ("nets/x.py", "from imagesmith import metrics", "nets (floor 2) imports metrics (floor 2)"),
        ("data/x.py", "def f():\n    import imagesmith.runtime.tiling", "data (floor 3) imports runtime (floor 3)"),
        ("evaluate.py", "from .apps import cli", "evaluate (floor 6) imports apps (floor 8)"),
        ("nets/x.py", "import numpy as np", "nets may not use the package numpy"),
        ("errors.py", "import torch.nn", "errors may not use the package torch"),
        ("__init__.py", "from .nets import build_net", "__init__ (floor -1) imports nets (floor 2)"),
        ("utils.py", "", "stands on no floor"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str, said: str) -> None:
    """The accident: a law whose parser misses relative or nested imports passes for ever and keeps nothing."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n")
    assert said in " ".join(violations(tmp_path))


def test_permitted_imports_pass(tmp_path: Path) -> None:
    """The accident: a law so strict that people switch it off; same room, lower floors and the stdlib are free."""
    (tmp_path / "infer").mkdir()
    (tmp_path / "infer" / "x.py").write_text(
        "import os, torch\nfrom imagesmith import __version__, zoo\nfrom . import y\nfrom ..errors import ImageError\n"
    )
    assert violations(tmp_path) == []


def test_the_table_is_the_one_of_the_design_page() -> None:
    """The accident: the page and the law part, and newcomers read the wrong one."""
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "DESIGN.md").read_text("utf-8"), re.MULTILINE)
    page = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert page == FLOORS
