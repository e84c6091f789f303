"""How many of the 1000 modes of StackedMNIST a GAN covers, and how evenly.

    python benchmarks/stacked_mnist.py --digits FOLDER --out RUNS [--preset rpgan] [--minutes 40] [--set KEY=VALUE ...]

FOLDER holds mnist_train.npz and mnist_test.npz (`images` uint8 (N, 28, 28), `labels`). The GAN learns from 60,000
images of three training digits each; 26,000 of its images, and 26,000 of three test digits (the floor), are read by
mnistcnn.
The same command again goes on with an interrupted run.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from timing import RESULTS, environment, save

from imagesmith.configs import override
from imagesmith.infer.generate import Generator
from imagesmith.metrics.modes import STACKED_SAMPLES, name_channels, stack_digits, stacked_modes
from imagesmith.presets import GAN_PRESETS, preset_of
from imagesmith.train.gan import train_gan
from imagesmith.zoo import load_model

TRAINING_IMAGES = 60_000


def digits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, 28, 28) uint8 and labels."""
    arrays = np.load(path)
    return torch.from_numpy(arrays["images"])[:, None], torch.from_numpy(arrays["labels"]).long()


def score(images: torch.Tensor) -> dict[str, float]:
    """Modes and divergence of uint8 (N, 3, 28, 28)."""
    modes, divergence = stacked_modes(name_channels(load_model("mnistcnn").net, images.float() / 255))
    return {"modes": modes, "kl": round(divergence, 4)}


def main() -> None:
    """Train, generate, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, one per preset")
    parser.add_argument("--preset", default="rpgan")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    arguments.out.mkdir(parents=True, exist_ok=True)
    pictures = arguments.out / "stacked.npz"
    if not pictures.exists():
        stacked, _ = stack_digits(*digits(arguments.digits / "mnist_train.npz"), TRAINING_IMAGES, seed=0)
        np.savez(pictures, images=stacked.permute(0, 2, 3, 1).numpy())
    config = preset_of(GAN_PRESETS, arguments.preset)(
        data=str(pictures), out=str(arguments.out / arguments.preset), minutes=arguments.minutes
    )
    run = train_gan(override(config, ["data.flip=false", *arguments.changes]))

    generator = Generator.load(run.folder)
    made = torch.stack([sample.image for sample in generator.samples(range(STACKED_SAMPLES))]).permute(0, 3, 1, 2)
    held_out, _ = stack_digits(*digits(arguments.digits / "mnist_test.npz"), STACKED_SAMPLES, seed=1)
    found = {"preset": arguments.preset, "minutes": arguments.minutes, "images_seen": run.images_seen}
    found |= {
        "generator": generator.card.net,
        "params": generator.card.params,
        "samples": STACKED_SAMPLES,
        **score(made),
        "floor": score(held_out),
    }
    print(found)
    result = {"environment": environment(arguments.threads), "result": found}
    save(f"stacked_mnist_{arguments.preset}", result, arguments.results)


if __name__ == "__main__":
    main()
