"""Noise: Gaussian, shot, impulse and speckle."""

import numpy as np

from imgcls_jax.evaluation.corruptions.draws import Generators, Images, draw


def gaussian_noise(x: Images, severity: int, rngs: Generators) -> Images:
    """Add electronic noise, N(0, σ²) to every value."""
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return x + draw(rngs, lambda rng: rng.normal(0, sigma, x.shape[1:]))


def shot_noise(x: Images, severity: int, rngs: Generators) -> Images:
    """Add photon noise: each value is a Poisson count around `white` photons for white."""
    white = (500, 250, 100, 75, 50)[severity - 1]
    counts = [rng.poisson(image * white) for rng, image in zip(rngs, x, strict=True)]
    return np.stack(counts) / white


def impulse_noise(x: Images, severity: int, rngs: Generators) -> Images:
    """Add salt and pepper: this share of the values, each channel by itself, becomes 0 or 1 with equal chances."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = draw(rngs, lambda rng: rng.random(x.shape[1:]) < share)
    salt = draw(rngs, lambda rng: rng.random(x.shape[1:]) < 0.5)
    return np.where(hit, salt, x)


def speckle_noise(x: Images, severity: int, rngs: Generators) -> Images:
    """Add noise in proportion to the value: multiply it by 1 + N(0, σ²)."""
    sigma = (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1]
    return x * (1 + draw(rngs, lambda rng: rng.normal(0, sigma, x.shape[1:])))
