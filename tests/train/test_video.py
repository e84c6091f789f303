"""Runs of restorers of films: exact when interrupted, taking over what fits, refusing what cannot be."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith import presets
from imagesmith.configs import VideoConfig, override
from imagesmith.data.loader import endless_batches
from imagesmith.errors import ConfigError, ModelError
from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.flow import FlowNet
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.runtime.log import read_history
from imagesmith.train import run as train_run
from imagesmith.train import video
from imagesmith.train.steps import ClipTerms, clip_step, flow_error, flow_step, known_share
from imagesmith.train.video import train_video, weighed
from imagesmith.zoo import describe, load_model, save_model

SMALL = [
    "data.patch_px=16",
    "data.frames=3",
    "data.workers=0",
    "data.validation_images=1",
    "run.batch=2",
    "run.images=8",
    "run.validations=2",
    "run.dtype=fp32",
    "start_from=null",
    "flow_from=null",
]
NET = 'net.options={"scale": 2, "width": 8, "blocks": 1, "flow_width": 8}'


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, image in (("a", data.astronaut()), ("b", data.coffee()), ("c", data.chelsea())):
        Image.fromarray(image[:160, :200]).save(folder / f"{name}.png")
    return folder


def small(photos: Path, out: Path, *changes: str) -> VideoConfig:
    return override(presets.vsr_x2(data=str(photos), out=str(out)), [*SMALL, NET, *changes])


def last_tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(sorted((run / "checkpoints").glob("*.safetensors"))[-1])[0]


def test_a_run_leaves_a_model_of_films(photos: Path, tmp_path: Path):
    run = train_video(small(photos, tmp_path / "run"), quiet=True)
    model = load_model(run.model)
    assert (model.card.net, model.card.task, model.card.scale) == ("recurrent", "sr", 2)
    assert run.best["psnr_y"] > 15
    assert {"config.json", "curve.svg", "history.jsonl", "samples"} <= {path.name for path in run.folder.iterdir()}
    assert str(photos) not in model.card.to_json()


def test_what_a_run_starts_from_has_to_be_beaten(photos: Path, tmp_path: Path):
    """The accident: a fine-tuning that made a model worse, and leaves the worse one."""
    start = train_video(small(photos, tmp_path / "start"), quiet=True)
    wild = [f"start_from={start.model}", "optim.learning_rate=10", "optim.name=adam", "optim.ema_half_life_images=1"]
    run = train_video(small(photos, tmp_path / "run", *wild), quiet=True)
    assert run.best["images_seen"] == 0
    before, after = (load_model(each.model).net.state_dict() for each in (start, run))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resumed_is_uninterrupted(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: something of a run that no checkpoint holds."""
    often = "run.checkpoint_minutes=1e-9"
    train_video(small(photos, tmp_path / "whole", often), quiet=True)

    def two_batches(*given: Any, **options: Any) -> Iterator[Any]:
        yield from itertools.islice(endless_batches(*given, **options), 2)
        raise RuntimeError("the machine stops here")

    with monkeypatch.context() as patch:
        patch.setattr(train_run, "endless_batches", two_batches)
        with pytest.raises(RuntimeError, match="the machine stops here"):
            train_video(small(photos, tmp_path / "part", often), quiet=True)
    train_video(small(photos, tmp_path / "part", often), quiet=True)
    whole, part = last_tensors(tmp_path / "whole"), last_tensors(tmp_path / "part")
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_a_run_goes_on_with_its_own_photographs_only(photos: Path, tmp_path: Path):
    """The accident: photographs are added to the folder, others are kept apart, and those were trained on."""
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    train_video(small(folder, tmp_path / "run", "run.images=2", "run.validations=1"), quiet=True)
    Image.fromarray(data.rocket()[:160, :200]).save(folder / "d.png")
    with pytest.raises(
        ConfigError, match=r"the photos of .* that the run was begun with, got another number: 3, not 2"
    ):
        train_video(small(folder, tmp_path / "run", "run.images=4", "run.validations=1"), quiet=True)


