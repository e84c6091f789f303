"""The sheet of nearest images: what becomes of it where the disk takes no more."""

from pathlib import Path

import torch

from imagesmith.evaluate.nearest import write_sheet


def test_a_sheet_that_cannot_be_written_says_so_and_costs_nothing_else(tmp_path: Path) -> None:
    """The accident: an hour of measuring, and all numbers lost with the picture at its end."""
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    found = [{"indices": [0]}, {"indices": [1]}]
    assert write_sheet(tmp_path / "sheet.png", images, images, found) is None
    assert (tmp_path / "sheet.png").is_file()
    assert "name is too long" in (write_sheet(tmp_path / f"{'x' * 300}.png", images, images, found) or "")
