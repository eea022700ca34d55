"""The report: one self-contained HTML page with the Pareto front, and a static picture of it.

`rows` computes what there is to say; `front` and `curves` draw it; `choose` lets a person choose; `page`, `picture` and
`markdown` put it on disk. `comparison` is the page of several runs.
"""

from autodistil.report.data import BudgetLine, ReportData
from autodistil.report.markdown import write_markdown
from autodistil.report.page import write_html
from autodistil.report.picture import find_chrome, write_picture, write_png

__all__ = ["BudgetLine", "ReportData", "find_chrome", "write_html", "write_markdown", "write_picture", "write_png"]
