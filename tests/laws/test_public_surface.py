"""The public names, and that asking for none of them costs nothing."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import imagesmith

FROZEN = Path(__file__).with_name("public_surface.json")
REGENERATE = "python tests/laws/test_public_surface.py"


def surface() -> dict[str, str]:
    """Every public name, and every public method of the classes among them, with its parameters."""
    found = {}
    for name in sorted(imagesmith.__all__):
        value = getattr(imagesmith, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            found[name] = f"class{_parameters(value)}"
            for method, function in inspect.getmembers(value, callable):
                if not method.startswith("_") or method == "__call__":
                    found[f"{name}.{method}"] = _parameters(function)
        elif callable(value):
            found[name] = "exception" if inspect.isclass(value) else f"function{_parameters(value)}"
        else:
            found[name] = next(kind.__name__ for kind in (Mapping, ModuleType, str) if isinstance(value, kind))
    return found


def _parameters(value: Callable) -> str:
    return "(" + ", ".join(inspect.signature(value).parameters) + ")"


def test_public_names_are_frozen() -> None:
    """The accident: a renamed parameter breaks every script of every user, and nobody here notices."""
    assert surface() == json.loads(FROZEN.read_text()), f"changed on purpose? regenerate: {REGENERATE}"


def test_every_public_name_says_what_it_is() -> None:
    """The accident: `help(imagesmith.restore)` answers with nothing."""
    for name in imagesmith.__all__:
        value = getattr(imagesmith, name)
        if callable(value) or inspect.ismodule(value):
            assert inspect.getdoc(value), f"imagesmith.{name} has no docstring"


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The accident: one innocent top-level import, and `imagesmith --help` takes three seconds."""
    heavy = ["torch", "numpy", "PIL", "av", "pydantic", "typer", "rich"]
    code = f"import sys, imagesmith; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_type_checkers_see_what_python_loads() -> None:
    """The accident: py.typed promises types, and every public name is Any: no editor completes or checks a call."""
    tree = ast.parse(Path(imagesmith.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, f"a type checker takes {alias.name} for private without `as`"
            is_module = node.module == "imagesmith"
            seen[alias.name] = f"{node.module}.{alias.name}" if is_module else node.module
    assert seen == imagesmith._PUBLIC


def test_unknown_names_are_attribute_errors() -> None:
    """The accident: a lazy `__getattr__` that answers anything makes `hasattr` lie."""
    assert not hasattr(imagesmith, "no_such_name")
    assert set(dir(imagesmith)) == set(imagesmith.__all__)


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(surface(), indent=2) + "\n")
