"""The loops that a user could pick instead, on the same jobs: same network, images, batch, epochs and rate.

    python -m benchmarks.peers                                   every job and side that can run here
    python -m benchmarks.peers cnn --peers keras_jax,lightning   some; ours runs beside them
    python -m benchmarks.peers --smoke                           tiny sizes, to see that it runs; figures mean nothing
    python -m benchmarks.peers --table                           only print the table of what has been measured

Each side is a whole command in a process of its own, started afresh in every round: its program under
benchmarks/peers/programs, written as a user of that library would from its documentation, on all cores. A peer has an
environment of its own with pinned versions, made at its first use. Images are written once, before anything is timed:
CIFAR-10 from the prepared tfds set, as arrays and as a folder of PNG files (whichever a library reads), photographs
from --photographs. timm's and torchvision's scripts and flax's example are in no package: --timm, --torchvision and
--flax give the paths of copies.

A round runs all sides of a job one after the other. What has been measured is kept in --json and not measured again, so
that the same command goes on after an interruption; --rounds 2 adds a round to one. The number of trainable parameters
must be equal on all sides.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.peers import environments, table
from benchmarks.peers.jobs import JOBS, Job, prepare, settings
from benchmarks.peers.measure import measure
from benchmarks.process import ROOT, CannotRun
from imgcls_jax.disk.cache import cache_dir

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Peer:
    """A side: its program, and what is different of it."""

    program: str
    environment: dict[str, str]
    script: str | None = None
    """What its flag gives the path of, if it needs one."""
    notes: dict[str, str] | None = None
    """Job → how its work differs there."""
    cannot: dict[str, str] | None = None
    """Job → why it cannot do it."""
    torch_networks: bool = False
    """Whether its networks are those of torch_networks.py, whose lines its user writes as well."""
    prepares: bool = False
    """Whether its program writes the images anew in a form of its own, which is not timed."""


_CENTER_CROP = "of photographs it takes crops of 224 pixels from 256, having no random resized crop"
_CROPS_ONLY = "its script has neither vertical flips nor rotation: random resized crops and horizontal flips instead"
PEERS = {
    "keras_jax": Peer("with_keras.py", {"KERAS_BACKEND": "jax"}, notes={"photographs": _CENTER_CROP}),
    "keras_torch": Peer("with_keras.py", {"KERAS_BACKEND": "torch"}, notes={"photographs": _CENTER_CROP}),
    "lightning": Peer("with_lightning.py", {}, torch_networks=True),
    "fastai": Peer("with_fastai.py", {}, torch_networks=True),
    "timm": Peer(
        "with_timm.py",
        {},
        script="train.py of https://github.com/huggingface/pytorch-image-models",
        notes={"cnn": "train.py has no rotation: flips only"},
        torch_networks=True,
    ),
    "torchvision": Peer(
        "with_torchvision.py",
        {},
        script="references/classification/train.py of https://github.com/pytorch/vision",
        notes=dict.fromkeys(("cnn", "photographs"), _CROPS_ONLY),
        torch_networks=True,
    ),
    "flax": Peer(
        "with_flax.py",
        {},
        script="examples/imagenet/train.py of https://github.com/google/flax",
        notes={"photographs": "its rate falls as a cosine, it decays weights, and it evaluates whole batches only"},
        cannot=dict.fromkeys(("cnn", "resnet18"), "it reads JPEG files, and its image size is 224 pixels"),
        prepares=True,
    ),
}


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    cache: Path
    work: Path
    photographs: Path | None
    scripts: dict[str, Path | None]


def command(
    side: str, name: str, job: Job, images: dict[str, Any], seed: int, options: Options
) -> tuple[list[str], dict[str, str]]:
    """What starts a side, and its environment variables.

    Raises:
      CannotRun: something that it needs is missing.
    """
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "", "PYTHONUNBUFFERED": "1"}
    if side == "ours":
        source = images["folder"] if name == "photographs" else images["npz"]
        flags = {
            "data.source.path": source,
            "batch_size": job.batch,
            "epochs": job.epochs,
            "optim.schedule.peak": job.rate,
            "seed": seed,
        }
        config = f"{PROGRAMS / 'ours.py'}:{name}"
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return (
            [sys.executable, "-m", "imgcls_jax.main", "--config", config, "--workdir", "run"]
            + [f"--config.{flag}={value}" for flag, value in flags.items()],
            env | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)},
        )
    peer = PEERS[side]
    if reason := (peer.cannot or {}).get(name):
        raise CannotRun(reason)
    script = options.scripts.get(side)
    if peer.script and (script is None or not script.is_file()):
        where = f"is not at {script}" if script else "is in no package"
        raise CannotRun(f"{peer.script} {where}: give the path of a copy by --{side}")
    interpreter = environments.python(side, options.cache)
    given = images | ({"script": str(script.resolve())} if script else {})
    env = {key: value for key, value in env.items() if key not in ("PYTHONPATH", "XLA_FLAGS")} | peer.environment
    program = [interpreter, str(PROGRAMS / peer.program)]
    if peer.prepares:
        done = subprocess.run(
            [*program, settings(name, job, given | {"prepare": True}, seed)],
            env=env,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise CannotRun(f"its images cannot be written: {done.stderr.strip().splitlines()[-1]}")
    return [*program, settings(name, job, given, seed)], env


def run_round(side: str, name: str, job: Job, number: int, options: Options) -> dict[str, Any]:
    """Measure a side once, in an empty folder."""
    images = prepare(name, job, options.cache, options.photographs)
    program, env = command(side, name, job, images, number, options)
    folder = options.work / name / side
    shutil.rmtree(folder, ignore_errors=True)
    measured = measure(program, env, folder, job.train, job.batch)
    if measured["parameters"] != job.parameters:
        raise RuntimeError(f"its network has {measured['parameters']} parameters, not the {job.parameters} of the job")
    return measured | {"load": os.getloadavg()[0]}


def lines() -> dict[str, dict[str, int]]:
    """Side → job → lines that its user writes."""
    written = {"ours": ["ours.py"]}
    for name, peer in PEERS.items():
        written[name] = [peer.program, *(["torch_networks.py"] if peer.torch_networks else [])]

    def count(files: list[str], job: str) -> int:
        return sum(table.user_lines((PROGRAMS / file).read_text(encoding="utf-8"), job) for file in files)

    return {side: {job: count(files, job) for job in JOBS} for side, files in written.items()}


def main(arguments: list[str] | None = None, measure_round: Callable[..., dict[str, Any]] = run_round) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)}; none: all")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="A,B", help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each side in all (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument(
        "--images", type=int, metavar="N", help="at most N training images, and a fifth of it to evaluate"
    )
    parser.add_argument(
        "--table", action="store_true", help="print the table of what --json holds, and measure nothing"
    )
    parser.add_argument(
        "--json", type=Path, help="where the figures go (default: runs/peers.json, or peers_smoke.json)"
    )
    parser.add_argument(
        "--cache", type=Path, help="environments and images (default: peers in the cache of imgcls_jax)"
    )
    parser.add_argument("--photographs", type=Path, metavar="PATH", help="Imagenette, a folder or a tar file")
    for name, peer in PEERS.items():
        if peer.script:
            parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=peer.script)
    given = parser.parse_args(arguments)
    peers = [name for name in given.peers.split(",") if name]
    for kind, names, known in (("job", given.jobs, JOBS), ("peer", peers, PEERS)):
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"there is no {kind} {unknown[0]}: choose from {', '.join(known)}")
    file = given.json or Path("runs") / ("peers_smoke.json" if given.smoke else "peers.json")
    document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"results": {}}
    cache = (given.cache or cache_dir() / "peers").resolve()
    scripts = {name: getattr(given, name) for name, peer in PEERS.items() if peer.script}
    options = Options(cache, file.resolve().parent / "peers", given.photographs, scripts)

    jobs = [name for name in JOBS if not given.jobs or name in given.jobs]
    for number in range(0 if given.table else given.rounds):
        for name in jobs:
            job = _sized(JOBS[name], given.smoke, given.images)
            for side in ("ours", *peers):
                result = document["results"].setdefault(name, {}).setdefault(side, {"rounds": []})
                if any(measured["job"] != vars(job) for measured in result["rounds"]):
                    parser.error(f"{file} holds {name} in other sizes: give another file by --json")
                if len(result["rounds"]) > number:
                    continue
                document["environment"] = environment.describe()
                print(f"{name}, {side}, round {number + 1} … ", end="", flush=True)
                try:
                    measured = measure_round(side, name, job, number, options)
                except (CannotRun, RuntimeError) as error:
                    result["cannot"] = str(error).splitlines()[0]
                    print(f"skipped: {error}", flush=True)
                else:
                    result.pop("cannot", None)
                    result["rounds"].append(measured | {"job": vars(job)})
                    if note := (PEERS[side].notes or {}).get(name) if side in PEERS else None:
                        result["note"] = note
                    print(f"{measured['images_per_second']:.4g} images/s, {measured['total']:.0f} s", flush=True)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(document, indent=2, default=str) + "\n")  # an interruption loses nothing
    print(table.markdown(document["results"], lines()))


def _sized(job: Job, smoke: bool, images: int | None) -> Job:
    if smoke:
        return job.shrunk()
    return replace(job, train=min(job.train, images), validation=min(job.validation, images // 5)) if images else job


if __name__ == "__main__":
    main()
