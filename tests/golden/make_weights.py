"""Writes weights.npz: what torchvision's models do in an evaluation and three training steps, in float64.

Run with torch and torchvision installed: `python tests/golden/make_weights.py`.
"""

import copy
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "weights"), str(HERE.parent / "models")]

import weights_reference as reference  # noqa: E402


def main() -> None:
    golden = {}
    for name, optimizer in reference.GOLDEN:
        module = reference.torch_model(name)
        exact = reference.run_torch(copy.deepcopy(module).double(), optimizer)
        limits = reference.limits(exact, reference.run_torch(module, optimizer))
        for kind, arrays in exact.items():
            for key, array in arrays.items():
                values = [*reference.projections(key, array), np.linalg.norm(array), limits[kind][key]]
                golden[f"{name}/{optimizer}/{kind}/{key}"] = np.array(values)
    np.savez_compressed(HERE / "weights.npz", **golden)


if __name__ == "__main__":
    main()
