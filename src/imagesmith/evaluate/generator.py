"""Measuring generators: fakes against real images, with the floor beside every score; nothing is kept on disk."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imagesmith.data.image_sets import ImageSet
from imagesmith.errors import NothingUsableError, UsageError
from imagesmith.evaluate.classifier import measured_pictures, unused
from imagesmith.evaluate.extractors import Extractor, load_extractor
from imagesmith.evaluate.fakes import Fakes, fakes_of, sample
from imagesmith.evaluate.nearest import SHOWN, check_sheet, nearest_training_images, write_sheet
from imagesmith.evaluate.report import Report, software
from imagesmith.evaluate.set_metrics import (
    LEAST_IMAGES,
    STATISTICS,
    SWD_IMAGES,
    SWD_PROTOCOL,
    Wanted,
    default_metrics,
    parse_metrics,
    patch_row,
    shipped_extractors,
    split_reference,
    statistic_row,
)
from imagesmith.infer.generate import Generator

MOST_IMAGES = 50_000
"""How many fakes are made for a larger reference, as the papers do."""
_KID_PREFERRED = 5_000
_SHARES_PREFERRED = 1_000
"""Below this many images precision and recall flatter: few reals are far apart, and anything lies near one of them."""
_SAME = 0.9
"""Above this share of the floor, its smaller number of images is not worth a word."""

Say = Callable[[str], None]
"""What is told of the work while it goes on."""


def evaluate_generator(
    model: Generator | str | Path,
    reference: str | Path,
    metrics: str | Sequence[str] | None = None,
    *,
    features: str | Path | None = None,
    images: int | None = None,
    truncation: float = 1.0,
    seed: int = 0,
    nearest: str | Path | None = None,
    device: str = "auto",
    report: Say = lambda _: None,
) -> Report:
    """Compare what a generator makes with the real images of `reference`, a source of `load_image_set`.

    `model` is a Generator, what `Generator.load` takes, or a folder or archive of images that were generated before.
    `features` is the Inception file that makes `fid` possible, or a classifier for `fd`, `kid`, ...; without it the
    shipped classifiers serve (`fd_cifarcnn`). As many fakes as reals are made, at most 50,000, from the seeds
    `seed`, `seed` + 1, ...; labels are as frequent as in the reference, or all equally often where it has none or
    others. `nearest` names a picture to write: fakes beside their nearest reals; where that fails in the end,
    `provenance["nearest"]["error"]` says why. The floor of each metric is what a part of the reference scores
    against the rest of it; where these are fewer images than the score has, the caption tells by how much that
    alone raises the floor of a distance.
    """
    if images is not None and images < LEAST_IMAGES:
        raise UsageError(f"expected at least {LEAST_IMAGES} images to measure, got {images}")
    if nearest is not None:
        check_sheet(Path(nearest))
    given = load_extractor(features, device=device) if features is not None else None
    metrics = [metrics] if isinstance(metrics, str) else metrics
    if metrics is not None:
        parse_metrics(metrics, given)  # a mistake is told before anything is loaded
    fakes = fakes_of(model, truncation=truncation, seed=seed, device=device)
    wanted = parse_metrics(metrics or default_metrics(given, fakes.channels), given, fakes.channels)
    real = _reference(reference, fakes)
    count = min(images or min(len(real), MOST_IMAGES), fakes.available or MOST_IMAGES**2)
    if count < LEAST_IMAGES:
        raise NothingUsableError(f"expected at least {LEAST_IMAGES} images to measure in '{fakes.name}', got {count}")
    report(f"{fakes.name}: {count} images against {len(real)} real ones")
    extractors = _extractors(wanted, given, for_sheet=nearest is not None, device=device)
    labels = fakes.labels(real, count)
    needs_patches = any(item.extractor is None for item in wanted)
    on_sheet = _on_sheet(fakes, count) if nearest is not None else []
    made = _gathered(
        fakes.batches(count, labels),
        count,
        extractors,
        "fake",
        report,
        most_drawn=SWD_IMAGES if needs_patches else 0,
        on_sheet=on_sheet,
    )
    of_reals = _gathered(real.images.split(512), len(real), extractors, "real", report).features
    rows = [
        patch_row(real.images, made.drawn)
        if item.extractor is None
        else statistic_row(item, of_reals[item.extractor], made.features[item.extractor])
        for item in wanted
    ]
    provenance = {
        "model": fakes.name,
        **fakes.facts,
        "labels": labels.how,
        "reference": str(reference),
        **_protocol(fakes, real, count, wanted, extractors),
        "notes": [
            *unused(real, "reals"),
            *fakes.notes,
            *_notes(min(len(real), count), wanted, extractors, made.features),
        ],
        **software(),
    }
    if nearest is not None:
        name = next(iter(extractors))
        found = nearest_training_images(of_reals[name], made.features[name][on_sheet], real.names)
        error = write_sheet(nearest, made.on_sheet, real.images, found)
        provenance["nearest"] = {"features": name, "fakes": found, "error": error}
    return Report(rows, {row["name"]: row["value"] for row in rows}, provenance, _caption(provenance), "metric")


def _reference(source: str | Path, fakes: Fakes) -> ImageSet:
    """The real images in the size and with the channels of the fakes."""
    real = measured_pictures(source, fakes.size, fakes.channels)
    if len(real) < LEAST_IMAGES:
        raise NothingUsableError(
            f"expected at least {LEAST_IMAGES} real images in '{source}', got {len(real)}; a set is measured, not a few"
        )
    return real


def _extractors(
    wanted: Sequence[Wanted], given: Extractor | None, *, for_sheet: bool, device: str
) -> dict[str, Extractor]:
    """The networks that the metrics need, by name; the sheet of neighbours needs at least one."""
    names = list(dict.fromkeys(item.extractor for item in wanted if item.extractor))
    if for_sheet and not names:
        names = [given.name] if given else shipped_extractors()[:1]
        if not names:
            raise UsageError("neighbours are found by features, and no classifier is shipped; give one as features")
    return {
        name: given if given is not None and given.name == name else load_extractor(name, device=device)
        for name in names
    }


def _on_sheet(fakes: Fakes, count: int) -> list[int]:
    """The positions of SHOWN fakes in ascending order: of the first seeds, or of all classes of images made before."""
    return list(range(min(SHOWN, count))) if fakes.available is None else sorted(sample(count, SHOWN).tolist())


class _Gathered(NamedTuple):
    """What is kept of a set of images (N, C, H, W) that are seen once."""

    on_sheet: Tensor
    """Those at the positions asked for, in ascending order."""
    drawn: Tensor
    """As many as were asked for at most, of all classes; none of the reals, which are in memory anyway."""
    features: dict[str, Tensor]
    """(N, F) on the CPU, of all of them by extractor."""


def _gathered(
    batches: Iterable[Tensor],
    total: int,
    extractors: dict[str, Extractor],
    kind: str,
    report: Say,
    *,
    most_drawn: int = 0,
    on_sheet: Sequence[int] = (),
) -> _Gathered:
    """See `_Gathered`; `total` is N."""
    kept = torch.zeros(2, total, dtype=torch.bool)
    kept[0, list(on_sheet)] = True
    kept[1, sample(total, most_drawn)] = True
    shown, drawn = list[Tensor](), list[Tensor]()
    features: dict[str, list[Tensor]] = {name: [] for name in extractors}
    done = 0
    for batch in batches:
        for images, mask in zip((shown, drawn), kept[:, done : done + len(batch)], strict=True):
            images.append(batch[mask])
        for name, extractor in extractors.items():
            features[name].append(extractor(batch).cpu())
        before, done = done, done + len(batch)
        if 10 * done // total > 10 * before // total:
            report(f"{kind} images: {done} of {total}")
    return _Gathered(torch.cat(shown), torch.cat(drawn), {name: torch.cat(parts) for name, parts in features.items()})


def _protocol(
    fakes: Fakes, real: ImageSet, count: int, wanted: Sequence[Wanted], extractors: dict[str, Extractor]
) -> dict[str, Any]:
    """All it takes to measure the same again."""
    rest, held = split_reference(len(real), count)
    height, width = fakes.size
    return {
        "n_real": len(real),
        "n_fake": count,
        "skipped": real.skipped,
        "floor": {
            "n_real": len(rest),
            "n_fake": len(held),
            "how": "held-out part of the reference against the rest",
            "fd_at_the_scores_numbers": round((1 / len(real) + 1 / count) / (1 / len(rest) + 1 / len(held)), 3),
        },
        "size": f"{width}x{height}, {fakes.channels} channels",
        "metrics": {
            item.name: SWD_PROTOCOL if item.extractor is None else STATISTICS[item.statistic].protocol
            for item in wanted
        },
        "extractors": {name: extractor.facts for name, extractor in extractors.items()},
    }


def _notes(
    fewest: int, wanted: Sequence[Wanted], extractors: dict[str, Extractor], features: dict[str, Tensor]
) -> list[str]:
    """What a reader must know before trusting the numbers; `fewest` is the size of the smaller set."""
    notes = [
        f"{name}: {extractor.facts['note']}" for name, extractor in extractors.items() if "note" in extractor.facts
    ]
    if fewest < _SHARES_PREFERRED and any(item.statistic in ("precision", "recall") for item in wanted):
        notes.append(f"precision and recall of {fewest} images say little; look at the nearest real ones (--nearest)")
    for item in wanted:
        if item.extractor is None or item.statistic != "fd":
            continue
        size = features[item.extractor].shape[1]
        kid = f"kid{item.name.removeprefix('fd')}" if item.name != "fid" else "kid"
        if fewest <= size:
            notes.append(f"{item.name}: {fewest} images for {size} features make it far too large; rely on {kid}")
        elif fewest < _KID_PREFERRED:
            notes.append(f"{item.name}: too large by a share that depends on the {fewest} images; {kid} is unbiased")
    return notes


def _caption(facts: dict[str, Any]) -> str:
    floor = facts["floor"]
    share = floor["fd_at_the_scores_numbers"]  # of equal distributions nothing but bias is left, which goes with 1 / N
    fewer = "" if share > _SAME else f"; with as many as the score has, fd floors would be about {share:.2f} of these"
    made = f"truncation {facts['truncation']:g}, weights {facts['weights']}, " if "truncation" in facts else ""
    lines = [
        f"{facts['model']}: {facts['n_fake']} fakes against {facts['n_real']} reals of {facts['reference']}, "
        f"{facts['size']}; {made}labels {facts['labels']}",
        f"floor: {floor['n_fake']} held-out reals against {floor['n_real']} others{fewer}",
    ]
    for name, extractor in facts["extractors"].items():
        lines.append(f"{name}: sha256 {extractor['sha256'][:16]}..., {extractor['filter']}")
    return "\n".join([*lines, *facts["notes"]])
