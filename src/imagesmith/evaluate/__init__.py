"""Measuring by stated protocols: restorers against undamaged pictures, generators against real ones."""

from imagesmith.evaluate.report import Report
from imagesmith.evaluate.restorer import PROTOCOL, evaluate_restorer

__all__ = ["PROTOCOL", "Report", "evaluate_restorer"]
