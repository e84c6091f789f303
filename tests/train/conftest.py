"""Runs of several processes, started by torchrun as users start them, and killed as fate does."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from imagesmith.train import loop
from imagesmith.train.turns import Bounds

PROGRAM = """
import os, random, signal, sys, threading, time
from pathlib import Path
from imagesmith import configs
from imagesmith.train.gan import train_gan, validation
from imagesmith.train.restore import train_restorer
from imagesmith.train.video import train_video

validation.FAKES = 64
TRAININGS = {"RestorerConfig": train_restorer, "GanConfig": train_gan, "VideoConfig": train_video}


def die(images):
    while not any(int(path.stem) >= images for path in Path(config.run.out, "checkpoints").glob("*.safetensors")):
        time.sleep(0.001)
    time.sleep(random.random() / 20)
    Path(f"{path}.dead{len(dead)}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


kind, path, *victims = sys.argv[1:]
config = configs.load_config(path, getattr(configs, kind))
dead = list(Path(path).parent.glob(f"{Path(path).name}.dead*"))
rank, _, images = (victims[len(dead)] if len(dead) < len(victims) else "").partition("@")
if rank == os.environ["RANK"]:
    threading.Thread(target=die, args=[int(images)], daemon=True).start()
TRAININGS[kind](config, quiet=True)
"""


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start what `torchrun OPTIONS` starts, to train what a configuration describes.

    The first of `victims`, "RANK@IMAGES", is the process that kills itself at a random moment after the checkpoint of
    so many images; the second does so once the first is dead, and so on.
    """

    def start(config: Any, *options: str, victims: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        program, path = tmp_path / "train.py", tmp_path / f"{Path(config.run.out).name}.json"
        program.write_text(PROGRAM)
        path.write_text(config.model_dump_json())
        command = [sys.executable, "-m", "torch.distributed.run", *options, program, type(config).__name__, path]
        return subprocess.Popen(
            [*command, *victims], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture
def train_on_two(torchrun: Callable[..., subprocess.Popen[str]]) -> Callable[..., None]:
    """Train on two processes; each of `victims` is killed, and torchrun starts both again."""

    def train(config: Any, *victims: str) -> None:
        options = ("--standalone", "--nproc-per-node=2", f"--max-restarts={len(victims)}")
        told = finished(torchrun(config, *options, victims=victims))
        assert told.count("exitcode: -9") >= len(victims), told

    return train


def finished(process: subprocess.Popen[str]) -> str:
    """What it told, once it has ended well."""
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return told


@pytest.fixture
def train_on_two_machines(torchrun: Callable[..., subprocess.Popen[str]]) -> Callable[..., None]:
    """Train on two machines of one process each, which this one stands for; each of `victims` is killed."""

    def train(config: Any, *victims: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        options = ("--nnodes=2", "--nproc-per-node=1", f"--max-restarts={len(victims)}", "--rdzv-id=test")
        options += ("--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}")
        machines = [torchrun(config, *options, victims=victims) for _ in range(2)]
        told = "".join(map(finished, machines))
        assert told.count("exitcode: -9") >= len(victims), told

    return train


class OnGpu(torch.Tensor):
    """A tensor of this CPU that takes itself for one of a GPU: nobody may wait for what it says."""

    is_cpu = False  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise AssertionError("the device was waited for")


@pytest.fixture
def on_gpu() -> Callable[[bool], torch.Tensor]:
    """A truth on a device that is not waited for."""
    return lambda truth: torch.tensor(truth).as_subclass(OnGpu)


@pytest.fixture
def like_on_a_gpu(monkeypatch) -> None:
    """Steps are judged on the device, asked for ahead of what is heard of them, and optimised by fused kernels."""
    judge = Bounds.beyond
    monkeypatch.setattr(Bounds, "beyond", lambda *args: judge(*args).as_subclass(OnGpu))
    monkeypatch.setattr(loop, "steps_ahead", lambda device: 1)
    monkeypatch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, fused=True))
