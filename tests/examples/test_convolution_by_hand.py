"""The convolution by hand against `lax`, torch, and sums written out as loops."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

TOLERANCE = 1e-3
SQUARES = [(k, k) for k in range(1, 8)]
WIDE = [(k, k + 2) for k in range(1, 8)]
TALL = [(k + 2, k) for k in range(1, 8)]
PLAIN = dict(kernel=(3, 3), channels=(3, 8), stride=1, dilation=1, groups=1, bias=0.0)

# Every kernel with every stride, dilation and bias; the channels and the groups each by themselves.
FULL = [
    *(
        PLAIN | dict(kernel=kernel, stride=stride, dilation=dilation, bias=bias)
        for kernel, stride, dilation, bias in itertools.product(SQUARES + WIDE + TALL, (1, 2, 3), (1, 2, 3), (0.0, 1.0))
    ),
    *(PLAIN | dict(channels=(2**i, 3**i)) for i in range(6)),
    *(PLAIN | dict(channels=(3**i, 2**i)) for i in range(6)),
    *(PLAIN | dict(channels=(128, 256), groups=groups) for groups in (4, 8, 16, 32, 64)),
]
THINNED = [
    PLAIN | dict(kernel=(7, 7), stride=3, dilation=3, bias=1.0),
    PLAIN | dict(kernel=(1, 3), stride=2, bias=1.0),
    PLAIN | dict(kernel=(9, 7), dilation=2),
    PLAIN | dict(channels=(9, 4), bias=1.0),
    PLAIN | dict(channels=(128, 256), groups=64),
]


def inputs(case, size=64, batch=4):
    """Image, kernel with unit-variance sums, bias."""
    rng = np.random.default_rng(0)
    (c, e), (kh, kw) = case["channels"], case["kernel"]
    d = c // case["groups"]
    x = rng.normal(size=(batch, size, size, c))
    kernel = rng.normal(size=(kh, kw, d, e)) / np.sqrt(kh * kw * d)
    return [array.astype(np.float32) for array in (x, kernel, np.full(e, case["bias"]))]


def settings(case):
    return {name: case[name] for name in ("stride", "dilation", "groups")}


@functools.partial(jax.jit, static_argnames=("stride", "dilation", "groups"))
def lax_convolution(x, kernel, bias, *, stride, dilation, groups):
    out = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )
    return out + bias


def torch_convolution(x, kernel, bias, **settings):
    torch = pytest.importorskip("torch")
    x, kernel, bias = (torch.from_numpy(array) for array in (x, kernel, bias))
    return torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, **settings).permute(
        0, 2, 3, 1
    )


def loops(x, kernel, bias, *, stride=1, padding=0, dilation=1, groups=1):
    """The definition, one output number at a time."""
    x = np.pad(np.float64(x), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    (b, h, w, _), (kh, kw, d, e) = x.shape, kernel.shape
    h2 = (h - (kh - 1) * dilation - 1) // stride + 1
    w2 = (w - (kw - 1) * dilation - 1) // stride + 1
    out = np.zeros((b, h2, w2, e))
    for n, row, column, channel in np.ndindex(out.shape):
        group = channel // (e // groups)
        total = float(bias[channel])
        for i, j, k in np.ndindex(kh, kw, d):
            pixel = x[n, row * stride + i * dilation, column * stride + j * dilation, group * d + k]
            total += pixel * kernel[i, j, k, channel]
        out[n, row, column, channel] = total
    return out


def agree(by_hand, case):
    arrays = inputs(case)
    ours = jax.jit(functools.partial(by_hand.conv2d, **settings(case)))(*arrays)
    for reference in (lax_convolution, torch_convolution):
        theirs = np.asarray(reference(*arrays, **settings(case)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE, err_msg=f"{reference.__name__}, {case}")


@pytest.mark.parametrize("case", THINNED, ids=str)
def test_agrees_with_lax_and_torch(by_hand, case):
    pytest.importorskip("torch")
    agree(by_hand, case)


@pytest.mark.slow
@pytest.mark.deep
def test_agrees_on_the_whole_grid(by_hand):
    pytest.importorskip("torch")
    assert len(FULL) == 21 * 3 * 3 * 2 + 17
    for case in FULL:
        agree(by_hand, case)


@pytest.mark.parametrize(
    ("case", "padding"),
    [
        (dict(kernel=(2, 3), channels=(4, 6), stride=2, dilation=2, groups=2, bias=1.0), 1),
        (dict(kernel=(3, 1), channels=(3, 3), stride=3, dilation=1, groups=3, bias=0.0), 0),
        (dict(kernel=(4, 2), channels=(2, 3), stride=1, dilation=3, groups=1, bias=1.0), 2),
    ],
    ids=str,
)
def test_agrees_with_loops(by_hand, case, padding):
    arrays = inputs(case, size=9, batch=2)
    ours = by_hand.conv2d(*arrays, padding=padding, **settings(case))
    theirs = loops(*arrays, padding=padding, **settings(case))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_without_bias(by_hand):
    x, kernel, bias = inputs(PLAIN, size=6, batch=1)
    np.testing.assert_array_equal(by_hand.conv2d(x, kernel), by_hand.conv2d(x, kernel, bias))


def test_gradients_are_laxs(by_hand):
    case = PLAIN | dict(kernel=(3, 2), channels=(4, 6), stride=2, dilation=2, groups=2, bias=1.0)
    arrays = inputs(case, size=12, batch=2)

    def gradients(convolution):
        def loss(*arrays):
            return jnp.sin(convolution(*arrays, **settings(case))).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arrays)

    for ours, theirs in zip(gradients(by_hand.conv2d), gradients(lax_convolution), strict=True):
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", range(1, 7))
def test_blur_is_each_channels_mean_over_a_window(by_hand, size):
    x = inputs(PLAIN, size=16, batch=2)[0]
    ours = np.asarray(by_hand.blur(x, size))
    theirs = np.zeros((2, 17 - size, 17 - size, 3))
    for row, column in np.ndindex(theirs.shape[1:3]):
        theirs[:, row, column] = x[:, row : row + size, column : column + size].mean((1, 2))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    depthwise = lax_convolution(
        x, np.full((size, size, 1, 3), 1 / size**2, np.float32), np.zeros(3), stride=1, dilation=1, groups=3
    )
    np.testing.assert_allclose(ours, depthwise, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"), list(itertools.product((19, 20), (1, 4), (1, 3), (1, 2)))
)
def test_output_size_counts_the_places(by_hand, size, kernel, stride, dilation):
    last_taps = range((kernel - 1) * dilation, size, stride)
    assert by_hand.output_size(size, kernel, stride, dilation) == len(last_taps)


@pytest.mark.parametrize(
    ("kernel", "changes", "message"),
    [
        ((3, 3, 4, 8), dict(groups=3), "3 groups do not divide 4 input and 8 output channels equally"),
        ((3, 3, 2, 9), dict(groups=2), "2 groups do not divide 4 input and 9 output channels equally"),
        ((3, 3, 4, 8), dict(groups=0), "0 groups do not divide"),
        ((3, 3, 4, 8), dict(groups=2), "the kernel takes 4 input channels a group, but 4 channels in 2 groups are 2"),
        ((3, 3, 4, 8), dict(bias=np.zeros(4)), "the bias has the shape (4,), but there are 8 output channels"),
        ((3, 3, 4, 8), dict(stride=0), "stride is 0, and must be at least 1"),
        ((3, 3, 4, 8), dict(dilation=0), "dilation is 0, and must be at least 1"),
        ((3, 3, 4, 8), dict(padding=-1), "padding is -1, and must be at least 0"),
        ((5, 3, 4, 8), dict(dilation=2), "a kernel of 5 taps with dilation 2 covers 9 pixels, of 8: pad"),
    ],
)
def test_misfits_are_named(by_hand, kernel, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        by_hand.conv2d(np.zeros((1, 8, 8, 4), np.float32), np.zeros(kernel, np.float32), **changes)


def test_an_empty_window_is_refused(by_hand):
    with pytest.raises(ValueError, match="a window of 0 pixels is empty"):
        by_hand.blur(np.zeros((1, 8, 8, 4), np.float32), 0)
