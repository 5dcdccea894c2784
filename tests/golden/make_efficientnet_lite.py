"""Writes efficientnet_lite.npz: what EfficientNet-Lite0 does in an evaluation and three training steps, in float64.

Run with torch and efficientnet-lite-pytorch installed: `python tests/golden/make_efficientnet_lite.py`.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), *(str(HERE.parent / folder) for folder in ("weights", "models"))]

import efficientnet_lite_reference as lite  # noqa: E402
import weights_reference as reference  # noqa: E402


def main() -> None:
    names, rows = [], []
    exact = reference.run_torch(lite.torch_model("lite0").double(), "sgd")
    for kind, arrays in exact.items():
        for key, array in arrays.items():
            names.append(f"{kind}/{key}")
            rows.append([*reference.projections(key, array), np.linalg.norm(array)])
    np.savez_compressed(HERE / "efficientnet_lite.npz", names=np.array(names), values=np.float32(rows))
    print(len(rows), "arrays")


if __name__ == "__main__":
    main()
