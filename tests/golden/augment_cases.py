"""Parameters under which the augmentations are compared with torchvision: for each case one set a photo."""

SIZE = (30, 38)
"""Height and width of the photos."""

CASES: dict[str, tuple[str, list[dict]]] = {
    "rotation": ("rotate", [dict(angle=13.0), dict(angle=-37.5)]),
    "rotation_nearest": ("rotate", [dict(angle=13.0, nearest=True), dict(angle=-37.5, nearest=True)]),
    "affine": (
        "affine",
        [
            dict(angle=12.0, translate=(3, -2), scale=0.8, shear=(11.0, 0.0)),
            dict(angle=-25.0, translate=(-5, 4), scale=1.3, shear=(-7.0, 5.0)),
        ],
    ),
    "resized_crop_shrunk": (
        "resized_crop",
        [
            dict(top=1, left=2, height=27, width=33, size=(15, 16)),
            dict(top=0, left=0, height=30, width=38, size=(15, 16)),
        ],
    ),
    "resized_crop_enlarged": (
        "resized_crop",
        [
            dict(top=9, left=30, height=11, width=7, size=(30, 24)),
            dict(top=15, left=3, height=15, width=33, size=(30, 24)),
        ],
    ),
    "pad_crop_zero": (
        "pad_crop",
        [dict(top=0, left=8, padding=4, mode="constant"), dict(top=7, left=1, padding=4, mode="constant")],
    ),
    "pad_crop_reflect": (
        "pad_crop",
        [dict(top=0, left=8, padding=4, mode="reflect"), dict(top=7, left=1, padding=4, mode="reflect")],
    ),
    "brightness": ("brightness", [dict(factor=0.6), dict(factor=1.7)]),
    "contrast": ("contrast", [dict(factor=0.5), dict(factor=1.8)]),
    "saturation": ("saturation", [dict(factor=0.3), dict(factor=1.9)]),
    "hue": ("hue", [dict(factor=-0.31), dict(factor=0.08)]),
    **{
        case: (
            case,
            [
                dict(order=(3, 1, 0, 2), amounts=(1.2, 0.85, 1.15, 0.07)),
                dict(order=(2, 0, 3, 1), amounts=(0.9, 1.15, 0.8, -0.1)),
            ],
        )
        for case in ("jitter", "jitter_float")
    },
    "grayscale": ("grayscale", [dict(), dict()]),
    "gaussian_blur": ("gaussian_blur", [dict(kernel=7, sigma=0.7), dict(kernel=7, sigma=1.9)]),
    "erase": ("erase", [dict(top=3, left=20, height=15, width=9), dict(top=20, left=0, height=9, width=34)]),
    **{
        f"auto_{name}": ("auto", [dict(name=name, magnitude=low), dict(name=name, magnitude=high)])
        for name, low, high in (
            ("ShearX", 0.21, -0.3),
            ("ShearY", 0.1, -0.27),
            ("TranslateX", 7.0, -3.0),
            ("TranslateY", -9.0, 4.0),
            ("Rotate", 26.7, -10.0),
            ("Brightness", 0.4, -0.5),
            ("Color", 0.9, -0.6),
            ("Contrast", 0.7, -0.7),
            ("Sharpness", 0.9, -0.9),
            ("Posterize", 4.0, 6.0),
            ("Solarize", 0.3, 0.8),
            ("AutoContrast", 0.0, 0.0),
            ("Equalize", 0.0, 0.0),
            ("Invert", 0.0, 0.0),
        )
    },
}
"""Case → (function of make_augment.py, parameters for the first and for the second photo)."""
