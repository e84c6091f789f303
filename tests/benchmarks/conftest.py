"""The programs in benchmarks/ import each other by name, as scripts do; the tests import them likewise."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
