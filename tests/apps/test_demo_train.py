"""The demo's training: real faces in, samples, curves and a generator out."""

import pytest
import skimage.data
import torch
from PIL import Image

from imagesmith.apps import demo_train
from imagesmith.apps.demo_pictures import packaged_data
from imagesmith.errors import UsageError
from imagesmith.train.gan import validation


@pytest.fixture
def short(monkeypatch) -> None:
    """A training of a few steps."""
    width = "options.width=8"
    changes = ["run.batch=16", "run.images=96", "run.dtype=fp32", "run.validations=3"]
    monkeypatch.setattr(demo_train, "CHANGES", [*changes, f"generator.{width}", f"discriminator.{width}"])
    monkeypatch.setattr(validation, "FAKES", 64)


def test_the_faces_are_those_that_scikit_image_gives() -> None:
    """The accident: an array read at a wrong offset, or the pictures after the hundredth, which are no faces."""
    faces = demo_train.read_faces(packaged_data(demo_train.FACES) / demo_train.FACES)
    theirs = torch.from_numpy(skimage.data.lfw_subset()[:100])
    assert faces.shape == (100, 1, 25, 25)
    assert (faces[:, 0] / 255 - theirs).abs().max() <= 0.5 / 255 + 1e-6


def test_a_damaged_array_is_a_message(tmp_path) -> None:
    """The accident: RuntimeError: shape '[200, 1, 25, 25]' is invalid for input of size 3."""
    (tmp_path / "faces.npy").write_bytes(b"x" * 24)
    with pytest.raises(UsageError, match="install scikit-image again"):
        demo_train.read_faces(tmp_path / "faces.npy")


@pytest.mark.usefixtures("short")
def test_the_whole_cycle_is_shown(tmp_path) -> None:
    """The accident: a training that ends well and a page that does not show it.

    And: the demo again, in a folder that was moved meanwhile, fails, or shows the old training as if it were new.
    """
    out = tmp_path / "new"
    for name in ("first", "moved"):
        out = out.rename(tmp_path / name) if out.exists() else tmp_path / name
        chapter = demo_train.train_on_faces(out, device="cpu")
        assert "96 images seen" in chapter.summary
        captions = [exhibit.caption for exhibit in chapter.exhibits]
        assert [caption.partition(":")[0] for caption in captions[1:4]] == ["Early", "Halfway", "At the end"]
        assert all(exhibit.file.is_file() for exhibit in chapter.exhibits)
        assert any("few" in line for line in chapter.said), "what the program said of the pictures is missing"
        assert not any("images/s" in line for line in chapter.said), "lines of progress hide the others"
        assert not any("resumed" in line for line in chapter.said)
    with Image.open(tmp_path / "moved" / "faces" / "000.png") as image:
        assert (image.size, image.mode) == ((25, 25), "L")


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, ["At the end"]), (2, ["Early", "At the end"]), (5, ["Early", "Halfway", "At the end"])],
)
def test_moments_are_named_for_what_they_are(count, words) -> None:
    """The accident: a slow machine makes two sheets, and the first is called the middle."""
    samples = [demo_train.Path(f"{k:012d}.png") for k in range(count)]
    assert [caption.partition(":")[0] for _, caption in demo_train._moments(samples)] == words


@pytest.mark.usefixtures("short")
def test_a_guard_that_stops_the_training_is_told(tmp_path, monkeypatch) -> None:
    """The accident: the run that teaches most about GANs, the one that failed, is shown as a traceback."""
    trained = demo_train.train_gan

    def stopped(*args, **options):
        trained(*args, **options)
        raise demo_train.TrainingError("stopped at 96 images: mode collapse")

    monkeypatch.setattr(demo_train, "train_gan", stopped)
    assert "the guard ended it: stopped at 96 images: mode collapse" in demo_train.train_on_faces(tmp_path).summary


@pytest.mark.usefixtures("short")
def test_a_training_without_a_result_is_a_failure(tmp_path, monkeypatch) -> None:
    """The accident: FileNotFoundError for a model that was never written."""

    def stopped(*args, **options):
        raise demo_train.TrainingError("stopped at 0 images: diverging")

    monkeypatch.setattr(demo_train, "train_gan", stopped)
    with pytest.raises(demo_train.TrainingError, match="diverging"):
        demo_train.train_on_faces(tmp_path)
