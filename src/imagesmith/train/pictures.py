"""The pictures of a run of generators or classifiers, as its configuration asks for them."""

from pathlib import Path
from typing import Any

from imagesmith.configs import ImageSetConfig
from imagesmith.data.image_sets import ImageSet, load_image_set
from imagesmith.errors import ConfigError
from imagesmith.train.run import Session

MOST_LISTED = 20
"""Pictures that could not be used and are named one by one."""


def load_pictures(data: ImageSetConfig, session: Session) -> ImageSet:
    """Decode the pictures, and say what was decided about them and what could not be used.

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
    for problem in pictures.skipped[:MOST_LISTED]:
        session.say(f"skipped {problem}")
    if len(pictures.skipped) > MOST_LISTED:
        session.say(f"skipped {len(pictures.skipped) - MOST_LISTED} more")
    _check_same(told_of(pictures), session.newest[1]["choices"].get("pictures") if session.newest else None, data)
    return pictures


def told_of(pictures: ImageSet) -> dict[str, Any]:
    """What a run remembers of its pictures: others would shift labels, and what is kept apart."""
    channels, height, width = pictures.images.shape[1:]
    return {
        "number": len(pictures),
        "size": [height, width],
        "channels": channels,
        "classes": list(pictures.class_names),
    }


def _check_same(now: dict[str, Any], begun: dict[str, Any] | None, data: ImageSetConfig) -> None:
    """ConfigError where a run that goes on finds other pictures than it was begun with."""
    for name, was in (begun or now).items():
        if now[name] != was:
            raise ConfigError(
                f"expected the pictures of {data.folder} that the run was begun with, got another {name}: {now[name]}, "
                f"not {was}\nput them back, or start another run"
            )
