"""Output to readers that stop reading, and to consoles that are not UTF-8."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from imgcls_jax.cli import flags
from imgcls_jax.display.console import Console

def main():
    for _ in range({lines}):
        Console().line({text!a})

flags.run(main)
"""


def run(text: str, *, lines: int = 1, encoding: str = "utf-8", shell: str = "cat") -> tuple[int, bytes, bytes]:
    """Status of the program, what came out, and what was said on stderr."""
    program = PROGRAM.format(lines=lines, text=text)
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" | {shell}; echo "${{PIPESTATUS[0]}}" >&2', sys.executable, program],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=True,
    )
    *said, status = done.stderr.splitlines()
    return int(status), done.stdout, b"\n".join(said)


def test_a_reader_that_has_seen_enough():
    assert run("line", lines=20_000, shell="head -n 1") == (141, b"line\n", b"")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "8 × 8 … \u732b caf".encode() + b"\xe9\n"),
        ("ascii", b"8 x 8 ... ? caf?\n"),
        ("cp1252", b"8 \xd7 8 \x85 ? caf?\n"),
    ],
)
def test_any_text_on_any_console(encoding, shown):
    """Names of files that are not UTF-8 come out as their bytes where the console is UTF-8."""
    assert run("8 × 8 … \u732b caf" + os.fsdecode(b"\xe9"), encoding=encoding) == (0, shown, b"")
