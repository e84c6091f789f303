"""What results/speed.json and its page say of where a row was measured."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from imagesmith.zoo.cards import CARDS

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def _rows() -> list[dict[str, Any]]:
    return json.loads((RESULTS / "speed.json").read_text())["pictures"]["rows"]


def _measured() -> dict[str, Any]:
    """A row as speed_pictures.py measures it."""
    return {key: value for key, value in _rows()[0].items() if key != "environment"}


def _page(rows: list[dict[str, Any]]) -> list[str]:
    return import_module("speed_page").speed_section({"pictures": {"rows": rows}})


def test_a_row_keeps_the_environment_in_which_it_was_measured(tmp_path: Path):
    """The accident: three rows measured again, and the other seven pass for measured by the newer commit, too."""
    first, second = ({**import_module("timing").environment(2), "commit": commit} for commit in ("old", "new"))
    results = import_module("speed").Results(tmp_path)
    for side, started in ((256, first), (512, first), (512, second)):
        results.add("pictures", _measured() | {"side": side}, started)
    rows = json.loads((tmp_path / "speed.json").read_text())["pictures"]["rows"]
    assert [(row["side"], row["environment"]["commit"]) for row in rows] == [(256, "old"), (512, "new")]
    assert first["capability"]


def test_another_instruction_set_stands_beside(tmp_path: Path):
    """The accident: a run on a processor without bf16 overwrites the times of one with it, or the other way round."""
    speed, bulk, restoration = map(import_module, ("speed", "bulk", "restoration"))
    row = {"dcgan": {"device": "cpu"}, "device": "cpu", "model": "denoise", "side": 256, "network": "denoise"}
    places = *speed.PLACES.values(), bulk.place, lambda row: restoration.place(row | {"metric": "seconds"})
    for place in places:
        rows: list[dict[str, Any]] = []
        for commit, facts in enumerate(({}, {"capability": "AVX2"}, {"capability": "AVX2"})):
            rows = speed.replaced(rows, [row | {"environment": facts | {"commit": commit}}], place)
        assert [each["environment"]["commit"] for each in rows] == [0, 2]
    quality = [row | {"metric": "psnr_rgb", "environment": facts} for facts in ({}, {"capability": "AVX2"})]
    assert len({restoration.place(each) for each in quality}) == 1


def test_machines_have_a_table_each():
    """The accident: times with and without AVX-512 in one table, under the name of one machine."""
    environment = import_module("timing").environment(2)
    rows = [{**_measured(), "environment": environment | {"processor": name}} for name in ("slow", "slow", "fast")]
    for some, shown in ((rows[:2], ["slow"]), (rows, ["slow", "fast"])):
        titles = [line for line in _page(some) if line.startswith("### ")]
        assert titles == [f"### {name}, 2 threads, torch {environment['torch']}, {environment['capability']}, bf16"
                          for name in shown]  # fmt: skip


def test_what_a_verdict_covers_is_said():
    """The accident: 'least over the plain script' of half the zoo, with 3 times as fast at twice the allowed error."""
    row = _rows()[0]
    ways = row["ways"] | {"ours": row["ways"]["ours"] | {"grey_levels_from_plain": {"max": 2, "mean": 0.1}}}
    three, least = [line for line in _page([row | {"ways": ways}]) if line.startswith("* ")]
    assert three.endswith("at most **2** grey levels from the plain script, asked 1.")
    assert "over 1 of the zoo's 10 networks for pictures, on AMD EPYC, 2 threads" in least
    assert "not measured: deblur, inpaint, jpeg, " in least
    assert "denoise" not in least.partition("not measured")[2]


def test_what_was_not_measured_is_said():
    """The accident: an empty cell, of which nobody can tell whether that way failed, was slower, or was never tried."""
    row = next(row for row in _rows() if "openvino" in row["ways"])
    row["ways"] = {way: row["ways"][way] for way in ("ours", "plain", "tiles", "limit")}
    first, second = ({**row, "ways": dict(row["ways"]), "side": side} for side in (256, 512))
    second["ways"]["onnxruntime"] = {"missing": "onnxruntime, onnxscript not installed"}
    first["times_as_fast"] = {part: {"plain": 2.0, "onnxruntime": 2.0} for part in ("file", "pixels")}
    first["ways"]["onnxruntime"] = first["ways"]["plain"]
    second["times_as_fast"] = {part: {"tiles": 2.0} for part in ("file", "pixels")}
    text = _page([first, second])
    heading, _, one, other = (line for line in text if line.startswith("|"))
    assert "OpenVINO" not in heading
    assert "torch.compile" not in heading
    assert (one.count("not run"), one.count("not installed")) == (2, 0)
    assert (other.count("not run"), other.count("not installed")) == (2, 2)


def test_rows_are_of_the_weights_that_are_shipped():
    """The accident: a row of a network that was replaced weeks ago goes on being told as ours."""
    digest = import_module("speed_pictures").weights_digest
    stale = [
        f"{row['model']}, {row['side']}"
        for row in _rows()
        if row["model"] in CARDS and row.get("weights") not in (None, digest(row["model"]))
    ]
    assert stale == [], "measure these again with benchmarks/speed.py"


def test_a_digest_is_of_the_tensors_alone(tmp_path: Path):
    """The accident: a score added to the card, or digits rounded off, make every row of the same network stale."""
    digest = import_module("speed_pictures").weights_digest
    for name, text, fill in (("a", "one", 1.0), ("b", "another", 1.0), ("c", "one", 1.001), ("d", "one", 1.01)):
        save_file({"x": torch.full((2,), fill)}, tmp_path / f"{name}.safetensors", {"imagesmith": text})
    first, *same, other = (digest(str(tmp_path / f"{name}.safetensors")) for name in "abcd")
    assert [first, first] == same
    assert first != other


def test_networks_that_search_the_picture_are_refused(monkeypatch: pytest.MonkeyPatch):
    """The accident: ours finds the kernel of a shake, the plain script is given zeros, and the two times are compared."""
    speed = import_module("speed")
    monkeypatch.setattr(speed, "measure", lambda setting: pytest.fail("measured"))
    for model, reason in (("deblur", "kernel"), ("inpaint", "mask")):
        monkeypatch.setattr(sys, "argv", ["speed.py", "--only", "pictures", "--models", "denoise", model])
        with pytest.raises(SystemExit, match=reason):
            speed.main()


def test_the_least_of_the_networks_is_told_and_what_is_missing():
    """The accident: a network that became slower than plain PyTorch hides among twelve that did not."""
    page = import_module("speed_page")
    environment = import_module("timing").environment(2)
    rows = [
        {
            "environment": environment,
            "model": name,
            "side": 256,
            "runtime": "cpu bf16 channels_last: measured",
            "times_as_fast": 0.5 if name == "inpaint" else 2.0,
        }
        for name in page.ZOO
        if name != "vsr-x4"
    ]
    line = page.networks_section({"rows": rows})[-1]
    assert "least **0.50** (inpaint); deblur 2.00" in line
    assert "not measured: vsr-x4" in line
    assert ", bf16, 256x256" in line
