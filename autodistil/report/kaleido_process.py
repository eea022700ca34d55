"""Draws one plotly figure by kaleido, in a process of its own: JSON on standard input, the picture on standard output.

A process can be ended whatever Chrome does, and Chrome ends with the pipe to it. Started by path, see `picture`; not
imported. Standard output is only the picture: whatever else writes there is sent to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


def main() -> None:
    """Read `{"figure", "options", "chrome"}`, write the picture."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        out.write(asyncio.run(_draw(**json.load(sys.stdin))))


async def _draw(figure: dict[str, Any], options: dict[str, Any], chrome: str) -> bytes:
    import kaleido  # type: ignore[import-untyped,import-not-found,unused-ignore]

    # Without this the page loads MathJax from a CDN, and waits for it.
    async with kaleido.Kaleido(mathjax=False, path=chrome) as browser:
        picture: bytes = await browser.calc_fig(figure, options)
    return picture


if __name__ == "__main__":
    main()
