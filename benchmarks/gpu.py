"""All that only a GPU can measure, in one go: `python -m benchmarks.gpu`, made for a GPU that is lent for minutes.

Each part is a process of its own, and its figures are in the JSON file as soon as it ends. The same command goes on
with the parts that are not there yet; the training of ResNet-18 goes on from its last checkpoint. What does not end
within `--minutes` is left for the next call.

    P6, P8     `python -m benchmarks.run`, against torch where it is installed
    P7         likewise with `--airbench FILE`; else runs of ours alone
    remat      what rematerialization of ResNet-50 at 224 costs in time and saves in memory
    estimate   P10's memory traffic over the measured time of a step: the bandwidth that it stands for
    r18        configs/cifar10_r18.py to the end

`--smoke` rehearses the parts at tiny sizes on whatever device there is; its figures mean nothing.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.process import ROOT, CannotRun, Side

Figures = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the command line says, and until when there is time."""

    smoke: bool
    airbench: Path | None
    folder: Path
    """Where intermediate files go."""
    end: float
    """On `time.monotonic`'s clock."""

    def call(self, *command: str) -> None:
        """Run a module of this project to its end.

        Raises:
          CannotRun: it failed.
          subprocess.TimeoutExpired: there was not enough time.
        """
        left = max(self.end - time.monotonic(), 1)
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, timeout=left, check=False)
        if done.returncode:
            raise CannotRun(f"python -m {' '.join(command)} ended with status {done.returncode}; it says above why")


def benchmark(name: str, *more: str) -> Callable[[Options], Figures]:
    """A part that `benchmarks.run` measures."""

    def measure(options: Options) -> Figures:
        file = options.folder / f"{name}.json"
        smoke = ("--smoke", "--rounds", "1") if options.smoke else ()
        options.call("benchmarks.run", name, "--json", str(file), *more, *smoke)
        results = json.loads(file.read_text())["results"]
        if not results:
            raise CannotRun(f"{name} was skipped; it says above why")
        return results

    return measure


def speed_run(options: Options) -> Figures:
    """P7, or runs of ours alone where the peer's program was not given."""
    if options.airbench:
        return benchmark("P7", "--rounds", "50", "--airbench", str(options.airbench.resolve()))(options)
    runs = 1 if options.smoke else 50
    answers = []
    with Side("ours:speed_run", {"smoke": options.smoke}, {}) as ours:
        choice = ours.ask()["choice"]
        while len(answers) < runs and time.monotonic() < options.end:
            answers.append(ours.ask())
    mean = {key: sum(answer[key] for answer in answers) / len(answers) for key in ("seconds", "accuracy")}
    return {"mean": mean, "runs": answers, "choice": choice}


def rematerialization(options: Options) -> Figures:
    """Seconds of a step and peak bytes of memory, without and with `remat`."""
    return {str(remat): step(options, remat=remat) for remat in (False, True)}


def step(options: Options, *, remat: bool) -> Figures:
    """Measure five epochs of ResNet-50's steps; the fastest."""
    tiny = {"model": "resnet18", "size": 8, "classes": 10, "batch": 2, "steps": 1}
    full = {"model": "resnet50", "size": 224, "classes": 1000, "batch": 256, "steps": 64}
    settings = (tiny if options.smoke else full) | {"precision": "bf16", "remat": remat}
    with Side("ours:steps", settings, {}) as ours:
        ours.ask()
        return min((ours.ask() for _ in range(1 if options.smoke else 5)), key=lambda answer: answer["seconds"])


def estimate(options: Options) -> Figures:
    """The bytes that the compiled step moves, by P10's count, over its measured time."""
    model, size, classes, batch = ("cnn", 8, 10, 16) if options.smoke else ("resnet50", 224, 1000, 256)
    settings = {"side": "ours", "on": "h100x1", "model": model, "size": size, "classes": classes, "batch": batch}
    with Side("compiled:steps", settings, {}) as compiled:
        traffic = compiled.ask()["traffic"]
    seconds = step(options, remat=False)["seconds"]
    return {"traffic": traffic, "seconds": seconds, "bytes_per_second": traffic / seconds}


def resnet18(options: Options) -> Figures:
    """Train configs/cifar10_r18.py; it goes on from the last checkpoint."""
    name = "digits_cnn" if options.smoke else "cifar10_r18"
    workdir = options.folder / name
    tiny = ("--config.epochs=1", "--config.batch_size=512") if options.smoke else ()
    options.call("imgcls_jax", "train", "--config", f"configs/{name}.py", "--workdir", str(workdir), *tiny)
    result = json.loads((workdir / "result.json").read_text())
    return {"test": result["test"], "goal": 0.95}


PARTS: dict[str, Callable[[Options], Figures]] = {
    "P6": benchmark("P6"),
    "remat": rematerialization,
    "estimate": estimate,
    "P8": benchmark("P8"),
    "P7": speed_run,
    "r18": resnet18,
}
"""In the order in which they run: what is short first."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--minutes", type=float, default=25, help="after which no more is begun (default: 25)")
    parser.add_argument("--json", type=Path, default=Path("runs/gpu/figures.json"), help="where the figures are kept")
    parser.add_argument("--airbench", type=Path, metavar="FILE", help="P7: a copy of airbench94_muon.py")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on any device")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]}: choose from {', '.join(PARTS)}")
    if environment.gpu() is None and not given.smoke:
        raise SystemExit("there is no NVIDIA GPU here: --smoke rehearses on other devices")

    file = given.json.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    options = Options(given.smoke, given.airbench, file.parent, time.monotonic() + 60 * given.minutes)
    document: Figures = json.loads(file.read_text()) if file.exists() else {"parts": {}}
    for name in given.parts or PARTS:
        if name in document["parts"]:
            print(f"{name}: done before", flush=True)
            continue
        if time.monotonic() >= options.end:
            print(f"{name}: no time left; the same command goes on", flush=True)
            continue
        print(f"{name} …", flush=True)
        start = time.monotonic()
        try:
            figures = PARTS[name](options)
        except CannotRun as error:
            print(f"{name} skipped: {error}", flush=True)
            continue
        except subprocess.TimeoutExpired:
            print(f"{name}: out of time; the same command goes on", flush=True)
            continue
        taken = time.monotonic() - start
        document["parts"][name] = {"figures": figures, "seconds": taken, "environment": environment.describe()}
        file.write_text(json.dumps(document, indent=2, default=str) + "\n")
        print(f"{name}: {taken:.0f} s", flush=True)
    missing = [name for name in PARTS if name not in document["parts"]]
    print(f"figures: {given.json}" + (f"; still missing: {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
