"""The demo's training: a small GAN learns faces in half a minute, from pictures to a generator that is used."""

import re
import shutil
from pathlib import Path

import torch
from torch import Tensor

from imagesmith import presets
from imagesmith.apps.demo_pictures import packaged_data, write_picture
from imagesmith.apps.report import Chapter, Exhibit
from imagesmith.configs import GanConfig, override
from imagesmith.data.grid import image_grid
from imagesmith.errors import OutputError, TrainingError, UsageError
from imagesmith.infer.generate import generate
from imagesmith.train.gan import train_gan

MINUTES = 0.5
FACES = "lfw_subset.npy"
"""Of Labeled Faces in the Wild (Huang et al. 2007): 200 pictures float64 (25, 25) in [0, 1], first 100 faces."""
CHANGES = (
    "run.batch=32",
    "run.dtype=fp32",
    "run.validations=5",
    "generator.options.width=32",
    "discriminator.options.width=32",
    "optim.learning_rate=1e-3",
    "data.flip=true",
    "guard=act",
)
"""Against the preset: small networks that learn fast, and nothing to measure first, for half a minute is short."""
SEEDS = range(1000, 1032)
_PROGRESS = re.compile(r"\[ *\d+ s\] +[\d.]+% ")
"""A line of the log that only says how far the training is."""


def train_on_faces(out: Path, *, device: str = "auto", minutes: float = MINUTES) -> Chapter:
    """Train a GAN on the faces of scikit-image and make images with it; the run of an earlier demo is removed."""
    faces, run = out / "faces", out / "faces-run"
    _remove(run)
    count = _write_faces(faces)
    ended = _train(presets.dcgan(data=str(faces), out=str(run), minutes=minutes), device)
    samples = sorted((run / "samples").glob("*.png"))
    if not samples:
        raise TrainingError(f"the training made no samples: {ended}")
    made = torch.stack([sample.image for sample in generate(run, SEEDS, device=device)]).permute(0, 3, 1, 2)
    lines = (run / "console.log").read_text("utf-8").splitlines()
    return Chapter(
        title="Training a GAN, start to end",
        summary=f"given {count} faces to learn: {ended}; then {len(made)} new images made",
        paragraphs=(
            f"{count} faces of 25x25 pixels were written into a folder, and a small DCGAN was trained on them. Two "
            "networks learn against each other: the generator makes images from random numbers, the discriminator says "
            "how they differ from the pictures. This classic was chosen because half a minute is enough for it to "
            "show something; `imagesmith train gan faces/ -o run/` takes the modern recipe, which needs longer, and "
            "measures first how large the networks may be.",
            f"What to expect: {count} pictures are far too few and {60 * minutes:.0f} seconds far too short. You see "
            "how faces emerge from noise, not good faces; a network that saw so few pictures for much longer would "
            "learn them by heart. Try it with a thousand pictures of your own, or more, and an hour.",
        ),
        exhibits=(
            Exhibit(file=run / "reals.png", caption="Some of the pictures it learns from."),
            *(Exhibit(file=file, caption=caption) for file, caption in _moments(samples)),
            Exhibit(
                file=write_picture(image_grid(made, 8), out / "faces-run.png"),
                caption="The trained generator used once: images of seeds that it was never shown at.",
                is_wide=True,
            ),
            Exhibit(
                file=run / "curves.png",
                caption="Curves of the training over the images seen. The distance to pictures should fall.",
                is_wide=True,
            ),
        ),
        said=tuple(line for line in lines if not _PROGRESS.match(line)),
    )


def _remove(run: Path) -> None:
    """Make room for a new run; OutputError where the earlier one cannot be removed."""
    try:
        shutil.rmtree(run)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{run} cannot be removed: {error.strerror or error}; name another folder with -o") from error


def _train(config: GanConfig, device: str) -> str:
    """How the training ended, in words; a guard that stops it leaves the best generator so far."""
    on = [f"run.device={device}"] if device in ("cpu", "cuda") else []
    try:
        run = train_gan(override(config, [*CHANGES, *on]), quiet=True)
    except TrainingError as error:
        return f"the guard ended it: {error}"
    return f"{run.images_seen:,} images seen"


def _write_faces(folder: Path) -> int:
    """Write the faces as PNG files into `folder`; how many there are."""
    images = read_faces(packaged_data(FACES) / FACES)
    for number, image in enumerate(images):
        write_picture(image, folder / f"{number:03}.png")
    return len(images)


def read_faces(file: Path) -> Tensor:
    """The faces in scikit-image's array of faces and other things: uint8 (100, 1, 25, 25)."""
    count, side = 200, 25
    values = file.read_bytes()[-count * side * side * 8 :]  # a header, then the numbers
    if len(values) < count * side * side * 8:
        raise UsageError(f"expected {count} pictures of {side}x{side} pixels in {file}; install scikit-image again")
    pixels = torch.frombuffer(bytearray(values), dtype=torch.float64).view(count, 1, side, side)
    return pixels[: count // 2].mul(255).round().to(torch.uint8)


def _moments(samples: list[Path]) -> list[tuple[Path, str]]:
    """The first, the middle and the last sheet of samples with their captions."""
    words = {samples[len(samples) // 2]: "Halfway", samples[0]: "Early", samples[-1]: "At the end"}
    return [(file, f"{words[file]}: what it made after {int(file.stem):,} images seen.") for file in sorted(words)]
