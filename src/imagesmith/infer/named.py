"""Which model is meant: by a task and a scale, and at which strength."""

import numbers
import re
from typing import get_args

from imagesmith.configs import RestorerConfig
from imagesmith.errors import UsageError, not_one_of
from imagesmith.zoo import CARDS, Model, ModelCard, load_model
from imagesmith.zoo.blend import blend

DEFAULT_SCALE = 4
_TASKS: tuple[str, ...] = get_args(RestorerConfig.model_fields["task"].annotation)
_ENLARGING_TASKS = ("sr", "photo")


def model_for(task: str, scale: int | None = None) -> str:
    """The name of the shipped model for a task; UsageError for an unknown one, and for a scale that no model has.

    sr and photo enlarge, by 4 unless told otherwise; models of the other tasks are called after them.
    """
    if task not in _TASKS:
        raise UsageError(not_one_of("a task", str(task), _TASKS))
    if task in _ENLARGING_TASKS:
        if scale == 1:
            raise UsageError("a scale of 1 keeps the size: name what to mend, such as --task denoise, jpeg or deblur")
        name = f"{task}-x{DEFAULT_SCALE if scale is None else scale}"
        scales = [match[1] for match in map(re.compile(rf"{task}-x(\d+)").fullmatch, CARDS) if match]
        if scale is not None and scales and name not in CARDS:
            raise UsageError(f"expected a scale out of {', '.join(scales)} for the task {task}, got {scale}")
        return name
    if scale not in (None, 1):
        raise UsageError(f"the task {task} keeps the size, got a scale of {scale}; leave it out, or take the task auto")
    return task


def check_asked(card: ModelCard, task: str | None, scale: int | None) -> None:
    """UsageError where a task or a scale that was asked for is not that of the model; None asks for nothing."""
    if task not in (None, "auto", card.task):
        raise UsageError(f"model '{card.title}' is made for the task {card.task}, got the task {task}; leave one out")
    if scale not in (None, card.scale):
        does = f"enlarges by {card.scale}" if card.scale > 1 else "keeps the size"
        raise UsageError(f"model '{card.title}' {does}, got a scale of {scale}; leave one of them out")


def of_strength(model: Model, strength: float) -> tuple[Model, float]:
    """The model of this strength, and how much of its result is then to be taken; see `Restorer.load`."""
    card = model.card
    if not isinstance(strength, numbers.Real) or not 0 <= strength <= 1:
        raise UsageError(f"expected a strength from 0 to 1, got {strength!r}")
    if strength == 1:
        return model, 1.0
    if card.faithful is not None:
        faithful = load_model(card.faithful)
        return faithful if strength == 0 else blend(faithful, model, strength), 1.0
    if card.scale > 1 or card.task == "inpaint":
        why = "enlarges" if card.scale > 1 else "fills holes"
        raise UsageError(
            f"model '{card.title}' {why} and has no faithful partner to be weakened towards; leave --strength out"
        )
    return model, strength
