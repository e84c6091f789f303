"""`imagesmith restore` for films: which model, which options, and what becomes which."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding
from imagesmith.errors import UsageError
from imagesmith.infer.auto import AUTO_TASK
from imagesmith.infer.outcome import Summary
from imagesmith.infer.video.films import planned, restore_films
from imagesmith.infer.video.plan import FilmOptions, film_model
from imagesmith.infer.video.stream import VideoRestorer

FOR_FILMS = {
    "codec": "auto",
    "crf": None,
    "preset": "medium",
    "pix_fmt": "auto",
    "start": None,
    "end": None,
    "temporal": False,
    "preview": None,
}
"""Options of films alone, and what they are where nothing is asked for."""
FOR_PICTURES = {
    "format": "keep",
    "consistency": False,
    "uncertainty": None,
    "self_ensemble": False,
    "partial": False,
    "max_ram": None,
    "max_vram": None,
    "workers": "auto",
    "engine": "local",
}
"""Options of pictures alone."""


@dataclass(frozen=True)
class Wanted:
    """What a command asks of the model, None where it says nothing; `place` is where and how it runs."""

    task: str | None
    model: str | None
    scale: int | None
    place: Mapping[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether what is to be done is left to what is found: as it is asked to, or where nothing is named."""
        is_asked = self.task == AUTO_TASK or (self.task is None and self.scale in (None, 1))
        return is_asked and self.model is None

    def task_with(self, mask: object) -> str:
        """The task of the one model where nothing is left to what is found."""
        if self.task not in (None, AUTO_TASK):
            return self.task
        return "sr" if mask is None else "inpaint"


def check_options(options: Mapping[str, Any], *, films: bool, pictures: bool) -> str | None:
    """What is to be said where options of pictures alone were asked for beside films, which know none of them.

    UsageError for an option that nothing of what was named has.
    """
    asked_films, asked_pictures = (
        [f"--{name.replace('_', '-')}" for name, usual in known.items() if options[name] != usual]
        for known in (FOR_FILMS, FOR_PICTURES)
    )
    for asked, are_there, kind in ((asked_films, films, "films"), (asked_pictures, pictures, "pictures")):
        if asked and not are_there:
            raise UsageError(f"{asked[0]} is for {kind}, of which none was named; leave it out")
    if asked_pictures and films:
        return f"{', '.join(asked_pictures)}: for pictures alone, films are restored without"
    return None


def film_run(
    films: Sequence[Item], out: str | None, wanted: Wanted, options: Mapping[str, Any], *, alone: bool
) -> tuple[VideoRestorer, Callable[..., Summary]]:
    """What restores these films, and the call that does, given `on_progress`; `alone` see `plan_films`."""
    is_open = wanted.is_open and options["mask"] is None
    if is_open and wanted.scale not in (None, 1):
        raise UsageError(
            f"expected --task auto or -s {wanted.scale} for films, got both: they are mended or enlarged\n"
            "leave one of them out, and do the other to the result"
        )
    scale = None if is_open else wanted.scale
    model, temporal = wanted.model, options["temporal"]
    if model is None:
        task = None if is_open else wanted.task_with(options["mask"])
        model, temporal = film_model(task, scale, temporal=temporal)
    restorer, jobs = planned(
        films,
        out,
        model,
        task=wanted.task,
        scale=scale,
        alone=alone,
        temporal=temporal,
        **{name: options[name] for name in ("suffix", "resume", "mask", "strength", "preview")},
        **wanted.place,
    )
    asked = FilmOptions(
        encoding=Encoding(*(options[name] for name in ("codec", "crf", "preset", "pix_fmt"))),
        start_s=options["start"],
        end_s=options["end"],
        resume=options["resume"],
        remembers=not alone,
        overwrite=options["overwrite"],
        if_damaged=is_open,
        dry_run=options["dry_run"],
        preview=options["preview"],
        max_pixels=options["max_pixels"],
    )
    return restorer, functools.partial(restore_films, restorer, jobs, asked)
