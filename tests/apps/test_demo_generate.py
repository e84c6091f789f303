"""What the demo shows of generators: sheets, films and variations, with and without classes."""

import av
import pytest
from PIL import Image

from imagesmith.apps import demo_generate
from imagesmith.errors import ModelError, NothingUsableError
from imagesmith.zoo import save_model
from imagesmith.zoo.cards import ModelCard


@pytest.fixture
def save(tmp_path, make_gan):
    def save(*class_names: str, name: str = "dcgan-generator"):
        model = make_gan(name, class_names=class_names, size=(16, 16))
        save_model(tmp_path / "toy.safetensors", model.net, model.card)
        return tmp_path / "toy.safetensors"

    return save


@pytest.mark.parametrize(("class_names", "columns"), [((), 8), (("red", "green", "blue"), 3)])
def test_sheet_and_film_have_a_column_for_each_class(tmp_path, save, class_names, columns) -> None:
    """The accident: a class left out, or a walk that is cut short."""
    chapter = demo_generate.show_generator(tmp_path, save(*class_names), device="cpu")
    sheet, film = chapter.exhibits
    with Image.open(sheet.file) as image:
        assert image.size == (64 * columns, 64 * demo_generate.ROWS)
    with av.open(str(film.file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == demo_generate.STOPS * demo_generate.FRAMES
    assert (frames[0] != frames[len(frames) // 2]).any()
    assert all(name in sheet.caption for name in class_names)


def test_variations_show_what_was_found(tmp_path, save, monkeypatch) -> None:
    """The accident: the cat is searched for among dogs, although the generator knows cats."""
    monkeypatch.setattr(demo_generate, "STEPS", 2)
    monkeypatch.setattr(demo_generate, "TUNING_STEPS", 2)
    seen = {}
    project = demo_generate.project
    monkeypatch.setattr(
        demo_generate, "project", lambda *args, **options: seen.setdefault("found", project(*args, **options))
    )
    chapter = demo_generate.vary_photograph(tmp_path, [save("dog", "cat", name="rpgan-generator")], device="cpu")
    assert seen["found"].label == 1
    assert f"{seen['found'].psnr_rgb:.1f} dB" in chapter.summary
    with Image.open(tmp_path / "variations.png") as image:
        assert image.size == (64 * demo_generate.ROWS, 64 * len(demo_generate.STRENGTHS))


def test_no_generator_is_a_message(tmp_path) -> None:
    """The accident: IndexError on an installation without generators."""
    with pytest.raises(NothingUsableError, match="none is shipped"):
        demo_generate.vary_photograph(tmp_path, [])


def test_only_generators_are_taken_and_a_damaged_file_hides_no_other(monkeypatch) -> None:
    """The accident: the demo makes images with a classifier; or one bad file ends it."""

    class Cards(dict):
        def __getitem__(self, name: str) -> ModelCard:
            if name == "damaged":
                raise ModelError(name)
            return super().__getitem__(name)

    tasks = {"cnn": "classify", "damaged": "", "flowers": "generate", "sr": "sr"}
    cards = {name: ModelCard(name=name, net="", params=0, channels=3, task=task) for name, task in tasks.items()}
    monkeypatch.setattr(demo_generate, "CARDS", Cards(cards))
    assert demo_generate.shipped_generators() == ["flowers"]
