"""Measuring by stated protocols: restorers against undamaged pictures, generators against real ones, classifiers."""

from imagesmith.evaluate.classifier import evaluate_classifier
from imagesmith.evaluate.extractors import Extractor, load_extractor
from imagesmith.evaluate.fakes import fake_statistics
from imagesmith.evaluate.generator import evaluate_generator
from imagesmith.evaluate.report import Report
from imagesmith.evaluate.restorer import PROTOCOL, evaluate_restorer

__all__ = [
    "PROTOCOL",
    "Extractor",
    "Report",
    "evaluate_classifier",
    "evaluate_generator",
    "evaluate_restorer",
    "fake_statistics",
    "load_extractor",
]
