"""The report page of a run: one self-contained HTML file."""

from views.report.page import build_report

__all__ = ["build_report"]
