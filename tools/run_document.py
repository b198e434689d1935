"""Runs the Python blocks of a Markdown page and checks the `text` blocks that follow them.

    python tools/run_document.py PAGE            exits 1 where it shows what is not printed
    python tools/run_document.py PAGE --update   writes into it what is printed

All blocks of a page share one namespace, like a session typed by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<shown>.*?)```\n)?", re.DOTALL)


def run_page(text: str, name: str) -> str:
    """The page with every `text` block replaced by what its code really printed."""
    namespace: dict[str, Any] = {"__name__": "__document__"}

    def run(match: re.Match[str]) -> str:
        printed = io.StringIO()
        line = text[: match.start("code")].count("\n")
        code = compile("\n" * line + match["code"], name, "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)  # noqa: S102 (our own pages)
        shown = printed.getvalue()
        block = f"```python\n{match['code']}```\n"
        return f"{block}\n```text\n{shown}```\n" if shown else block

    return BLOCK.sub(run, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    shown = options.page.read_text()
    actual = run_page(shown, options.page.name)
    if options.update:
        options.page.write_text(actual)
    elif actual != shown:
        print(f"{options.page} is out of date: run {Path(__file__).name} {options.page} --update")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