@pytest.mark.slow  # the quick one of this kind is in test_restore.py: the loop and its messages are the same
def test_two_processes_train_the_same_network_as_one(photos: Path, tmp_path: Path, train_on_two: Any):
    """Clips are divided as pictures are, and what could be seen of the flow is another share of each one's part."""
    changes = ["run.dtype=fp64", "run.validations=1", "flow_loss=1"]
    train_video(small(photos, tmp_path / "one", *changes), quiet=True)
    train_on_two(small(photos, tmp_path / "two", *changes))
    one, two = last_tensors(tmp_path / "one"), last_tensors(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-6)


def test_layers_of_single_picture_and_flow_networks_are_taken_over(photos: Path, tmp_path: Path):
    """The accident: the flow of another model is left out without a word, and is learnt anew for an hour."""
    spec = NetSpec("compact", {"scale": 2, "width": 8, "blocks": 1})
    start = build_net(spec)
    save_model(tmp_path / "start.safetensors", start, describe(start, spec, "start"))
    flow = FlowNet(8)
    save_model(tmp_path / "flow.safetensors", flow, describe(flow, NetSpec("flow", {"width": 8}), "flow", task="flow"))
    changes = [f"start_from={tmp_path}/start.safetensors", f"flow_from={tmp_path}/flow.safetensors"]
    still = ["optim.learning_rate=1e-12", *changes]
    run = train_video(small(photos, tmp_path / "run", *still), quiet=True)
    told = [line for line in (tmp_path / "run/console.log").read_text().splitlines() if "; new: " in line]
    assert len(told) == 1, "of two models, the flow gave all that it was asked for"
    assert f"numbers from '{tmp_path}/start.safetensors'; new: " in told[0]
    assert "flow." not in told[0]
    net = load_model(run.model).net.state_dict()
    assert torch.allclose(net["head.weight"], start.state_dict()["head.weight"], atol=1e-6)
    assert torch.allclose(net["flow.last.weight"], flow.state_dict()["last.weight"], atol=1e-6)
    second = [f"flow_from={run.model}", "optim.learning_rate=1e-12"]
    other = train_video(small(photos, tmp_path / "other", *second), quiet=True)
    taken = load_model(other.model).net.state_dict()
    assert torch.allclose(taken["flow.last.weight"], flow.state_dict()["last.weight"], atol=1e-6)
    assert not torch.allclose(taken["head.weight"], start.state_dict()["head.weight"], atol=1e-3)


def test_a_run_goes_on_without_the_models_that_it_was_begun_from(photos: Path, tmp_path: Path):
    """The accident: the first run is deleted, and the one that it began cannot be resumed any more."""
    first = train_video(small(photos, tmp_path / "first", "run.images=2", "run.validations=1"), quiet=True)
    kept = [f"start_from={first.model}", f"flow_from={first.model}", "run.images=2", "run.validations=1"]
    train_video(small(photos, tmp_path / "on", *kept), quiet=True)
    first.model.unlink()
    assert train_video(small(photos, tmp_path / "on", *kept), quiet=True).images_seen == 2
    with pytest.raises(ModelError):
        train_video(small(photos, tmp_path / "new", *kept), quiet=True)


def test_a_flow_network_is_trained_by_itself(photos: Path, tmp_path: Path):
    config = override(presets.flow(data=str(photos), out=str(tmp_path / "flow")), SMALL[:-2])
    run = train_video(config, quiet=True)
    assert run.best["flow_px"] > 0
    assert load_model(run.model).card.task == "flow"


