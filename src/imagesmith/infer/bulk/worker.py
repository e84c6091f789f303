"""A process that restores one picture after another for another process.

Standard input brings pickles: a parcel (see `parcel.py`) of what the process is to be, with the file of its tensors,
then jobs. Standard output takes READY, then for each job its result, None where it was cancelled. The end of the input
ends the process, and the picture at work is left once the one it works for is gone, so it hardly outlives that.
"""

import atexit
import gc
import logging
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import BinaryIO

import torch

from imagesmith.infer.bulk.parcel import unpack
from imagesmith.infer.bulk.process import READY
from imagesmith.infer.stages import Stages
from imagesmith.runtime.interrupt import stop_on_request

_LOOKS_EVERY_S = 1.0


@dataclass(frozen=True)
class Post:
    """What a process is to be: the stages of the run, threads for the arithmetic, and how much its log says."""

    stages: Stages
    threads: int
    log_level: int = field(default_factory=lambda: logging.getLogger("imagesmith").getEffectiveLevel())

    def take_up(self) -> None:
        """In the new process."""
        torch.set_num_threads(self.threads)
        logging.basicConfig(format="%(message)s")
        logging.getLogger("imagesmith").setLevel(self.log_level)


def main() -> None:
    atexit.register(gc.freeze)  # as the command line does
    outbox = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get among the results
    try:
        _serve(sys.stdin.buffer, outbox)
    except BrokenPipeError:
        os._exit(1)  # the one it works for is gone, and closing the pipe would say so once more


def _serve(inbox: BinaryIO, outbox: BinaryIO) -> None:
    def send(message: object) -> None:
        pickle.dump(message, outbox)
        outbox.flush()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        orders = pickle.load(inbox)
    except (EOFError, pickle.UnpicklingError):  # started early and not wanted after all, or the sender was killed
        return
    post: Post = unpack(*orders)
    post.take_up()
    with stop_on_request() as asked:
        threading.Thread(target=_stop_with, args=(os.getppid(), asked), daemon=True).start()
        send(READY)
        while not asked.is_set():
            try:
                job = pickle.load(inbox)
            except EOFError:
                return
            send(post.stages.restore(job, asked))


def _stop_with(employer: int, asked: threading.Event) -> None:
    """Set `asked` once the process `employer` is gone: a large picture takes minutes, computed for nobody."""
    while os.getppid() == employer:  # on Windows it stays the same
        time.sleep(_LOOKS_EVERY_S)
    asked.set()


if __name__ == "__main__":
    main()
