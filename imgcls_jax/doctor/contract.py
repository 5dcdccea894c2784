"""Check that a network keeps the contract by which it is trained, evaluated, saved and restored: `c.Model.build`."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.errors import UserError
from imgcls_jax.models import network
from imgcls_jax.models.network import Network, Tree
from imgcls_jax.weights import paths

BATCH = 4
_LISTED = 5  # paths that a message names at most
_SWITCHES = "transfer.batch_norm could not be obeyed; take imgcls_jax.models.layers.BatchNorm, which has both switches"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    """What must hold."""
    problem: str | None
    """How it does not, and what to do; None: it holds."""


class _Broken(Exception):
    """A check fails; the message is a finding's problem."""


@dataclass
class _Subject:
    """A network and what the checks share."""

    config: c.Model
    outputs: int
    network: Network
    build: Callable[..., nnx.Module]
    params: Tree
    stats: Tree
    images: np.ndarray

    def call(self, graph: nnx.GraphDef) -> Callable[[Tree, Tree, Any], tuple[jax.Array, Tree]]:
        """A jitted function of parameters, statistics and images that gives logits and new statistics."""

        @jax.jit
        def run(params: Tree, stats: Tree, images: jax.Array) -> tuple[jax.Array, Tree]:
            merged = nnx.merge(graph, params, stats)
            logits = merged(images)
            return logits, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))

        return run

    @functools.cached_property
    def evaluate(self) -> Callable[[Tree, Tree, Any], tuple[jax.Array, Tree]]:
        """`call` in evaluation mode."""
        return self.call(self.network.evaluate)

    @functools.cached_property
    def evaluated(self) -> tuple[np.ndarray, Tree]:
        """Logits and statistics of the images in evaluation mode."""
        logits, stats = self.evaluate(self.params, self.stats, self.images)
        return np.asarray(logits), stats


def check(
    model: c.Model, *, num_classes: int = 5, channels: int = 3, image_size: tuple[int, int] = (32, 32)
) -> list[Finding]:
    """Check a network on random images, with random weights.

    Args:
      model: its settings.
      num_classes: number of classes; with 2 the network may have a single logit.
      channels, image_size: channels, and height and width in pixels, of the images.

    Returns:
      A finding for each check, in the order in which they are made. Where the network cannot be built or called, the
      later checks are left out.

    Example:
      >>> from imgcls_jax import config as c
      >>> from imgcls_jax.doctor import contract
      >>> model = c.CNN(convs=(c.Conv(4, 3),), aggregate="average", head=c.Head())
      >>> [finding.problem for finding in contract.check(model, image_size=(8, 8)) if finding.problem]
      []
    """
    build = functools.partial(
        model.build,
        num_classes=model.output_classes(num_classes),
        channels=channels,
        image_size=image_size,
    )
    findings = []
    subject: _Subject | None = None

    def run(text: str, function: Callable[[], Any]) -> Any:
        problem, result = None, None
        try:
            result = function()
        except (_Broken, UserError) as error:
            problem = str(error)
        except Exception as error:  # the network is a user's own: anything may go wrong in it
            problem = f"{type(error).__name__}: {error}"
        findings.append(Finding(text, problem))
        return result

    subject = run("builds a module of nnx.Param and nnx.BatchStat alone", lambda: _subject(model, build))
    if subject is None:
        return findings
    subject.images = np.random.default_rng(0).standard_normal((BATCH, *image_size, channels)).astype(np.float32)
    subject.outputs = model.output_classes(num_classes)
    for text, function in _FIRST.items():
        run(text, functools.partial(function, subject))
    if any(finding.problem for finding in findings):
        return findings
    for text, function in _checks(subject):
        run(text, functools.partial(function, subject))
    return findings


