"""The pictures of a run: decoded as its configuration asks for them, divided, and known again when it goes on."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import ImageSetConfig
from imagesmith.data.datasets import Pair
from imagesmith.data.held_out import keep_every_class, split, without_copies
from imagesmith.data.image_sets import ImageSet, load_image_set
from imagesmith.errors import ConfigError, NothingUsableError
from imagesmith.train.run import Session

MOST_LISTED = 20
"""Pictures that are not used and are named one by one."""
_SAMPLED = 16
_FROM_BEFORE = (
    "put them back; if they are the same, this version reads them otherwise, as what is transparent: finish the run "
    "with the version that began it, or start another"
)
"""What to do where the checkpoint is of a version that kept no configuration in it."""


def load_pictures(data: ImageSetConfig, session: Session) -> tuple[ImageSet, Tensor, Tensor]:
    """Decode the pictures, and say what was decided about them and what could not be used.

    Returns them and the positions (int64) of those to train on and of those kept apart, which may be none.
    Those that `data.memory_gb` cannot hold are packed into a file of the run folder, one for each process.
    """
    pictures = load_image_set(
        data.folder,
        size=None if data.size == "auto" else data.size,
        channels=None if data.channels == "auto" else data.channels,
        labels=Path(data.labels) if data.labels not in ("auto", "none") else data.labels,
        most_px=data.most_px,
        memory_bytes=data.memory_gb * 1e9,
        pack_to=session.folder / f"pictures-{session.world.rank}.bin",
    )
    for note in pictures.notes:
        session.say(note)
    if data.flip:
        session.say(
            "half of the pictures are shown mirrored, as fits photographs; for text, digits or anything else with a "
            "left and a right: --set data.flip=false"
        )
    say_skipped(pictures.skipped, session)
    every, held_out = split(len(pictures), data.held_out)
    training = without_copies(pictures.images, every, held_out)
    if len(every) and not len(training):
        raise NothingUsableError(
            f"expected different pictures in {data.folder}, got {len(every)} copies of the {len(held_out)} that are "
            "kept apart to measure on; add others, or set data.held_out=0"
        )
    if len(training) < len(every):
        session.say(f"left out {len(every) - len(training):,} pictures: copies of some that are kept apart")
    if pictures.labels is not None:
        asked, (training, held_out) = len(held_out), keep_every_class(pictures.labels, training, held_out)
        if len(held_out) < asked:
            session.say(
                f"kept {asked - len(held_out):,} pictures fewer apart: their classes have no others to learn from"
            )
    if session.newest or session.world.size > 1:  # else its choices tell it: once is enough for gigabytes
        check_same(told_of(pictures, held_out), "pictures", data.folder, session)
    return pictures, training, held_out


def say_skipped(skipped: Sequence[str], session: Session) -> None:
    """Name what is not used, and count what would fill the screen."""
    for problem in skipped[:MOST_LISTED]:
        session.say(f"skipped {problem}")
    if len(skipped) > MOST_LISTED:
        session.say(f"skipped {len(skipped) - MOST_LISTED} more")


def told_of(pictures: ImageSet, held_out: Tensor) -> dict[str, Any]:
    """What a run remembers of its pictures: others would shift labels, and what is kept apart."""
    channels, height, width = pictures.images.shape[1:]
    numbers = [held_out] if pictures.labels is None else [held_out, pictures.labels]
    return {
        "number": len(pictures),
        "size": [height, width],
        "channels": channels,
        "classes": list(pictures.class_names),
        "sha256": _fingerprint(itertools.chain(pictures.images, numbers)),
    }


def told_of_photos(training: Sequence[Tensor | Pair], kept_apart: Sequence[Tensor | Pair]) -> dict[str, Any]:
    """What a run remembers of its photographs, pairs or films: with others, it would train on what is kept apart."""
    parts = (item if isinstance(item, tuple) else (item,) for item in (*kept_apart, *training))
    return {
        "number": len(training),
        "kept_apart": len(kept_apart),
        "sha256": _fingerprint(itertools.chain.from_iterable(parts)),
    }


def check_same(now: dict[str, Any], what: str, folder: str, session: Session) -> None:
    """ConfigError for others than those a run that goes on was begun with, told as `what` in its choices.

    So it is for others than those of the first process, where several begin one.
    """
    if session.newest is None:
        begun, whose = session.world.lead(lambda: now), "the first process has"
        way_on = "give all machines the same"
    else:
        values = session.newest[1]
        begun, whose = values["choices"].get(what, {}), "the run was begun with"
        way_on = "put them back, or start another run" if "config" in values else _FROM_BEFORE
    if "sha256" not in begun:
        raise ConfigError(
            f"run folder {session.folder} was begun by an earlier version, which kept other {what} apart than this one "
            "would; start another run"
        )
    for name, is_now in now.items():
        if is_now != begun[name]:
            raise ConfigError(
                f"expected the {what} of {folder} that {whose}, got another {name}: {is_now}, "
                f"not {begun[name]}\n{way_on}"
            )


def _fingerprint(parts: Iterable[Tensor]) -> str:
    """A checksum of pictures of any shape, by some pixels spread over each, and of int64 numbers, by all of them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(tuple(part.shape)).encode())
        spread = tuple(slice(None, None, max(1, size // _SAMPLED)) for size in part.shape)
        some = part if part.dtype == torch.int64 else part[spread]  # gigabytes of pictures must not take long
        digest.update(some.contiguous().numpy().data)
    return digest.hexdigest()
