"""One side of a comparison in a process of its own, which measures when it is asked to.

A side is a generator function of `benchmarks.ours` or `benchmarks.peer`. It prepares and warms up until its first
`yield`; each further one is a measurement. What it yields is a dict of plain values. Between questions its process
sleeps, so that two sides can take turns without sharing thread pools, allocators or caches.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

Answer = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]


class CannotRun(Exception):
    """A benchmark cannot run here; the message says why and what to do."""


class Side:
    """A running side; a context manager that ends its process."""

    def __init__(self, program: str, settings: dict[str, Any], environment: dict[str, str]):
        """Start `program`, "ours:steps" for instance, with `settings` as keywords and additions to the environment."""
        self._program = program
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.process", program, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )

    def ask(self) -> Answer:
        """The next measurement, with "since_start": seconds from the process's start to the answer's arrival.

        Raises:
          CannotRun: the side says that something is missing.
          RuntimeError: its process died; the reason is on stderr.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._program} died with status {self._process.wait()}")
        answer = json.loads(line) | {"since_start": time.perf_counter() - self._started}
        if "missing" in answer:
            raise CannotRun(answer["missing"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    program, settings = sys.argv[1:]
    module, function = program.split(":")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    measurements = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**json.loads(settings))
    for _ in sys.stdin:
        try:
            answer = next(measurements)
        except CannotRun as error:
            answer = {"missing": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Not `main()`: what runs here is named __main__, and its CannotRun is another class than the one that sides raise.
    importlib.import_module("benchmarks.process").main()
