"""How many processes, and which pictures must meet in one: decided before anything starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.data.sources import Item
from imagesmith.errors import UsageError
from imagesmith.infer.bulk import plan
from imagesmith.infer.bulk.plan import together, workers_for
from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.plan import Job

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MakeJobs = Callable[..., list[Job]]


@pytest.fixture
def make_jobs(tmp_path: Path) -> MakeJobs:
    """So many jobs for one picture of a side."""

    def make(count: int, side: int = 64) -> list[Job]:
        path = tmp_path / "picture.png"
        Image.fromarray(np.zeros((side, side), np.uint8)).save(path)
        return [job_of(f"{k}.png", path) for k in range(count)]

    return make


def job_of(output: str, path: Path = Path("in.png")) -> Job:
    return Job(Item(PurePosixPath(output), path), Path("out", output), "png", Path("out"), output, keeps=True)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(plan, "usable_cores", lambda: 4)
    monkeypatch.setattr(plan, "available_memory", lambda: 64 << 30)


def test_many_small_pictures_get_a_process_for_each_core(make_jobs: MakeJobs, file_options: FileOptions) -> None:
    """A thousand thumbnails through all cores at once leave most of each core waiting for the others."""
    assert workers_for(make_jobs(200), file_options, CPU) == 4


@pytest.mark.parametrize(("count", "side", "device"), [(20, 64, CPU), (200, 1100, CPU), (200, 64, GPU), (1, 64, CPU)])
def test_other_runs_stay_in_one_process(
    make_jobs: MakeJobs, count: int, side: int, device: torch.device, file_options: FileOptions
) -> None:
    """Seconds of starting processes for three pictures, or four processes that fight for one GPU."""
    assert workers_for(make_jobs(count, side), file_options, device) == 1


def test_one_core_needs_no_pool(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch, file_options: FileOptions
) -> None:
    """OMP_NUM_THREADS=1 is how a user says that one core is to be used."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert workers_for(make_jobs(200), file_options, CPU) == 1


def test_memory_bounds_the_processes(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch, file_options: FileOptions
) -> None:
    """64 cores in a container of 2 GB: the kernel kills one worker after the other."""
    monkeypatch.setattr(plan, "available_memory", lambda: 2 << 30)
    assert workers_for(make_jobs(200), file_options, CPU) == 2
    monkeypatch.setattr(plan, "available_memory", lambda: 1 << 20)
    assert workers_for(make_jobs(200), file_options, CPU) == 1


def test_broken_files_do_not_decide(make_jobs: MakeJobs, tmp_path: Path, file_options: FileOptions) -> None:
    """The headers are read before anything is promised; a broken one must not end the run there."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = [job_of(f"b{k}.png", tmp_path / "bad.png") for k in range(5)]
    assert workers_for([*bad, *make_jobs(200)], file_options, CPU) == 4
    assert workers_for(bad * 30, file_options, CPU) == 4


def test_the_users_number_counts(make_jobs: MakeJobs, file_options: FileOptions) -> None:
    """Who says 3 gets 3, but never more processes than pictures, and none for a pipe."""
    assert workers_for(make_jobs(5), replace(file_options, workers=3), CPU) == 3
    assert workers_for(make_jobs(2), replace(file_options, workers=3), CPU) == 2
    assert workers_for(make_jobs(200), replace(file_options, workers=1), CPU) == 1
    to_pipe = replace(make_jobs(1)[0], output=None)
    assert workers_for([to_pipe], replace(file_options, workers=3), CPU) == 1
    with pytest.raises(UsageError, match="one worker on cuda"):
        workers_for(make_jobs(5), replace(file_options, workers=3), GPU)


def test_more_processes_than_memory_holds_are_refused(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch, file_options: FileOptions
) -> None:
    """--workers 1000 for 100,000 thumbnails: a thousand times torch, and the machine answers nobody any more."""
    monkeypatch.setattr(plan, "available_memory", lambda: 1 << 30)
    assert workers_for(make_jobs(200), replace(file_options, workers=6), CPU) == 6
    assert workers_for(make_jobs(5), replace(file_options, workers=1000), CPU) == 5
    with pytest.raises(UsageError, match=r"at most 6 workers for the 1\.1 GB"):
        workers_for(make_jobs(200), replace(file_options, workers=1000), CPU)


def test_more_processes_than_cores_have_use_for_are_refused(make_jobs: MakeJobs, file_options: FileOptions) -> None:
    """--workers 100000 for 120 pictures: 120 processes on two cores, where memory allowed for them."""
    assert workers_for(make_jobs(200), replace(file_options, workers=16), CPU) == 16
    with pytest.raises(UsageError, match="at most 16 workers for the 4 cores that this run may use, got 120"):
        workers_for(make_jobs(120), replace(file_options, workers=100_000), CPU)


def test_what_may_become_one_file_stays_together() -> None:
    """a.jpg and a.webp may both turn out to hold PNG: apart, each process would write a.png and be content."""
    jobs = [job_of("a.jpg"), job_of("b.png"), job_of("a.webp"), job_of("a.1.png"), job_of("deep/a.png")]
    names = [[job.name for job in group] for group in together(jobs)]
    assert names == [["a.jpg", "a.webp"], ["b.png"], ["a.1.png"], ["deep/a.png"]]
