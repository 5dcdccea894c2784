"""The files of launch/ for schedulers that do not run here, against their published schemas and our own program.

The schemas of JobSet, Kubeflow Trainer and Kubernetes are those of the package kubeflow-trainer-api (Apache-2.0), which
their projects generate from the sources of the controllers. SkyPilot's was applied once, by hand, to launch/sky.yaml:
its package brings too much for a test.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from imgcls_jax.cli import train
from imgcls_jax.parallel import cluster
from imgcls_jax.training import interruption

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def documents(name):
    return {document["kind"]: document for document in yaml.safe_load_all((LAUNCH / name).read_text())}


def jobset(name):
    """(Name, spec of the JobSet) of a file; for a TrainJob those that Trainer makes of it and its runtime."""
    found = documents(name)
    if name != "trainjob.yaml":
        return found["JobSet"]["metadata"]["name"], found["JobSet"]["spec"]
    job, runtime = found["TrainJob"], found["TrainingRuntime"]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert runtime["spec"]["mlPolicy"]["jax"] == {}
    trainer, spec = job["spec"]["trainer"], runtime["spec"]["template"]["spec"]
    (replicated,) = spec["replicatedJobs"]
    labels = replicated["template"]["metadata"]["labels"]
    assert (replicated["name"], labels["trainer.kubeflow.org/trainjob-ancestor-step"]) == ("node", "trainer")
    task = replicated["template"]["spec"]
    task |= {"parallelism": trainer["numNodes"], "completions": trainer["numNodes"]}
    (container,) = task["template"]["spec"]["containers"]
    container |= {"args": trainer["args"], "resources": trainer["resourcesPerNode"]}
    # pkg/runtime/framework/plugins/jax of kubeflow/trainer
    container["env"] += [
        {"name": "JAX_NUM_PROCESSES", "value": str(trainer["numNodes"])},
        {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
        {
            "name": "JAX_COORDINATOR_ADDRESS",
            "value": f"{job['metadata']['name']}-node-0-0.{job['metadata']['name']}:29500",
        },
    ]
    return job["metadata"]["name"], spec


def environment(container, index):
    """The variables of the pod of this number, as the kubelet sets them."""
    downward = {INDEX: str(index)}
    return {
        entry["name"]: entry["value"] if "value" in entry else downward[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in container["env"]
    }


def parse(arguments):
    """The flags of `imgcls train`, and the config that they name, which must be one of ours."""
    command, *rest = arguments
    assert command == "train"
    options = train._parser().parse_args(rest)
    assert (ROOT / options.config.partition(":")[0]).is_file()
    return options


kubernetes = pytest.mark.parametrize("name", ["jobset-gpu.yaml", "jobset-tpu.yaml", "trainjob.yaml"])


@kubernetes
def test_kubernetes_files_are_of_the_published_schema(name):
    models = pytest.importorskip("kubeflow_trainer_api.models")
    classes = {
        "JobSet": models.JobsetV1alpha2JobSet,
        "TrainJob": models.TrainerV1alpha1TrainJob,
        "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
    }
    for kind, document in documents(name).items():
        read = classes[kind].from_dict(document)
        # What the schema does not know is left out of what is read.
        assert json.loads(read.to_json()) == document, kind


@kubernetes
def test_every_pod_finds_its_place(name):
    own, spec = jobset(name)
    (replicated,) = spec["replicatedJobs"]
    task = replicated["template"]["spec"]
    assert task["completionMode"] == "Indexed"
    assert task["parallelism"] == task["completions"] > 1
    (container,) = task["template"]["spec"]["containers"]
    places = [cluster.find("env", environ=environment(container, i)) for i in range(task["completions"])]
    host = f"{own}-{replicated['name']}-0-0.{own}"  # the name that JobSet gives the first pod in DNS
    assert [place.index for place in places] == list(range(task["completions"]))
    assert {(place.host, place.count) for place in places} == {(host, task["completions"])}
    assert parse(container["args"]).cluster == "env"


@kubernetes
def test_a_run_that_saved_goes_on_and_a_mistake_ends_it(name):
    _, spec = jobset(name)
    (replicated,) = spec["replicatedJobs"]
    task = replicated["template"]["spec"]
    pod = task["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # what podFailurePolicy needs
    assert task["backoffLimit"] == 0
    rules = task["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} == {"FailJob"}
    codes = [rule["onExitCodes"] for rule in rules if "onExitCodes" in rule]
    assert {code["containerName"] for code in codes} == {pod["containers"][0]["name"]}

    def action(status):
        """What JobSet does after this exit status of a pod (message: pkg/controller/job of Kubernetes)."""
        index = next((i for i, code in enumerate(codes) if status in code["values"]), None)
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if index is not None:
            reason = "PodFailurePolicy"
            message = (
                f"Container x for pod a/b-2-75 failed with exit code {status} matching FailJob rule at index {index}"
            )
        for rule in spec["failurePolicy"]["rules"]:
            if reason in rule["onJobFailureReasons"]:
                patterns = rule.get("onJobFailureMessagePatterns", [""])
                if any(re.search(pattern, message) for pattern in patterns):
                    return rule["action"]
        return "RestartJobSet"

    assert action(interruption.RESTART) == "RestartJobSetAndIgnoreMaxRestarts"
    assert action(2) == "FailJobSet"
    assert action(1) == action(137) == "RestartJobSet"
    assert spec["failurePolicy"]["maxRestarts"] > 0
    assert spec["failurePolicy"]["restartStrategy"] == "BlockingRecreate"


@kubernetes
def test_runs_data_and_caches_are_on_volumes(name):
    _, spec = jobset(name)
    pod = spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert str(parse(container["args"]).workdir).startswith("/shared/")
    assert "persistentVolumeClaim" in mounts["/shared"]
    variables = environment(container, 0)
    assert variables["IMGCLS_CACHE"] in mounts
    assert variables["TFDS_DATA_DIR"].startswith("/shared/")


def image():
    return (LAUNCH / "Dockerfile").read_text()


def test_image_holds_what_the_package_is_built_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", image(), re.MULTILINE) for name in line.split()}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *wheel, "configs"}
    assert copied == needed
    admitted = {line[1:] for line in (LAUNCH / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    assert admitted == copied


def test_image_has_the_extras_and_starts_our_command_without_a_shell():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.search(r'^ENTRYPOINT \["(\w+)"\]$', image(), re.MULTILINE)[1] in project["scripts"]
    targets = re.findall(r"^FROM \S+ AS (\w+)$", image(), re.MULTILINE)
    assert targets == ["base", "cuda", "tpu", "cpu"]
    assert set(re.findall(r"\.\[(\w+)\$", image())) == {"cuda", "tpu"} <= set(project["optional-dependencies"])
    lowest = int(project["requires-python"].rpartition(".")[2])
    assert int(re.search(r"^ARG PYTHON=3\.(\d+)$", image(), re.MULTILINE)[1]) >= lowest


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_of_bash(path):
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_file_has_its_how_to():
    page = (ROOT / "docs" / "launch.md").read_text() + (ROOT / "docs" / "devices.md").read_text()
    named = {path.name for path in LAUNCH.iterdir() if path.suffix != ".dockerignore"}
    assert {name for name in named if f"launch/{name}" not in page} == set()


def test_sky(tmp_path):
    """Each node of SkyPilot finds its place; the fields are those that its schema has."""
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "workdir", "resources", "envs", "setup", "run"}
    assert task["resources"]["use_spot"] is True
    recovery = task["resources"]["job_recovery"]
    assert set(recovery) == {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"}
    assert recovery["recover_on_exit_codes"] == [interruption.RESTART]
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    program = tmp_path / "imgcls" / "bin" / "imgcls"
    program.parent.mkdir(parents=True)
    program.write_text('#!/usr/bin/env bash\nenv -0 > "$HOME/environment"\nprintf "%s\\0" "$@" > "$HOME/arguments"\n')
    program.chmod(0o755)
    for index in range(task["num_nodes"]):
        variables = {
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
            "SKYPILOT_NODE_RANK": str(index),
            "SKYPILOT_NUM_NODES": str(task["num_nodes"]),
            **{name: value for name, value in task["envs"].items() if value},
        }
        subprocess.run(["bash", "-c", task["run"]], env=variables, check=True)
        seen = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().split("\0")[:-1])
        assert cluster.find("env", environ=seen) == cluster.Cluster("10.0.0.7:29500", task["num_nodes"], index)
        options = parse((tmp_path / "arguments").read_text().split("\0")[:-1])
        assert str(options.workdir).startswith("/shared/")


# A slice that is there after one look, lost in its first run, saved in its second one, and ended in its third one.
GCLOUD = r"""#!/usr/bin/env bash
words=" $* " state=$(<"$FAKE/state") runs=$(<"$FAKE/runs")
note() { printf '%s\0' "$@" >> "$FAKE/log"; }
case $words in
  *" describe "*) echo "$state"; [ "$state" != PROVISIONING ] || state=ACTIVE ;;
  *" create "*--spot*--zone=z*) note create; state=PROVISIONING ;;
  *" delete "*) note delete; state= ;;
  *"docker run"*) note "${@: -1}"; runs=$((runs + 1)); [ "$runs" -ne 1 ] || state=SUSPENDED ;;
  *State.ExitCode*) [ "$state" != ACTIVE ] || echo exited "$([ "$runs" -eq 2 ] && echo 75 || echo "$ENDS")" ;;
