"""The pictures of a run of generators or classifiers, as its configuration asks for them."""

from pathlib import Path

from imagesmith.configs import ImageSetConfig
from imagesmith.data.image_sets import ImageSet, load_image_set
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
    return pictures
