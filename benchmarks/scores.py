"""Write docs/numbers.md and docs/models.md: every shipped model measured, beside what others published.

    python benchmarks/scores.py --data FOLDER

FOLDER holds set5/ and set14/, or folders with them, each with HR_x2, LR_x2, HR_x3, ... as SelfExSR's authors published
them. Without --data nothing is measured, and the pages are written from the results and cards that are there.
"""

import argparse
from pathlib import Path

from numbers_page import DOCS, SCALES, TEST_SETS, Scores, in_words, write_numbers
from pages import table
from protocols import test_set
from timing import RESULTS, environment, save

from imagesmith.evaluate import PROTOCOL, Report, evaluate_restorer
from imagesmith.nets import VIDEO_RESTORERS
from imagesmith.zoo.cards import CARDS, ModelCard, read_header, shipped_path


def measure(model: str, scale: int, data: Path, dtype: str = "fp32") -> Scores:
    """The scores of a model or baseline on both test sets, by the path that users run."""
    reports: dict[str, Report] = {
        name: evaluate_restorer(
            model,
            test_set(data, name) / f"HR_x{scale}",
            test_set(data, name) / f"LR_x{scale}",
            scale=scale,
            dtype=dtype,
            device="cpu",
        )
        for name in TEST_SETS
    }
    return {
        name: {metric: round(value, 4) for metric, value in report.summary.items()} for name, report in reports.items()
    }


def measure_all(data: Path) -> dict[str, Scores]:
    """{"sr-x4 fp32": {...}, "sr-x4 bf16": {...}, "bicubic x4": {...}, ...}"""
    measured = {f"bicubic x{scale}": measure("bicubic", scale, data) for scale in SCALES}
    for name, card in _restorers().items():
        for dtype in ("fp32", "bf16"):
            measured[f"{name} {dtype}"] = measure(name, card.scale, data, dtype)
            print(f"{name} {dtype}: " + ", ".join(f"{k} {in_words(v)}" for k, v in measured[f"{name} {dtype}"].items()))
    return measured


def _restorers() -> dict[str, ModelCard]:
    """Those of pictures; what a network makes of clips is measured by video_quality.py."""
    return {name: card for name, card in CARDS.items() if card.task == "sr" and card.net not in VIDEO_RESTORERS}


def models_page() -> str:
    """docs/models.md: the cards of the shipped weights."""
    text = [
        "# Models",
        "",
        "Written by `python benchmarks/scores.py` from the cards inside the weight files; do not edit. "
        "`imagesmith models show NAME` shows the same, `imagesmith models verify` checks sha256 and golden output.",
    ]
    for name, card in CARDS.items():
        text += ["", f"## {name}", "", card.description, "", *table(_facts(name, card), ("", ""))]
    return "\n".join(text) + "\n"


def _facts(name: str, card: ModelCard) -> list[tuple[str, str]]:
    options = ", ".join(f"{option} {value}" for option, value in card.options.items())
    trained = [
        f"{key.replace('_', ' ')} {value}" for key, value in card.training.items() if not isinstance(value, dict)
    ]
    facts = {
        "task": f"{card.task}, x{card.scale}" if card.scale > 1 else card.task,
        "network": f"{card.net} ({options})" if options else card.net,
        "parameters": f"{card.params:,}",
        "receptive radius": f"{card.halo} input pixels" if card.halo else "",
        "classes": ", ".join(card.class_names),
        **{f"scores, {test_set}": in_words(scores) for test_set, scores in card.protocol.items()},
        "trained on": card.train_data,
        "training": ", ".join(trained),
        "licence": card.licence,
        "commit": card.commit,
        "created": card.created,
        "sha256": f"`{read_header(shipped_path(name)).sha256}`",
    }
    return [(key, value) for key, value in facts.items() if value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with set5 and set14")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write to")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "models.md").write_text(models_page())
    if options.data:
        started, measured = environment(), measure_all(options.data)
        save("scores", {"protocol": PROTOCOL, "environment": started, "results": measured}, options.results)
    write_numbers(options.docs, options.results)


if __name__ == "__main__":
    main()
