"""A worker process: it answers job by job, and ends with the one it works for."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.data.sources import list_items
from imagesmith.infer.bulk import process
from imagesmith.infer.bulk.parcel import pack
from imagesmith.infer.bulk.process import Died, WorkerProcess, dismiss_early, new_worker, start_early
from imagesmith.infer.bulk.worker import Post
from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.places import Places
from imagesmith.infer.plan import Job, plan_jobs
from imagesmith.infer.restore import Restorer
from imagesmith.infer.stages import Stages

KILLED = """
import os, signal, sys, time
from pathlib import Path
from imagesmith.infer.bulk.process import WorkerProcess
orders, job, mark = map(Path, sys.argv[1:])
worker = WorkerProcess()
worker.begin(orders.read_bytes())
worker._popen.stdin.write(job.read_bytes())
worker._popen.stdin.flush()
while not mark.exists():
    time.sleep(0.05)
print(worker._popen.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def jobs(photos: Path, tmp_path: Path) -> list[Job]:
    return plan_jobs(list_items([photos], recursive=False), tmp_path / "out", tag="")


@pytest.fixture
def orders(restorer: Restorer, jobs: list[Job], tmp_path: Path, file_options: FileOptions) -> bytes:
    """With which a worker begins that is to restore `jobs`."""
    stages = Stages(restorer, file_options, Places(jobs, file_options, {}, ""))
    parcel = pack(Post(stages, threads=1), tmp_path / "tensors")
    return pickle.dumps((parcel, tmp_path / "tensors"))


def test_a_worker_answers_and_ends_with_its_input(
    orders: bytes, jobs: list[Job], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a killed run would compute on for nobody, and write into the folder of the next one.

    A folder of pictures runs no code: a secrets.py in a downloaded one ran in every worker, and an innocent queue.py
    kept all of them from starting.
    """
    (photos / "queue.py").write_text("raise SystemExit('this is no module of Python')")
    monkeypatch.chdir(photos)
    worker = WorkerProcess()
    worker.begin(orders)
    results = [worker.restore(job) for job in jobs]
    assert [result and result.status for result in results] == ["done", "done", "done", "failed"]
    worker.finish()
    assert worker._popen.wait(20) == 0
    with pytest.raises(Died):
        worker.restore(jobs[0])
    worker.end(time.monotonic() + 5)


@pytest.mark.skipif(os.name != "posix", reason="nothing tells there that the parent is gone")
def test_a_worker_leaves_the_picture_of_a_killed_run(
    make_restorer: Callable[..., Restorer],
    importable_elsewhere: None,
    jobs: list[Job],
    tmp_path: Path,
    file_options: FileOptions,
) -> None:
    """Two processes computed large pictures for a quarter of a minute after the command was killed."""
    from restorers import Slow  # type: ignore[import-not-found]

    restorer = Slow.__new__(Slow)
    restorer.__dict__ |= make_restorer().__dict__ | {"mark": tmp_path / "mark"}
    stages = Stages(restorer, file_options, Places(jobs, file_options, {}, ""))
    parcel = pack(Post(stages, threads=1), tmp_path / "tensors")
    (tmp_path / "orders").write_bytes(pickle.dumps((parcel, tmp_path / "tensors")))
    (tmp_path / "job").write_bytes(pickle.dumps(jobs[0]))
    names = [str(tmp_path / name) for name in ("orders", "job", "mark")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *names], stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 15
    while is_running(int(killed.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert list((tmp_path / "out").iterdir()) == []


def is_running(pid: int) -> bool:
    """Whether there is such a process; a dead one, whom nobody asks for its end, is none."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


@pytest.mark.slow  # the next one proves nearly as much
def test_a_worker_that_is_never_given_orders_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """It starts before anybody knows whether there is something to do, and the command may end by an error."""
    worker = WorkerProcess()
    worker.finish()
    assert worker._popen.wait(20) == 0
    worker.end(time.monotonic())
    assert capfd.readouterr() == ("", "")


def test_a_worker_whose_orders_end_in_the_middle_ends_without_a_word(
    orders: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run killed while its workers started left a traceback of each on the terminal: orders may be 200 kB, a pipe 64."""
    worker = WorkerProcess()
    assert worker._popen.stdin is not None
    worker._popen.stdin.write(orders[: len(orders) // 2])
    worker.finish()
    assert worker._popen.wait(20) == 0
    worker.end(time.monotonic())
    assert capfd.readouterr() == ("", "")


def test_a_worker_does_without_standard_error() -> None:
    """Each died at once where the one that started it had its standard error closed, as services have."""
    work = "from imagesmith.infer.bulk.process import WorkerProcess as W; w = W(); w.finish(); exit(w._popen.wait())"
    command = f"{sys.executable} -c '{work}' 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


def test_a_worker_that_was_started_early_is_the_first_of_the_next_pool() -> None:
    start_early()
    start_early()
    (early,) = process._early
    assert new_worker() is early
    other = new_worker()
    assert other is not early
    for worker in (early, other):
        worker.end(time.monotonic())
    start_early()
    (early,) = process._early
    dismiss_early()
    assert early._popen.returncode == -signal.SIGKILL
    dismiss_early()


def test_a_pool_does_without_an_early_worker_that_died(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """It takes one that lives, see test_a_pool_makes_what_one_process_makes."""
    start_early()
    (early,) = process._early
    early._popen.kill()
    summary = restorer.path(photos, tmp_path / "out", workers=2)
    assert [result.status for result in summary.results] == ["done", "done", "done", "failed"]
    assert not process._early
    assert early._popen.wait(20) == -signal.SIGKILL


def test_one_process_does_without_the_early_worker(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    start_early()
    restorer.path(photos, tmp_path / "out", workers=1)
    assert not process._early
