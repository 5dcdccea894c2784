"""Side-by-side benchmarks against PyTorch: one ratio each, above 1 where imgcls_jax is ahead.

    python -m benchmarks.run                 all that can run on this machine
    python -m benchmarks.run P1 P3a          some
    python -m benchmarks.run --smoke         each with tiny sizes, to see that it runs; its figures mean nothing

Method: either side runs in a process of its own (benchmarks/process.py), so that thread pools, allocators and caches
stay apart. Both import, compile and warm up first; then they take turns, torch, ours, torch, ours …, each asleep while
the other works. A round's ratio is of its two neighbouring measurements, and a benchmark's figure the median of its
rounds. Start-up (P5) and memory (P8) take fresh processes in every round. A round of the speed run (P7) is a whole run
of either side: first all of the peer's, whose program cannot be made to wait, then all of ours. Before its first round
the peer tries eager, channels_last and compiled, and keeps the fastest (P5 compiles, as that is what it is about); on a
CPU ours tries XLA's convolutions and oneDNN's (P5 and P8 keep XLA's, the default).

P9 and P10 compare with a plain flax step in place of torch, for hardware that is not here (benchmarks/compiled.py):
their figures are the compilers', so one round is enough and every run gives the same.

P1–P4 run on the CPU, also on a machine with a GPU; P5 and P8 on whatever there is; P6 and P7 need a GPU, P9 and P10 the
compilers of TPUs and GPUs. A benchmark
that cannot run says why and is no error. Everything measured goes into a JSON file with the environment.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import airbench, environment, photographs
from benchmarks.process import Answer, CannotRun, Side
from benchmarks.timing import summary

ON_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
# Both processes keep their memory on the GPU while the other measures.
SHARED_GPU = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
# Bytes that one image of a ResNet-50 training step at 224 moves at least, in bf16 with unfused BatchNorm.
BYTES_AN_IMAGE = 342e6
# Steps that are one measurement.
CPU_STEPS, GPU_STEPS = 2, 64


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    rounds: int
    smoke: bool
    variant: str
    """Of the peer: "best", or a name of `benchmarks.peer.VARIANTS`."""
    folder: Path | None
    airbench: Path | None = None
    """The user's copy of airbench94_muon.py."""


@dataclass
class Result:
    """One line of figures."""

    name: str
    ratios: list[float] = field(default_factory=list)
    """Of each round; above 1 where we are ahead."""
    measurements: dict[str, list[Answer]] = field(default_factory=lambda: {"torch": [], "ours": []})
    choices: dict[str, str] = field(default_factory=dict)
    """How either side runs: device, variant, flags."""
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Benchmark:
    """A row of the table in docs/performance.md."""

    title: str
    measure: Callable[[Options], Iterator[Result]]
    needs_gpu: bool = False
    peer: tuple[str, ...] = ("torch", "torchvision")
    """Packages of the other side."""


def alternate(program: str, settings: dict[str, Any], options: Options, *extra: dict[str, str]) -> Result:
    """Measurements of both sides in turn, without ratios yet; says at once what either side chose."""
    result = Result("")
    env = {name: value for part in extra for name, value in part.items()}
    settings = {"variant": "channels_last" if options.smoke else options.variant} | settings
    with Side(f"peer:{program}", settings, env) as torch, Side(f"ours:{program}", settings, env) as ours:
        prepared = {"torch": torch.ask(), "ours": ours.ask()}
        counts = {side: answer.get("parameters") for side, answer in prepared.items()}
        if counts["torch"] != counts["ours"]:
            raise RuntimeError(f"the two sides train different networks: {counts}")
        result.choices = {side: answer["choice"] for side, answer in prepared.items()}
        print(*(f"  {side}: {choice}" for side, choice in result.choices.items()), sep="\n", flush=True)
        for i in range(options.rounds):
            result.measurements["torch"].append(torch.ask())
            result.measurements["ours"].append(ours.ask())
            print(f"  round {i + 1} of {options.rounds}", flush=True)
    return result


def pairs(result: Result, key: str) -> list[tuple[float, float]]:
    """(torch, ours) of each round."""
    sides = (result.measurements[side] for side in ("torch", "ours"))
    return [(theirs[key], mine[key]) for theirs, mine in zip(*sides, strict=True)]


def medians(result: Result, key: str, unit: str, scale: float = 1) -> str:
    """A remark with both sides' medians."""
    theirs, mine = (statistics.median(column) * scale for column in zip(*pairs(result, key), strict=True))
    return f"torch {theirs:.4g} {unit}, ours {mine:.4g} {unit}"


