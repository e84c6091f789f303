"""A worker process as the one that starts it sees it; see `worker.py` for what the two say to each other.

Nothing here imports torch: a command that will want workers starts one while it still imports itself.
"""

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagesmith.infer.outcome import ItemResult
    from imagesmith.infer.plan import Job

READY = "ready"
MANY = 100
"""Pictures from which a pool repays the seconds that its processes take to start."""


class Died(Exception):
    """A process ended before it had answered; the text says how."""


class WorkerProcess:
    """A worker, which is to `begin` before it takes jobs. Both raise `Died`."""

    def __init__(self) -> None:
        importable = os.pathsep.join(place or os.getcwd() for place in sys.path)
        # it computes as many threads as its orders say, and imports what this process can import, from nowhere else
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": importable}
        self._popen = subprocess.Popen(
            # -P: not from the current folder, which may be one of pictures that somebody sent
            [sys.executable, "-P", "-m", "imagesmith.infer.bulk.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr else subprocess.DEVNULL,  # None where it was closed from the start
            env=environment,
            start_new_session=True,  # Ctrl-C is for the one who started it, who tells the others
        )

    def begin(self, orders: bytes) -> None:
        """Wait until it is ready for jobs, which takes seconds; `orders` is the pickle with which a worker begins."""
        if self._exchanged(orders) != READY:
            raise Died("it did not say that it is ready")

    def restore(self, job: "Job") -> "ItemResult | None":
        """The result of a job, None if the worker was stopped meanwhile."""
        return self._exchanged(pickle.dumps(job))

    def finish(self) -> None:
        """Let it end by itself, as nothing is left to do."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # what was not sent to a process that is dead
            self._popen.stdin.close()

    def stop(self) -> None:
        """Ask it to leave its picture after the current row of tiles."""
        self._popen.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end, until `deadline` by `time.monotonic`, then kill it."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
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
            raise Died(f"exit code {code}" if code >= 0 else signal.Signals(-code).name) from None

    def _close(self) -> None:
        self.finish()
        assert self._popen.stdout is not None
        self._popen.stdout.close()


_early: list[WorkerProcess] = []


def start_early() -> None:
    """Start a worker that the next pool takes; what is imported in both processes is then imported at the same time."""
    if not _early:
        _early.append(WorkerProcess())
        atexit.register(dismiss_early)


def new_worker() -> WorkerProcess:
    """One that was started early, or one that starts now."""
    with contextlib.suppress(IndexError):
        return _early.pop()
    return WorkerProcess()


def dismiss_early() -> None:
    """End what was started early and is not wanted after all."""
    with contextlib.suppress(IndexError):
        _early.pop().end(time.monotonic())
