"""What the benchmark of the whole command refuses."""

import sys

import command
import pytest


def test_one_photograph_cannot_tell_what_starting_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The accident: one is measured beside itself, in the folder that is there already, and divided by none."""
    monkeypatch.setattr(sys, "argv", ["command.py", "--photos", "1"])
    with pytest.raises(SystemExit):
        command.main()
    assert "expected --photos 2 or more, got 1" in capsys.readouterr().err
