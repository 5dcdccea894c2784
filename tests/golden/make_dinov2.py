"""Make dinov2.npz: outputs of transformers' DINOv2 (another implementation than facebookresearch/dinov2 and ours).

    pip install torch torchvision "transformers>=5" && python tests/golden/make_dinov2.py

Weights are random, a function of their names (tests/models/model_reference.py), so that they need not be stored.
transformers resizes position embeddings of models without registers otherwise than facebookresearch/dinov2 does; here
they are resized as the latter does, by torch, and given to transformers at their final size.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from model_reference import images, import_torchvision, random_values

import_torchvision()  # transformers imports it
from transformers import (  # noqa: E402
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def resized_positions(height: int, width: int) -> torch.Tensor:
    """facebookresearch/dinov2's interpolate_pos_encoding with interpolate_offset=0.1, interpolate_antialias=False."""
    positions = torch.from_numpy(random_values("pos_embed", (1, 1 + 37 * 37, 384)))
    grid = positions[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    factor = ((height + 0.1) / 37, (width + 0.1) / 37)
    grid = torch.nn.functional.interpolate(grid, scale_factor=factor, mode="bicubic")
    assert grid.shape[2:] == (height, width)
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, 384)], dim=1)


def dinov2_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`random_values` of the tensor that facebookresearch/dinov2 names otherwise."""
    if any(part in name for part in ("q_proj", "k_proj", "v_proj")):  # three tensors here, one there
        layer = name.split(".")[2]
        part = ["q_proj", "k_proj", "v_proj"].index(name.split(".")[-2])
        leaf = name.rsplit(".")[-1]
        joint = random_values(f"blocks.{layer}.attn.qkv.{leaf}", (3 * shape[0], *shape[1:]))
        return joint[part * shape[0] : (part + 1) * shape[0]]
    for theirs, original in (
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.", ""),
        ("encoder.layer", "blocks"),
        ("attention.o_proj", "attn.proj"),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("layernorm", "norm"),
    ):
        name = name.replace(theirs, original)
    return random_values(name, shape)


def run(registers: bool, height: int, width: int) -> dict[str, np.ndarray]:
    size, depth, heads = SIZES["small"]
    common = dict(
        hidden_size=size, num_hidden_layers=depth, num_attention_heads=heads, layer_norm_eps=1e-6, patch_size=14
    )
    if registers:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(image_size=518, num_register_tokens=4, **common))
    else:
        model = Dinov2Model(Dinov2Config(image_size=14 * height, **common))
    model.eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name == "embeddings.position_embeddings" and not registers:
                tensor.copy_(resized_positions(height, width))
            elif "mask_token" not in name:  # only pre-training uses it
                tensor.copy_(torch.from_numpy(dinov2_values(name, tuple(tensor.shape))))
        x = torch.from_numpy(images((2, 14 * height, 14 * width, 3)).transpose(0, 3, 1, 2))
        output = model(x, output_hidden_states=True)
    hidden = torch.stack(output.hidden_states).numpy()
    return {"hidden": hidden[:, :, [0, 1, -1], ::8], "norm": output.last_hidden_state.numpy()[..., ::4]}


def counts() -> dict[str, int]:
    """Parameters of each published size, less the mask token."""
    numbers = {}
    for name, (size, depth, heads) in SIZES.items():
        common = dict(
            hidden_size=size, num_hidden_layers=depth, num_attention_heads=heads, image_size=518, patch_size=14
        )
        with torch.device("meta"):
            plain = Dinov2Model(Dinov2Config(**common))
            registers = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=4, **common))
        for suffix, model in (("", plain), ("_reg", registers)):
            numbers[name + suffix] = sum(p.numel() for n, p in model.named_parameters() if "mask_token" not in n)
    return numbers


if __name__ == "__main__":
    golden = {f"plain_{key}": value for key, value in run(False, 3, 3).items()}
    golden |= {f"registers_{key}": value for key, value in run(True, 2, 5).items()}
    golden |= {f"count_{key}": np.array(value) for key, value in counts().items()}
    np.savez_compressed(Path(__file__).with_name("dinov2.npz"), **golden)
    print({key: value.shape or int(value) for key, value in golden.items()})
