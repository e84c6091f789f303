"""Write docs/numbers.md and docs/models.md: every shipped model measured, beside what others published.

    python benchmarks/scores.py --data FOLDER

FOLDER holds set5/ and set14/, each with HR_x2, LR_x2, HR_x3, ... as SelfExSR's authors published them. Without --data
only docs/models.md is written, from the cards inside the weight files.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from published import CHECK, PUBLISHED, Published
from timing import HERE, RESULTS, environment, save

from imagesmith.evaluate import PROTOCOL, Report, evaluate_restorer
from imagesmith.zoo.cards import CARDS, ModelCard, read_header, shipped_path

DOCS = HERE.parent / "docs"
TEST_SETS = ("set5", "set14")
SCALES = (2, 3, 4)
HEADINGS = ("network", "parameters", "trained on", "Set5", "Set14", "source")

Scores = dict[str, dict[str, float]]
"""Means by test set and metric, as a card's `protocol` has them."""


def measure(model: str, scale: int, data: Path, dtype: str = "fp32") -> Scores:
    """The scores of a model or baseline on both test sets, by the path that users run."""
    reports: dict[str, Report] = {
        name: evaluate_restorer(
            model, data / name / f"HR_x{scale}", data / name / f"LR_x{scale}", scale=scale, dtype=dtype, device="cpu"
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
            print(f"{name} {dtype}: " + ", ".join(f"{k} {_score(v)}" for k, v in measured[f"{name} {dtype}"].items()))
    return measured


def _restorers() -> dict[str, ModelCard]:
    return {name: card for name, card in CARDS.items() if card.task == "sr"}


def numbers_page(measured: dict[str, Scores]) -> str:
    """docs/numbers.md: for every scale a table of what was measured here and what others published, best Set5 last."""
    text = [
        "# Numbers",
        "",
        "Written by `python benchmarks/scores.py --data FOLDER`; do not edit.",
        "",
        f"PSNR (dB) / SSIM of the luma, `psnr_y` and `ssim_y`: {PROTOCOL.format(crop='`scale`')}. BT.601 studio-range "
        "luma; SSIM with an 11x11 Gaussian window of sigma 1.5 where it lies inside the image. Inputs are the stored "
        "low-resolution images of the test sets, which this package's bicubic reproduces bit for bit.",
        "",
        "Rows in **bold** were measured here, on the CPU, by `evaluate_restorer`; the others are quoted. "
        f"{CHECK.capitalize()} means that nobody here has compared the figures with the paper. Networks trained on "
        "DIV2K or DF2K have seen many times more and larger photographs than ours.",
    ]
    for scale in SCALES:
        text += ["", f"## x{scale}", "", *_table(_rows(scale, measured))]
    return "\n".join(text) + "\n"


def _rows(scale: int, measured: dict[str, Scores]) -> list[tuple[str, ...]]:
    ours = [("**bicubic**", "", "", measured[f"bicubic x{scale}"])]
    for name, card in _restorers().items():
        if card.scale == scale:
            for dtype in ("fp32", "bf16"):
                ours.append((f"**{name}**, {dtype}", f"{card.params:,}", card.train_data, measured[f"{name} {dtype}"]))
    rows = [
        (scores["set5"]["psnr_y"], (name, params, data, *(_score(scores[s]) for s in TEST_SETS), "measured here"))
        for name, params, data, scores in ours
    ]
    rows += [(entry.set5[0], _quoted(entry)) for entry in PUBLISHED if entry.scale == scale]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _quoted(entry: Published) -> tuple[str, ...]:
    scores = (_pair(*pair) if pair else "" for pair in (entry.set5, entry.set14))
    return (entry.name, entry.params, entry.train_data, *scores, entry.source)


def _score(scores: dict[str, float]) -> str:
    if "psnr_y" in scores:
        return _pair(scores["psnr_y"], scores["ssim_y"])
    return ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())


def _pair(psnr: float, ssim: float | None) -> str:
    return f"{psnr:.2f}" + ("" if ssim is None else f" / {ssim:.4f}")


def _table(rows: Iterable[tuple[str, ...]], headings: tuple[str, ...] = HEADINGS) -> list[str]:
    lines = [headings, ("---",) * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def models_page() -> str:
    """docs/models.md: the cards of the shipped weights."""
    text = [
        "# Models",
        "",
        "Written by `python benchmarks/scores.py` from the cards inside the weight files; do not edit. "
        "`imagesmith models show NAME` shows the same, `imagesmith models verify` checks sha256 and golden output.",
    ]
    for name, card in CARDS.items():
        text += ["", f"## {name}", "", card.description, "", *_table(_facts(name, card), ("", ""))]
    return "\n".join(text) + "\n"


def _facts(name: str, card: ModelCard) -> list[tuple[str, str]]:
    options = ", ".join(f"{option} {value}" for option, value in card.options.items())
    trained = [
        f"{key.replace('_', ' ')} {value}" for key, value in card.training.items() if not isinstance(value, dict)
    ]
    facts = {
        "task": f"{card.task}, x{card.scale}" if card.scale > 1 else card.task,
        "network": f"{card.net} ({options})",
        "parameters": f"{card.params:,}",
        "receptive radius": f"{card.halo} input pixels" if card.halo else "",
        "classes": ", ".join(card.class_names),
        **{f"scores, {test_set}": _score(scores) for test_set, scores in card.protocol.items()},
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
        measured = measure_all(options.data)
        (options.docs / "numbers.md").write_text(numbers_page(measured))
        save("scores", {"protocol": PROTOCOL, "environment": environment(), "results": measured}, options.results)


if __name__ == "__main__":
    main()
