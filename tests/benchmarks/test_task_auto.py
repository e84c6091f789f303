"""What is counted of `--task auto`: the kind of damage, and the very networks for it."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_another_factor_and_fewer_networks_are_the_kind_but_not_exact():
    """The accident: any enlargement counted as 'the right chain', though two of three were by another factor."""
    task_auto = import_module("task_auto")
    small, mixed = task_auto.KINDS["low resolution"], task_auto.KINDS["mixed"]
    assert task_auto.kind_chosen(("sr-x4",)) == "low resolution"
    assert [task_auto.exact_models(damages) for damages in small] == [{"sr-x2"}, {"sr-x3"}, {"sr-x4"}]
    assert task_auto.kind_chosen(("jpeg", "deblur")) == "mixed"
    assert task_auto.exact_models(mixed[0]) == {"denoise", "jpeg", "deblur"}
    assert [task_auto.exact_models(damages) for damages in task_auto.KINDS["blur"]] == [{"deblur"}, {"deblur"}]


def test_what_is_saved_tells_how_much_was_exact_and_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: nobody can tell from the figure of how many cases, and of which photographs, it was."""
    task_auto = import_module("task_auto")
    kinds = [(kind, recipe) for recipe in range(3) for kind in task_auto.KINDS]

    def clean_case(number: int, groups: list[list[Path]], shrink: int):
        kind, recipe = kinds[number]
        recipes = task_auto.KINDS[kind]
        return kind, recipes[recipe % len(recipes)], SimpleNamespace(noise_before_jpeg=0.0)

    monkeypatch.setattr(task_auto, "case", clean_case)
    monkeypatch.setattr(task_auto, "plan_chain", lambda findings, models: [])
    (tmp_path / "photos").mkdir()
    asked = [str(tmp_path / "photos"), "--cases", "18", "--save", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["task_auto.py", *asked])
    task_auto.main()
    found = json.loads((tmp_path / "task_auto.json").read_text())
    assert (found["cases"], found["shrink"], found["photos"]) == (18, 1, "photos")
    assert found["right"] == found["exact"] == pytest.approx(3 / 18)
    assert found["untouched"] == 1
    assert found["kinds"]["jpeg"] == {"cases": 3, "right": 0, "exact": 0}


def test_the_readme_tells_the_figures_of_the_results():
    """The accident: the README calls right chains what was counted as the right kind."""
    found = json.loads((ROOT / "benchmarks" / "results" / "task_auto.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert f"the right kind of damage in {100 * found['right']:.1f} % of {found['cases']} cases" in readme
    assert f"exactly the networks for it in {100 * found['exact']:.1f} %" in readme
    for before, kind in (("of mixtures ", "mixed"), ("size alone, ", "low resolution")):
        exact = f"{found['kinds'][kind]['exact']} of {found['kinds'][kind]['cases']}"
        assert before + exact in readme.replace("\n", " ")
