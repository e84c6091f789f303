"""Two real processes, started once by torchrun, each write down what every way of agreeing gave them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from imagesmith.errors import UsageError
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
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(4))]
    parameters[0].grad = torch.arange(6.0).view(2, 3) * (world.rank + 1)
    parameters[1].grad = torch.tensor(10.0 * world.rank)
    world.average_gradients(parameters)
    loss = torch.tensor(float(world.rank))
    answers = {
        "world": [world.size, world.is_leader, world.local_rank],
        "told": told,
        "found": [found["weights"].tolist(), found["images_seen"]],
        "ran": ran,
        "any": world.any(world.rank == 0, world.rank == 1, False),
        "agree": world.agree(0.1 + world.rank),
        "mean": float(world.mean(loss)),
        "loss": float(loss),
        "gradients": [parameter.grad.tolist() if parameter.grad is not None else None for parameter in parameters],
    }
    (folder / f"{world.rank}.json").write_text(json.dumps(answers))
    distributed.barrier()
    world.lead(lambda: 1 // 0)
    leave_world()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the leader and the other one wrote down before the bug that ended both."""
    folder = tmp_path_factory.mktemp("answers")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1, done.stderr
    assert "ZeroDivisionError" in done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_each_knows_its_place(answers) -> None:
    assert [answer["world"] for answer in answers] == [[2, True, 0], [2, False, 1]]


def test_error_of_the_leader_reaches_everyone(answers) -> None:
    """A refused run folder would leave the other processes waiting for ever, on machines that are paid by the hour."""
    assert [answer["told"] for answer in answers] == ["UsageError: expected an empty folder; choose another"] * 2


def test_what_the_leader_alone_did_reaches_everyone(answers) -> None:
    assert [answer["ran"] for answer in answers] == [["succeed"], []]
    assert [answer["found"] for answer in answers] == [[[0, 1, 2], 96]] * 2


def test_one_flag_anywhere_is_up_everywhere(answers) -> None:
    """One process that saves or stops alone leaves the others in the middle of a message."""
    assert [answer["any"] for answer in answers] == [[True, True, False]] * 2


def test_the_number_of_the_leader_holds_to_the_last_bit(answers) -> None:
    """Plans that differ by a rounding end the run after different steps."""
    assert [answer["agree"] for answer in answers] == [0.1] * 2


def test_mean_is_over_processes_and_leaves_the_own_value(answers) -> None:
    assert [answer["mean"] for answer in answers] == [0.5] * 2
    assert [answer["loss"] for answer in answers] == [0, 1]


def test_gradients_are_averaged_each_in_its_place(answers) -> None:
    """A sum instead of a mean trains too, with twice the learning rate."""
    assert [answer["gradients"] for answer in answers] == [[[[0, 1.5, 3], [4.5, 6, 7.5]], 5, None]] * 2


def test_one_process_alone_agrees_with_itself() -> None:
    """Code that trains must not ask how many there are."""
    world, parameter = World(), nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    world.average_gradients([parameter])
    assert parameter.grad.tolist() == [1, 1]
    assert (world.is_leader, world.agree(0.1), world.any(True, False)) == (True, 0.1, [True, False])
    assert (world.lead(lambda: 3), float(world.mean(torch.tensor(2.0)))) == (3, 2)
    with pytest.raises(UsageError, match="no"):
        world.lead(_refuse)


def _refuse() -> None:
    raise UsageError("no")


def test_without_torchrun_there_is_nobody_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_world("cpu") == World()
    leave_world()


if __name__ == "__main__":
    agree_on_everything(Path(sys.argv[1]))