@pytest.mark.parametrize("task", ["sr", "flow"])
def test_a_run_too_short_for_validations_holds_the_last_alone(
    task: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: of a run of half a minute, what the first validation takes was known after it had taken it."""
    rehearsed: list[Any] = []
    monkeypatch.setattr(video, "VALIDATION_PX", 48)
    monkeypatch.setattr(video, "second_time", lambda call: rehearsed.append(call()) or 100.0)
    short = ["run.minutes=0.01", "run.validations=20"]
    config = small(photos, tmp_path / "run", *short)
    if task == "flow":
        config = override(presets.flow(data=str(photos), out=str(tmp_path / "run")), [*SMALL[:-2], *short])
    images = train_video(config, quiet=True).images_seen
    name = "validation/flow_px" if task == "flow" else "validation/psnr_y"
    assert [row["images_seen"] for row in read_history(tmp_path / "run") if name in row] == [images]
    assert len(rehearsed) == 1


def test_against_a_discriminator(photos: Path, tmp_path: Path):
    sharp = (
        'adversarial={"discriminator": {"name": "patch-discriminator", "options": {"widths": [8, 8]}}, "perceptual": 0}'
    )
    run = train_video(small(photos, tmp_path / "run", sharp), quiet=True)
    assert "spectrum" in run.best


def test_every_term_changes_the_gradient():
    """The accident: a weight that weighs nothing."""
    torch.manual_seed(0)
    net = build_net(NetSpec("recurrent", {"scale": 2, "width": 8, "blocks": 1, "flow_width": 8}))
    batch = torch.rand(1, 3, 3, 16, 16), torch.rand(1, 3, 3, 32, 32), torch.ones(1, 2, 2, 16, 16), torch.ones(1)

    def gradients(**terms: float) -> dict[str, torch.Tensor]:
        net.zero_grad()
        turn = next(clip_step({"restorer": net}, batch, ClipTerms({"l1": 1.0}, **terms)))
        turn[1].backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    plain = gradients()
    assert not torch.allclose(gradients(change=1.0)["tail.weight"], plain["tail.weight"])
    assert not torch.allclose(gradients(flow=1.0)["flow.last.weight"], plain["flow.last.weight"])
    assert torch.allclose(gradients(flow=1.0)["tail.weight"], plain["tail.weight"])


def test_a_flow_out_of_the_frame_or_unknown_does_not_count():
    class Still(torch.nn.Module):
        def forward(self, now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(now), 2, *now.shape[-2:])

    frames, flow = torch.rand(2, 2, 3, 8, 8), torch.zeros(2, 1, 2, 8, 8)
    flow[0, :, 0] = 3.0
    flow[1] = 100.0
    for known, error in (([1.0, 1.0], 3.0), ([0.0, 0.0], 0)):
        ((*_, counted),) = weighed(iter([(frames, frames, flow, torch.tensor(known))]), World())
        assert flow_error(Still(), frames, flow, counted).item() == pytest.approx(error, abs=0.01)


def test_the_error_of_the_flow_is_that_of_the_whole_batch_however_it_is_divided():
    """The accident: of two processes one has a single clip whose flow is known, and it counts as all of the other's."""
    torch.manual_seed(0)
    net, known = FlowNet(8), torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    batch = torch.rand(6, 3, 3, 16, 16), torch.empty(6), 6 * torch.randn(6, 2, 2, 16, 16), known
    parts = [tuple(each[k::2] for each in batch) for k in range(2)]
    shares = [known_share(part[2], part[3]) for part in parts]

    class Halves(World):
        def average(self, tensors: Sequence[torch.Tensor]) -> None:
            tensors[0].fill_(sum(shares) / 2)

    def error(part: Any, world: World) -> float:
        ((_, loss, _),) = flow_step({"flow": net}, next(weighed(iter([part]), world)))
        return loss.item()

    assert shares[0] < shares[1] / 2
    assert sum(error(part, Halves()) for part in parts) / 2 == pytest.approx(error(batch, World()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (['net={"name": "unet"}'], "expected a network of recurrent for the task sr"),
        (["task=flow"], "expected a network of flow"),
        (['degradations=[{"name": "bicubic", "options": {"scale": 4}}]'], "one scale, got x2 and x4"),
        (['losses={"l3": 1}'], "a loss"),
    ],
)
def test_contradictions_are_told(photos: Path, tmp_path: Path, changes: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        train_video(small(photos, tmp_path / "run", *changes), quiet=True)
