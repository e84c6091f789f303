"""Train a GAN on a folder of pictures, class folders if they have classes, and make a few images with it.

`python examples/train_gan.py photos/ runs/mine 60`; the run folder shows samples, curves, what was chosen and why.
"""

import sys

from PIL import Image

import imagesmith as ism


def main(pictures: str, out: str, minutes: str = "60") -> None:
    config = ism.presets.auto_gan(data=pictures, out=out, minutes=float(minutes))
    run = ism.train_gan(config)  # the same call again goes on where it stopped
    print(f"{run.images_seen:,} images seen; the generator is {run.model}")
    for sample in ism.generate(run.folder, seeds=range(8)):
        Image.fromarray(sample.image.squeeze(-1).numpy()).save(f"{out}/seed{sample.seed}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
