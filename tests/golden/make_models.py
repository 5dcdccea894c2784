"""Make models.npz: samples of torchvision's stages, gradients and statistics, in float64.

    pip install torch torchvision && python tests/golden/make_models.py

Weights are random, a function of their names (tests/models/model_reference.py), so that they need not be stored.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from model_reference import fill_torch, images, import_torchvision, sample, torch_run

torchvision = import_torchvision()
NAMES = ("resnet18", "resnext50_32x4d", "squeezenet1_1")

if __name__ == "__main__":
    golden = {}
    for name in NAMES:
        for train in (False, True):
            model = getattr(torchvision.models, name)(num_classes=7).double()
            fill_torch(model)
            for module in model.modules():
                if type(module).__name__ == "Dropout":
                    module.p = 0.0
            mode = "train" if train else "eval"
            run = torch_run(model, images((4, 48, 64, 3)).astype("float64"), train=train)
            run["stages"]["head"] = run["stages"].pop("classifier" if name.startswith("squeeze") else "fc")
            for kind in ("stages", "grads", "stats") if train else ("stages",):
                if not run[kind]:  # SqueezeNet has no statistics
                    continue
                golden[f"{name}/{mode}/{kind}/names"] = np.array(list(run[kind]))
                golden[f"{name}/{mode}/{kind}"] = np.stack([sample(value) for value in run[kind].values()])
    np.savez_compressed(Path(__file__).with_name("models.npz"), **golden)
    print(len(golden), "arrays")
