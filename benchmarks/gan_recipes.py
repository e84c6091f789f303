"""Same pictures, same minutes: DCGAN, DCGAN with each better objective, and rpgan.

    python benchmarks/gan_recipes.py DATA --reference DATA --out RUNS --minutes 10 [--only NAME ...] [--set KEY=VALUE]

Trains every recipe for the same minutes with the same threads, one after another, and measures `fd_cifarcnn` and
`kid_cifarcnn` of each against the reference. Recipes whose run is finished are only measured. The curves are in the run
folders (`curves.png`); give the command again to go on after an interruption.
"""

import argparse
from pathlib import Path

import torch
from timing import RESULTS, environment, save

from imagesmith.configs import GanConfig, override
from imagesmith.evaluate import evaluate_generator
from imagesmith.presets import GAN_PRESETS
from imagesmith.train.gan import train_gan

RECIPES: dict[str, tuple[str, list[str]]] = {
    "dcgan": ("dcgan", []),
    "dcgan least squares": ("dcgan", ["objective=least_squares"]),
    "dcgan hinge, spectral norm": ("dcgan", ["objective=hinge", "discriminator.options.spectral_norm=true"]),
    "dcgan wasserstein, penalty": ("dcgan", ["objective=wasserstein", 'penalties={"wasserstein": 10}']),
    "dcgan relativistic, R1 R2": ("dcgan", ["objective=relativistic", 'penalties={"r1": 1, "r2": 1}']),
    "rpgan without labels": ("rpgan", ["data.labels=none"]),
    "rpgan": ("rpgan", []),
}
METRICS = ("fd_cifarcnn", "kid_cifarcnn")


def recipe(name: str, data: str, out: Path, minutes: float, common: list[str]) -> GanConfig:
    """The configuration of a recipe in its own run folder; the assignments of `common` are for all of them."""
    preset, changes = RECIPES[name]
    folder = out / name.replace(", ", "-").replace(" ", "-")
    return override(GAN_PRESETS[preset](data=data, out=str(folder), minutes=minutes), [*common, *changes])


def main() -> None:
    """Train and measure every recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--reference", required=True, help="pictures that no recipe trains on, where there are enough")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", action="append", choices=RECIPES, help="may be repeated")
    parser.add_argument("--set", action="append", default=[], dest="common", help="key=value of every recipe")
    parser.add_argument("--images", type=int, default=10_000, help="fakes to measure")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--name", default="gan_recipes", help="name of the result")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for name in arguments.only or RECIPES:
        run = train_gan(recipe(name, arguments.data, arguments.out, arguments.minutes, arguments.common))
        report = evaluate_generator(run.folder, arguments.reference, METRICS, images=arguments.images)
        rows.append({"recipe": name, "images_seen": run.images_seen, **report.summary})
        print(rows[-1], flush=True)
    result = {
        "environment": environment(arguments.threads),
        "minutes": arguments.minutes,
        "common": arguments.common,
        "rows": rows,
    }
    save(arguments.name, result, arguments.results)


if __name__ == "__main__":
    main()