def step_settings(model: str, size: int, batch: int, options: Options, *, gpu: bool = False) -> dict[str, Any]:
    """Keywords of the programs `steps`."""
    if options.smoke:
        size, batch = 32, 2
    return {
        "model": model,
        "size": size,
        "classes": 10 if model == "resnet18" else 1000,
        "batch": batch,
        "steps": 1 if options.smoke else GPU_STEPS if gpu else CPU_STEPS,
        "precision": "bf16" if gpu else "fp32",
    }


def cpu_steps(name: str, model: str, size: int, batch: int) -> Callable[[Options], Iterator[Result]]:
    """P1 and P2."""

    def measure(options: Options) -> Iterator[Result]:
        result = alternate("steps", step_settings(model, size, batch, options), options, ON_CPU)
        result.name = name
        result.ratios = [theirs / mine for theirs, mine in pairs(result, "seconds")]
        result.remarks.append(medians(result, "seconds", "ms a step", 1e3))
        yield result

    return measure


def cifar10_epochs(name: str, model: str) -> Callable[[Options], Iterator[Result]]:
    """P3a and P3b."""

    def measure(options: Options) -> Iterator[Result]:
        settings = {"model": model, "batch": 128, "images": "1000" if options.smoke else "100%"}
        result = alternate("epochs", settings, options, ON_CPU)
        result.name = name
        result.ratios = [theirs / mine for theirs, mine in pairs(result, "seconds")]
        result.remarks.append(medians(result, "seconds", "s an epoch"))
        host = statistics.median(answer["host_seconds"] for answer in result.measurements["ours"])
        result.remarks.append(f"our host thread works {host:.3g} s of it")
        yield result

    return measure


def folder(options: Options) -> Iterator[Result]:
    """P4a and P4b."""
    both, what = read_folder(options, count=1024)
    for name, key in (("P4a", "first"), ("P4b", "second")):
        yield images_a_second(Result(name, measurements=both.measurements, choices=both.choices, remarks=[what]), key)


def large_photographs(options: Options) -> Iterator[Result]:
    """P4c."""
    both, what = read_folder(options, count=128, tiles=4, jpeg_decoding="reduced")
    both.name, both.remarks = "P4c", [what]
    yield images_a_second(both, "first")


def read_folder(options: Options, *, count: int, tiles: int = 1, jpeg_decoding: str = "full") -> tuple[Result, str]:
    """Both sides' epochs over the folder that was given, or over `count` images made for it; and what it holds."""
    with contextlib.ExitStack() as stack:
        if options.folder:
            path, what = options.folder, str(options.folder)
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            what = photographs.write(path, *((32, 1) if options.smoke else (count, tiles)))
        settings = {"path": str(path.resolve()), "batch": 16 if options.smoke else 64, "jpeg_decoding": jpeg_decoding}
        return alternate("folder", settings, options, ON_CPU), what


def images_a_second(result: Result, key: str) -> Result:
    """With the ratios of that epoch."""
    result.ratios = [mine / theirs for theirs, mine in pairs(result, key)]
    result.remarks.append(medians(result, key, f"images/s in the {key} epoch"))
    return result


