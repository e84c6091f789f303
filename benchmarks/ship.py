"""Put a trained model into the package: measure it, write its card, its weights and its golden output.

    python benchmarks/ship.py RUN NAME --data DATA --description TEXT [--train-data TEXT] [--test-set NAME]

RUN is a run folder or weight file, NAME what it will be called. DATA is the folder of scores.py for a restorer, and for
a classifier its labelled test set, to be called NAME in the card. Run scores.py afterwards.
"""

import argparse
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import skimage.data
import torch
from scores import measure
from timing import commit

from imagesmith.evaluate.classifier import evaluate_classifier
from imagesmith.zoo import Model, load_model, save_model, verify_model, write_golden
from imagesmith.zoo.cards import shipped_path


def _scores(model: Model, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    if model.card.task != "classify":
        return measure(options.run, model.card.scale, Path(options.data))
    report = evaluate_classifier(options.run, options.data, device="cpu")
    print(report.table())
    return {options.test_set: {metric: round(value, 4) for metric, value in report.summary.items()}}


def _photograph(model: Model) -> torch.Tensor:
    """Part of a face as golden input, uint8 (H, W, C): 48 pixels a side, or what a classifier was trained on."""
    height, width = model.card.size or (48, 48)
    image = skimage.data.astronaut()[90 : 90 + height, 200 : 200 + width, : model.card.channels]
    return torch.from_numpy(image.copy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True, help="what to measure it on")
    parser.add_argument("--test-set", default="test", help="name of a classifier's test set")
    parser.add_argument("--description", required=True, help="one sentence for people who choose a model")
    parser.add_argument("--train-data", help="what it was trained on, in place of what the run says")
    options = parser.parse_args()

    model = load_model(options.run)
    card = dataclasses.replace(
        model.card,
        name=options.name,
        description=options.description,
        train_data=options.train_data or model.card.train_data,
        commit=model.card.commit or commit(),
        protocol=_scores(model, options),
        created=model.card.created or datetime.now(UTC).date().isoformat(),
    )
    save_model(shipped_path(options.name), model.net, card)
    write_golden(options.name, _photograph(model))
    print(f"{options.name}: {card.protocol}, golden output within {verify_model(options.name):.1e}")


if __name__ == "__main__":
    main()
