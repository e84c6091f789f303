"""A worker process: it answers job by job, and ends with the one it works for."""

import pickle
import time
from pathlib import Path

import pytest

from imagesmith.data.sources import list_items
from imagesmith.infer.bulk.parcel import pack
from imagesmith.infer.bulk.process import Died, WorkerProcess
from imagesmith.infer.bulk.worker import Post
from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.places import Places
from imagesmith.infer.plan import Job, plan_jobs
from imagesmith.infer.restore import Restorer
from imagesmith.infer.stages import Stages


@pytest.fixture
def jobs(photos: Path, tmp_path: Path) -> list[Job]:
    return plan_jobs(list_items([photos], recursive=False), tmp_path / "out", tag="")


@pytest.fixture
def orders(restorer: Restorer, jobs: list[Job], tmp_path: Path, file_options: FileOptions) -> bytes:
    """With which a worker begins that is to restore `jobs`."""
    stages = Stages(restorer, file_options, Places(jobs, file_options, {}, ""))
    parcel = pack(Post(stages, threads=1), tmp_path / "tensors")
    return pickle.dumps((parcel, tmp_path / "tensors"))


def test_a_worker_answers_and_ends_with_its_input(orders: bytes, jobs: list[Job]) -> None:
    """Workers of a killed run would compute on for nobody, and write into the folder of the next one."""
    worker = WorkerProcess()
    worker.begin(orders)
    results = [worker.restore(job) for job in jobs]
    assert [result and result.status for result in results] == ["done", "done", "done", "failed"]
    worker.finish()
    assert worker._popen.wait(20) == 0
    with pytest.raises(Died):
        worker.restore(jobs[0])
    worker.end(time.monotonic() + 5)


def test_a_folder_of_pictures_runs_no_code(
    orders: bytes, jobs: list[Job], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets.py in a downloaded folder ran in every worker, and an innocent queue.py kept all of them from starting."""
    (photos / "queue.py").write_text("raise SystemExit('this is no module of Python')")
    monkeypatch.chdir(photos)
    worker = WorkerProcess()
    worker.begin(orders)
    worker.finish()
    worker.end(time.monotonic() + 5)
