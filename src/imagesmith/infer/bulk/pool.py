"""Many pictures at once: a process for each core, in each the whole way of one picture after another.

One thread computes a picture at a time, so no core waits for another; results are those of one thread bit by bit. A
process that dies costs nothing but time: its picture is tried once more in a new one.
"""

import pickle
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch

from imagesmith.errors import WorkerError
from imagesmith.infer.bulk.parcel import pack, tensor_file
from imagesmith.infer.bulk.plan import together
from imagesmith.infer.bulk.process import Died, WorkerProcess, new_worker
from imagesmith.infer.bulk.worker import Post
from imagesmith.infer.outcome import ItemResult, Progress, Summary
from imagesmith.infer.plan import Job
from imagesmith.infer.stages import Stages

ATTEMPTS = 2
"""How often a picture is tried whose process dies."""
_POLL_S = 0.1
_LEAVING_S = 1.0  # for one that has nothing left to do
_PATIENCE_S = 10.0  # for a process that was asked to stop: a row of tiles, and the temporary file removed

_Told = queue.SimpleQueue[tuple[Job, ItemResult | None] | Exception | None]
"""What the seats tell: a job with its result, an error that ends the run, or None when nothing more comes of a seat."""


def restore_in_processes(
    stages: Stages,
    jobs: Sequence[Job],
    workers: int,
    asked: threading.Event,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore `jobs` in so many processes; each result is told as soon as it is known, in whatever order."""
    finished: dict[Job, ItemResult] = {}
    with tensor_file() as tensors:
        parcel = pack(Post(stages, threads=max(1, torch.get_num_threads() // workers)), tensors)
        orders = pickle.dumps((parcel, tensors))
        with closing(_results(stages, orders, jobs, workers, asked)) as results:
            for job, result in results:
                finished[job] = result
                on_progress(Progress(len(finished), len(jobs), str(job.item), 1.0, result))
    in_order = [finished[job] for job in jobs if job in finished]
    return Summary(in_order, cancelled=asked.is_set() and len(in_order) < len(jobs))


def _results(
    stages: Stages, orders: bytes, jobs: Sequence[Job], workers: int, asked: threading.Event
) -> Generator[tuple[Job, ItemResult], None, None]:
    """The jobs as they are finished; soon after somebody `asked` for it, no more."""
    todo, told = deque(together(jobs)), _Told()
    seats = [_Seat(stages, orders, todo, told) for _ in range(workers)]
    try:
        for seat in seats:
            seat.start()
        working = workers
        while working:
            if asked.is_set():
                for seat in seats:
                    seat.stop()
            try:
                news = told.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if news is None:
                working -= 1
            elif isinstance(news, Exception):
                raise news
            elif news[1] is not None:
                yield news[0], news[1]
    finally:
        for seat in seats:
            seat.stop()
        deadline = time.monotonic() + _PATIENCE_S
        for seat in seats:
            seat.end(deadline)


class _Seat:
    """One process after another in one place, each until it dies or nothing is left to do."""

    def __init__(self, stages: Stages, orders: bytes, todo: deque[list[Job]], told: _Told) -> None:
        self._stages, self._orders, self._todo, self._told = stages, orders, todo, told
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._process: WorkerProcess | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave the picture after the current row of tiles, and take no more."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._process is not None:
            self._process.stop()

    def end(self, deadline: float) -> None:
        """Wait for what was asked to stop, until `deadline` by `time.monotonic`, then no more."""
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._process is not None:
            self._process.end(deadline + _LEAVING_S)
        self._thread.join(_LEAVING_S)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    group = self._todo.popleft()
                except IndexError:
                    break
                for job in group:
                    self._told.put((job, self._restored(job)))
        except Exception as error:
            self._told.put(error)
        finally:
            if self._process is not None:
                self._process.finish()
            self._told.put(None)

    def _restored(self, job: Job) -> ItemResult | None:
        """The result of a job, None once stopped; a picture that kills every process that tries it has failed."""
        how = ""
        for _ in range(ATTEMPTS):
            if self._process is None:
                self._fill()
            if self._process is None or self._stopped.is_set():
                return None
            try:
                return self._process.restore(job)
            except Died as death:
                how, self._process = str(death), None
        if self._stopped.is_set():
            return None
        return self._stages.given_up(
            job,
            WorkerError(
                f"{job.item}: the process that restored it died {ATTEMPTS} times ({how})\n"
                "if memory was short, use fewer --workers; --workers 1 shows what happens"
            ),
        )

    def _fill(self) -> None:
        """Start a process and wait until it is ready; where it was stopped meanwhile, it need not be."""
        how = ""
        for _ in range(ATTEMPTS):
            if self._stopped.is_set():
                return
            self._process = new_worker()
            if self._stopped.is_set():  # `stop` may have looked a moment ago, and seen none
                self._process.stop()
            try:
                self._process.begin(self._orders)
                return
            except Died as death:
                how, self._process = str(death), None
        if self._stopped.is_set():
            return
        raise WorkerError(
            f"expected a worker process to start, but it died ({how})\n"
            "use fewer --workers if memory is short, or --workers 1"
        )
