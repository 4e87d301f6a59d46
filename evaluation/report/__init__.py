"""The benchmark report: one self-contained page, and the same numbers as JSON."""

from evaluation.report.inputs import Context, Curve
from evaluation.report.page import report, summary

__all__ = ["Context", "Curve", "report", "summary"]
