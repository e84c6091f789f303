"""Restorers that do in their processes what tests want to see."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from imagesmith.infer.restore import Restorer


class Deadly(Restorer):
    """Dies of pictures of 40 rows each time, of one of 41 rows once, as the file `mark` tells."""

    mark: Path

    def strips(self, frame: Any, **options: Any) -> Any:
        height = frame.pixels.shape[0]
        if height == 40 or (height == 41 and not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().strips(frame, **options)


class Slow(Restorer):
    """Takes a second for each row of the result, and marks when it has begun."""

    mark: Path

    def strips(self, frame: Any, **options: Any) -> Any:
        for _, strip in super().strips(frame, **options):
            for row in range(strip.shape[0]):
                self.mark.touch()
                time.sleep(1)
                yield row, strip[row : row + 1]


class Gathering(Restorer):
    """`marks` is a folder in which every node that computes leaves its name; nothing is computed before there are two."""

    marks: Path

    def strips(self, frame: Any, **options: Any) -> Any:
        import ray

        (self.marks / ray.get_runtime_context().get_node_id()).touch()
        deadline = time.monotonic() + 120
        while len(list(self.marks.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        return super().strips(frame, **options)
