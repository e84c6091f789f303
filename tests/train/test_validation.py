"""What a validation leaves behind."""

import xml.etree.ElementTree as ET

import torch

from imagesmith.train.validation import SHEET_PX, curve, sheet_row


def test_curve_is_a_picture_of_its_points():
    """The curve is drawn by hand, so a bad number would draw outside the frame or break the file."""
    for points in ([(10, 20.0)], [(10, 20.0), (20, 20.0)], [(16, 20.5), (32, 24.125), (48, 23.0)]):
        root = ET.fromstring(curve(points, "psnr_y"))
        line = next(element for element in root if element.tag.endswith("polyline"))
        places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert len(places) == len(points)
        assert all(0 <= x <= 640 and 0 <= y <= 320 for x, y in places)
        texts = [element.text for element in root if element.tag.endswith("text")]
        assert f"{max(y for _, y in points):.3f}" in texts
    assert places[1][1] < places[2][1] < places[0][1], "better is higher"


def test_sheet_row_shows_the_same_place_three_times():
    target = torch.rand(1, 3, 400, 300)
    row = sheet_row(target[..., ::4, ::4], target, target)
    assert row.shape == (3, SHEET_PX, 3 * SHEET_PX)
    assert torch.equal(row[..., SHEET_PX : 2 * SHEET_PX], row[..., 2 * SHEET_PX :])
    small = torch.rand(1, 3, 40, 60)
    assert sheet_row(small, small, small).shape == (3, 40, 180)
