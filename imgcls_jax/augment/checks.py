"""Mistakes in a policy that can be told before any image is read."""

from typing import NoReturn

from imgcls_jax import config as c
from imgcls_jax.augment.policy import phases, runs
from imgcls_jax.augment.view import Size
from imgcls_jax.config.augment import Mix, Operation, Policy
from imgcls_jax.errors import UserError

_CROPS = (c.PadCrop, c.RandomCrop, c.RandomResizedCrop)


def check(policy: Policy, *, epochs: int, canvas: Size, image_size: Size, channels: int, sigmoid: bool) -> None:
    """Refuses a policy that cannot run, or of which a part would silently do nothing.

    Args:
        epochs: of the run.
        canvas: height and width of the training canvas.
        image_size: height and width that enter the model.
        channels: 1 or 3.
        sigmoid: whether the model has one output for two classes.

    Raises:
        UserError: names the entry by its place in the list, counted from 0.
    """
    for place, op in enumerate(policy):
        name = _name(place, op)
        _check_epochs(name, op, epochs)
        _check_values(name, op)
        if channels == 1:
            _check_greyscale(name, op)
        if sigmoid and isinstance(op, Mix):
            _refuse(name, "mixes labels, which a model with one sigmoid output cannot learn: give the head two outputs")
    for phase in phases(policy, epochs):
        active = [(_name(place, op), op) for place, op in enumerate(policy) if runs(op, phase.from_epoch)]
        _check_together(active)
        _check_sizes(active, canvas, image_size)


def _name(place: int, op: Operation) -> str:
    return f"augment[{place}] ({type(op).__name__})"


def _refuse(name: str, reason: str) -> NoReturn:
    raise UserError(f"{name} {reason}.")


def _check_epochs(name: str, op: Operation, epochs: int) -> None:
    if op.from_epoch >= epochs:
        _refuse(name, f"would start at epoch {op.from_epoch}, but the run ends after epoch {epochs - 1}: it never runs")
    if op.until_epoch is not None and op.until_epoch <= op.from_epoch:
        _refuse(name, f"has until_epoch={op.until_epoch}, not after from_epoch={op.from_epoch}: it never runs")


def _check_values(name: str, op: Operation) -> None:
    if getattr(op, "p", 1.0) == 0:
        _refuse(name, "has probability p=0: it never runs; remove it or raise p")
    match op:
        case c.PadCrop(padding=0):
            _refuse(name, "pads by 0 pixels: use RandomCrop, or raise padding")
        case c.RandomResizedCrop():
            _check_interval(name, "scale", op.scale, above=0, at_most=1)
            _check_interval(name, "ratio", op.ratio, above=0)
        case c.Affine():
            _check_interval(name, "scale", op.scale, above=0)
            if op.shear >= 90:
                _refuse(name, f"has shear={op.shear:g}: it must be below 90 degrees")
            if op.degrees == 0 and op.shear == 0 and op.translate == (0, 0) and op.scale == (1, 1):
                _refuse(name, "changes nothing: give it degrees, translate, scale or shear, or remove it")
        case c.Rotation(degrees=0):
            _refuse(name, "changes nothing: its degrees are 0")
        case c.ColorJitter(brightness=0, contrast=0, saturation=0, hue=0):
            _refuse(name, "changes nothing: brightness, contrast, saturation and hue are all 0")
        case c.GaussianBlur():
            _check_interval(name, "sigma", op.sigma, above=0)
            if op.kernel % 2 == 0:
                _refuse(name, f"has kernel={op.kernel}: the side of the kernel must be odd")
        case c.RandomErasing():
            _check_interval(name, "scale", op.scale, above=0, at_most=1)
            _check_interval(name, "ratio", op.ratio, above=0)
        case c.AugMix(depth=depth) if depth != -1 and depth < 1:
            _refuse(name, f"has depth={depth}: it must be at least 1, or -1 for one to three at random")


def _check_interval(
    name: str, field: str, interval: tuple[float, float], *, above: float, at_most: float = float("inf")
) -> None:
    low, high = interval
    if low > high:
        _refuse(name, f"has {field}=({low:g}, {high:g}): the first must not exceed the second")
    if low <= above or high > at_most:
        limit = f"above {above:g}" + (f" and at most {at_most:g}" if at_most < float("inf") else "")
        _refuse(name, f"has {field}=({low:g}, {high:g}): both must be {limit}")


def _check_greyscale(name: str, op: Operation) -> None:
    match op:
        case c.ColorJitter() if op.saturation or op.hue:
            _refuse(name, "changes saturation or hue, which greyscale images (canvas.channels=1) do not have")
        case c.Greyscale():
            _refuse(name, "changes nothing: the images are greyscale already (canvas.channels=1)")


def _check_together(active: list[tuple[str, Operation]]) -> None:
    for kinds, verb in ((_CROPS, "crop"), (Mix.__args__, "mix")):
        same = [name for name, op in active if isinstance(op, kinds)]
        if len(same) > 1:
            _refuse(f"{same[0]} and {same[1]}", f"both {verb} in the same epoch: set their epochs apart or remove one")
    mixing = next((place for place, (_, op) in enumerate(active) if isinstance(op, Mix)), len(active))
    if mixing < len(active) - 1:
        _refuse(active[mixing][0], f"runs last, but {active[mixing + 1][0]} stands after it: put it at the end")
    flips = {type(op): name for name, op in active}
    if c.HorizontalFlip in flips and c.AlternatingFlip in flips:
        both = f"{flips[c.AlternatingFlip]} and {flips[c.HorizontalFlip]}"
        _refuse(both, "run in the same epoch: a random flip undoes the alternation, so remove one")


def _check_sizes(active: list[tuple[str, Operation]], canvas: Size, image_size: Size) -> None:
    size = canvas
    for name, op in active:
        match op:
            case c.PadCrop():
                if op.mode == "reflect" and op.padding >= min(size):
                    _refuse(name, f"reflects {op.padding} pixels, but the canvas has only {_pixels(size)}: pad less")
                padded = (size[0] + 2 * op.padding, size[1] + 2 * op.padding)
                _check_fits(f"the canvas as {name} pads it", padded, image_size)
            case c.RandomCrop():
                _check_fits("the canvas", size, image_size)
                if size == image_size:
                    _refuse(name, f"changes nothing: the canvas is as large as data.image_size, {_pixels(size)}")
            case c.GaussianBlur() if op.kernel > min(size):
                _refuse(name, f"has kernel={op.kernel}, more than the {_pixels(size)} image has")
            case c.Cutout() if op.size > min(size):
                _refuse(name, f"has size={op.size}, more than the {_pixels(size)} image has")
        if isinstance(op, _CROPS):
            size = image_size
    _check_fits("the canvas", size, image_size)


def _check_fits(what: str, source: Size, size: Size) -> None:
    if size[0] > source[0] or size[1] > source[1]:
        remedy = "enlarge data.canvas or shrink data.image_size"
        raise UserError(f"data.image_size {_pixels(size)} exceeds {what}, {_pixels(source)}: {remedy}.")


def _pixels(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
