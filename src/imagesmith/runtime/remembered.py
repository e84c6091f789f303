"""What was found by measuring this machine, kept from one run to the next.

It lies in `$XDG_CACHE_HOME/imagesmith/probe.json` (`~/.cache` without that variable). A file that is broken, foreign or
cannot be written costs a measurement and nothing else; `IMAGESMITH_NO_CACHE=1` leaves it alone.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from imagesmith import __version__
from imagesmith.atomic import make_folder, write_whole
from imagesmith.errors import OutputError
from imagesmith.runtime.lock import in_turn

MOST_ANSWERS = 256
"""Of which the newest are kept: a long row of experiments shall not fill a home folder."""
Answer = dict[str, Any]
"""Values that JSON has."""

_BROKEN = (OSError, ValueError, RecursionError)  # whatever reading and writing JSON raises
_known: dict[str, Answer] = {}
_one_at_a_time = threading.RLock()


def found_once(question: str, device: torch.device, measure: Callable[[], Answer], *, fits: Answer) -> Answer:
    """The answer to `question` that this machine gave before with these versions, or else what `measure` finds now.

    `fits` has the keys of an answer, and for each the values that it may have or, as a type, the kind of them: what is
    read from the file is not trusted. Within a process the answer never changes. Threads wait for each other: while one
    measures, the whole process computes on one thread (`turns.py`).
    """
    with _one_at_a_time:
        key = f"{question}; {_machine(device)}"
        if key not in _known:
            file = probe_file()
            answer: Any = None if file is None else _read(file).get(key)
            if not _is_one(answer, fits):
                answer = measure()
                if file is not None:
                    _keep(file, key, answer)
            _known[key] = answer
        return _known[key]


def probe_file() -> Path | None:
    """Where answers are kept; None where nothing is to be kept."""
    if os.environ.get("IMAGESMITH_NO_CACHE", "0") not in ("", "0"):
        return None
    folder = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):  # a user without a home
        return (Path(folder) if Path(folder).is_absolute() else Path.home() / ".cache") / "imagesmith" / "probe.json"
    return None


def are_kept(file: Path) -> bool:
    """Whether all that this process asked for lies in `file`, where a later one finds it."""
    return _known.keys() <= _read(file).keys()


def _read(file: Path) -> dict[str, Any]:
    try:
        answers = json.loads(file.read_text(encoding="utf-8"))
        _text(answers)  # Python reads NaN and 1e999, which are no JSON and could not be written again
    except _BROKEN:
        return {}
    return answers if isinstance(answers, dict) else {}


def _keep(file: Path, key: str, answer: Answer) -> None:
    """Add an answer as the newest to those that lie in `file` by now: other processes measure at the same time."""
    with contextlib.suppress(OutputError, *_BROKEN):
        make_folder(file.parent)
        with file.with_suffix(".lock").open("ab") as lock, in_turn(lock):
            answers = _read(file)
            answers.pop(key, None)
            write_whole(file, _text(dict(list(answers.items())[1 - MOST_ANSWERS :]) | {key: answer}))


def _text(answers: Any) -> str:
    return json.dumps(answers, indent=1, allow_nan=False) + "\n"


def _is_one(answer: Any, fits: Answer) -> bool:
    """Whether it has the keys and the values of an answer."""
    if not isinstance(answer, dict) or answer.keys() != fits.keys():
        return False
    return all(
        type(answer[key]) is wanted if isinstance(wanted, type) else answer[key] in wanted
        for key, wanted in fits.items()
    )


def _machine(device: torch.device) -> str:
    """Versions, processor and threads: what an answer holds for."""
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = f"{_processor()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"imagesmith {__version__}, torch {torch.__version__}, {device.type}, {place}"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        import platform  # asks another program on some systems

        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
