"""The benchmark's 15 corruptions against the package `imagecorruptions`, in distribution.

The package has the constants of ImageNet-C; those of CIFAR-10-C, typed here from its publication, are put into its
functions, and the few lines in which the publication differs otherwise. Its code runs from its text, because it imports
what NumPy, SciPy and setuptools no longer have.
"""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.corruptions import BENCHMARK, SEVERITIES, corrupt, photographs

SPEC = importlib.util.find_spec("imagecorruptions")
pytestmark = [
    pytest.mark.skipif(SPEC is None, reason="needs the package: pip install --no-deps imagecorruptions==1.1.2"),
    pytest.mark.filterwarnings("ignore"),  # of the package's own code
]

CIFAR = {
    "gaussian_noise": "[.04, .06, .08, .09, .10]",
    "shot_noise": "[500, 250, 100, 75, 50]",
    "impulse_noise": "[.01, .02, .03, .05, .07]",
    "defocus_blur": "[(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)]",
    "glass_blur": "[(.05, 1, 1), (.25, 1, 1), (.4, 1, 1), (.25, 1, 2), (.4, 1, 2)]",
    "motion_blur": "[(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]",
    "zoom_blur": "[np.arange(1, end, .01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)]",
    "snow": "[(.1, .2, 1, .6, 8, 3, .95), (.1, .2, 1, .5, 10, 4, .9), (.15, .3, 1.75, .55, 10, 4, .9), "
    "(.25, .3, 2.25, .6, 12, 6, .85), (.3, .3, 1.25, .65, 14, 12, .8)]",
    "frost": "[(1, .2), (1, .3), (.9, .4), (.85, .4), (.75, .45)]",
    "fog": "[(.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)]",
    "brightness": "[.05, .1, .15, .2, .3]",
    "contrast": "[.75, .5, .4, .3, .15]",
    "elastic_transform": "[(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, .96, .96)]",
    "pixelate": "[.95, .9, .85, .75, .65]",
    "jpeg_compression": "[80, 65, 58, 50, 40]",
}
# What no longer runs. (Old, new) text.
MENDED = [
    ("from scipy.ndimage.interpolation import map_coordinates", "from scipy.ndimage import map_coordinates"),
    ("from pkg_resources import resource_filename", "resource_filename = lambda _, name: FOLDER + name"),
    ("multichannel=True", "channel_axis=-1"),
    ("np.float_)", "np.float64)"),
]
# What CIFAR-10-C does otherwise: photographs at a fifth of their size, enlargement by the box filter, displacements
# from [-1, 1] with a strength and a smoothness of their own, magnified images cut to their center.
OTHERWISE = [
    ("cv2.resize(frost, dsize=new_shape,\n                                interpolation=cv2.INTER_CUBIC)",
     "cv2.resize(frost, (0, 0), fx=0.2, fy=0.2)"),
    ("Image.NEAREST", "Image.BOX"),
    ("sigma = np.array(shape_size) * 0.01", "c = None"),
    ("alpha = [250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12][\n        severity - 1]",
     "alpha, sigma, _ = c"),
    ("max_dx = shape[0] * 0.005\n    max_dy = shape[0] * 0.005", "max_dx = max_dy = 1"),
    ("(zoom_factor, zoom_factor, 1), order=1)\n",
     "(zoom_factor, zoom_factor, 1), order=1)\n"
     "    cut = (img.shape[0] - 32) // 2\n    img = img[cut:cut + 32, cut:cut + 32]\n"),
]  # fmt: skip


def package(*, cifar):
    """The package's functions, with the constants of CIFAR-10-C or its own."""
    pytest.importorskip("skimage", reason="needs scikit-image, which the package uses")
    pytest.importorskip("cv2", reason="needs OpenCV, which the package uses")
    folder = Path(SPEC.submodule_search_locations[0])
    text = (folder / "corruptions.py").read_text()
    for old, new in [*MENDED, *(OTHERWISE if cifar else [])]:
        assert old in text, f"{old!r} is gone from the package"
        text = text.replace(old, new)
    tree = ast.parse(text)
    found = set()
    for function in tree.body if cifar else []:
        if isinstance(function, ast.FunctionDef) and function.name in CIFAR:
            for statement in function.body:
                if isinstance(statement, ast.Assign) and statement.targets[0].id == "c":
                    statement.value = ast.parse(f"({CIFAR[function.name]})[severity - 1]", mode="eval").body
                    found.add(function.name)
                    break
    assert found == (set(CIFAR) if cifar else set())
    names = {"FOLDER": f"{folder}/", "__name__": "imagecorruptions"}
    exec(compile(tree, "imagecorruptions", "exec"), names)
    return names


