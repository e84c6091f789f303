"""`imagesmith train`: what the command line makes of its options, nothing trained."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagesmith.apps.cli import app
from imagesmith.configs import VideoConfig
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model


def save(path: Path, name: str, **options: int) -> None:
    spec = NetSpec(name, options)
    net = build_net(spec)
    path.parent.mkdir()
    save_model(path, net, describe(net, spec, "mine"))


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VideoConfig]:
    """The configuration of `train video photos -o on` with further words, in an empty folder."""
    configs: list[VideoConfig] = []

    def keep(config: VideoConfig, **_: Any) -> None:
        configs.append(config)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imagesmith.train.video.train_video", keep)

    def call(*words: str) -> VideoConfig:
        app(["train", "video", "photos", "-o", "on", "--preset", "vsr-x2", *words], standalone_mode=False)
        return configs[-1]

    return call


def test_a_run_of_films_begins_with_all_that_another_learnt(resolved: Callable[..., VideoConfig]) -> None:
    """The accident: what another run learnt of motion is replaced by the flow of the preset, without a word."""
    save(Path("film/model.safetensors"), "recurrent", scale=2, width=8, blocks=1, flow_width=8)
    save(Path("still/model.safetensors"), "compact", scale=2, width=8, blocks=1)
    on = resolved("--start-from", "film")
    assert (on.start_from, on.flow_from) == ("film", "film")
    still = resolved("--start-from", "still")
    assert (still.start_from, still.flow_from) == ("still", "vsr-x4")
    Path("on/checkpoints").mkdir(parents=True)
    Path("on/checkpoints/000000000008.safetensors").touch()
    Path("on/config.json").write_text(on.model_dump_json())
    shutil.rmtree("film")
    assert resolved("--start-from", "film") == on, "a run cannot go on once the model is gone that it was begun from"
