"""Which of how many processes this is: what flags, variables and Slurm say, and what is wrong with it."""

import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.parallel.cluster import Cluster, check_devices, find, is_one_of_several

VARIABLES = {"JAX_COORDINATOR_ADDRESS": "a:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}


def slurm(**changes):
    """What srun sets for the second task of the third node of three, of two tasks each."""
    names = {
        "SLURM_JOB_ID": "70000",
        "SLURM_NTASKS": "6",
        "SLURM_STEP_NUM_TASKS": "6",
        "SLURM_STEP_NODELIST": "gpu[07-09]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "2",
    }
    return {name: value for name, value in (names | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({}, {}, None),
        ({}, VARIABLES, Cluster("a:1234", 4, 2)),
        ({"index": 3}, VARIABLES, Cluster("a:1234", 4, 3)),
        ({"coordinator": "b:1", "count": 2, "index": 0}, {}, Cluster("b:1", 2, 0)),
        ({"coordinator": "[::1]:29500", "count": 2, "index": 0}, slurm(), Cluster("[::1]:29500", 2, 0)),
        ({"kind": "none"}, VARIABLES, None),
        ({}, VARIABLES | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        # The port is JAX's choice for the job.
        ({}, slurm(), Cluster(f"gpu07:{70000 % 4096 + 61440}", 6, 5)),
        ({"kind": "slurm"}, slurm(JAX_COORDINATOR_PORT="99"), Cluster("gpu07:99", 6, 5)),
        ({}, slurm(SLURM_STEP_NODELIST="a-1,b[2-3]", JAX_COORDINATOR_PORT="99"), Cluster("a-1:99", 6, 5)),
        ({}, slurm(SLURM_STEP_NUM_TASKS="1"), None),
        ({}, slurm(SLURM_STEP_NUM_TASKS=None), None),  # the script of a job, outside of srun
        ({"kind": "none"}, slurm(), None),
    ],
)
def test_which_process_this_is(given, environ, expected):
    found = find(**given, environ=environ)
    assert found == expected
    if expected is not None:
        assert found.host in found.coordinator and str(found.port) in found.coordinator


@pytest.mark.parametrize(
    ("given", "environ", "message"),
    [
        ({"index": 1}, {}, "needs --coordinator (or JAX_COORDINATOR_ADDRESS) and --num-processes"),
        ({"kind": "env"}, {}, "needs --coordinator"),
        ({}, VARIABLES | {"JAX_PROCESS_ID": "two"}, "--process-id (JAX_PROCESS_ID) must be a whole number, not 'two'"),
        ({"index": 4}, VARIABLES, "of 4 processes none has the number 4"),
        ({"index": -1}, VARIABLES, "must be a whole number, not '-1'"),
        ({"coordinator": "node"}, VARIABLES, "HOST:PORT, such as node1:29500, not 'node'"),
        ({"coordinator": "node:99999"}, VARIABLES, "HOST:PORT"),
        ({"kind": "slurm"}, {}, "this is no step of a Slurm job"),
        ({"kind": "slurm", "index": 1}, slurm(), "--process-id and --cluster slurm contradict each other"),
        ({"kind": "none", "coordinator": "a:1"}, {}, "--coordinator and --cluster none contradict"),
        ({}, slurm(SLURM_LOCALID=None), "not as srun sets them: 'SLURM_LOCALID'"),
        ({}, {"IMGCLS_DISTRIBUTED": "auto"}, "JAX finds no cluster here"),
    ],
)
def test_what_is_wrong_is_one_sentence(given, environ, message):
    with pytest.raises(UserError) as error:
        find(**given, environ=environ)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("visible", "allotted", "tasks", "expected"),
    [
        ("0,1,2,3,4,5,6,7", "8", "1(x3)", None),  # all
        ("0,1,2,3", "8", "2(x3)", None),  # Slurm has bound four to each task
        ("0,1,2,3,4,5,6,7", "8", "2(x3)", (4, 5, 6, 7)),
        (None, None, "2(x3)", None),
    ],
)
def test_the_gpus_of_a_slurm_task(visible, allotted, tasks, expected):
    environ = slurm(CUDA_VISIBLE_DEVICES=visible, SLURM_GPUS_ON_NODE=allotted, SLURM_STEP_TASKS_PER_NODE=tasks)
    assert find(environ=environ).local_devices == expected


def test_gpus_that_would_be_unused_are_refused():
    three = slurm(CUDA_VISIBLE_DEVICES="0,1,2", SLURM_GPUS_ON_NODE="3")
    with pytest.raises(UserError, match="3 GPUs of a node cannot be shared equally by the 2 tasks on it"):
        find(environ=three)
    eight = slurm(SLURM_GPUS_ON_NODE="8")
    check_devices(4, "gpu", eight)
    with pytest.raises(UserError, match="given this node 8 GPUs, but each of its 2 tasks uses 1 gpu device:"):
        check_devices(1, "gpu", eight)
    with pytest.raises(UserError, match="but its task uses 1 cpu device:"):
        check_devices(1, "cpu", eight | {"SLURM_STEP_TASKS_PER_NODE": "1(x3)"})
    check_devices(1, "cpu", eight | {"JAX_PLATFORMS": "cpu"})
    check_devices(1, "cpu", slurm())


def test_one_of_several():
    assert is_one_of_several(VARIABLES)
    assert is_one_of_several(slurm())
    assert not is_one_of_several(slurm(SLURM_STEP_NUM_TASKS="1"))
    assert not is_one_of_several({})
