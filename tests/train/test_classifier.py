"""Training a classifier: it learns, resumes exactly, keeps its best average, and refuses what cannot be learnt."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imagesmith import presets
from imagesmith.configs import ClassifierConfig, override
from imagesmith.errors import ConfigError, UsageError
from imagesmith.evaluate.classifier import evaluate_classifier
from imagesmith.runtime.checkpoint import load_checkpoint
from imagesmith.runtime.log import read_history
from imagesmith.train import classifier
from imagesmith.train.classifier import shifted, shifts, train_classifier
from imagesmith.zoo import load_model

SMALL = [
    "net.options.width=4",
    "net.options.features=16",
    "data.size=[8, 8]",
    "data.held_out=20",
    "shift_px=1",
    "run.batch=16",
    "run.images=160",
    "run.validations=2",
    "run.dtype=fp32",
]


def write_stripes(path: Path, count: int = 200) -> Path:
    """Noisy pictures of two classes: stripes across (0) and stripes down (1)."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    across = np.broadcast_to(np.arange(8)[:, None] // 2 % 2, (8, 8))
    images = np.stack([across if label == 0 else across.T for label in labels]) * 150 + 50
    images = (images + rng.integers(-40, 40, images.shape)).astype(np.uint8)
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes") / "train.npz")


def small(data: Path, out: Path, *changes: str) -> ClassifierConfig:
    return override(presets.mnistcnn(data=str(data), out=str(out)), [*SMALL, *changes])


def test_it_learns_and_what_it_learnt_is_what_is_kept(stripes: Path, tmp_path: Path):
    """Averaged weights beside batch statistics of other weights score like chance, and nothing else shows it."""
    run = train_classifier(small(stripes, tmp_path / "run", "run.images=1280"), quiet=True)
    assert run.best["accuracy"] == 1
    report = evaluate_classifier(run.model, write_stripes(tmp_path / "test.npz", 40), device="cpu")
    assert report.summary["accuracy"] == 1


def test_the_run_folder_holds_a_card_a_curve_and_the_history(stripes: Path, tmp_path: Path):
    run = train_classifier(small(stripes, tmp_path / "run"), quiet=True)
    card = load_model(run.model).card
    assert (card.task, card.net, card.class_names) == ("classify", "cnn", ("0", "1"))
    assert (card.classes, card.channels, card.size) == (2, 1, (8, 8))
    assert card.training["validation_pictures"] == 20
    assert card.training["images_seen"] == run.best["images_seen"]
    assert card.train_data == "180 pictures of 2 classes, 'train.npz'"
    rows = read_history(tmp_path / "run")
    assert [row["images_seen"] for row in rows if "validation/accuracy" in row] == [80, 160]
    assert {"loss/cross_entropy", "accuracy/training", "norm/classifier"} <= rows[0].keys()
    assert (tmp_path / "run/curve.svg").is_file()


def test_accuracy_on_the_training_pictures_is_not_called_validation(tmp_path: Path):
    """The accident: nine pictures, none of them spared, and a card that told a validation accuracy of 100 %."""
    config = small(write_stripes(tmp_path / "nine.npz", 9), tmp_path / "run", "run.batch=8", "run.images=16")
    run = train_classifier(config, quiet=True)
    told = load_model(run.model).card.training
    assert told["validation_pictures"] == 0
    assert "training_accuracy" in told
    assert "validation_accuracy" not in told
    assert all("validation/accuracy" not in row for row in read_history(run.folder))
    said = (run.folder / "console.log").read_text()
    assert "9 pictures to train on, none is kept apart, so that accuracy is that on the training pictures" in said
    assert "validation accuracy" not in said + (run.folder / "curve.svg").read_text()
    assert "done: best training accuracy" in said


def final_tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(sorted((run / "checkpoints").glob("*.safetensors"))[-1])[0]


@pytest.mark.parametrize("crash_after", [1, 7])
def test_interrupted_equals_uninterrupted_bit_for_bit(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_after: int
):
    """Batch statistics left out of a checkpoint make a resumed run another run."""
    train_classifier(small(stripes, tmp_path / "whole"), quiet=True)
    step, calls = classifier.classify_step, 0

    def crash(*args, **options):
        nonlocal calls
        calls += 1
        if calls > crash_after:
            raise RuntimeError("power cut")
        yield from step(*args, **options)

    often = small(stripes, tmp_path / "cut", "run.checkpoint_minutes=1e-9")
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "classify_step", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train_classifier(often, quiet=True)
    train_classifier(often, quiet=True)
    whole, cut = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert any("running_mean" in name for name in whole)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_probe_of_the_machine_leaves_batch_statistics_alone(stripes: Path, tmp_path: Path):
    """Random pictures of the speed probe once went into the running means, and into the checkpoint of image 0."""
    run = train_classifier(small(stripes, tmp_path / "run", "run.dtype=auto", "run.images=16"), quiet=True)
    first = load_checkpoint(sorted((run.folder / "checkpoints").glob("*.safetensors"))[0])[0]
    means = [value for name, value in first.items() if name.startswith("net/") and "running_mean" in name]
    assert means
    assert all(not mean.any() for mean in means)


