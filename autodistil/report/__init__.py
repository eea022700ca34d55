"""The report: one self-contained HTML page with the Pareto front, the same as Markdown, and a static picture of it.

`rows` computes what there is to say, `front` draws it, `choose` lets a person choose, `trust` and `devices` are parts
of the page, `style` is its look; `page` puts all of it into `templates`. `comparison` is the page of several runs.
"""
