"""What runs in which epoch: the config's list of operations as one function of a batch for each phase."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from imgcls_jax import config as c
from imgcls_jax.augment import auto, colour, erase, geometry, mix
from imgcls_jax.augment.geometry import Window
from imgcls_jax.augment.materialise import materialise
from imgcls_jax.augment.normalise import Channels, normalise
from imgcls_jax.augment.view import Size, View
from imgcls_jax.config.augment import Mix, Operation, Policy

Fit = Literal["crop", "stretch", "pad"]
Augment = Callable[
    [Key[Array, ""], UInt8[Array, "b H W c"], Int[Array, "b"], Float[Array, "b"], Int[Array, ""], Int[Array, "b"]],
    tuple[Float[Array, "b h w c"], Float[Array, "b classes"]],
]


class Phase(NamedTuple):
    """A stretch of epochs with the same operations."""

    from_epoch: int
    until_epoch: int
    """The first epoch that no longer belongs to it."""
    operations: tuple[Operation, ...]


class _Batch(NamedTuple):
    """What an operation may know besides the images."""

    aspect: Float[Array, "b"]
    epoch: Int[Array, ""]
    index: Int[Array, "b"]
    image_size: Size
    mean: Channels
    std: Channels
    fit: Fit


def runs(operation: Operation, epoch: int) -> bool:
    """Whether the operation runs in `epoch`, counted from 0."""
    return operation.from_epoch <= epoch and (operation.until_epoch is None or epoch < operation.until_epoch)


def phases(policy: Policy, epochs: int) -> tuple[Phase, ...]:
    """The phases of a run of `epochs`, in order and without gaps; one step is compiled for each."""
    starts = {0} | {edge for op in policy for edge in (op.from_epoch, op.until_epoch) if edge and edge < epochs}
    found: list[Phase] = []
    for start, stop in zip(sorted(starts), [*sorted(starts)[1:], epochs], strict=True):
        operations = tuple(op for op in policy if runs(op, start))
        if found and found[-1].operations == operations:
            found[-1] = found[-1]._replace(until_epoch=stop)
        else:
            found.append(Phase(start, stop, operations))
    return tuple(found)


def build(
    policy: Policy,
    *,
    epoch: int,
    image_size: Size,
    mean: Channels,
    std: Channels,
    num_classes: int,
    fit: Fit = "crop",
) -> Augment:
    """The augmentation of the phase to which `epoch` belongs.

    Args:
        policy: the whole run's; check it first (`check`).
        epoch: any epoch of the phase.
        image_size: height and width of the result. A canvas still larger after all operations is cut at its centre.
        mean, std: of each channel, on a scale where black is 0 and white is 1.
        num_classes: length of the soft labels.
        fit: how the host fitted the images into the canvas (`Canvas.fit`).

    Returns:
        `augment(key, image, label, aspect, epoch, index)`, to be jitted by the caller:
        key: the step's key. image: uint8 [B, H, W, C] canvases. label: int32 [B]. aspect: float32 [B], width / height
        of the original images. epoch: int32 [], traced, so that epochs of a phase share one program. index: int32 [B],
        each example's place in its split.
        It returns float32 [B, h, w, C] normalised images and float32 [B, classes] labels, each of sum 1. Both depend
        on an image's place in the batch but not on the number of devices that share it.
    """
    active = [(place, op) for place, op in enumerate(policy) if runs(op, epoch)]

    def augment(key, image, label, aspect, epoch, index):
        image_key, batch_key = jax.random.split(key)
        image_keys = jax.random.split(image_key, image.shape[0])
        batch = _Batch(aspect, epoch, index, image_size, mean, std, fit)
        view = View.of(image)
        labels = jax.nn.one_hot(label, num_classes)
        # Keyed by the place in the whole list: what an operation draws does not depend on which others run.
        for place, op in active:
            if not isinstance(op, Mix):
                view = _apply(op, _fold_in(image_keys, place), view, batch)
        image = normalise(geometry.centre_crop(view, image_size).pixels(), mean, std)
        for place, op in active:
            if isinstance(op, Mix):
                image, labels = mix.mix(image, labels, _draw_mix(op, jax.random.fold_in(batch_key, place), image_size))
        return image, labels

    return augment


def _apply(op: Operation, keys: Key[Array, "b"], view: View, batch: _Batch) -> View:
    """The operation on those images whose coin, of probability `op.p`, says so; on all if it has no `p`."""
    match op:
        case c.HorizontalFlip():
            return geometry.mirror(view, _coins(keys, op.p))
        case c.VerticalFlip():
            return geometry.upside_down(view, _coins(keys, op.p))
        case c.AlternatingFlip():
            return geometry.mirror(view, geometry.alternating_flip(batch.index, batch.epoch))
        case c.PadCrop():
            padded = (view.size[0] + 2 * op.padding, view.size[1] + 2 * op.padding)
            top, left = _draw(geometry.draw_crop, keys, padded, batch.image_size)
            return geometry.crop(view, top, left, batch.image_size, padding=op.padding, mode=op.mode)
        case c.RandomCrop():
            return geometry.crop(view, *_draw(geometry.draw_crop, keys, view.size, batch.image_size), batch.image_size)
        case c.RandomResizedCrop():
            content, aspect = _content(batch.fit, view.size, batch.aspect)
            draw = functools.partial(geometry.draw_resized_crop, scale=op.scale, ratio=op.ratio)
            window = materialise(jax.vmap(draw)(keys, content, aspect))
            return geometry.resized_crop(view, window, batch.image_size)
    if view.is_weighted:
        view = View.of(materialise(view.pixels()))
    if getattr(op, "p", 1.0) == 1:
        changed = _change(op, keys, view, batch)
    else:
        keys, coin_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        chosen = _coins(coin_keys, op.p)[:, None, None, None]
        changed = jnp.where(chosen, _change(op, keys, view, batch), view.pixels())
    return View.of(materialise(changed))


def _change(op: Operation, keys: Key[Array, "b"], view: View, batch: _Batch) -> Float[Array, "b h w c"]:
    """The pixels after an operation that needs pixels, on all images."""
    match op:
        case c.Affine():
            ranges = dict(degrees=op.degrees, translate=op.translate, scale=op.scale, shear=op.shear)
            matrix = geometry.affine_matrix(_draw(geometry.draw_affine, keys, view.size, **ranges))
            return geometry.warp(materialise(view.pixels()), matrix, fill=op.fill, interpolation=op.interpolation)
        case c.Rotation():
            matrix = geometry.rotation_matrix(_draw(geometry.draw_affine, keys, view.size, degrees=op.degrees).angle)
            return geometry.warp(materialise(view.pixels()), matrix, fill=op.fill, interpolation=op.interpolation)
        case c.ColorJitter():
            strengths = dict(brightness=op.brightness, contrast=op.contrast, saturation=op.saturation, hue=op.hue)
            return colour.jitter(view.pixels(), _draw(colour.draw_jitter, keys, **strengths), with_hue=op.hue > 0)
        case c.Greyscale():
            return colour.greyscale(view.pixels())
        case c.GaussianBlur():
            return colour.gaussian_blur(view.pixels(), _draw(colour.draw_sigma, keys, op.sigma), op.kernel)
        case c.RandomErasing():
            keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
            window = _draw(erase.draw_erasing, keys, view.size, op.scale, op.ratio)
            return erase.erase(view.pixels(), window, _erased(op, noise_keys, view, batch))
        case c.Cutout():
            window = _draw(erase.draw_cutout, keys, view.size, op.size)
            return erase.erase(view.pixels(), window, jnp.asarray(batch.mean))
        case c.AutoAugment():
            return auto.apply(view.pixels(), _draw(auto.draw_auto_augment, keys, op.policy, view.size))
        case c.RandAugment():
            steps = _draw(auto.draw_rand_augment, keys, op.num_ops, op.magnitude, view.size)
            return auto.apply(view.pixels(), steps)
        case c.TrivialAugmentWide():
            return auto.apply(view.pixels(), _draw(auto.draw_trivial_augment, keys))
        case c.AugMix():
            ranges = dict(severity=op.severity, width=op.width, depth=op.depth, alpha=op.alpha)
            return auto.aug_mix(view.pixels(), _draw(auto.draw_aug_mix, keys, **ranges, size=view.size))
    raise TypeError(f"{type(op).__name__} is no operation on pixels")


def _erased(op: c.RandomErasing, keys: Key[Array, "b"], view: View, batch: _Batch) -> Array:
    """What stands in the window: normalisation turns it into zero, black's value, or standard normal noise."""
    mean, std = jnp.asarray(batch.mean), jnp.asarray(batch.std)
    match op.fill:
        case "mean":
            return mean
        case "black":
            return jnp.zeros_like(mean)
        case "noise":
            return mean + std * _draw(jax.random.normal, keys, (*view.size, view.source.shape[-1]))


