"""Many pictures at once: a process for each core, in each the whole way of one picture after another.

One thread computes a picture at a time, so no core waits for another; results are those of one thread bit by bit. A
process that dies costs nothing but time: its picture is tried once more in a new one.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from imagesmith.errors import UsageError, WorkerError
from imagesmith.infer.bulk.plan import together
from imagesmith.infer.bulk.worker import READY, Post
from imagesmith.infer.outcome import ItemResult, Progress, Summary
from imagesmith.infer.plan import Job
from imagesmith.infer.stages import Stages

ATTEMPTS = 2
"""How often a picture is tried whose process dies."""
_POLL_S = 0.1
_PATIENCE_S = 10.0  # for a process that was asked to stop: a row of tiles, and the temporary file removed


def restore_in_processes(
    stages: Stages,
    jobs: Sequence[Job],
    workers: int,
    asked: threading.Event,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore `jobs` in so many processes; each result is told as soon as it is known, in whatever order."""
    post = packed(Post(stages, threads=max(1, torch.get_num_threads() // workers)))
    todo, told = deque(together(jobs)), queue.SimpleQueue[tuple[Job, ItemResult | None] | Exception | None]()
    seats = [_Seat(stages, post, todo, told) for _ in range(workers)]
    finished: dict[Job, ItemResult] = {}
    was_asked = False
    try:
        for seat in seats:
            seat.start()
        working = len(seats)
        while working:
            if asked.is_set() and not was_asked:
                was_asked = True
                for seat in seats:
                    seat.stop()
            try:
                news = told.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(news, Exception):
                raise news
            if news is None:
                working -= 1
                continue
            job, result = news
            if result is not None:
                finished[job] = result
                on_progress(Progress(len(finished), len(jobs), str(job.item), 1.0, result))
    finally:
        for seat in seats:
            seat.stop()
        for seat in seats:
            seat.end()
    results = [finished[job] for job in jobs if job in finished]
    return Summary(results, cancelled=asked.is_set() and len(results) < len(jobs))


class _Died(Exception):
    """A process ended before it had answered; the text says how."""


class _Seat:
    """One process after another in one place, each until it dies or nothing is left to do."""

    def __init__(
        self,
        stages: Stages,
        post: bytes,
        todo: deque[list[Job]],
        told: "queue.SimpleQueue[tuple[Job, ItemResult | None] | Exception | None]",
    ) -> None:
        self._stages, self._post, self._todo, self._told = stages, post, todo, told
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._process: _Process | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        self._thread.start()

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

    def stop(self) -> None:
        """Ask the process to leave its picture after the current row of tiles, and take no more."""
        self._stopped.set()
        if self._process is not None:
            self._process.stop()

    def end(self) -> None:
        """Wait for what was asked to stop, but not for ever."""
        if self._thread.ident is None:
            return
        self._thread.join(_PATIENCE_S)
        if self._process is not None:
            self._process.end()
        self._thread.join()

    def _restored(self, job: Job) -> ItemResult | None:
        how = ""
        for _ in range(ATTEMPTS):
            if self._process is None and not self._stopped.is_set():
                self._process = self._new_process()
            if self._process is None or self._stopped.is_set():
                return None
            try:
                return self._process.ask(job)
            except _Died as death:
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

    def _new_process(self) -> "_Process":
        how = ""
        for _ in range(ATTEMPTS):
            try:
                return _Process(self._post)
            except _Died as death:
                how = str(death)
        raise WorkerError(
            f"expected a worker process to start, but it died ({how})\n"
            "use fewer --workers if memory is short, or --workers 1"
        )


class _Process:
    """A worker process that is ready; `_Died` where it is not, or does not answer any more."""

    def __init__(self, post: bytes) -> None:
        # one thread each unless told otherwise, and what this process can import
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "imagesmith.infer.bulk.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the one who started it, who tells the others
        )
        if self._exchanged(post) != READY:
            raise _Died("it did not say that it is ready")

    def ask(self, job: Job) -> ItemResult | None:
        return self._exchanged(pickle.dumps(job))

    def finish(self) -> None:
        """Let it end by itself, as nothing is left to do."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # what was not sent to a process that is dead
            self._popen.stdin.close()

    def stop(self) -> None:
        self._popen.terminate()

    def end(self) -> None:
        """Kill it if it has not ended by itself within a second."""
        try:
            self._popen.wait(1.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._close()

    def _exchanged(self, message: bytes) -> Any:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(message)
            self._popen.stdin.flush()
            return pickle.load(self._popen.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            code = self._popen.wait()
            self._close()
            raise _Died(_how_it_ended(code)) from None

    def _close(self) -> None:
        self.finish()
        assert self._popen.stdout is not None
        self._popen.stdout.close()


def _how_it_ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def packed(post: Post) -> bytes:
    """For the way to another process; UsageError where the model cannot travel."""
    try:
        return pickle.dumps(post)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"this model cannot be handed to other processes ({error}); use --workers 1") from error
