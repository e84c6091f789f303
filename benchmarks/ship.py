"""Put a trained model into the package: measure it, write its card, its weights and its golden output.

    python benchmarks/ship.py RUN NAME --data DATA --description TEXT [--train-data TEXT] [--test-set NAME]
                             [--faithful NAME] [--kept float16 | bfloat16]

RUN is a run folder or weight file, NAME what it will be called. DATA holds the test sets for a restorer (see
protocols.py and scores.py), is a labelled test set for a classifier, and real pictures for a generator; --test-set says
what such a set is called in the card. Run scores.py afterwards.
"""

import argparse
import dataclasses
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import skimage.data
import torch
from protocols import measure_task
from scores import measure as measure_super_resolution
from timing import commit
from video_quality import clip_path

from imagesmith.evaluate import evaluate_generator, evaluate_restorer
from imagesmith.evaluate.classifier import evaluate_classifier
from imagesmith.infer.latents import latents
from imagesmith.nets import VIDEO_RESTORERS
from imagesmith.zoo import Model, load_model, save_model, verify_model, write_golden
from imagesmith.zoo.blend import blend
from imagesmith.zoo.cards import shipped_path

KEPT = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
METRICS = ("fd_cifarcnn", "kid_cifarcnn", "precision_cifarcnn", "recall_cifarcnn")


def _scores(model: Model, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    if model.card.net in VIDEO_RESTORERS:
        return _film_scores(model, options)
    if model.card.task == "classify":
        report = evaluate_classifier(options.run, options.data, device="cpu")
    elif model.card.task == "generate":
        report = evaluate_generator(options.run, options.data, METRICS, images=10_000, device="cpu")
    elif model.card.task != "sr":
        return measure_task(options.run, model.card.task, model.card.scale, Path(options.data))
    else:
        return measure_super_resolution(options.run, model.card.scale, Path(options.data))
    print(report.table())
    return {options.test_set: {metric: round(value, 4) for metric, value in report.summary.items()}}


def _rounded_scores(model: Model, options: argparse.Namespace, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """The scores of the weights as the package will hold them."""
    with tempfile.TemporaryDirectory() as folder:
        options.run = Path(folder) / f"{options.name}.safetensors"
        save_model(options.run, model.net, model.card, dtype)
        return _scores(model, options)


def _film_scores(model: Model, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """On the clip calendar of Vid4, all frames, nothing cropped: made small as papers do, or with noise of sigma 25."""
    degrade = "bi" if model.card.scale > 1 else "gaussian_noise:sigma=[25,25],rounded=0"
    report = evaluate_restorer(options.run, clip_path(Path(options.data), "calendar"), degrade=degrade, device="cpu")
    print(report.table())
    return {"vid4 calendar": {metric: round(value, 4) for metric, value in report.summary.items()}}


def _golden_input(model: Model) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Four latents and labels for a generator; else part of a face, uint8 (H, W, C + planes), of 48 or more pixels.

    What planes there are tell of a square in the middle.
    """
    if model.card.task == "generate":
        labels = torch.arange(4) % model.card.classes if model.card.classes else None
        return latents(range(4), model.card.latent_size or 0), labels
    unit: int = getattr(model.net, "multiple_of", 1)
    side = -(-48 // unit) * unit
    height, width = model.card.size or (side, side)
    image = skimage.data.astronaut()[90 : 90 + height, 200 : 200 + width, : model.card.channels]
    planes = np.zeros((height, width, getattr(model.net, "planes", 0)), np.uint8)
    planes[height // 3 : height // 2, width // 3 : width // 2] = 255
    return torch.from_numpy(np.concatenate([image, planes], axis=2)), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True, help="what to measure it on")
    parser.add_argument("--test-set", default="test", help="name of a classifier's or generator's set")
    parser.add_argument("--description", required=True, help="one sentence for people who choose a model")
    parser.add_argument("--faithful", metavar="NAME", help="shipped model that a sharp one can be blended with")
    parser.add_argument("--train-data", help="what it was trained on, in place of what the run says")
    parser.add_argument("--kept", choices=KEPT, default="float32", help="in half of the room, or in all of it")
    options = parser.parse_args()

    model = load_model(options.run)
    dtype = KEPT[options.kept]
    if options.faithful:
        blend(load_model(options.faithful), model, 0.5)  # only to see that the two fit each other
    card = dataclasses.replace(
        model.card,
        name=options.name,
        description=options.description,
        faithful=options.faithful,
        train_data=options.train_data or model.card.train_data,
        commit=model.card.commit or commit(),
        protocol=_rounded_scores(model, options, dtype),
        created=model.card.created or datetime.now(UTC).date().isoformat(),
    )
    save_model(shipped_path(options.name), model.net, card, dtype)
    write_golden(options.name, *_golden_input(model))
    print(f"{options.name}: {card.protocol}, golden output within {verify_model(options.name):.1e}")


if __name__ == "__main__":
    main()