def start_up(options: Options) -> Iterator[Result]:
    """P5a and P5b: a cold start fills an empty cache, a warm one follows."""
    cold, warm = Result("P5a"), Result("P5b")
    # Either side may keep the byte code of its modules, as it does unless somebody forbids it.
    byte_code = {"PYTHONDONTWRITEBYTECODE": ""}
    settings = step_settings("resnet18", 32, 64, options) | {"steps": 1, "variant": "compiled", "kernels": "xla"}
    for _ in range(options.rounds):
        for side, program in (("torch", "peer:steps"), ("ours", "ours:steps")):
            with tempfile.TemporaryDirectory() as cache:
                env = {"JAX_COMPILATION_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache} | SHARED_GPU | byte_code
                for result in (cold, warm):
                    with Side(program, settings, env) as process:
                        result.measurements[side].append(process.ask())
    for result in (cold, warm):
        result.ratios = [theirs / mine for theirs, mine in pairs(result, "since_start")]
        result.remarks.append(medians(result, "since_start", "s to the end of the first step"))
        yield result


def resnet50_on_gpu(options: Options) -> Iterator[Result]:
    """P6."""
    result = alternate("steps", step_settings("resnet50", 224, 256, options, gpu=True), options, SHARED_GPU)
    result.name = "P6"
    result.ratios = [theirs / mine for theirs, mine in pairs(result, "seconds")]
    batch = 2 if options.smoke else 256
    theirs, mine = (batch / statistics.median(column) for column in zip(*pairs(result, "seconds"), strict=True))
    with Side("ours:bandwidth", {}, SHARED_GPU) as side:
        limit = side.ask()["bytes_per_second"] / BYTES_AN_IMAGE
    result.remarks.append(f"torch {theirs:.0f} images/s, ours {mine:.0f} images/s")
    result.remarks.append(
        f"share of the bandwidth limit ({limit:.0f} images/s): {theirs / limit:.2f}, {mine / limit:.2f}"
    )
    yield result


def speed_run(options: Options, *, on_cpu: bool = False) -> Iterator[Result]:
    """P7 and, on the CPU, P7c. Seconds are of whitening, training and the test by views; compilation is apart."""
    result = Result("P7c" if on_cpu else "P7")
    result.measurements["torch"] = list(airbench.runs(options.airbench, options.rounds, on_cpu=on_cpu))
    settings = {"smoke": options.smoke, "variant": "cpu" if on_cpu else ""}
    with Side("ours:speed_run", settings, ON_CPU if on_cpu else {}) as ours:
        result.choices = {"torch": str(options.airbench), "ours": ours.ask()["choice"]}
        result.measurements["ours"] = [ours.ask() for _ in range(options.rounds)]
    result.ratios = [theirs / mine for theirs, mine in pairs(result, "seconds")]
    result.remarks.append(medians(result, "seconds", "s a run"))
    theirs, mine = (statistics.mean(column) for column in zip(*pairs(result, "accuracy"), strict=True))
    result.remarks.append(f"mean accuracy of {options.rounds} runs: torch {theirs:.2%}, ours {mine:.2%}")
    ahead = statistics.median(answer["ahead_seconds"] for answer in result.measurements["ours"])
    result.remarks.append(f"not counted: {ahead:.3g} s a run, in which ours draws initial values, uploads and compiles")
    yield result


def memory(options: Options) -> Iterator[Result]:
    """P8: P2's steps, in fresh processes. Host memory decides the ratio; P8d is the device's, on a GPU.

    Without a GPU the peer is not compiled: its compiler would cost it memory and gain none.
    """
    gpu = environment.gpu() is not None
    variant = "compiled" if gpu else "channels_last"
    settings = step_settings("resnet50", 224, 256 if gpu else 8, options, gpu=gpu)
    settings |= {"variant": variant, "kernels": "xla"}
    host = Result("P8", choices={"torch": variant})
    for _ in range(options.rounds):
        for side, program in (("torch", "peer:steps"), ("ours", "ours:steps")):
            with Side(program, settings, {}) as process:
                process.ask()
                host.measurements[side].append(process.ask())
    device = Result("P8d", measurements=host.measurements)
    for result, key in ((host, "host_bytes"), (device, "device_bytes")) if gpu else ((host, "host_bytes"),):
        result.ratios = [theirs / mine for theirs, mine in pairs(result, key)]
        result.remarks.append(medians(result, key, "GiB", 2**-30))
        yield result


def compiled(key: str, unit: str, cases: Sequence[tuple[str, dict[str, Any]]]) -> Callable[[Options], Iterator[Result]]:
    """P9 and P10: a figure of the plain step's program over that of ours, for each (name, settings)."""

    def measure(options: Options) -> Iterator[Result]:
        for name, settings in cases:
            if options.smoke:
                if settings["model"] != "cnn":
                    continue
                settings = settings | {"size": 8, "batch": 16}
            result = Result(name, measurements={"plain": [], "ours": []})
            for side, answers in result.measurements.items():
                with Side("compiled:steps", settings | {"side": side}, {}) as process:
                    answers.append(process.ask())
            plain, ours = (answers[0] for answers in result.measurements.values())
            if plain["parameters"] != ours["parameters"]:
                raise RuntimeError(f"the two sides train different networks: {result.measurements}")
            result.ratios = [plain[key] / ours[key]]
            result.remarks.append(
                f"{settings['model']}, {settings['size']} px, batch {settings['batch']} on {settings['on']}: "
                f"plain {plain[key] / 1e6:.4g}, ours {ours[key] / 1e6:.4g} {unit}; temporary memory "
                f"{plain['temporaries'] / 2**20:.0f} and {ours['temporaries'] / 2**20:.0f} MiB"
            )
            yield result

    return measure


RESNET50 = {"model": "resnet50", "size": 224, "classes": 1000}
RESNET18 = {"model": "resnet18", "size": 32, "classes": 10}
CNN = {"model": "cnn", "size": 32, "classes": 10}
CHIPS, GPU = {"on": "v5e:2x2", "batch": 512}, {"on": "h100x1", "batch": 256}

BENCHMARKS = {
    "P1": Benchmark("ResNet-18, 32×32, batch 64, f32, whole step, CPU", cpu_steps("P1", "resnet18", 32, 64)),
    "P2": Benchmark("ResNet-50, 224×224, batch 8, f32, whole step, CPU", cpu_steps("P2", "resnet50", 224, 8)),
    "P3a": Benchmark("CIFAR-10 epoch with evaluation, two convolutions, CPU", cifar10_epochs("P3a", "lenet")),
    "P3b": Benchmark("CIFAR-10 epoch with evaluation, three convolutions, CPU", cifar10_epochs("P3b", "cnn")),
    "P4": Benchmark("JPEG folder to augmented 224×224 batches, first and second epoch, CPU", folder),
    "P4c": Benchmark("the same of large JPEGs, decoded at a reduced size by us, first epoch, CPU", large_photographs),
    "P5": Benchmark("process start to the end of the first step, ResNet-18, cold and warm cache", start_up),
    "P6": Benchmark("ResNet-50, 224×224, batch 256, bf16, whole step, GPU", resnet50_on_gpu, needs_gpu=True),
    "P7": Benchmark("CIFAR-10 to 94 %, GPU", speed_run, needs_gpu=True),
    "P7c": Benchmark("CIFAR-10 to 94 %, CPU", functools.partial(speed_run, on_cpu=True)),
    "P8": Benchmark("peak memory of ResNet-50 training", memory),
    "P9": Benchmark(
        "a bf16 step compiled for 4 chips of TPU v5e, cycles per chip: ResNet-50, ResNet-18 (b), CNN (c)",
        compiled(
            "cycles", "million cycles", [("P9", RESNET50 | CHIPS), ("P9b", RESNET18 | CHIPS), ("P9c", CNN | CHIPS)]
        ),
        peer=(),
    ),
    "P10": Benchmark(
        "a bf16 step compiled for an H100, its memory traffic: ResNet-50, ResNet-18 (b), CNN (c)",
        compiled("traffic", "MB", [("P10", RESNET50 | GPU), ("P10b", RESNET18 | GPU), ("P10c", CNN | GPU)]),
        peer=(),
    ),
}
"""In the order in which they run."""


def why_not(benchmark: Benchmark, *, smoke: bool = False) -> str | None:
    """Why the benchmark cannot run here, if so."""
    for package in benchmark.peer:
        if importlib.util.find_spec(package) is None:
            return f"the peer {package} is not installed; install it by: pip install -e '.[parity]'"
    if benchmark.needs_gpu and not smoke and environment.gpu() is None:
        return "it needs an NVIDIA GPU, and there is none here"
    return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*BENCHMARKS, "P3"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; none: all")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default: 5)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--variant", default="best", help="fix the peer's variant: eager, channels_last, compiled")
    parser.add_argument("--folder", type=Path, help="P4: read PATH/CLASS/*.jpg in place of made photographs")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks.json"), help="where the figures go")
    parser.add_argument("--airbench", type=Path, metavar="FILE", help="P7 and P7c: a copy of airbench94_muon.py")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(names)):
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(names)}")
    wanted = {*given.names, *(["P3a", "P3b"] if "P3" in given.names else [])} or BENCHMARKS
    chosen = [name for name in BENCHMARKS if name in wanted]
    options = Options(given.rounds, given.smoke, given.variant, given.folder, given.airbench)

    given.json.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"environment": environment.describe(), "arguments": vars(given), "results": {}}
    for name in chosen:
        benchmark = BENCHMARKS[name]
        print(f"{name}: {benchmark.title}", flush=True)
        try:
            if reason := why_not(benchmark, smoke=options.smoke):
                raise CannotRun(reason)
            for result in benchmark.measure(options):
                load = f"{os.getloadavg()[0]:.1f}"
                document["results"][result.name] = vars(result) | {"load": load}
                print(*(f"  {remark}" for remark in result.remarks), f"  load {load}", sep="\n")
                print(summary(result.name, result.ratios), flush=True)
        except CannotRun as error:
            print(f"{name} skipped: {error}", flush=True)
        given.json.write_text(json.dumps(document, indent=2, default=str) + "\n")  # an interruption loses nothing
    print(f"figures and environment: {given.json}")


if __name__ == "__main__":
    main()
