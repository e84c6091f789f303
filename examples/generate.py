"""Make 16 images with a generator, of one class if it is named: `python examples/generate.py cifar-32 out/ horse`."""

import sys
from pathlib import Path

from PIL import Image

import imagesmith as ism


def main(model: str, out: str, label: str | None = None) -> None:
    generator = ism.Generator.load(model)
    print(f"{generator.card.title} makes {', '.join(generator.class_names) or 'images without classes'}")
    Path(out).mkdir(parents=True, exist_ok=True)
    for sample in ism.generate(generator, seeds=range(16), label=label):  # the same seed makes the same image again
        Image.fromarray(sample.image.squeeze(-1).numpy()).save(Path(out) / f"seed{sample.seed:02}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
