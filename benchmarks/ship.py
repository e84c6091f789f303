"""Put a trained model into the package: measure it, write its card, its weights and its golden output.

    python benchmarks/ship.py RUN NAME --data FOLDER --description TEXT [--train-data TEXT]

RUN is a run folder or weight file, NAME what it will be called, FOLDER as for scores.py. Run scores.py afterwards.
"""

import argparse
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import skimage.data
import torch
from scores import measure
from timing import commit

from imagesmith.zoo import load_model, save_model, verify_model, write_golden
from imagesmith.zoo.cards import shipped_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True, help="folder with set5 and set14")
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
        protocol=measure(options.run, model.card.scale, options.data),
        created=model.card.created or datetime.now(UTC).date().isoformat(),
    )
    save_model(shipped_path(options.name), model.net, card)
    write_golden(options.name, torch.from_numpy(skimage.data.astronaut()[90:138, 200:248].copy()))
    print(f"{options.name}: {card.protocol}, golden output within {verify_model(options.name):.1e}")


if __name__ == "__main__":
    main()
