"""The command from its first moment on."""

import signal
import subprocess
import sys

import pytest

STOPPED_AT = """
import os, runpy, sys

class Stop:
    def find_spec(name, *_):
        if name == "{module}":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Stop)
sys.argv = ["imagesmith", "models", "verify"]
runpy.run_module("imagesmith", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("module", ["typer", "torch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_still_imports_it_says_so(module: str, number: signal.Signals) -> None:
    """The accident: Ctrl-C at once shows a page of traceback, SIGTERM nothing at all; a moment later both are told."""
    code = STOPPED_AT.format(module=module, number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "imagesmith: cancelled\n")
