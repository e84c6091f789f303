"""The same run on Ray: the same results, and a lost actor loses nothing. Needs the extra `cluster`."""

import importlib.util
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesmith.errors import UsageError, WorkerError
from imagesmith.infer.bulk import ray_engine
from imagesmith.infer.manifest import FILE_NAME
from imagesmith.infer.outcome import Progress
from imagesmith.infer.restore import Restorer

Make = Callable[..., Restorer]

needs_ray = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'cluster'"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own
]


@pytest.fixture(scope="class")
def cluster(importable_elsewhere: None):
    """A cluster of two cores and little memory on this machine."""
    ray = ray_engine._ray()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield
    ray.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    """The results; what a killed process was about to write is hidden, and none."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def lines(folder: Path) -> list[str]:
    """What the manifest says, but for the run that said it."""
    return sorted(line.partition('"run"')[0] for line in (folder / FILE_NAME).read_text().splitlines())


@pytest.mark.usefixtures("cluster", "one_thread")
class TestOnACluster:
    pytestmark = needs_ray

    def test_ray_makes_what_one_process_makes(self, restorer: Restorer, photos: Path, tmp_path: Path) -> None:
        """Another engine, and one day its bytes, its manifest or its failures differ."""
        events: list[Progress] = []
        alone = restorer.path(photos, tmp_path / "out", workers=1)
        (tmp_path / "out").rename(tmp_path / "alone")
        shared = restorer.path(photos, tmp_path / "out", engine="ray", on_progress=events.append)
        assert [(r.input, r.output, r.status, r.error) for r in shared.results] == [
            (r.input, r.output, r.status, r.error) for r in alone.results
        ]
        assert contents(tmp_path / "out") == contents(tmp_path / "alone")
        assert lines(tmp_path / "out") == lines(tmp_path / "alone")
        assert [event.done for event in events] == [1, 2, 3, 4]
        again = restorer.path(photos, tmp_path / "out", resume=True, engine="ray")
        assert [result.status for result in again.results] == ["skipped", "skipped", "skipped", "failed"]

    def test_lost_actors_lose_nothing(
        self,
        restorer: Restorer,
        deadly: Restorer,
        deadly_photos: Path,
        photo: np.ndarray,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Ray tries a task again for ever: a picture that kills its process would keep the run from ending.

        And it tells of each lost actor on standard output, in the middle of the lines of --json.
        """
        harmless = [deadly_photos / f"{k:03}.png" for k in range(196)]
        for k, path in enumerate(harmless):
            Image.fromarray(np.roll(photo, k, axis=0)).save(path)
        summary = deadly.path(deadly_photos, tmp_path / "out", engine="ray")
        restorer.path(harmless, tmp_path / "alone", workers=1)
        status = {Path(result.input).stem: result.status for result in summary.results}
        assert [name for name, word in status.items() if word != "done"] == ["always"]
        assert summary.results[-4].error_kind == "WorkerError"
        assert len(contents(tmp_path / "out")) == 200
        assert len(status) == 201
        assert contents(tmp_path / "alone").items() <= contents(tmp_path / "out").items()
        assert capsys.readouterr().out == ""

    def test_relative_paths_mean_the_same_everywhere(
        self, restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Actors start in a folder of their own, where `photos/` does not exist."""
        monkeypatch.chdir(tmp_path)
        summary = restorer.path("in", "out", engine="ray", workers=1)
        assert [result.status for result in summary.results] == ["done", "done", "done", "failed"]
        assert summary.results[0].input == "in/a.png"


@pytest.fixture
def two_machines(importable_elsewhere: None, monkeypatch: pytest.MonkeyPatch):
    """Two nodes of a core each, which `ray start` and `ray start --address` would make of two machines."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))
    yield
    cluster.shutdown()


class TestOnTwoMachines:
    pytestmark = needs_ray

    @pytest.mark.usefixtures("two_machines")
    def test_a_second_machine_takes_part(self, make_restorer: Make, photo: np.ndarray, tmp_path: Path) -> None:
        """A cluster of a hundred machines, of which one does all the work."""
        from restorers import Gathering  # type: ignore[import-not-found]

        source, marks = tmp_path / "in", tmp_path / "marks"
        source.mkdir()
        marks.mkdir()
        for k in range(40):
            Image.fromarray(np.roll(photo, k, axis=0)).save(source / f"{k:02}.png")
        restorer = Gathering.__new__(Gathering)
        restorer.__dict__ |= make_restorer().__dict__ | {"marks": marks}
        summary = restorer.path(source, tmp_path / "out", engine="ray")
        assert [result.status for result in summary.results] == ["done"] * 40
        assert len(list(marks.iterdir())) == 2


def test_without_ray_the_way_to_it_is_told(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ImportError with a traceback is no answer to `--engine ray`."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'imagesmith\[cluster\]'"):
        restorer.path(photos, tmp_path / "out", engine="ray")


def test_a_cluster_that_is_gone_is_told(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray remembers a cluster that was killed, asks it for minutes, and then says that a node timed out."""

    def init(**_: object) -> None:
        raise ConnectionError("no GCS\n at all")

    ray, data = ModuleType("ray"), ModuleType("ray.data")
    vars(ray).update(init=init, is_initialized=lambda: False, data=data)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    with pytest.raises(WorkerError, match=r"no GCS\nsee `ray status`; `ray stop` forgets"):
        restorer.path(photos, tmp_path / "out", engine="ray")


def test_an_interrupt_reaches_a_picture_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C was passed on with the next row of results, and heard with the next picture: for scans, hours later."""
    monkeypatch.setattr(ray_engine, "_ASKED_EVERY_S", 0.01)
    ledger, at_work = ray_engine._Ledger(b""), threading.Event()

    def restore(job: str, asked: threading.Event) -> str | None:
        at_work.set()
        return None if asked.wait(5) else "done"

    def remote(method: Callable[..., Any]) -> SimpleNamespace:
        return SimpleNamespace(remote=method)

    calls = ("begin", "end", "stop", "is_stopped")
    shared = SimpleNamespace(**{name: remote(getattr(ledger, name)) for name in calls})
    actor = ray_engine._Actor.__new__(ray_engine._Actor)
    vars(actor).update(_get=lambda answer: answer, _ledger=shared, _asked=threading.Event())
    vars(actor).update(_post=SimpleNamespace(stages=SimpleNamespace(restore=restore)))
    asked = threading.Event()
    with ray_engine._passed_on(asked, shared), ThreadPoolExecutor(1) as pool:
        first, second = (pool.submit(actor._restored, SimpleNamespace(item=name)) for name in "ab")  # type: ignore[arg-type]
        assert at_work.wait(5)
        asked.set()
        assert (first.result(5), second.result(5)) == (None, None)
    assert ledger.begin("c") == ray_engine._STOP


def test_a_cluster_that_left_its_address_behind_is_not_waited_for(tmp_path: Path) -> None:
    """After a power cut Ray's file names a cluster that is gone; `--engine ray` then waited for it without a word."""
    file = tmp_path / "ray_current_cluster"
    assert not ray_engine._is_left_behind(file)
    with socket.create_server(("127.0.0.1", 0)) as server:
        file.write_text("{}:{}".format(*server.getsockname()))
        assert not ray_engine._is_left_behind(file)
    assert ray_engine._is_left_behind(file)
    file.write_text("nonsense")
    assert ray_engine._is_left_behind(file)


def test_a_cluster_that_the_user_named_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a cluster wants to be told when it is gone: neither a cluster of one machine, nor silence."""
    (tmp_path / "ray_current_cluster").write_text("nonsense")
    monkeypatch.setattr(ray_engine, "_REMEMBERED", tmp_path / "ray_current_cluster")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_engine._address() == "local"
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = "{}:{}".format(*server.getsockname())
        monkeypatch.setenv("RAY_ADDRESS", there)
        assert ray_engine._address() is None
    with pytest.raises(WorkerError, match=f"nobody answers at {there}"):
        ray_engine._address()
    for known in ("auto", "local", "ray://head:10001"):
        monkeypatch.setenv("RAY_ADDRESS", known)
        assert ray_engine._address() is None
