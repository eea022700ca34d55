"""The report: one self-contained HTML page with the Pareto front, and a static picture of it.

`rows` computes what there is to say; `front` and `curves` draw it; `page` and `picture` put it on disk.
"""

from autodistil.report.data import BudgetLine, ReportData
from autodistil.report.page import write_html
from autodistil.report.picture import find_chrome, write_png

__all__ = ["BudgetLine", "ReportData", "find_chrome", "write_html", "write_png"]
