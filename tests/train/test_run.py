"""A run folder: what lies in it is gone on with, or left alone."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from imagesmith import presets
from imagesmith.atomic import part_beside
from imagesmith.configs import RestorerConfig, override
from imagesmith.data.archives import open_collection
from imagesmith.data.loader import endless_batches
from imagesmith.data.sources import list_items
from imagesmith.errors import ConfigError, IntegrityError, OutputError, TrainingError
from imagesmith.runtime.checkpoint import save_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.train.run import open_run


def config(out: Path, *changes: str) -> RestorerConfig:
    return override(presets.sr_x2(data="photos", out=str(out)), ["run.device=cpu", "run.images=8", *changes])


def enter(out: Path, *changes: str) -> None:
    """Begin a run, or go on with it, and leave it again."""
    with open_run(config(out, *changes), quiet=True):
        pass


def checkpoint(out: Path, images_seen: int) -> Path:
    return save_checkpoint(out / "checkpoints", images_seen, {"a": torch.ones(9)}, {"images_seen": images_seen})


def test_a_link_to_itself_is_no_run_folder(tmp_path: Path):
    """The accident: what such a link leads to was asked for, and the answer was told as a bug."""
    (tmp_path / "run").symlink_to(tmp_path / "run")
    with pytest.raises(OutputError, match="choose another folder"):
        enter(tmp_path / "run")


@pytest.mark.parametrize("kept", ["model.safetensors", "history.jsonl"])
def test_a_trained_model_without_checkpoints_is_not_overwritten(tmp_path: Path, kept: str):
    """The accident: somebody cleans up the checkpoints, and the next run replaces a night's model by its first one."""
    enter(tmp_path)
    (tmp_path / kept).write_text(json.dumps({"images_seen": 96}) + "\n")
    for changes in ([], ["optim.learning_rate=0.1"]):
        with pytest.raises(ConfigError, match="a trained model and no checkpoint to go on from; name another folder"):
            enter(tmp_path, *changes)
    assert json.loads((tmp_path / kept).read_text()) == {"images_seen": 96}
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["learning_rate"] != 0.1


def test_a_config_of_somebody_else_is_not_overwritten(tmp_path: Path):
    """The accident: -o names a folder of the user's own, whose config.json is replaced without a word."""
    (tmp_path / "config.json").write_text('{"my": "own file"}')
    with pytest.raises(ConfigError, match=r"with a config\.json of something else; name another folder"):
        enter(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"my": "own file"}'


