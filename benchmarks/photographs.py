"""A folder of JPEG files like ImageNet's, cut out of the two photographs that scikit-learn brings."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 500, 375


def write(folder: Path, count: int) -> str:
    """Write `count` images into two class folders below `folder`; returns what they are, in words."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    for i in range(count):
        photograph = photographs[i % 2]
        left = int(rng.integers(photograph.width - WIDTH + 1))
        top = int(rng.integers(photograph.height - HEIGHT + 1))
        path = folder / f"class_{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        photograph.crop((left, top, left + WIDTH, top + HEIGHT)).save(path, quality=90)
    return f"{count} photographs of {WIDTH}×{HEIGHT} pixels"
