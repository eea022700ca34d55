"""The report: one self-contained HTML page with the Pareto front, and a static picture of it.

`rows` computes what there is to say; `front` and `curves` draw it; `choose` lets a person choose; `page`, `picture` and
`markdown` put it on disk. `comparison` is the page of several runs.
"""
