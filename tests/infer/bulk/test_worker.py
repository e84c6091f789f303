"""A worker process: it answers job by job, and ends with the one it works for."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.infer.bulk.parcel import pack
from imagesmith.infer.bulk.process import Died, WorkerProcess
from imagesmith.infer.bulk.worker import Post
from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.places import Places
from imagesmith.infer.plan import plan_jobs
from imagesmith.infer.restore import Restorer
from imagesmith.infer.stages import Stages


def test_a_worker_answers_and_ends_with_its_input(
    make_restorer: Callable[..., Restorer], photos: Path, tmp_path: Path, file_options: FileOptions
) -> None:
    """Workers of a killed run would compute on for nobody, and write into the folder of the next one."""
    from imagesmith.data.sources import list_items

    jobs = plan_jobs(list_items([photos], recursive=False), tmp_path / "out", tag="")
    stages = Stages(make_restorer(), file_options, Places(jobs, file_options, {}, ""))
    parcel = pack(Post(stages, threads=1), tmp_path / "tensors")
    worker = WorkerProcess(pickle.dumps((parcel, tmp_path / "tensors")))
    results = [worker.restore(job) for job in jobs]
    assert [result and result.status for result in results] == ["done", "done", "done", "failed"]
    worker.finish()
    assert worker._popen.wait(20) == 0
    with pytest.raises(Died):
        worker.restore(jobs[0])
    worker.end()
