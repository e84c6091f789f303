"""The same run on the machines of a Ray cluster: actors that hold the model take pictures as Ray Data streams them.

Inputs and outputs have to lie on storage that every machine sees under the same path. Ray starts a lost actor again and
gives its pictures out once more; a ledger outside of the actors knows at which picture they die.
"""

import logging
import os
import pickle
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from imagesmith.errors import OutputError, UsageError, WorkerError
from imagesmith.infer.bulk.parcel import pack_whole
from imagesmith.infer.bulk.plan import together
from imagesmith.infer.bulk.pool import ATTEMPTS
from imagesmith.infer.bulk.worker import Post
from imagesmith.infer.outcome import ItemResult, Progress, Summary, UntilDiskIsFull
from imagesmith.infer.plan import Job
from imagesmith.infer.stages import Stages
from imagesmith.runtime.interrupt import stop_on_request

_BLOCK = 8  # groups of pictures that one task restores: what a lost actor costs, and how finely results come back
_STOP = -1
_POLL_S = 0.1
_ASKED_EVERY_S = 1.0  # by an actor with a picture at work: those of a large cluster share one ledger
_REMEMBERED = Path(os.getenv("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster")
"""Where `ray start` and a driver leave the address of the cluster of this machine; a killed one leaves it for ever."""
_ANSWERS_WITHIN = 3.0  # seconds


def restore_on_ray(
    stages: Stages,
    jobs: Sequence[Job],
    workers: int | Literal["auto"],
    device: torch.device,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore `jobs` by so many actors; 'auto': one for each core, or GPU, that the cluster has or gets meanwhile."""
    if any(job.output is None or job.item.path is None for job in jobs):
        raise UsageError("expected files for --engine ray, got standard input or output; use --engine local")
    ray = _ray()
    finished: list[ItemResult | None] = [None] * len(jobs)
    done = 0
    with _connected(ray), stop_on_request() as asked:
        watch = UntilDiskIsFull(asked, on_progress)
        ledger = ray.remote(_Ledger).options(num_cpus=0).remote(pack_whole(Post(stages, threads=1)))
        dataset = _dataset(ray, jobs)
        dataset.context.enable_progress_bars = False
        results = dataset.flat_map(
            _Actor,
            fn_constructor_args=(ledger, os.getcwd()),
            compute=_actors(ray, workers, "CPU" if device.type == "cpu" else "GPU"),
            **({"num_cpus": 1} if device.type == "cpu" else {"num_gpus": 1}),
        )
        with _passed_on(asked, ledger):
            for row in _told(ray, results.iter_rows()):
                place, result = pickle.loads(row["result"])
                if result is not None:
                    finished[place] = result
                    done += 1
                    watch(Progress(done, len(jobs), str(jobs[place].item), 1.0, result))
        cancelled = asked.is_set()
    results = [result for result in finished if result is not None]
    return watch.concluded(Summary(results, cancelled=cancelled and len(results) < len(jobs)))


def _dataset(ray: Any, jobs: Sequence[Job]) -> Any:
    """A row for each group of jobs, each job with its place in `jobs`, which comes back with its result."""
    places = {job: place for place, job in enumerate(jobs)}
    rows = [{"jobs": pickle.dumps([(places[job], job) for job in group])} for group in together(jobs)]
    return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // _BLOCK))


class _Ledger:
    """What all actors share: what they are to be, and how often each picture was begun and never ended."""

    def __init__(self, post: bytes) -> None:
        self._post = post
        self._begun = Counter[str]()
        self._stopped = False

    def post(self) -> bytes:
        return self._post

    def begin(self, item: str) -> int:
        """The number of this attempt; `_STOP` if nothing is to be begun any more."""
        if self._stopped:
            return _STOP
        self._begun[item] += 1
        return self._begun[item]

    def end(self, item: str) -> None:
        del self._begun[item]

    def stop(self) -> None:
        self._stopped = True

    def is_stopped(self) -> bool:
        return self._stopped


class _Actor:
    """Holds the stages of a run and takes groups of jobs through them."""

    def __init__(self, ledger: Any, folder: str) -> None:
        import ray

        try:
            os.chdir(folder)  # paths of jobs may be relative
        except OSError as error:
            raise OutputError(
                f"expected the folder {folder} on every machine of the cluster: {error.strerror}"
            ) from None
        self._get: Any = ray.get
        self._ledger = ledger
        self._post: Post = pickle.loads(ray.get(ledger.post.remote()))
        self._post.take_up()
        self._asked = threading.Event()

    def __call__(self, row: dict[str, Any]) -> list[dict[str, bytes]]:
        """The places of the jobs of a group, each with its result."""
        return [{"result": pickle.dumps((place, self._restored(job)))} for place, job in pickle.loads(row["jobs"])]

    def _restored(self, job: Job) -> ItemResult | None:
        if self._asked.is_set():
            return None
        attempt = self._get(self._ledger.begin.remote(str(job.item)))
        if attempt == _STOP:
            self._asked.set()
            return None
        if attempt > ATTEMPTS:
            error = WorkerError(f"{job.item}: the process that restored it died {ATTEMPTS} times\nrestore it by itself")
            result = self._post.stages.given_up(job, error)
        else:
            with _meanwhile(self._heard, _ASKED_EVERY_S):
                result = self._post.stages.restore(job, self._asked)
        self._ledger.end.remote(str(job.item))
        return result

    def _heard(self) -> bool:
        """Whether the run is to end; the picture at work then does after its row of tiles."""
        if self._get(self._ledger.is_stopped.remote()):
            self._asked.set()
        return self._asked.is_set()


@contextmanager
def _passed_on(asked: threading.Event, ledger: Any) -> Iterator[None]:
    """Within the block the ledger hears what somebody `asked` for, also while no row of results comes."""

    def tell() -> bool:
        if asked.is_set():
            ledger.stop.remote()
        return asked.is_set()

    with _meanwhile(tell, _POLL_S):
        yield


@contextmanager
def _meanwhile(step: Callable[[], bool], every_s: float) -> Iterator[None]:
    """Take a step every so many seconds of the block, in another thread, until one says that it was the last."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s) and not step():
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _actors(ray: Any, workers: int | Literal["auto"], resource: str) -> Any:
    """At once one for each core or GPU that is there, later for those that join; of a given number not more than it."""
    there = max(1, int(ray.cluster_resources().get(resource, 1)))
    most = None if workers == "auto" else workers
    return ray.data.ActorPoolStrategy(min_size=1, initial_size=min(there, most or there), max_size=most)


def _told(ray: Any, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, with Ray's own errors in one sentence; what it tried again by itself never shows here."""
    try:
        yield from rows
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise WorkerError(
            f"the cluster gave up: {last}\nevery machine needs this version of imagesmith and the folders of this run"
        ) from error


def _ray() -> Any:
    # read when it is imported; else it tells of each lost actor on standard output, among results
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(
            f"expected Ray for --engine ray, but it cannot be imported ({error})\n"
            "install it on every machine: pip install 'imagesmith[cluster]'"
        ) from None
    return ray


def _is_left_behind(remembered: Path) -> bool:
    """Whether this file of Ray's names a cluster that nobody answers for; Ray would wait minutes for it."""
    return remembered.exists() and not _answers(remembered.read_text().strip())


def _answers(address: str) -> bool:
    """Whether somebody takes a connection at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN):
            return True
    except (OSError, ValueError):
        return False


def _address() -> str | None:
    """What Ray shall connect to, None being its own choice; WorkerError where the user named a cluster that is gone."""
    named = os.getenv("RAY_ADDRESS", "")
    if not named:
        return "local" if _is_left_behind(_REMEMBERED) else None
    if ":" in named and "://" not in named and not _answers(named):
        raise WorkerError(f"nobody answers at {named}, which RAY_ADDRESS names\nsee `ray status` there, or unset it")
    return None


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within a cluster: the one that is there already (RAY_ADDRESS, `ray start`), or one of this machine alone."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it calls the actors that Ray Data makes errors
    address = _address()
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises many kinds of them, and plain ones
        first = str(error).strip().partition("\n")[0]
        raise WorkerError(
            f"Ray does not start, or its cluster does not answer: {first}\n"
            "see `ray status`; `ray stop` forgets a cluster of this machine that is gone"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # which tells of each step of its plan
    try:
        yield
    finally:
        ray.shutdown()