def _subject(config: c.Model, build: Callable[..., nnx.Module]) -> _Subject:

    def module() -> nnx.Module:
        made = build(dtype=jnp.float32, rngs=nnx.Rngs(0))
        if not isinstance(made, nnx.Module):
            raise _Broken(f"build returns a {type(made).__name__}, not an nnx.Module")
        return made

    others = nnx.to_pure_dict(nnx.state(nnx.eval_shape(module), nnx.Not(nnx.Any(nnx.Param, nnx.BatchStat))))
    if others:
        raise _Broken(
            f"it also holds {_some(paths.flatten(others))}, which would be lost: give randomness at call time, "
            f"`nnx.Dropout(rate)` and `dropout(x, rngs=rngs)`, and keep statistics in nnx.BatchStat"
        )
    made = network.split(functools.partial(build, dtype=jnp.float32), c.BatchNormMode())
    params, stats = made.create(jax.random.key(0))
    if not paths.flatten(params):
        raise _Broken("it has no parameters (nnx.Param)")
    return _Subject(config, 0, made, build, params, stats, np.zeros(0))


# ---- the checks -----------------------------------------------------------------------------------------------------


def _logits(subject: _Subject) -> None:
    logits, _ = subject.evaluated
    allowed = {(BATCH, subject.outputs)} | ({(BATCH, 1)} if subject.outputs == 2 else set())
    if logits.shape not in allowed:
        raise _Broken(f"logits of {BATCH} images and {subject.outputs} classes have the shape {logits.shape}")
    if logits.dtype != np.float32:
        raise _Broken(f"logits are {logits.dtype}: compute the output layer in float32")
    if not np.isfinite(logits).all():
        raise _Broken("logits of normal images are not finite")


def _parameters_are_float32(subject: _Subject) -> None:
    for dtype in (jnp.float32, jnp.bfloat16):
        module = nnx.eval_shape(lambda dtype=dtype: subject.build(dtype=dtype, rngs=nnx.Rngs(0)))
        trees = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
        wrong = [path for tree in trees for path, leaf in paths.flatten(tree).items() if leaf.dtype != jnp.float32]
        if wrong:
            raise _Broken(f"with dtype={jnp.dtype(dtype)}, {_some(wrong)} are not float32: leave param_dtype alone")


