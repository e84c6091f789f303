"""What was measured is kept, and a file that cannot be trusted, read or written costs nothing but a measurement."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from imagesmith.runtime import remembered
from imagesmith.runtime.remembered import MOST_ANSWERS, Answer, found_once, probe_file
from imagesmith.runtime.turns import least_seconds

CPU = torch.device("cpu")
FITS = {"choice": ["a", "b"], "fast": bool, "reason": str}
ANSWER = {"choice": "a", "fast": True, "reason": "why"}


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "imagesmith" / "probe.json"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Any, int]]]:
    """Ask as a new process does: the answer, and how often was measured for it."""

    def ask(question: str = "q", answer: dict[str, Any] = ANSWER) -> tuple[Any, int]:
        monkeypatch.setattr(remembered, "_known", {})
        measured = []
        found = found_once(question, CPU, lambda: measured.append(1) or answer, fits=FITS)
        return found, len(measured)

    return ask


def test_a_second_process_does_not_measure(file: Path, ask: Callable[..., Any]) -> None:
    """A question is asked by every command; another question, processor or version is another one."""
    assert ask() == (ANSWER, 1)
    assert ask() == (ANSWER, 0)
    assert ask("other") == (ANSWER, 1)
    assert ask() == (ANSWER, 0), "the second answer took the place of the first"
    assert torch.__version__ in file.read_text()


def test_what_others_found_meanwhile_stays(file: Path, ask: Callable[..., Any]) -> None:
    """Eight jobs begin at once on a fresh machine, and all but the last to finish measure again on the next day."""

    def measure() -> Answer:
        assert ask("of another process") == (ANSWER, 1)
        return ANSWER

    found_once("of this one", CPU, measure, fits=FITS)
    assert ask("of another process") == (ANSWER, 0)
    assert ask("of this one") == (ANSWER, 0)


def test_other_threads_are_another_machine(file: Path, ask: Callable[..., Any]) -> None:
    """What pays for one thread may not for sixty-four."""
    ask()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert ask() == (ANSWER, 1)
    finally:
        torch.set_num_threads(threads)


def test_two_threads_that_ask_at_once_leave_all_threads_to_the_arithmetic(file: Path) -> None:
    """The second took the one thread of the first for what the process has, and a server of two models kept it."""
    threads = torch.get_num_threads()
    both = threading.Barrier(2)

    def wait() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # for the other one, which must not come

    def measure() -> Answer:
        least_seconds({"": wait}, CPU, rounds=1, enough=1)
        return ANSWER

    def probe(question: str) -> None:
        found_once(question, CPU, measure, fits=FITS)

    torch.set_num_threads(3)
    try:
        asking = [threading.Thread(target=probe, args=(question,)) for question in ("first", "second")]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert both.broken
    assert all(key.endswith("3 threads") for key in json.loads(file.read_text()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"NaN",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"x": -Infinity}}',
        b'{"a": 1e999}',
    ],
    ids=["empty", "cut", "binary", "list", "null", "nan", "deep", "foreign", "infinite", "too large"],
)
def test_a_broken_file_is_measured_over(file: Path, ask: Callable[..., Any], content: bytes) -> None:
    """A full disk leaves half a file, and every command fails until somebody finds out which one to delete."""
    file.parent.mkdir()
    file.write_bytes(content)
    assert ask() == (ANSWER, 1)
    assert ask() == (ANSWER, 0)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"choice": "a"},
        ANSWER | {"choice": "c"},
        ANSWER | {"choice": ["a"]},
        ANSWER | {"fast": 1},
        ANSWER | {"reason": None},
        ANSWER | {"more": 1},
    ],
)
def test_an_answer_that_is_none_is_measured_over(file: Path, ask: Callable[..., Any], answer: Any) -> None:
    """An edited file would choose a number format that this processor does not have."""
    ask()
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: answer}))
    assert ask() == (ANSWER, 1)


def test_a_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    """Containers have read-only homes: restoring a picture must not fail for a note about speed."""
    (tmp_path / "imagesmith").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ask() == (ANSWER, 1)
    assert ask() == (ANSWER, 1)


def test_it_can_be_left_alone(monkeypatch: pytest.MonkeyPatch, file: Path, ask: Callable[..., Any]) -> None:
    """Who asks for no traces, or for a fresh measurement, gets it."""
    monkeypatch.setenv("IMAGESMITH_NO_CACHE", "1")
    assert ask() == (ANSWER, 1)
    assert not file.exists()
    monkeypatch.setenv("IMAGESMITH_NO_CACHE", "0")
    assert probe_file() == file


def test_a_relative_cache_folder_is_none(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """By the XDG specification relative paths are ignored; otherwise every working folder gets a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert probe_file() == Path.home() / ".cache" / "imagesmith" / "probe.json"


def test_the_file_stays_small(file: Path, ask: Callable[..., Any]) -> None:
    """Each network of a search asks once and never again; its answers shall not pile up for ever."""
    file.parent.mkdir()
    file.write_text(json.dumps({str(k): ANSWER for k in range(2 * MOST_ANSWERS)}))
    ask("newest")
    kept = list(json.loads(file.read_text()))
    assert len(kept) == MOST_ANSWERS
    assert kept[-1].startswith("newest")
    assert kept[0] != "0", "the newest went, and the oldest stayed"
