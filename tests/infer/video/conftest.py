"""Small films for the tests of this room, and a small network that remembers."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Runtime
from imagesmith.zoo import Model, describe, save_model


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    """A film of a photograph that moves by a pixel a frame; `pts` gives the times of a film of variable rate.

    With `sound`, a fifth of a second of silence; `turned`, players show it turned by a quarter.
    """

    def make(
        name: str = "clip.mp4",
        frames: int = 12,
        rate: int = 10,
        *,
        side: int = 32,
        height: int | None = None,
        turned: bool = False,
        codec: str = "libx264",
        noise: float = 0,
        pts: list[int] | None = None,
        sound: bool = False,
    ) -> Path:
        photo, rng = data.astronaut()[20:, 120:], np.random.default_rng(0)
        path, height = tmp_path / name, height or side
        with av.open(str(path), "w") as film:
            options = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
            track = film.add_stream(codec, rate=rate, options=options)
            track.width, track.height, track.pix_fmt = side, height, "yuv420p" if codec == "libx264" else "bgr0"
            if turned:
                track.set_display_matrix((0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30))
            track.codec_context.time_base = track.time_base = Fraction(1, 10 * rate)
            voice = film.add_stream("flac", rate=8000) if sound else None
            for k in range(frames):
                pixels = photo[k : k + height, k : k + side].astype(float)
                pixels = (
                    (pixels + rng.normal(0, noise, pixels.shape)).clip(0, 255).astype(np.uint8) if noise else pixels
                )
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.astype(np.uint8)), "rgb24")
                frame.pts, frame.time_base = 10 * k if pts is None else pts[k], Fraction(1, 10 * rate)
                film.mux(track.encode(frame.reformat(format=track.pix_fmt)))
            film.mux(track.encode(None))
            if voice:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
                silence.sample_rate, silence.pts = 8000, 0
                film.mux([*voice.encode(silence), *voice.encode(None)])
        return path

    return make


@pytest.fixture
def clip() -> list[Tensor]:
    """Six frames uint8 (30, 42, 3) of a photograph that moves by 2 pixels down and 3 to the right."""
    photo = torch.from_numpy(np.ascontiguousarray(data.astronaut()[30:, 190:]))
    return [photo[2 * i : 2 * i + 30, 3 * i : 3 * i + 42].clone() for i in range(6)]


@pytest.fixture(scope="session")
def small_model() -> Model:
    """A network that remembers, away from its initial values, so that what it remembers shows in every pixel."""
    spec = NetSpec("recurrent", {"scale": 2, "width": 8, "blocks": 1})
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = build_net(spec).eval()
        for conv in (net.fuse, net.tail):
            conv.weight.data.mul_(5)
    return Model(net, describe(net, spec, "toy-film"))


@pytest.fixture
def remembering(small_model: Model) -> VideoRestorer:
    return VideoRestorer.of(small_model, runtime=Runtime(torch.device("cpu"), torch.float32, False, ""))


@pytest.fixture
def model_file(small_model: Model, tmp_path: Path) -> Path:
    save_model(tmp_path / "toy-film.safetensors", small_model.net, small_model.card)
    return tmp_path / "toy-film.safetensors"
