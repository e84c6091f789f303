"""Find a photograph in a generator and vary it: `python examples/variations.py cifar-32 cat.jpg cats/`."""

import sys
from pathlib import Path

from PIL import Image

import imagesmith as ism


def main(model: str, photo: str, out: str, steps: str = "200") -> None:
    found = ism.project(model, photo, steps=int(steps), tuning_steps=int(steps))
    print(f"shown at {found.psnr_rgb:.1f} dB", *found.notes, sep="; ")
    Path(out).mkdir(parents=True, exist_ok=True)
    for strength in (0.1, 0.3, 0.6):  # 0 is the photograph as the generator shows it
        for sample in ism.variations(found, seeds=range(4), strength=strength):
            image = Image.fromarray(sample.image.squeeze(-1).numpy())
            image.save(Path(out) / f"strength{strength}-seed{sample.seed}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