esac
echo "$state" > "$FAKE/state"; echo "$runs" > "$FAKE/runs"
"""


@pytest.mark.parametrize("status", [0, 2])
def test_tpu_slice_is_asked_for_again_until_the_run_ends(status, tmp_path):
    program = tmp_path / "gcloud"
    program.write_text(GCLOUD)
    program.chmod(0o755)
    (tmp_path / "state").write_text("")
    (tmp_path / "runs").write_text("0")
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKE": str(tmp_path),
        "ENDS": str(status),
        **{"ZONE": "z", "IMAGE": "i:tpu", "NFS": "h:/s", "PAUSE": "0"},
    }
    command = ["train me", "--config", "configs/digits_cnn.py", "--workdir", "/shared/a b"]
    done = subprocess.run([LAUNCH / "tpu.sh", *command], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    calls = (tmp_path / "log").read_text().split("\0")[:-1]
    runs = [call for call in calls if call.startswith("--command=")]
    assert calls == ["create", runs[0], "delete", "create", runs[1], runs[2], "delete"]
    script = runs[0].partition("=")[2]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (line,) = re.findall(r"i:tpu (train .*)$", script, re.MULTILINE)
    arguments = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
    assert parse(arguments.stdout.split("\0")[:-1]).workdir == Path("/shared/a b")
    assert "-e IMGCLS_DISTRIBUTED=auto" in script and cluster.find(environ={}) is None


CONFIG = """
from imgcls_jax import config as c

