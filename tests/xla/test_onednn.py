"""oneDNN's convolutions against XLA's, and a run that asks for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache
from test_conv import native

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.parallel import mesh
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.xla import onednn, target
from imgcls_jax.xla.conv import conv

CASES = [
    # batch, height, width, channels in, out, kernel, stride, padding
    (6, 9, 12, 4, 5, 3, 1, 1),
    (6, 9, 12, 4, 5, 5, 1, 4),
    (6, 33, 31, 2, 3, 3, 2, 1),
    (6, 12, 9, 24, 5, 3, 2, 0),  # a last row that no window reaches
    (3, 13, 10, 4, 5, 7, 2, 3),
    (3, 11, 14, 24, 5, 2, 3, 0),  # stride larger than the kernel
    (3, 28, 28, 4, 5, 14, 14, 0),
    (6, 9, 12, 4, 5, 1, 2, 1),
    (3, 2, 2, 24, 5, 3, 1, 1),
    (7, 1, 1, 24, 5, 3, 2, 1),
    (48, 5, 5, 24, 16, 3, 1, 1),  # the kernel's gradient from six parts of the batch
    (13, 5, 5, 24, 16, 2, 1, 0),  # of which no part has the same size as the others
]


@pytest.fixture
def one_device():
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))


def needed(precision):
    reason = onednn.missing(precision)
    return pytest.mark.skipif(reason is not None, reason=f"oneDNN: {reason}")


def gradients(function, x, kernel, g):
    y, vjp = jax.vjp(function, x, kernel)
    return y, *vjp(g)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param("float32", 2e-6, marks=needed("fp32")),
        pytest.param("bfloat16", 2**-8, marks=needed("bf16")),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_and_their_gradients_equal_xlas(case, dtype, tolerance, one_device, monkeypatch):
    monkeypatch.setattr(onednn, "_PART", 8 * 4000)
    b, h, w, c, d, k, stride, padding = case
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape).astype(dtype) for shape in ((b, h, w, c), (k, k, c, d)))
    y = jax.eval_shape(lambda x, kernel: native(x, kernel, stride, padding), x, kernel)
    g = rng.standard_normal(y.shape).astype(dtype)
    with jax.enable_x64(True):
        exact = [jnp.asarray(array, jnp.float64) for array in (x, kernel, g)]
        expected = gradients(lambda x, kernel: native(x, kernel, stride, padding), *exact)
    with target.tracing_for(one_device, onednn=True):
        traced = jax.jit(lambda *arrays: gradients(lambda x, kernel: conv(x, kernel, stride, padding, 1), *arrays))
        lowered = traced.lower(x, kernel, g)
    assert lowered.as_text().count("__onednn$convolution") >= 2
    with onednn.uncached():
        found = lowered.compile()(x, kernel, g)
    for what, a, b in zip(("output", "by input", "by kernel"), found, expected, strict=True):
        assert a.dtype == dtype
        scale = np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=tolerance * scale, err_msg=what)


@needed("fp32")
def test_a_run_is_close_to_xlas_and_its_step_is_not_cached(tiny_config, tiny_arrays, tmp_path, monkeypatch, capsys):
    found = {}
    for kernels in ("xla", "onednn"):
        written = []
        monkeypatch.setattr(
            compilation_cache, "put_executable_and_time", lambda key, name, *_, written=written: written.append(name)
        )
        config = tiny_config(cpu_convolutions=kernels, seed=3, augment=())
        result = ic.train(config, tmp_path / kernels, arrays=tiny_arrays)
        found[kernels] = [record["train"]["loss"] for record in result["history"]], written
    np.testing.assert_allclose(found["onednn"][0], found["xla"][0], rtol=1e-5)
    assert capsys.readouterr().out.count("1 × cpu, fp32, oneDNN") == 1
    assert [name for name in found["xla"][1] if "run" in name]
    assert not [name for name in found["onednn"][1] if "run" in name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(mesh=c.Mesh(devices=2)), "it serves one device, not several"),
        (dict(precision="fp16"), 'it does not compute in precision "fp16"'),
    ],
)
def test_a_run_that_cannot_have_them_says_so(changes, said, tiny_config, tiny_arrays):
    config = tiny_config(cpu_convolutions="onednn", **changes)
    run = Experiment(config, data.load(config.data, arrays=tiny_arrays), mesh.make(config.mesh))
    assert not run.uses_onednn
    assert f"convolutions are XLA's, not oneDNN's (cpu_convolutions): {said}" in run.notes


@pytest.mark.parametrize(
    ("module", "name", "value", "said"),
    [
        (onednn.sys, "platform", "darwin", "jaxlib has it on Linux on x86 alone"),
        (onednn, "version", lambda _: "0.99.0", "it was tested with jaxlib 0.10.2 and 0.12.0, not 0.99.0"),
        (onednn, "_processor", lambda: {"avx2"}, 'its kernels of precision "fp32" need a processor with avx512f'),
    ],
)
def test_what_is_missing(module, name, value, said, monkeypatch):
    monkeypatch.setattr(onednn, "_processor", lambda: {"avx512f"})
    monkeypatch.setattr(onednn.sys, "platform", "linux")
    monkeypatch.setattr(onednn.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(onednn, "version", lambda _: "0.10.2")
    assert onednn.missing("fp32") is None
    monkeypatch.setattr(module, name, value)
    assert onednn.missing("fp32") == said