def _content(fit: Fit, canvas: Size, aspect: Float[Array, "b"]) -> tuple[Window, Float[Array, "b"]]:
    """The part of each canvas that shows its image, and the width / height of what it shows."""
    height, width = (jnp.full(aspect.shape, side) for side in canvas)
    if fit == "crop":  # `aspect` is that of the original; what the crop left of it has the canvas's
        aspect = jnp.full(aspect.shape, canvas[1] / canvas[0])
    if fit == "pad":  # the bars are on both sides
        width = jnp.clip(jnp.round(canvas[0] * aspect).astype(jnp.int32), 1, width)
        height = jnp.clip(jnp.round(canvas[1] / aspect).astype(jnp.int32), 1, height)
    top, left = (
        jnp.round((side - extent) / 2).astype(jnp.int32) for side, extent in zip(canvas, (height, width), strict=True)
    )
    return Window(top, left, height, width), aspect


def _draw_mix(op: Mix, key: Key[Array, ""], size: Size) -> mix.Mix:
    """How the batch is mixed."""
    draw_key, coin_key, switch_key = jax.random.split(key, 3)
    match op:
        case c.Mixup():
            drawn = mix.draw_mixup(draw_key, op.alpha)
        case c.CutMix():
            drawn = mix.draw_cutmix(draw_key, op.alpha, size)
        case c.MixupOrCutMix():
            mixup, cutmix = mix.draw_mixup(draw_key, op.mixup_alpha), mix.draw_cutmix(draw_key, op.cutmix_alpha, size)
            drawn = mix.choose(mixup, cutmix, jax.random.bernoulli(switch_key, op.switch))
    return drawn if op.p == 1 else mix.choose(mix.nothing(), drawn, jax.random.bernoulli(coin_key, op.p))


def _fold_in(keys: Key[Array, "b"], place: int) -> Key[Array, "b"]:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, place)


def _coins(keys: Key[Array, "b"], p: float) -> Bool[Array, "b"]:
    """True with probability `p`."""
    return materialise(jax.vmap(jax.random.uniform)(keys)) < p


def _draw(function: Callable, keys: Key[Array, "b"], *args, **kwargs):
    """Parameters of every image: `function(key, …)` for each key."""
    return materialise(jax.vmap(lambda key: function(key, *args, **kwargs))(keys))
