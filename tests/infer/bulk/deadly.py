"""A Restorer that dies of pictures, in whatever process it is: of 40 rows each time, of 41 rows once."""

import os
import signal
from pathlib import Path
from typing import Any

from imagesmith.infer.restore import Restorer


class Deadly(Restorer):
    """`mark` is the file that tells that a picture of 41 rows was deadly once."""

    mark: Path

    def strips(self, frame: Any, **options: Any) -> Any:
        height = frame.pixels.shape[0]
        if height == 40 or (height == 41 and not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().strips(frame, **options)
