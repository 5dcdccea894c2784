"""Mistakes in a policy that can be found before any image is read."""

import itertools

from imgcls_jax import config as c
from imgcls_jax.augment.crops import Shrink
from imgcls_jax.augment.policy import name_of, naming, phases, runs
from imgcls_jax.config.data import Size
from imgcls_jax.errors import UserError


def check(
    policy: c.Policy, *, epochs: int, canvas: Size, image_size: Size, channels: int, sigmoid: bool, depth: int = 8
) -> None:
    """Refuse a policy that cannot run, or of which a part would silently do nothing.

    What would start after the last epoch is allowed, as a run may be cut short to try it out; it is said at the start.

    Args:
      policy: that of the whole run.
      epochs: of the run.
      canvas: height and width of the training canvas, pixels.
      image_size: height and width that enter the model, pixels.
      channels: of the images.
      sigmoid: whether the model has one output for two classes.
      depth: bits per channel, 8 or 16.

    Raises:
      UserError: names the operation by its place in the policy, counted from 0.
    """
    for place, op in enumerate(policy):
        with naming(place, op):
            if op.until_epoch is not None and op.until_epoch <= op.from_epoch:
                raise UserError(
                    f"has until_epoch={op.until_epoch}, not after from_epoch={op.from_epoch}: it never runs"
                )
            if sigmoid and isinstance(op, c.Mix):
                raise UserError(
                    "mixes labels, which a model with one sigmoid output cannot learn: give the head two outputs"
                )
    for phase in phases(policy, epochs):
        active = {place: op for place, op in enumerate(policy) if runs(op, phase.from_epoch)}
        _check_together(active)
        size = canvas
        for place, op in active.items():
            others = {name_of(other, active[other]): active[other] for other in active if other != place}
            with naming(place, op):
                op.check(c.CheckContext(size, image_size, channels, epochs, others, depth))
            if isinstance(op, c.Crop):
                size = image_size
        if size[0] < image_size[0] or size[1] < image_size[1]:
            raise UserError(
                f"data.image_size {image_size[0]}×{image_size[1]} exceeds the canvas, {size[0]}×{size[1]}: "
                "enlarge data.canvas or shrink data.image_size."
            )


def _check_together(active: dict[int, c.Augmentation]) -> None:
    """Refuse two crops, two mixes or two sizes in one epoch, and an operation after a mix or a size."""
    for base, verb in ((c.Crop, "crop"), (c.Mix, "mix"), (Shrink, "shrink")):
        same = [name_of(place, op) for place, op in active.items() if isinstance(op, base)]
        if len(same) > 1:
            raise UserError(
                f"{same[0]} and {same[1]} both {verb} in the same epoch: set their epochs apart or remove one."
            )
    for (place, op), (following, after) in itertools.pairwise(active.items()):
        if _rank(op) and _rank(after) <= _rank(op):
            with naming(place, op):
                raise UserError(f"runs last, but {name_of(following, after)} stands after it: move it back")


def _rank(op: c.Augmentation) -> int:
    """Order in which kinds of operations must stand, where there is one: only a mix may follow a shrink."""
    return 2 if isinstance(op, c.Mix) else 1 if isinstance(op, Shrink) else 0
