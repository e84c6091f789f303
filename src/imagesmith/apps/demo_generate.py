"""The demo's generators: a sheet of what one makes, a walk between its images, and variations of a photograph."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from imagesmith.apps.demo_pictures import packaged_data, write_picture
from imagesmith.apps.report import Chapter, Exhibit
from imagesmith.data.files import Frame, read_image
from imagesmith.data.grid import image_grid
from imagesmith.data.video.generated import video_writer
from imagesmith.errors import ModelError, NothingUsableError
from imagesmith.infer.edit import project, variations
from imagesmith.infer.generate import Generator, generate, interpolate
from imagesmith.zoo import CARDS

ROWS = 8
COLUMNS = 10
"""Classes of a generator that are shown at most."""
STOPS, FRAMES, FPS = 4, 16, 16
"""A film walks between so many images of each class, in so many frames from one to the next."""
PHOTO, SUBJECT, CREDIT = "chelsea.png", "cat", "Stéfan van der Walt, CC0"
EXPECT = (
    "What to expect: a small network that was trained for an hour or so on small pictures. Colours, backgrounds and "
    "rough shapes are often right, details seldom, and some images show nothing at all. Large models that were trained "
    "for weeks on millions of pictures do better; this one takes a few megabytes and can be trained at home."
)
FACE = (slice(0, 300), slice(90, 390))
"""Rows and columns of the photograph: the cat's face."""
STRENGTHS = (0.1, 0.3, 0.6)
STEPS, TUNING_STEPS, RESTARTS = 60, 60, 3


def shipped_generators() -> list[str]:
    """Names of the generators inside the package; of a damaged file `imagesmith models list` tells."""
    names = []
    for name in CARDS:
        with contextlib.suppress(ModelError):
            names += [name] if CARDS[name].task == "generate" else []
    return names


def show_generator(out: Path, model: str | Path, *, device: str = "auto") -> Chapter:
    """Write a sheet and a film of what a generator makes into `out`."""
    generator = Generator.load(model, device=device)
    name, (height, width), columns = generator.card.name, generator.size, _columns(generator)
    classes = ", ".join(generator.class_names[:COLUMNS])
    by_class = f"Each column is a class: {classes}. Each row has one seed. " if classes else ""
    return Chapter(
        title=f"Making images: {name}",
        summary=f"{ROWS * len(columns)} images of {width}x{height} pixels made, a film of {STOPS * FRAMES} frames",
        paragraphs=(_origin(generator), EXPECT),
        exhibits=(
            Exhibit(
                file=_sheet(generator, columns, out / f"{name}.png"),
                caption=f"{by_class}Seeds are 0 and on: no image was chosen.",
                is_wide=True,
            ),
            Exhibit(
                file=_film(generator, columns, out / f"{name}.mp4"),
                caption=f"A walk along {STOPS} images and back to the first. Every frame is an image of its own, made "
                "from numbers between theirs.",
                is_wide=True,
            ),
        ),
    )


Column = tuple[int | None, range]
"""Label and seeds."""


def _columns(generator: Generator) -> list[Column]:
    """A column for each class, all with the same seeds; or, without classes, further seeds in each."""
    if generator.classes:
        return [(label, range(ROWS)) for label in range(min(COLUMNS, generator.classes))]
    return [(None, range(ROWS * column, ROWS * (column + 1))) for column in range(ROWS)]


def _sheet(generator: Generator, columns: Sequence[Column], path: Path) -> Path:
    """The images of all columns as one picture."""
    made = [[sample.image for sample in generate(generator, seeds, label=label)] for label, seeds in columns]
    by_row = [image for row in zip(*made, strict=True) for image in row]
    return write_picture(image_grid(_pictures(by_row), len(made)), path)


def _film(generator: Generator, columns: Sequence[Column], path: Path) -> Path:
    """Walks along the first seeds of all columns, side by side in two rows."""
    walks = [interpolate(generator, seeds[:STOPS], label=label, frames=FRAMES, loop=True) for label, seeds in columns]
    with video_writer(path, FPS, overwrite=True) as write:
        for images in zip(*walks, strict=True):
            write(image_grid(_pictures(images), (len(images) + 1) // 2).permute(1, 2, 0))
    return path


def vary_photograph(out: Path, models: Sequence[str | Path], *, device: str = "auto") -> Chapter:
    """Find a photograph of scikit-image in a generator, one that knows its subject if there is one, and vary it."""
    if not models:
        raise NothingUsableError("expected a generator, but none is shipped with this installation")
    crop = read_image(packaged_data(PHOTO) / PHOTO).pixels[FACE].permute(2, 0, 1)
    generators = [Generator.load(model, device=device) for model in models]
    generator = next((each for each in generators if SUBJECT in each.class_names), generators[0])
    label = SUBJECT if SUBJECT in generator.class_names else None
    found = project(generator, Frame.of(crop), label=label, steps=STEPS, tuning_steps=TUNING_STEPS, restarts=RESTARTS)
    varied = [[sample.image for sample in variations(found, range(ROWS), strength=each)] for each in STRENGTHS]
    sheet = image_grid(_pictures([image for row in varied for image in row]), ROWS)
    shown = {"photo": found.target, "found": found.found, "tuned": found.reconstruction}
    files = {key: write_picture(image_grid(_pictures([x])), out / f"variations.{key}.png") for key, x in shown.items()}
    percent = ", ".join(f"{strength:.0%}" for strength in STRENGTHS)
    return Chapter(
        title="Variations of a photograph",
        summary=f"a photograph found in {generator.card.name} at {found.psnr_rgb:.1f} dB (psnr_rgb), "
        f"and {ROWS * len(STRENGTHS)} variations of it",
        paragraphs=(
            "A generator makes images, it does not read them. So the image most like the photograph is searched for "
            "among all that it can make, then the generator itself is tuned a little until it shows the photograph; "
            "images near that one are variations.",
            "What to expect: the generator never saw this photograph, and the search stops after seconds. "
            "`imagesmith variations` searches longer.",
        ),
        exhibits=(
            Exhibit(file=files["photo"], caption=f"The photograph at the generator's size ({CREDIT})."),
            Exhibit(file=files["found"], caption=f"The most similar image found: {found.psnr_rgb_found:.1f} dB."),
            Exhibit(file=files["tuned"], caption=f"After tuning the generator: {found.psnr_rgb:.1f} dB."),
            Exhibit(
                file=write_picture(sheet, out / "variations.png"),
                caption=f"Variations of strength {percent} from the upper row to the lower; each column has one seed.",
                is_wide=True,
            ),
        ),
    )


def _origin(generator: Generator) -> str:
    """Where a generator comes from, as its card tells."""
    card = generator.card
    height, width = generator.size
    about = [f"{card.name} makes images of {width}x{height} pixels with {card.params:,} parameters"]
    if card.train_data:
        about.append(f"trained on {card.train_data}")
    if "minutes" in card.training:
        about.append(f"for {card.training['minutes']:.0f} minutes")
    return ", ".join(about) + "."


def _pictures(images: Sequence[Tensor]) -> Tensor:
    """Images uint8 (H, W, C) as one tensor (N, C, H, W)."""
    return torch.stack(list(images)).permute(0, 3, 1, 2)
