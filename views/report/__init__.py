"""The report page of a run: one self-contained HTML file."""

from views.report.page import ReportPage, build_report, collect_page, write_page

__all__ = ["ReportPage", "build_report", "collect_page", "write_page"]
