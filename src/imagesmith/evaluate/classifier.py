"""Measuring classifiers: the share of labelled pictures that they name right."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.data.image_sets import ImageSet, Size, load_image_set
from imagesmith.data.labels import TABLE
from imagesmith.errors import UsageError, did_you_mean
from imagesmith.evaluate.report import Report, software
from imagesmith.runtime.device import pick_device
from imagesmith.tensors import to_float
from imagesmith.zoo.cards import ModelCard, read_header
from imagesmith.zoo.weights import find_weights, load_model

PROTOCOL = "share of pictures whose highest logit is that of their own class, float32, one view each"


def evaluate_classifier(model: str | Path, reference: str | Path, *, device: str = "auto") -> Report:
    """Classify every picture of a labelled set, brought to the size and channels that the classifier was trained on.

    `model` is what `load_model` takes, `reference` what `load_image_set` takes. The report has a row for each class of
    the reference: its pictures, the share named right, and what the others were taken for most often. Raises UsageError
    for a model that is no classifier and for a reference without labels or with classes that the model does not know.
    """
    loaded = load_model(model)
    card = loaded.card
    if card.task != "classify":
        raise UsageError(f"expected a classifier, got '{card.title}', which is made for the task {card.task}")
    pictures = measured_pictures(reference, card.size, card.channels)
    truth = known_labels(pictures, card.class_names, str(reference))
    place = pick_device(device)
    found = predict(loaded.net.to(place), pictures.images)
    accuracy = share_right(found, truth)
    facts = {
        "model": card.title,
        "weights_sha256": read_header(find_weights(model)).sha256,
        "reference": str(reference),
        "pictures": len(pictures),
        "skipped": pictures.skipped,
        "prepared": list(pictures.notes),
        "protocol": PROTOCOL,
        "device": str(place),
        **software(),
    }
    rows = _rows(found, truth, card)
    caption = f"{card.title} names {accuracy:.2%} of {len(pictures):,} pictures right: {PROTOCOL}"
    lines = [caption, *unused(pictures, "pictures")]
    return Report(rows, {"accuracy": accuracy}, facts, "\n".join(lines), rows_are="class")


def measured_pictures(source: str | Path, size: Size, channels: int | None = None) -> ImageSet:
    """The pictures of a source as a network takes them; those that memory does not hold are mapped from a file."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-", ignore_cleanup_errors=True) as scratch:
        # what is mapped outlives the file's name
        return load_image_set(source, size=size, channels=channels, pack_to=Path(scratch) / "pictures.bin")


def unused(pictures: ImageSet, name: str) -> list[str]:
    """A sentence on what a score is not about because it could not be used; empty where all of it was."""
    skipped = pictures.skipped
    return [f"{len(skipped)} of the {name} cannot be used, first: {skipped[0]}"] if skipped else []


def known_labels(pictures: ImageSet, class_names: tuple[str, ...], where: str) -> Tensor:
    """int64 (N,): the labels of `pictures` as positions in `class_names`; UsageError where that cannot be."""
    if pictures.labels is None:
        raise UsageError(
            f"expected labelled pictures in {where}, got {pictures.notes[0]}\n"
            "give each class a folder of its own with two pictures or more, and leave none outside, or list file,label "
            f"in a table {TABLE}"
        )
    if other := unknown_class(pictures, class_names):
        raise UsageError(
            f"expected classes out of {', '.join(class_names[:12])}, got {other} in {where}\n"
            "call the classes as the model does, or leave the others out"
        )
    return torch.tensor([class_names.index(name) for name in pictures.class_names])[pictures.labels]


def unknown_class(pictures: ImageSet, class_names: Sequence[str]) -> str:
    """The first class of `pictures` that is none of `class_names`, in quotes, and what may be meant; '' without."""
    for name in pictures.class_names:
        if name not in class_names:
            return f"'{name}'{did_you_mean(name, class_names)}"
    return ""


@torch.inference_mode()
def predict(net: nn.Module, images: Tensor, batch: int = 500) -> Tensor:
    """int64 (N,): the label of the highest logit for uint8 images (N, C, H, W), computed where `net` is."""
    weights = next(net.parameters())
    parts = (to_float(part, "uint8").to(weights.device, weights.dtype) for part in images.split(batch))
    return torch.cat([net(part).argmax(dim=1).cpu() for part in parts])


def share_right(found: Tensor, truth: Tensor) -> float:
    """The share of equal labels, in [0, 1]."""
    return float((found == truth).double().mean())


def _rows(found: Tensor, truth: Tensor, card: ModelCard) -> list[dict[str, Any]]:
    rows = []
    for label in truth.unique().tolist():
        given = found[truth == label]
        wrong = given[given != label]
        mistaken = card.class_names[int(wrong.mode().values)] if len(wrong) else None
        share = share_right(given, truth[truth == label])
        name = card.class_names[label]
        rows.append({"name": name, "images": len(given), "accuracy": share, "mostly mistaken for": mistaken})
    return rows
