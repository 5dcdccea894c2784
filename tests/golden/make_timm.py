"""Writes timm.npz: tensors' names and shapes, config.json and float64 logits of timm's networks with made-up weights.

Run with torch, torchvision and timm installed: `python tests/golden/make_timm.py`.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), *(str(HERE.parent / folder) for folder in ("weights", "models"))]

import timm_reference  # noqa: E402
import weights_reference as reference  # noqa: E402


def main() -> None:
    reference.import_torchvision()
    import timm
    import torch
    from timm.models._hub import save_config_for_hf

    golden = {}
    for name, run in timm_reference.NETWORKS.items():
        module = timm.create_model(name, num_classes=reference.CLASSES).eval()
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        state = reference.random_state(shapes)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        with tempfile.TemporaryDirectory() as folder:
            save_config_for_hf(module, f"{folder}/config.json")
            golden[f"{name}/config"] = np.array(Path(folder, "config.json").read_text())
        golden[f"{name}/shapes"] = np.array(json.dumps(shapes))
        if run:
            x = torch.from_numpy(timm_reference.images(name).transpose(0, 3, 1, 2))
            with torch.no_grad():
                golden[f"{name}/logits"] = module.double()(x.double()).numpy()
        print(name, golden.get(f"{name}/logits", np.zeros(1)).std(), len(shapes))
    np.savez_compressed(HERE / "timm.npz", **golden)


if __name__ == "__main__":
    main()
