"""Two real processes, started once by torchrun, each write down what every way of agreeing gave them."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from imagesmith.errors import TrainingError, UsageError
from imagesmith.runtime import dist
from imagesmith.runtime.dist import World, join_world, leave_world

PATIENCE_S = 180
"""Far more than two processes need on a busy machine, and far less than the half hour after which gloo gives up."""


def agree_on_everything(folder: Path) -> None:
    """What each of the processes runs; the last act is a bug on the leader alone."""
    world = join_world("cpu")
    ran: list[str] = []

    def fail() -> None:
        raise UsageError("expected an empty folder; choose another")

    def succeed() -> dict[str, Any]:
        ran.append("succeed")
        return {"weights": torch.arange(3.0), "images_seen": 96}

    try:
        told = str(world.lead(fail))
    except UsageError as error:
        told = f"UsageError: {error}"
    found = world.lead(succeed)
    kernel = torch.arange(6.0).view(1, 2, 3, 1).to(memory_format=torch.channels_last) * (world.rank + 1)
    tensors = [kernel, torch.tensor(10.0 * world.rank), torch.tensor([0.25, world.rank], dtype=torch.float64)]
    world.average(tensors)
    answers = {
        "world": [world.size, world.is_leader, world.local_rank],
        "told": told,
        "found": [found["weights"].tolist(), found["images_seen"]],
        "ran": ran,
        "agree": world.agree(0.1 + world.rank),
        "means": [tensor.flatten().tolist() for tensor in tensors],
    }
    (folder / f"{world.rank}.json").write_text(json.dumps(answers))
    distributed.barrier()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends who is left, but not before it has said what it heard
    try:
        world.lead(lambda: 1 // 0)
    except TrainingError as error:
        (folder / "bereaved").write_text(str(error))
    leave_world()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the leader and the other one wrote down their answers, before the bug that ended the leader."""
    folder = tmp_path_factory.mktemp("answers")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1, done.stderr
    assert "ZeroDivisionError" in done.stderr
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> list[dict[str, Any]]:
    """Those of the leader and of the other one."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_each_knows_its_place(answers) -> None:
    assert [answer["world"] for answer in answers] == [[2, True, 0], [2, False, 1]]


def test_error_of_the_leader_reaches_everyone(answers) -> None:
    """A refused run folder would leave the other processes waiting for ever, on machines that are paid by the hour."""
    assert [answer["told"] for answer in answers] == ["UsageError: expected an empty folder; choose another"] * 2


def test_what_the_leader_alone_did_reaches_everyone(answers) -> None:
    assert [answer["ran"] for answer in answers] == [["succeed"], []]
    assert [answer["found"] for answer in answers] == [[[0, 1, 2], 96]] * 2


def test_the_number_of_the_leader_holds_to_the_last_bit(answers) -> None:
    """Plans that differ by a rounding end the run after different steps."""
    assert [answer["agree"] for answer in answers] == [0.1] * 2


def test_tensors_are_averaged_each_in_its_place(answers) -> None:
    """A sum instead of a mean trains too, with twice the learning rate; so does a kernel with its pixels in disorder."""
    assert [answer["means"] for answer in answers] == [[[0, 1.5, 3, 4.5, 6, 7.5], [5], [0.25, 0.5]]] * 2


def test_who_is_left_alone_hears_it_and_what_to_do(folder: Path) -> None:
    """A lost machine left the others waiting in silence, or ended them with the source line of a library."""
    told = (folder / "bereaved").read_text()
    assert told.startswith("another process of this run is gone, or silent")
    assert "torchrun --max-restarts" in told
    assert len(told.splitlines()) <= 3


def test_nobody_is_waited_for_longer_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout that is read from the configuration and goes nowhere is half an hour of rented machines."""
    places = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="gone, or silent for run"):
        join_world("cpu", timeout_minutes=0.01)


def test_a_killed_worker_of_this_process_is_not_taken_for_a_lost_process() -> None:
    """torch tells it by a signal, most often while gradients are averaged: the advice was for another fault."""
    told = "DataLoader worker (pid 7) is killed by signal: Killed."
    with pytest.raises(RuntimeError, match="pid 7"), dist._loss_is_told():
        raise RuntimeError(told)


@pytest.mark.parametrize("places", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two", "RANK": "0"}])
def test_half_of_what_torchrun_sets_is_told(monkeypatch: pytest.MonkeyPatch, places: dict[str, str]) -> None:
    """WORLD_SIZE left in the environment by another program ended in a KeyError of this one."""
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"numbers in WORLD_SIZE and RANK.*start with torchrun, or unset both"):
        join_world("cpu")


def test_after_a_restart_nobody_calls_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's store outlives its processes: who was started again first called the address of a dead one, and died."""
    lasting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    lasting.set(dist._PORT, str(_free_port()))  # of the leader that was killed
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(lasting.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(dist._fresh_store, 1, 2, timedelta(minutes=1))
        with pytest.raises(TimeoutError):
            first.result(timeout=1)
        leader = dist._fresh_store(0, 2, timedelta(minutes=1))
        leader.set("answer", "alive")
        assert first.result().get("answer") == b"alive"


def test_one_process_alone_agrees_with_itself() -> None:
    """Code that trains must not ask how many there are."""
    world, gradient = World(), torch.ones(2)
    world.average([gradient])
    assert gradient.tolist() == [1, 1]
    assert (world.is_leader, world.agree(0.1), world.lead(lambda: 3)) == (True, 0.1, 3)
    with pytest.raises(UsageError, match="no"):
        world.lead(_refuse)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _refuse() -> None:
    raise UsageError("no")


def test_without_torchrun_there_is_nobody_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_world("cpu") == World()
    monkeypatch.delenv("WORLD_SIZE")
    assert join_world("cpu") == World()
    leave_world()


if __name__ == "__main__":
    agree_on_everything(Path(sys.argv[1]))
