"""The demo's film: what is told is what is shown."""

from pathlib import Path

import av
import pytest

from imagesmith.apps import demo_film
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model


def test_the_film_is_made_by_the_way_of_users_and_shown_beside_bicubic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: a comparison of two films of other lengths or sizes."""
    monkeypatch.setattr(demo_film, "FRAMES", 3)
    spec = NetSpec("recurrent", {"scale": 4, "width": 8, "blocks": 1, "flow_width": 8})
    net = build_net(spec)
    save_model(tmp_path / "tiny.safetensors", net, describe(net, spec, "tiny"))
    chapter = demo_film.enlarge_film(tmp_path, device="cpu", dtype="fp32", model=tmp_path / "tiny.safetensors")
    assert "3 frames enlarged by 4" in chapter.summary
    assert len(list((tmp_path / "motorcycle.frames").iterdir())) == 3
    for name in ("motorcycle.x4.mp4", "motorcycle.compared.mp4"):
        with av.open(str(tmp_path / name)) as film:
            frames = [(frame.width, frame.height) for frame in film.decode(video=0)]
        assert frames == [(736, 496)] * 3
    assert chapter.exhibits[0].file.is_file()
