"""Sheets and curves: every picture in its place, every number on its line."""

import torch

from imagesmith.data.grid import LEAST_PX, Panel, draw_curves, image_grid


def test_pictures_stand_row_by_row_and_the_rest_is_black():
    """A transposed sheet puts every seed under another one's number."""
    images = torch.arange(1, 6, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, LEAST_PX, LEAST_PX)
    sheet = image_grid(images, columns=2)
    assert sheet.shape == (3, 3 * LEAST_PX, 2 * LEAST_PX)
    cells = sheet[0, ::LEAST_PX, ::LEAST_PX]
    assert cells.tolist() == [[1, 2], [3, 4], [5, 0]]
    assert image_grid(images, columns=3, rows=4)[0, ::LEAST_PX, ::LEAST_PX].tolist() == [
        [1, 2, 3],
        [4, 5, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_about_square_by_default_and_tiny_pictures_enlarged_by_a_whole_factor():
    images = torch.randint(0, 256, (9, 1, 25, 20), dtype=torch.uint8)
    sheet = image_grid(images)
    assert sheet.shape == (1, 3 * 25 * 3, 3 * 20 * 3)
    assert torch.equal(sheet[:, ::3, ::3][0, :25, :20], images[0, 0])


def test_curves_are_drawn_where_the_values_are():
    rows = [{"images_seen": k, "a": float(k), "b": 100.0 - k} for k in range(0, 101, 10)]
    drawn = draw_curves([*rows, {"images_seen": 100, "other": 1.0}], [Panel("both", ("a", "b")), Panel("none", ("c",))])
    assert drawn.dtype == torch.uint8
    assert drawn.shape[0] == 3
    blue = ((drawn[2].int() - drawn[0].int()) > 120).nonzero()
    rising = blue[(blue[:, 1] > 100) & (blue[:, 1] < 480) & (blue[:, 0] < 180)]
    left, right = rising[rising[:, 1] < 200], rising[rising[:, 1] > 400]
    assert left[:, 0].float().mean() > right[:, 0].float().mean(), "a rising value rises on the page"


def test_one_value_and_values_that_are_all_the_same_are_no_accident():
    """The first validation of a run divided by a span of zero."""
    for rows in ([{"images_seen": 0, "a": 1.0}], [{"images_seen": k, "a": 2.0} for k in range(3)]):
        assert draw_curves(rows, [Panel("a", ("a",), logarithmic=True)]).isfinite().all()