def warped(image, severity):
    """The random affine map that precedes the displacements in CIFAR-10-C alone."""
    import cv2

    reach = (2.56, 2.24, 1.92, 1.6, 0.96)[severity - 1]
    corners = np.float32([(26, 26), (26, 6), (6, 6)])
    moved = corners + np.random.uniform(-reach, reach, (3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    return cv2.warpAffine(np.asarray(image), matrix, (32, 32), borderMode=cv2.BORDER_REFLECT_101)


@pytest.fixture(scope="module")
def images(photographs):
    """54: the photographs, their mirror images, and some upside down."""
    return np.concatenate([photographs, photographs[:, :, ::-1], photographs[:6, ::-1]])


@pytest.fixture(scope="module")
def packages():
    return {cifar: package(cifar=cifar) for cifar in (True, False)}


def theirs(functions, images, name, severity, *, cifar=True):
    np.random.seed(severity)
    corrupted = []
    for image in images:
        seen = Image.fromarray(warped(image, severity) if cifar and name == "elastic_transform" else image)
        corrupted.append(np.uint8(functions[name](seen, severity)))
    return np.stack(corrupted)


def figures(corrupted, images):
    """[n, 15]: of each image and its difference from the original, in levels."""
    difference = np.float64(corrupted) - images
    # Root power of the gray difference in four rings of frequency.
    spectrum = np.abs(np.fft.fft2(difference.mean(-1), norm="ortho")) ** 2
    frequency = np.fft.fftfreq(32)
    radius = np.hypot(frequency[:, None], frequency)
    rings = [(radius > low) & (radius <= low + 0.12) for low in (0, 0.12, 0.24, 0.36)]
    flat, values = difference.reshape(len(images), -1), np.float64(corrupted).reshape(len(images), -1)
    return np.stack(
        [
            flat.mean(1), flat.std(1), np.abs(flat).mean(1), *np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1),
            *np.quantile(values, (0.05, 0.5, 0.95), axis=1),
            *(np.sqrt(spectrum[:, ring].mean(1)) for ring in rings),
        ],
        axis=1,
    )  # fmt: skip


def apart(ours, others, images):
    """How far the mean figures are apart, beyond one level, in standard errors of the mean over the images."""
    between = figures(ours, images) - figures(others, images)
    error = between.std(0, ddof=1) / np.sqrt(len(images))
    return np.maximum(np.abs(between.mean(0)) - 1, 0) / np.maximum(error, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARK)
def test_every_figure_is_the_packages_with_the_constants_of_cifar(name, images, packages):
    """Within a level plus four standard errors, over 54 images, for each severity."""
    for severity in SEVERITIES:
        ours = corrupt(images, name, severity)
        distance = apart(ours, theirs(packages[True], images, name, severity), images)
        assert distance.max() < 4, (severity, distance.round(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARK)
def test_the_packages_own_constants_are_others(name, images, packages):
    """What the test above can tell: at the package's own constants, those of ImageNet-C, every corruption fails it."""
    ours = corrupt(images, name, 3)
    distance = apart(ours, theirs(packages[False], images, name, 3, cifar=False), images)
    assert distance.max() > 6


def test_the_photographs_are_opencvs_at_a_fifth():
    """Pixel by pixel; OpenCV's JPEG decoder may round otherwise."""
    cv2 = pytest.importorskip("cv2")
    ours = photographs.frost(32, 32)
    assert len(ours) == 5, "the published code never draws the sixth"
    for number, mine in enumerate(ours, start=1):
        (file,) = photographs.folder().glob(f"frost{number}.*")
        reference = cv2.resize(cv2.imread(str(file)), (0, 0), fx=0.2, fy=0.2)[..., ::-1]
        assert mine.shape == reference.shape
        assert np.abs(np.int64(mine) - reference).max() <= 2


@pytest.mark.parametrize("size", [8, 32, 63, 160, 600])
def test_photographs_are_larger_than_the_crop(size):
    assert all(min(photograph.shape[:2]) > size for photograph in photographs.frost(size, size))


def test_a_damaged_photograph_is_said(tmp_path):
    for name in ("frost1.png", "frost2.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"frost1.png of the installed package imagecorruptions cannot be read"):
        photographs._read(tmp_path)