def test_a_run_that_failed_before_its_first_checkpoint_binds_nobody(tmp_path: Path):
    enter(tmp_path)
    enter(tmp_path, "optim.learning_rate=0.1")
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["learning_rate"] == 0.1


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The accident: a full disk cut every checkpoint short, and days of training began again at image 0."""
    enter(tmp_path)
    for images in (4, 8):
        path = checkpoint(tmp_path, images)
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=r"expected a whole checkpoint in .*, got 2 damaged; put a whole one back"):
        enter(tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in told] == ["the next one is tried", "it was the last one"]


def test_a_run_goes_on_at_another_pace_and_place_but_not_as_another_run(tmp_path: Path):
    """The accident: a GPU is taken, and `run.device=cpu` is refused because the run was begun with 'auto'."""
    enter(tmp_path, "run.device=auto")
    checkpoint(tmp_path, 4)
    enter(tmp_path, "run.device=cpu", "run.images=16", "data.workers=3")
    with pytest.raises(ConfigError, match=r"started with run\.seed = 0, not 1"):
        enter(tmp_path, "run.seed=1")


def remembered(out: Path, *changes: str) -> None:
    """Begin a run and leave it with a checkpoint."""
    with open_run(config(out, *changes), quiet=True) as session:
        state = session.state({}, {})
        save_checkpoint(out / "checkpoints", 4, state.tensors(), state.values())


def edited(out: Path, name: str, value: object) -> None:
    path = out / "config.json"
    values = json.loads(path.read_text())
    values["optim"][name] = value
    path.write_text(json.dumps(values))


def test_an_edited_configuration_is_not_gone_on_with(tmp_path: Path):
    """The accident: `--config runs/a/config.json -o runs/a` after an edit went on with another rate without a word."""
    remembered(tmp_path)
    rate = config(tmp_path).optim.learning_rate
    edited(tmp_path, "learning_rate", 0.5)
    with pytest.raises(ConfigError, match=rf"was started with optim\.learning_rate = {rate}, not 0\.5"):
        enter(tmp_path, "optim.learning_rate=0.5")
    enter(tmp_path, "run.images=16", "run.device=cpu")
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["learning_rate"] == rate


def test_a_lost_configuration_is_known_all_the_same(tmp_path: Path):
    """The accident: config.json deleted, a wider network asked for; it crashed, and the wrong width was written down."""
    remembered(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"was started with net\.options\.width = \d+, not 8"):
        enter(tmp_path, "net.options.width=8")
    assert not (tmp_path / "config.json").exists()


def test_a_run_of_an_earlier_version_goes_on_and_is_remembered_from_then_on(tmp_path: Path):
    """Its checkpoints do not tell what it was begun with, and its file does."""
    enter(tmp_path)
    with open_run(config(tmp_path), quiet=True) as session:
        values = session.state({}, {}).values()
    save_checkpoint(tmp_path / "checkpoints", 4, {}, {name: values[name] for name in values if name != "config"})
    with pytest.raises(ConfigError, match=r"started with run\.seed = 0, not 1"):
        enter(tmp_path, "run.seed=1")
    with open_run(config(tmp_path), quiet=True) as session:
        assert session.state({}, {}).config == config(tmp_path).model_dump(mode="json")


class Second(World):
    """The second of two processes, which hears from the first its configuration and nothing more."""

    def __init__(self, leaders: RestorerConfig) -> None:
        super().__init__(rank=1, size=2)
        object.__setattr__(self, "words", [leaders])

    def lead(self, action: object) -> Any:
        return vars(self)["words"].pop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "optim.learning_rate=0.5",
            r"expected optim\.learning_rate = 0\.\d+ in every process, .* got 0\.5 in process 1",
        ),
        ("net.options.width=8", r"expected net\.options\.width = \d+ in every process"),
        ("run.images=16", r"expected run\.images = 8 in every process"),
        ("data.folder=elsewhere", None),
        ("data.workers=1", None),
        ("run.device=auto", None),
    ],
)
def test_processes_with_different_commands_do_not_train_one_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, told: str | None
):
    """The accident: a rate corrected on one of two machines; their weights went apart, and the run was reported done."""
    monkeypatch.setattr("imagesmith.train.run.join_world", lambda *options: Second(config(tmp_path)))
    goes_on = pytest.raises(IndexError)
    with pytest.raises(ConfigError, match=told) if told else goes_on:
        open_run(config(tmp_path, change), quiet=True).__enter__()


def test_runs_inside_the_folder_of_pictures_are_not_trained_on(tmp_path: Path):
    """The accident: `train gan pets -o pets/run2` learnt from the sheets of fakes that lie in pets/run1."""
    for name in ("pet.png", "runs/of-mine/pet.png", "run1/samples/000000000008.png", "runs/2/reals.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("run1", "runs/2"):
        enter(tmp_path / name)
    items = list_items([tmp_path], recursive=True, into_runs=False)
    with open_collection(tmp_path) as collection:
        assert [entry.name for entry in collection.entries] == [str(item.name) for item in items]
    assert [str(item.name) for item in items] == ["pet.png", "runs/of-mine/pet.png"]
    assert len(list_items([tmp_path], recursive=True)) == 4, "what is restored is what was named"
    assert len(list_items([tmp_path / "run1"], recursive=True, into_runs=False)) == 1, "and so is a run that was named"


def test_a_run_does_not_write_among_its_pictures(tmp_path: Path):
    """The accident: -o names the folder of the pictures, and the run goes on with its own sheets among them."""
    with pytest.raises(ConfigError, match=r"expected a run folder beside the pictures, got .*; name another one"):
        enter(tmp_path, f"data.folder={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_run_does_not_write_among_its_degraded_pictures_or_films(tmp_path: Path):
    """The accident: only the folder of the clean pictures is looked at, and sheets lie among what is learnt all the same."""
    films = override(presets.vsr_x2(data="photos", out=str(tmp_path)), [f"data.films={tmp_path}", "run.device=cpu"])
    with pytest.raises(ConfigError, match="beside the pictures"), open_run(films, quiet=True):
        pass
    with pytest.raises(ConfigError, match="beside the pictures"):
        enter(tmp_path, f"data.degraded={tmp_path}", "degradations=[]", "data.shrink=[1]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("goes_on", "advice"),
    [(False, r"set run\.batch to a multiple of 3"), (True, "take a number of processes that divides it")],
)
def test_a_batch_that_cannot_be_divided_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool, advice: str
):
    """The accident: a run went on with a third GPU, and was told to set run.batch, which is refused as another run."""
    begun = {"choices": {"batch": 16}, "images_seen": 4}
    with open_run(config(tmp_path), quiet=True) as session:
        monkeypatch.setattr(World, "lead", lambda world, decide: decide())
        third = replace(session, world=World(rank=2, size=3), newest=({}, begun) if goes_on else None)
        with pytest.raises(ConfigError, match=f"that 3 x 1 .* divide, got 16; .*{advice}"):
            third.choices(lambda: begun["choices"])


@pytest.mark.parametrize(
    ("extras", "told"),
    [({"ended": True}, "it ended early, as nothing got better any more"), ({}, "it is finished")],
)
def test_a_run_that_is_over_says_why_a_new_length_changes_nothing(tmp_path: Path, extras: dict[str, bool], told: str):
    """The accident: `--images 1M` for a run that had ended early did nothing, and said nothing but 'done'."""
    with open_run(config(tmp_path), quiet=True) as session:
        state = session.state({}, {})
        state.images_seen, state.extras = 4 if extras else 8, extras
        save_checkpoint(tmp_path / "checkpoints", state.images_seen, state.tensors(), state.values())
    with open_run(config(tmp_path, "run.images=1000"), quiet=True) as session:
        session.state({}, {})
    last = (tmp_path / "console.log").read_text().splitlines()[-1]
    assert told in last
    assert "to go on: the same command with --start-from" in last


def test_what_a_killed_training_had_half_written_does_not_stay(tmp_path: Path):
    """The accident: a run killed and begun again each night filled the disk with hidden halves of its checkpoints."""
    remembered(tmp_path)
    parts = [part_beside(folder / "x") for folder in (tmp_path, tmp_path / "checkpoints")]
    for part in parts:
        part.write_bytes(b"half")
    enter(tmp_path)
    assert not any(part.exists() for part in parts)


class Deadly(Dataset[torch.Tensor]):
    """Whoever reads from it is killed."""

    def __getitem__(self, index: int) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


def test_a_killed_worker_is_no_bug_and_says_what_takes_less_memory(tmp_path: Path):
    """The accident: /dev/shm of a container was too small, and the user was asked to report a bug of this program."""
    with pytest.raises(TrainingError, match=r"batches was killed[^$]*--set data\.workers=0"):  # noqa: SIM117
        with open_run(config(tmp_path), quiet=True):
            next(endless_batches(Deadly(), 0, 1, workers=1))


@pytest.mark.parametrize(("dtype", "has_bf16", "told"), [("bf16", False, 1), ("bf16", True, 0), ("fp32", False, 0)])
def test_bf16_from_another_machine_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, has_bf16: bool, told: int
):
    """The accident: a run begun on a server goes on at a laptop ten times as slowly, and no line says why."""
    monkeypatch.setattr("imagesmith.runtime.device.has_bf16", lambda device: has_bf16)
    begun = {"choices": {"batch": 8, "arithmetic": {"device": "cuda", "dtype": dtype, "channels_last": True}}}
    enter(tmp_path)
    save_checkpoint(tmp_path / "checkpoints", 4, {"a": torch.ones(9)}, begun | {"images_seen": 4})
    with open_run(config(tmp_path), quiet=True) as session:
        assert session.choices(dict)[1].dtype == dtype
    console = tmp_path / "console.log"
    said = console.read_text() if console.exists() else ""
    assert said.count("bf16 as when the run began, though this processor emulates bf16") == told
