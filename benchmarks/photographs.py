"""A folder of JPEG files like ImageNet's, or larger, cut out of the two photographs that scikit-learn brings."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 500, 375


def write(folder: Path, count: int, tiles: int = 1) -> str:
    """Write `count` images into two class folders below `folder`; returns what they are, in words.

    Each is a square of `tiles` × `tiles` cuts, so that large images have as much detail as small ones.
    """
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    for i in range(count):
        photograph, image = photographs[i % 2], Image.new("RGB", (tiles * WIDTH, tiles * HEIGHT))
        for x, y in np.ndindex(tiles, tiles):
            left = int(rng.integers(photograph.width - WIDTH + 1))
            top = int(rng.integers(photograph.height - HEIGHT + 1))
            image.paste(photograph.crop((left, top, left + WIDTH, top + HEIGHT)), (x * WIDTH, y * HEIGHT))
        path = folder / f"class_{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=90)
    return f"{count} photographs of {image.width}×{image.height} pixels"
