"""`imagesmith doctor`: every finding that a report of trouble needs."""

import pytest

from imagesmith.apps.doctor import examine
from imagesmith.runtime.tiling import TILE_BYTES


def test_findings_are_complete_and_end_with_a_timed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: the one command to run before asking for help leaves out what the helper has to ask for."""
    monkeypatch.setitem(TILE_BYTES, "cpu", 1 << 20)  # tiles of the usual size take seconds
    found = dict(examine("cpu", "fp32"))
    for name in ("imagesmith", "python", "torch", "pillow", "picture codecs", "extra 'demo'", "devices", "memory"):
        assert found[name]
    assert "cpu fp32" in found["runtime"]
    assert "probe" in found["runtime"], "the decision comes without its reason"
    assert "probe" in found["denoise"], "only the network of the timed tile is explained"
    assert "probe.json" in found["measured"]
    assert "100 % " in found["size of tiles"]
    assert " kB an input pixel" in found["memory of a tile"]
    assert list(found)[-1] == "one tile"
    assert found["one tile"].partition(" ms for ")[0].isdecimal()