def _bfloat16(subject: _Subject) -> None:
    module = nnx.eval_shape(lambda: subject.build(dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    logits = nnx.eval_shape(lambda module: _evaluation(module)(jnp.asarray(subject.images)), module)
    if logits.dtype != jnp.float32:
        raise _Broken(f"with dtype=bfloat16 logits are {logits.dtype}: compute the output layer in float32")


def _repeatable(subject: _Subject) -> None:
    first, _ = subject.evaluated
    second, stats = subject.evaluate(subject.params, subject.stats, subject.images)
    if not np.array_equal(first, second):
        raise _Broken("the same images have other logits the second time")
    changed = _changed(subject.stats, stats)
    if changed:
        raise _Broken(f"evaluation changes {_some(changed)}: obey update_running=False in set_view")


def _independent(subject: _Subject) -> None:
    logits, _ = subject.evaluated
    others = subject.images.copy()
    others[1:] = others[1:] * 2 + 1
    changed, _ = subject.evaluate(subject.params, subject.stats, others)
    if not np.allclose(logits[0], changed[0], rtol=1e-4, atol=1e-5):
        raise _Broken(
            "the logits of an image depend on the other images of its batch: obey use_running_average=True in set_view"
        )


def _depends_on_image(subject: _Subject) -> None:
    logits, _ = subject.evaluated
    if np.ptp(logits, axis=0).max() == 0:
        raise _Broken("the logits are the same for every image")


def _trains(subject: _Subject) -> None:
    """Gradients at every parameter, moved statistics, and one compilation."""

    @jax.jit
    def step(params: Tree, stats: Tree, images: jax.Array, key: jax.Array) -> tuple[Tree, jax.Array, Tree]:
        def loss(params: Tree) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
            merged = nnx.merge(subject.network.train, params, stats)
            logits = merged(images, rngs=nnx.Rngs(dropout=key))
            full = logits if logits.shape[1] > 1 else jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)
            labels = jnp.arange(BATCH) % full.shape[1]
            losses = -jax.nn.log_softmax(full)[jnp.arange(BATCH), labels]
            return losses.mean(), (logits, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

        grads, (logits, stats) = jax.grad(loss, has_aux=True)(params)
        return grads, logits, stats

    grads, logits, stats = step(subject.params, subject.stats, subject.images, jax.random.key(0))
    step(subject.params, stats, 2 * subject.images, jax.random.key(1))
    if step._cache_size() != 1:  # type: ignore[attr-defined]
        raise _Broken("a second training step is compiled anew: the state changes its structure or types")
    if logits.shape != subject.evaluated[0].shape:
        raise _Broken(
            f"logits have the shape {logits.shape} in training and {subject.evaluated[0].shape} in evaluation"
        )
    # On the host: on the device, each shape would be compiled for.
    flat = paths.flatten(jax.device_get(grads))
    if wrong := [path for path, grad in flat.items() if not np.isfinite(grad).all()]:
        raise _Broken(f"the gradient of {_some(wrong)} is not finite")
    if wrong := [path for path, grad in flat.items() if not np.any(grad)]:
        raise _Broken(f"no gradient reaches {_some(wrong)}: use it, or make it no nnx.Param")
    still = set(paths.flatten(subject.stats)) - set(_changed(subject.stats, stats))
    if still:
        raise _Broken(f"training does not move {_some(sorted(still))}: obey update_running=True in set_view")


def _modes(subject: _Subject) -> None:
    """Each of the three switches of `nnx.view` does what it says, and nothing else."""
    module = nnx.eval_shape(lambda: subject.build(dtype=jnp.float32, rngs=nnx.Rngs(0)))

    def run(**modes: bool) -> tuple[jax.Array, Tree]:
        graph = nnx.split(nnx.view(module, raise_if_not_found=False, **modes))[0]
        return subject.call(graph)(subject.params, subject.stats, subject.images)

    logits, moved = run(deterministic=True, use_running_average=True, update_running=True)
    if not np.allclose(logits, subject.evaluated[0], rtol=1e-5, atol=1e-5):
        raise _Broken("update_running=True changes the logits, though use_running_average is True")
    if not paths.flatten(subject.stats):
        return
    if not _changed(subject.stats, moved):
        raise _Broken(
            f"update_running=True does not move the statistics where use_running_average is True: {_SWITCHES}"
        )
    logits, kept = run(deterministic=True, use_running_average=False, update_running=False)
    if changed := _changed(subject.stats, kept):
        raise _Broken(f"update_running=False changes {_some(changed)}: {_SWITCHES}")
    if np.allclose(logits, subject.evaluated[0]):
        raise _Broken("use_running_average=False gives the logits of use_running_average=True")


def _rebuilds(subject: _Subject) -> None:
    again = network.split(functools.partial(subject.build, dtype=jnp.float32), c.BatchNormMode())
    before = {path: leaf for tree in (subject.params, subject.stats) for path, leaf in paths.flatten(tree).items()}
    for key, same in ((jax.random.key(0), True), (jax.random.key(1), False)):
        after = {path: leaf for tree in again.create(key) for path, leaf in paths.flatten(tree).items()}
        if before.keys() != after.keys():
            raise _Broken(f"built twice, it has other parameters: {_some(before.keys() ^ after.keys())}")
        differ = [path for path, leaf in before.items() if not np.array_equal(leaf, after[path])]
        if same and differ:
            raise _Broken(f"the same key gives other values of {_some(differ)}: draw from `rngs` alone")
        if not same and not differ:
            raise _Broken("another key gives the same parameters: draw them from `rngs`")


def _paths(subject: _Subject) -> None:
    flat = [*paths.flatten(subject.params), *paths.flatten(subject.stats)]
    prefix = subject.config.head_prefix
    if not any(path.startswith(prefix) for path in flat):
        raise _Broken(f"no parameter's path begins with {prefix!r}: name the output layers so, or set head_prefix")
    ordered = subject.config.torch_order(flat)
    if sorted(ordered) != sorted(flat):
        raise _Broken(f"torch_order loses or adds {_some(set(ordered) ^ set(flat))}")


def _stages(subject: _Subject) -> None:
    names: list[str] = []

    @jax.jit
    def run(params: Tree, stats: Tree, images: jax.Array) -> dict[str, jax.Array]:
        maps = nnx.merge(subject.network.evaluate, params, stats).stages(images)
        names.extend(maps)  # jit sorts dicts
        return maps

    maps = run(subject.params, subject.stats, subject.images)
    logits = subject.evaluated[0]
    if maps[names[-1]].shape != logits.shape or not np.allclose(maps[names[-1]], logits, rtol=1e-5, atol=1e-5):
        raise _Broken(f"the last stage, {names[-1]!r}, is not the logits")
    if wrong := [name for name, value in maps.items() if value.shape[:1] != (BATCH,)]:
        raise _Broken(f"{_some(wrong)} do not have the batch as first axis")


def _torch(subject: _Subject) -> None:
    flat = paths.flatten(subject.params) | paths.flatten(subject.stats)
    rules = subject.config.torch_rules()
    if nameless := [path for path in flat if not any(rule.name_of(path) for rule in rules)]:
        raise _Broken(f"torch_rules has no name for {_some(nameless)}")
    state = weights.to_state_dict(subject.params, subject.stats, subject.config)
    counters = sum(name.endswith(".num_batches_tracked") for name in state)
    if len(state) - counters < len(flat):
        raise _Broken("torch_rules gives two parameters one name")
    back = weights.to_params(state, subject.config, subject.params, subject.stats)
    if changed := [*_changed(subject.params, back[0]), *_changed(subject.stats, back[1])]:
        raise _Broken(f"written to torch's names and read back, {_some(changed)} are not the same")


_FIRST: dict[str, Callable[[_Subject], None]] = {
    "gives finite float32 logits [batch, classes] in evaluation mode, without rngs": _logits,
    "keeps parameters and statistics float32 whatever the dtype": _parameters_are_float32,
}


def _checks(subject: _Subject) -> Iterator[tuple[str, Callable[[_Subject], None]]]:
    yield "computes in bfloat16 with float32 logits", _bfloat16
    yield "gives the same logits again, and evaluation changes nothing", _repeatable
    yield "gives logits of an image that do not depend on the rest of the batch", _independent
    yield "gives logits that depend on the image", _depends_on_image
    yield "trains under jit: finite gradients at every parameter, moved statistics", _trains
    yield "obeys the modes of nnx.view one by one", _modes
    yield "is built alike from the same key, and otherwise from another", _rebuilds
    yield "names its output layers, and orders all paths", _paths
    if _has_stages(subject):
        yield "ends its stages with the logits", _stages
    if type(subject.config).torch_rules is not c.Model.torch_rules:
        yield "goes to torch's names and comes back bit by bit", _torch


def _has_stages(subject: _Subject) -> bool:
    return hasattr(nnx.eval_shape(lambda: subject.build(dtype=jnp.float32, rngs=nnx.Rngs(0))), "stages")


def _evaluation(module: nnx.Module) -> nnx.Module:
    return nnx.view(
        module, raise_if_not_found=False, deterministic=True, use_running_average=True, update_running=False
    )


def _changed(before: Tree, after: Tree) -> list[str]:
    """Paths of arrays that are not the same."""
    other = paths.flatten(after)
    return [path for path, leaf in paths.flatten(before).items() if not np.array_equal(leaf, other[path])]


def _some(names: Any) -> str:
    """The names, or the first few of them."""
    names = list(map(str, names))
    more = len(names) - _LISTED
    return ", ".join(itertools.islice(names, _LISTED)) + (f" and {more} more" if more > 0 else "")
