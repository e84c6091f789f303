"""What an inspected data set means for training a GAN on it, in sentences."""

from collections import Counter

from imagesmith.configs import ImageSetConfig
from imagesmith.data.image_sets import laid_on_white
from imagesmith.data.inspect import Inspection
from imagesmith.data.pixels import FAINT
from imagesmith.data.shapes import choose_size

_PROSPECTS = (
    (2, "it has no variety to learn: variations of it are all that can come out"),
    (100, "a GAN will repeat pictures it has seen; take short trainings with strong augmentation, or find more"),
    (1_000, "few: strong augmentation is needed, and variety stays modest; 1,000 and more do better"),
    (10_000, "enough for a GAN with adaptive augmentation; more would still help"),
)
_COPIES = "copy lies", "copies lie"

MOST_PX: int = ImageSetConfig.model_fields["most_px"].default
"""The longest side that `train gan` chooses by itself."""


def advice(found: Inspection, *, most_px: int = MOST_PX) -> list[str]:
    """One sentence for each thing to know or do before training: number, size, copies, colour, labels, parts."""
    lines = []
    if found.parts:
        part = "train" if "train" in found.parts else max(found.parts, key=lambda name: found.parts[name])
        lines.append(f"name the part to train on: {found.source}::{part}")
    different = len(found.pictures) - len(found.copies)
    prospect = next((words for limit, words in _PROSPECTS if different < limit), "plenty for a GAN of this size")
    lines.append(f"{_told(different, 'different picture', 'different pictures')}: {prospect}")
    sizes = [(picture.height, picture.width) for picture in found.pictures]
    chosen, larger = (choose_size(sizes, most_px=px) for px in (most_px, 2 * most_px))
    more = f"; --set data.most_px={2 * most_px} makes {larger.width}x{larger.height}, at several times the cost"
    is_more = larger.height * larger.width > chosen.height * chosen.width
    lines.append(f"a GAN would make {chosen.width}x{chosen.height}: {chosen.reason}{more if is_more else ''}")
    smaller = sum(p.height < chosen.height or p.width < chosen.width for p in found.pictures)
    if smaller:
        lines.append(f"{_told(smaller, 'picture is', 'pictures are')} smaller than that and would be enlarged")
    if found.copies:
        words = "exact copy makes a GAN prefer it: remove it", "exact copies make a GAN prefer them: remove them"
        lines.append(_told(len(found.copies), *words))
    if found.near_copies:
        alike = _told(len(found.near_copies), "picture looks", "pictures look")
        lines.append(f"{alike} like another one: look at a few and remove true copies")
    lines += _about_doubts(found)
    modes = Counter(picture.mode for picture in found.pictures)
    is_coloured = modes["RGB"] + modes["RGBA"] > 0
    if len(modes) > 1:
        kinds = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        lines.append(f"mixed modes ({kinds}): all become {'RGB' if is_coloured else 'gray'}")
    with_alpha = modes["RGBA"] + modes["gray+alpha"]
    if with_alpha:
        lines.append(f"{_told(with_alpha, 'picture has', 'pictures have')} alpha: {laid_on_white(not is_coloured)}")
    lines.append(_about_labels(found))
    if found.unlabelled:
        words = "row without a picture or picture", "rows without a picture and pictures"
        lines.append(f"{_told(len(found.unlabelled), *words)} without a row would be left out")
    return [*lines, *_about_broken(found)]


def _about_labels(found: Inspection) -> str:
    counts = found.class_counts()
    if not counts:
        return f"{found.labels}; to train with classes, give each a folder of its own with two pictures and more"
    rarest = min(counts, key=lambda name: counts[name])
    few = (
        f"; '{rarest}' has only {_told(counts[rarest], 'picture', 'pictures')}"
        if counts[rarest] * 10 < max(counts.values())
        else ""
    )
    return f"{found.labels}, so one class can be asked for{few}"


def _about_doubts(found: Inspection) -> list[str]:
    """Copies that lie in two classes or in two parts, which mislead a network or the measuring of it."""
    lines = []
    classes = found.classes or {}
    torn = [pair for pair in found.copies if classes.get(pair[0]) != classes.get(pair[1])]
    if torn:
        lines.append(
            f"{_told(len(torn), *_COPIES)} in two classes, the first is {torn[0][0]} = {torn[0][1]}: decide for one"
        )
    leaks = [pair for pair in found.copies if found.parts and found.part_of(pair[0]) != found.part_of(pair[1])]
    if leaks:
        lines.append(f"{_told(len(leaks), *_COPIES)} in two parts, the first is {leaks[0][0]} = {leaks[0][1]}")
    return lines


def _about_broken(found: Inspection) -> list[str]:
    count, faint = len(found.broken), sum(FAINT in problem for problem in found.broken)
    if not count:
        return []
    why = f", {faint:,} of them for values that use less than an eighth of their range" if faint else ""
    return [f"{_told(count, 'file', 'files')} cannot be used and would be skipped{why}"]


def _told(count: int, one: str, more: str) -> str:
    """The number, and what is said of so many."""
    return f"{count:,} {one if count == 1 else more}"
