"""Write scikit-learn's 1,797 handwritten digits as a folder of images: FOLDER/zero/0000.png …, one folder per class.

    python examples/digits_folder.py FOLDER

The images are real, need no download, and are enlarged from 8×8 to 64×64 pixels: a stand-in for your own photographs.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

folder = Path(sys.argv[1])
digits = load_digits()
for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    file = folder / NAMES[label] / f"{number:04}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(255 * pixels / 16)).resize((64, 64), Image.Resampling.BICUBIC).save(file)
print(f"{folder}: {len(digits.target):,} images of {len(NAMES)} classes")
