"""Run the commands of Markdown pages, so that no page shows one that fails.

    python .ci/docs.py PAGE.md … [--only N] [--from N] [--jobs N]

Every ```bash block runs by itself in the current folder, in the page's order; the ```python blocks of a page run
together, as one program, after them. What a reader runs elsewhere (on a GPU, on images of their own) is marked
```console, and a part of a program ```py: neither is run. With --jobs, that many pages run at once, each in a copy of
the folder: a page needs nothing that another one has made. A training that several pages begin with is then done once,
and its folder copied.
"""

import argparse
import functools
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_TRAINING = re.compile(r"^(imgcls train .*--workdir runs/(\w+))$", re.MULTILINE)
_LINES_SHOWN = 25


def blocks(page: str, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks of one language, in order."""
    return [content for _, kind, content in _BLOCK.findall(page) if kind == language]


def run(page: Path, folder: Path | None, first: int = 1, made: Mapping[str, Path] | None = None) -> bool:
    """Run a page's commands in a folder (None: the current one), print their times, and say if all ended well.

    The lines of `made` are replaced by copies of the folders that they have made.
    """
    text = page.read_text(encoding="utf-8")
    for line, workdir in (made or {}).items():
        text = text.replace(f"{line}\n", f"mkdir -p runs && cp -r {workdir} runs\n")
    commands = [("bash", "-euo", "pipefail", "-c", block) for block in blocks(text, "bash")][first - 1 :]
    if program := "\n".join(blocks(text, "python")):
        commands.append((sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", program))
    for command in commands:
        started = time.monotonic()
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=folder
        )
        print(f"{page}: {command[-1].strip().splitlines()[0]} … {time.monotonic() - started:.0f} s", flush=True)
        if done.returncode:
            error = f"error: a command of {page} ended with status {done.returncode}"
            print(command[-1], *done.stdout.splitlines()[-_LINES_SHOWN:], error, sep="\n", flush=True)
            return False
    return True


def train_once(pages: list[Path], folder: Path) -> dict[str, Path]:
    """Do each training that more than one page has, in a work directory runs/NAME, below `folder`; return where."""
    lines = (set(re.findall(_TRAINING, page.read_text(encoding="utf-8"))) for page in pages)
    counts = Counter(itertools.chain.from_iterable(lines))
    made = {}
    for line, name in (found for found, count in counts.items() if count > 1):
        made[line] = folder / name
        subprocess.run(line.replace(f"runs/{name}", str(made[line])).split(), stdout=subprocess.DEVNULL, check=True)
    return made


def run_in_a_copy(page: Path, made: Mapping[str, Path]) -> bool:
    """Run a page's commands in a copy of the current folder, which is then deleted."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parent:
        copy = Path(parent, "copy")
        shutil.copytree(".", copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__"), symlinks=True)
        return run(page, copy, made=made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE.md")
    parser.add_argument(
        "--only", type=int, metavar="N", help="only the N-th bash block, counted from 1; its output shown"
    )
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="N", help="from the N-th bash block on")
    parser.add_argument("--jobs", type=int, metavar="N", help="N pages at once, each in a copy of this folder")
    options = parser.parse_args()
    if options.only:
        block = blocks(options.pages[0].read_text(encoding="utf-8"), "bash")[options.only - 1]
        return subprocess.run(("bash", "-euo", "pipefail", "-c", block), check=False).returncode
    if options.jobs:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
            in_a_copy = functools.partial(run_in_a_copy, made=train_once(options.pages, Path(folder)))
            longest_first = sorted(options.pages, key=lambda page: -page.read_text(encoding="utf-8").count("```bash"))
            return 0 if all(list(pool.map(in_a_copy, longest_first))) else 1
    return 0 if all(run(page, None, options.first) for page in options.pages) else 1


if __name__ == "__main__":
    sys.exit(main())
