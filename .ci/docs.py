"""Run the commands of Markdown pages, so that no page shows one that fails.

    python .ci/docs.py PAGE.md … [--only N] [--from N]

Every ```bash block runs by itself in the current folder, in the page's order; the ```python blocks of a page run
together, as one program, after them. What a reader runs elsewhere (on a GPU, on images of their own) is marked
```console, and a part of a program ```py: neither is run.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINES_SHOWN = 25


def blocks(page: str, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks of one language, in order."""
    return [content for _, kind, content in _BLOCK.findall(page) if kind == language]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE.md")
    parser.add_argument(
        "--only", type=int, metavar="N", help="only the N-th bash block, counted from 1; its output shown"
    )
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="N", help="from the N-th bash block on")
    options = parser.parse_args()
    for page in options.pages:
        text = page.read_text(encoding="utf-8")
        commands = [("bash", "-euo", "pipefail", "-c", block) for block in blocks(text, "bash")]
        if options.only:
            return subprocess.run(commands[options.only - 1], check=False).returncode
        commands = commands[options.first - 1 :]
        if program := "\n".join(blocks(text, "python")):
            commands.append((sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", program))
        for command in commands:
            started = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            print(f"{page}: {command[-1].strip().splitlines()[0]} … {time.monotonic() - started:.0f} s", flush=True)
            if done.returncode:
                print(command[-1], *done.stdout.splitlines()[-_LINES_SHOWN:], sep="\n")
                print(f"error: a command of {page} ended with status {done.returncode}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