def get_config(variant=""):
    return c.Config(
        name="tiny", data=c.Data(source=c.Arrays("arrays.npz"), canvas=c.Canvas(8, 8), image_size=(8, 8),
                                 mean=(0.5,) * 3, std=(0.25,) * 3),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(), optim=c.Optim(c.SGD(), c.Schedule(0.02, c.Constant())), batch_size=24, epochs=1,
        precision="fp32", seed=0, augment=(), logging=c.Logging(tensorboard=False))
"""
DNS = """
import socket
resolve = socket.getaddrinfo
names = lambda host: "localhost" if host == "imgcls-train-0-0.imgcls" else host
socket.getaddrinfo = lambda host, *rest, **more: resolve(names(host), *rest, **more)
"""


@pytest.mark.slow
def test_pods_of_the_jobset_form_a_group(tiny_arrays, tmp_path):
    """Two local processes with the very variables and arguments of the pods; what JobSet's DNS does is done here."""
    (tmp_path / "sitecustomize.py").write_text(DNS)
    (tmp_path / "c.py").write_text(CONFIG)
    np.savez(tmp_path / "arrays.npz", **tiny_arrays)
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    _, spec = jobset("jobset-gpu.yaml")
    task = spec["replicatedJobs"][0]["template"]["spec"]
    (container,) = task["template"]["spec"]["containers"]
    places = {"--config": "c.py", "--workdir": "run"}
    arguments = [
        f"{flag}={places.get(flag, value)}" if equals else flag
        for flag, equals, value in (argument.partition("=") for argument in container["args"])
    ]
    processes = []
    for index in range(task["completions"]):
        variables = environment(container, index) | {"IMGCLS_CACHE": str(tmp_path / f"cache_{index}")}
        variables["JAX_COORDINATOR_ADDRESS"] = variables["JAX_COORDINATOR_ADDRESS"].replace(":29500", f":{port}")
        variables |= {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)]),
        }
        command = [sys.executable, "-m", "imgcls_jax", *arguments]
        processes.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=variables, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        )
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    (record,) = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["mesh"]["data"] == 2
