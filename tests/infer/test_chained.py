"""Chains that are run: exact, in the file's depth, each picture its own."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.files import Frame
from imagesmith.data.frame import ImageMeta
from imagesmith.errors import UsageError
from imagesmith.infer import batch, chained, restore
from imagesmith.infer.bulk.parcel import pack_whole
from imagesmith.infer.chained import Auto, Chained
from imagesmith.runtime.device import Runtime
from imagesmith.zoo import CARDS

OPTIONS = {
    "recursive": False,
    "resume": False,
    "overwrite": False,
    "suffix": None,
    "format": "keep",
    "partial": False,
    "max_pixels": 10**8,
    "self_ensemble": False,
    "consistency": False,
    "mask": None,
    "uncertainty": None,
    "dry_run": False,
}


def run(chain: Chained, frame: Frame) -> torch.Tensor:
    return torch.cat([rows for _, rows in chain.strips(frame)])


@pytest.fixture
def frame(photo: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(photo), "uint8", ImageMeta(format="png", mode="RGB"))


def test_nothing_is_rounded_between_two_models(make_restorer, frame: Frame) -> None:
    """The accident: each link rounds to 8 bits, and bands appear in the sky."""
    restorer = make_restorer()
    chain = Chained([restorer, restorer])
    result = run(chain, frame)
    assert chain.scale == 4
    assert result.dtype == torch.uint8
    exact = replace(frame, pixels=frame.pixels.float() / 255, depth="float32")
    once = restorer.frame(exact)
    twice = restorer.frame(replace(once, pixels=once.pixels.clamp(0, 1)))
    assert torch.equal(result, (twice.pixels * 255 + 0.5).clamp(0, 255).to(torch.uint8))


def test_one_model_is_what_it_is_alone_and_none_changes_nothing(make_restorer, frame: Frame) -> None:
    """The accident: --task auto gives other pixels than the task that it chose."""
    restorer = make_restorer()
    assert torch.equal(run(Chained([restorer]), frame), restorer.frame(frame).pixels)
    assert torch.equal(run(Chained([]), frame), frame.pixels)


@pytest.mark.parametrize(("depth", "exactly"), [("uint8", False), ("uint16", True)])
def test_what_a_file_holds_decides_the_precision(make_restorer, frame: Frame, depth: str, exactly: bool) -> None:
    """The accident: the floats between two models pass for a deep file, and the default command takes twice as long."""
    small = frame.pixels[:16, :16]
    if depth == "uint16":
        small = (small.int() * 257).to(torch.uint16)
    half = make_restorer(scale=1, runtime=Runtime(torch.device("cpu"), torch.bfloat16, channels_last=True, reason=""))
    result = run(Chained([half, half]), replace(frame, pixels=small, depth=depth))
    assert result.dtype == small.dtype
    assert ("_exact" in half.network.__dict__) is exactly


@pytest.fixture
def auto(make_restorer, monkeypatch: pytest.MonkeyPatch) -> Auto:
    """Auto with a toy in place of every shipped model that enlarges, and no others."""
    monkeypatch.setattr(chained, "CARDS", {name: card for name, card in CARDS.items() if card.task == "sr"})
    monkeypatch.setattr(chained.Restorer, "load", lambda name, **_: make_restorer(scale=int(name[-1])))
    return Auto()


def test_the_shipped_models_travel_to_other_processes(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a model for films among those for pictures, and every run of a hundred of them ends before it."""
    plain = Runtime(torch.device("cpu"), torch.float32, channels_last=False, reason="")
    monkeypatch.setattr(restore, "pick_runtime", lambda *_: plain)
    here = Auto(2)
    there = pickle.loads(pack_whole(here))
    assert torch.equal(there.frame(frame).pixels, here.frame(frame).pixels)


def test_each_file_has_its_own_chain(auto: Auto, tmp_path: Path) -> None:
    """The accident: one chain for a whole folder, or a clean photo that is written anew with every run."""
    Image.fromarray(data.coffee()[:300, :420]).save(tmp_path / "clean.png")
    Image.fromarray(data.coffee()[100:180, 100:200]).save(tmp_path / "small.png")
    planned = auto.path(tmp_path, None, **{**OPTIONS, "dry_run": True})
    assert [result.status for result in planned.results] == ["skipped", "planned"]
    done = {Path(result.input).name: result for result in auto.path(tmp_path, None, **OPTIONS).results}
    clean, small = done["clean.png"], done["small.png"]
    assert (clean.status, clean.output, clean.model) == ("skipped", None, "none")
    assert "nothing to mend" in clean.notes[0]
    assert (small.status, small.model, small.scale, small.out_size) == ("done", "sr-x4", 4, (400, 320))
    with Image.open(small.output or "") as image:
        assert image.size == (400, 320)
    assert small.to_dict()["decision"]["chain"][0]["model"] == "sr-x4"
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["clean.png", "small.auto.png", "small.png"]


def test_a_named_file_is_always_written(auto: Auto, tmp_path: Path) -> None:
    """The accident: a script asks for out.png and finds no file, because the photo was good already."""
    Image.fromarray(data.coffee()[:300, :420]).save(tmp_path / "clean.png")
    summary = auto.path(tmp_path / "clean.png", tmp_path / "out.png", **OPTIONS)
    assert summary.results[0].status == "done"
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.array(image), data.coffee()[:300, :420])


@pytest.mark.parametrize("option", [{"consistency": True}, {"mask": "auto"}, {"uncertainty": "heat.png"}])
def test_what_belongs_to_one_model_is_refused(auto: Auto, tmp_path: Path, option: dict) -> None:
    """The accident: a flag that is accepted and ignored."""
    with pytest.raises(UsageError, match="name a task"):
        auto.path(tmp_path, None, **{**OPTIONS, **option})


def test_a_folder_with_a_broken_file_goes_on(auto: Auto, photos: Path) -> None:
    """The accident: one bad file ends the night's work."""
    results = auto.path(photos, photos / "out", **{**OPTIONS, "recursive": True}).results
    assert [result.status for result in results].count("failed") == 1
    assert len(results) == 5


def test_a_run_with_any_model_tells_how_it_rounds_up(
    auto: Auto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: --resume skips what a chain with a denoiser of an earlier version left streaks in."""
    told = list[dict[str, object]]()
    monkeypatch.setattr(batch, "settings_digest", lambda settings: told.append(settings) or "0")
    Image.fromarray(data.astronaut()[:40, :40]).save(tmp_path / "a.png")
    auto.path(tmp_path, None, **{**OPTIONS, "dry_run": True})
    assert told[0]["edges"] == "mirrored"