def test_a_finished_run_names_no_option_that_there_is_not(stripes: Path, tmp_path: Path):
    """`train classifier` begins with nothing of another run: --start-from would be refused."""
    config = small(stripes, tmp_path / "run", "run.images=16")
    train_classifier(config, quiet=True)
    train_classifier(config, quiet=True)
    said = (tmp_path / "run/console.log").read_text()
    assert "for a longer one: the same command with another -o and length" in said
    assert "--start-from" not in said


def test_a_run_too_short_for_validations_holds_the_last_alone(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: of a run of half a minute, what the first validation takes was known after it had taken it."""
    monkeypatch.setattr(classifier, "second_time", lambda call: (call(), 100.0)[1])
    config = small(stripes, tmp_path / "run", "run.minutes=0.01", "run.validations=20")
    images = train_classifier(config, quiet=True).images_seen
    held = [row["images_seen"] for row in read_history(tmp_path / "run") if "validation/accuracy" in row]
    assert held == [images]


def test_a_shift_moves_whole_pixels_and_mirrors_the_edge():
    image = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4)
    assert torch.equal(shifted(image, torch.tensor([[0, 0]])), image)
    assert shifted(image, torch.tensor([[1, 0]])).tolist() == [[[[4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7]]]]
    assert shifted(image, torch.tensor([[0, -2]]))[0, 0, 0].tolist() == [2, 3, 2, 1]
    two = shifted(image.repeat(2, 3, 1, 1), torch.tensor([[1, 0], [0, 0]]))
    assert two.shape == (2, 3, 3, 4)
    assert torch.equal(two[1:], image.repeat(1, 3, 1, 1))


def test_shifts_belong_to_picture_numbers_not_to_batches():
    """A run resumed with its batches cut otherwise, or shared by two processes, must see the same pictures."""
    together = shifts(3, list(range(200)), 4)
    assert torch.equal(together[1::2], shifts(3, list(range(1, 200, 2)), 4))
    assert together.unique().tolist() == list(range(-4, 5))
    assert not torch.equal(together, shifts(4, list(range(200)), 4))
    assert not shifts(3, [1, 2], 0).any()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (["net.name=cnnn"], ConfigError, "did you mean 'cnn'"),
        (["net.options.classes=3"], ConfigError, "without 'classes'"),
        (["net.options.widht=3"], ConfigError, "did you mean 'width'"),
        (["run.batch=1"], ConfigError, "2 pictures or more"),
        (["run.batch=4", "run.accumulate=4"], ConfigError, "2 pictures or more"),
        (["data.labels=none"], UsageError, "labelled pictures"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    changes: list[str], error: type[Exception], words: str, stripes: Path, tmp_path: Path
):
    with pytest.raises(error, match=words) as caught:
        train_classifier(small(stripes, tmp_path / "run", *changes), quiet=True)
    assert str(caught.value).count("\n") <= 2


def test_a_run_that_never_began_can_be_corrected(stripes: Path, tmp_path: Path):
    """A misspelt DATA left a run folder that refused the right one: 'was started with data.folder = ...'."""
    with pytest.raises(UsageError, match="nothing"):
        train_classifier(small(tmp_path / "stirpes", tmp_path / "run"), quiet=True)
    assert train_classifier(small(stripes, tmp_path / "run"), quiet=True).images_seen == 160
    other = write_stripes(tmp_path / "other.npz", 20)
    with pytest.raises(ConfigError, match=r"other\.npz that the run was begun with, got another"):
        train_classifier(small(other, tmp_path / "run"), quiet=True)
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["folder"] == str(stripes)


def test_one_class_needs_no_classifier(tmp_path: Path):
    """Cross entropy over one class is zero, and the run would end with an accuracy of 100 %."""
    images = np.zeros((12, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(12, np.int64))
    with pytest.raises(UsageError, match="at least two classes"):
        train_classifier(small(tmp_path / "one.npz", tmp_path / "run"), quiet=True)


def test_a_handful_of_pictures_can_be_tried(tmp_path: Path):
    """Nothing can be kept apart of nine pictures; the first try of a newcomer must not end in a division by zero."""
    data = write_stripes(tmp_path / "few.npz", 6)
    run = train_classifier(small(data, tmp_path / "run", "run.batch=2", "run.images=8"), quiet=True)
    assert 0 <= run.best["accuracy"] <= 1
    assert load_model(run.model).card.train_data.startswith("6 pictures of"), "not those without what it validates with"


def test_the_presets_are_what_is_shipped():
    """A shipped card that no preset can train again is a number without a recipe."""
    for name, preset in presets.CLASSIFIER_PRESETS.items():
        config = preset(data="pictures", out="run")
        card = json.loads(load_model(name).card.to_json())
        assert config.preset == name
        assert card["training"]["config"]["net"] == config.net.model_dump(mode="json")
