"""What the plan for 100 million pictures is computed from, and what it says."""

import gc
import json
import pickle
import sys
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest
import torch

from imagesmith.infer.manifest import Manifest, settings_digest
from imagesmith.infer.outcome import ItemResult, Progress
from imagesmith.infer.restore import Restorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Runtime
from imagesmith.zoo import Model, describe

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 400


class DoneAtOnce:
    """Rows of Ray Data, each of whose pictures was restored by somebody else."""

    def __init__(self, rows: list[dict[str, bytes]], override_num_blocks: int) -> None:
        self.rows, self.context = rows, SimpleNamespace()

    def flat_map(self, *_: object, **__: object) -> Self:
        return self

    def iter_rows(self) -> Iterator[dict[str, bytes]]:
        for row in self.rows:
            for place, job in pickle.loads(row["jobs"]):
                size = (256, 256)
                result = ItemResult(str(job.item), str(job.output), "done", "toy", 1, size, size, seconds=0.061234)
                yield {"result": pickle.dumps((place, result))}


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each actor would hold, of a Ray that keeps nothing but its rows."""
    given: list[bytes] = []
    ray, data = ModuleType("ray"), ModuleType("ray.data")
    actor = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=given.append))
    vars(data).update(from_items=DoneAtOnce, ActorPoolStrategy=lambda **_: None)
    vars(ray).update(is_initialized=lambda: True, remote=lambda _: actor, cluster_resources=dict, data=data)
    vars(ray).update(exceptions=SimpleNamespace(RayError=ArithmeticError))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    return given


@pytest.fixture
def restorer() -> Restorer:
    spec = NetSpec("compact", {"scale": 1, "width": 4, "blocks": 1})
    net = build_net(spec)
    return Restorer(Model(net, describe(net, spec, "toy")), Runtime(torch.device("cpu"), torch.float32, False, ""))


def test_pictures_take_the_memory_that_the_plan_says(restorer: Restorer, posts: list[bytes], tmp_path: Path):
    """The accident: 4 million pictures planned for the memory that holds 3.2, as manifests had got two fields more."""
    photos, out = tmp_path / "photographs", tmp_path / "restored"
    for folder in (photos, out):
        folder.mkdir()
    names = [f"picture-{k:09}.png" for k in range(PICTURES)]
    manifest = Manifest(out)
    for k, name in enumerate(names):
        (photos / name).touch()
        (out / name).write_bytes(b"result %d" % k)
        manifest.record(name, f"{k:064x}", settings_digest({}), out / name, source=str((photos / name).resolve()))
    held: list[int] = []
    actors: list[Any] = []

    def traced() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def take_up() -> None:
        actors.append(pickle.loads(posts[0]))
        for manifest in actors[-1].stages._places._manifests.values():
            manifest.finished("", "", "")  # as each asks that goes on with a run

    def at_the_end(progress: Progress) -> None:
        if progress.done == progress.total:
            held.append(traced())

    tracemalloc.start()
    try:
        restorer.path(photos, out, engine="ray", resume=True, on_progress=at_the_end)
        take_up()  # the first one fills caches
        before = traced()
        take_up()
        held.append(traced() - before)
    finally:
        tracemalloc.stop()
    plan = import_module("scale_plan")
    assert [each / PICTURES for each in held] == pytest.approx([plan.DRIVER_BYTES, plan.ACTOR_BYTES], rel=0.1)


def _plan() -> str:
    plan: Any = import_module("scale_plan")
    return plan.page(ROOT / "benchmarks" / "results")


def test_the_page_is_what_the_plan_computes():
    """The accident: something is measured anew, and the page goes on planning with the old rates."""
    assert _plan() in (ROOT / "docs" / "scale.md").read_text()


def test_the_rates_are_those_that_the_documented_command_measures():
    """The accident: the command on the page measures two networks again, and the plan goes on with a third."""
    bulk, plan = import_module("bulk"), import_module("scale_plan")
    models = {row["model"] for row in import_module("timing").rows_of("bulk")}
    assert plan.MODEL in bulk.MODELS
    assert models == set(bulk.MODELS)


def test_the_plan_is_for_the_fastest_processor(tmp_path: Path):
    """The accident: rates of a second processor are added, and which of the two the plan takes is a matter of order."""
    (row, *_) = (row for row in import_module("timing").rows_of("bulk") if row["model"] == "denoise")
    pool = row["small"]["pool"] | {"pictures_per_second_after_start": 2.0}
    slow = row | {"environment": row["environment"] | {"capability": "AVX2"}, "small": row["small"] | {"pool": pool}}
    plan = import_module("scale_plan")
    for rows in ([row, slow], [slow, row]):
        (tmp_path / "bulk.json").write_text(json.dumps({"rows": rows}))
        assert f"{plan.core_rate(row):.2f} pictures a second" in plan.page(tmp_path)


def test_the_commanding_process_is_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """The accident: more servers and manifests are planned, and one thread that lists all pictures waits for itself."""
    plan = import_module("scale_plan")
    monkeypatch.setattr(plan, "COMMAND_RATE", 1)
    assert "**First to break: commanding process, one thread**" in _plan()


def test_commands_are_enough_for_all_pictures():
    """The accident: 31.25 commands were told as 31, of which each would be full."""
    plan = import_module("scale_plan")
    commands = int(_plan().partition(" commands for all")[0].rpartition(" ")[2])
    assert plan.DRIVER_MEMORY / plan.DRIVER_BYTES * commands >= plan.PICTURES


def test_a_gpu_is_held_to_what_breaks_first():
    """The accident: the page said that cores break first, beside a table in which a GPU is nine times one manifest."""
    assert "one manifest" in _plan().rpartition("NVIDIA")[2]
