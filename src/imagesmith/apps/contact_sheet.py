"""A contact sheet of a data set: a row of pictures for each class, or pages of pictures where there are no classes."""

from collections import defaultdict

from PIL import Image, ImageDraw, ImageFont

from imagesmith.data.inspect import SHOWN_EACH, SHOWN_PX, Inspection

_GAP_PX = 4
_CAPTION_PX = 150
_COLUMNS = 12


def draw_sheet(found: Inspection) -> Image.Image:
    """The pictures kept for showing, whole, small ones enlarged by a whole number; classes with their counts."""
    rows = _rows(found)
    caption = _CAPTION_PX if found.classes else 0
    columns = max(len(pictures) for _, pictures in rows)
    cell = SHOWN_PX + _GAP_PX
    sheet = Image.new("RGB", (caption + columns * cell + _GAP_PX, len(rows) * cell + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row, (title, pictures) in enumerate(rows):
        top = _GAP_PX + row * cell
        draw.multiline_text((2 * _GAP_PX, top + SHOWN_PX // 3), title, fill="black", font=font)
        for column, picture in enumerate(pictures):
            left = caption + _GAP_PX + column * cell
            sheet.paste(picture, (left + (SHOWN_PX - picture.width) // 2, top + (SHOWN_PX - picture.height) // 2))
    return sheet


def _rows(found: Inspection) -> list[tuple[str, list[Image.Image]]]:
    """(caption, pictures) of each row of the sheet."""
    by_class: dict[str, list[Image.Image]] = defaultdict(list)
    for picture in found.pictures:
        if picture.shown is not None:
            by_class[found.classes[picture.name] if found.classes else ""].append(picture.shown)
    if found.classes:
        counts = found.class_counts()
        return [(f"{_cut(name)}\n{counts[name]:,}", by_class[name][:SHOWN_EACH]) for name in counts if name in by_class]
    shown = by_class[""]
    return [("", shown[start : start + _COLUMNS]) for start in range(0, len(shown), _COLUMNS)]


def _cut(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
