"""A training program that kills itself with SIGKILL at a chosen moment; run by test_resume.py.

    python killed_run.py WORKDIR CONFIG.json ARRAYS.npz MOMENT

MOMENT: "never", "training" (in the middle of the second epoch), "evaluating" (in the second epoch's evaluation),
"saving" (right after the second epoch's save has begun, in the background).
"""

import os
import signal
import sys
from pathlib import Path

from imgcls_jax.xla import runtime

runtime.setup()

import numpy as np

from imgcls_jax.config import io as files
from imgcls_jax.evaluation import evaluate
from imgcls_jax.record import checkpoint
from imgcls_jax.training.callbacks import recovery
from imgcls_jax.training.loop import train


def kill(after, *, calls):
    """Wrap a function so that the process dies after (or, with calls < 0, at the start of) its n-th call."""
    count = 0

    def wrapped(*args, **kwargs):
        nonlocal count
        count += 1
        if count == abs(calls) and calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = after(*args, **kwargs)
        if count == abs(calls):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


workdir, config, arrays, moment = sys.argv[1:]
match moment:
    case "training":  # four steps an epoch: the seventh is in the middle of the second epoch
        recovery.not_finite = kill(recovery.not_finite, calls=7)
    case "evaluating":
        evaluate.Evaluation.__call__ = kill(evaluate.Evaluation.__call__, calls=-2)
    case "saving":
        manager = checkpoint.ocp.CheckpointManager
        manager.save = kill(manager.save, calls=2)
train(files.restore(Path(config)), workdir, arrays=dict(np.load(arrays)))
