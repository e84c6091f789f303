"""What results/speed.json and its page say of where a row was measured."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def _measured() -> dict[str, Any]:
    """A row as speed_pictures.py measures it."""
    row = json.loads((RESULTS / "speed.json").read_text())["pictures"]["rows"][0]
    return {key: value for key, value in row.items() if key != "environment"}


def test_a_row_keeps_the_environment_in_which_it_was_measured(tmp_path: Path):
    """The accident: three rows measured again, and the other seven pass for measured by the newer commit, too."""
    first, second = ({**import_module("timing").environment(2), "commit": commit} for commit in ("old", "new"))
    results = import_module("speed").Results(tmp_path)
    for side, started in ((256, first), (512, first), (512, second)):
        results.add_pictures(_measured() | {"side": side}, started)
    rows = json.loads((tmp_path / "speed.json").read_text())["pictures"]["rows"]
    assert [(row["side"], row["environment"]["commit"]) for row in rows] == [(256, "old"), (512, "new")]
    assert first["capability"]


def test_rows_of_several_machines_name_theirs(tmp_path: Path):
    """The accident: times with and without AVX-512 in one table, under the name of one machine."""
    page = import_module("speed_page").speed_section
    environment = import_module("timing").environment(2)
    rows = [{**_measured(), "environment": environment | {"processor": name}} for name in ("slow", "slow", "fast")]
    for some, shown in ((rows[:2], 1), (rows, 3)):
        text = "\n".join(page({"pictures": {"rows": some}}))
        assert text.count("slow, 2 threads") + text.count("fast, 2 threads") == shown
