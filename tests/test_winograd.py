"""Winograd's convolutions: chosen from 16 channels on, close to the float64 result in every pass, and open about where not."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends
from glassgrad.ops.conv import conv2d
from oracle import same_as_torch

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")

PLAIN = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


@pytest.fixture
def module():
    return backends.get("cpp").module


def passes(module, rung, x, w, b, dy, **geometry):
    """y, dx, dw by a rung, or by the kernels that the ops call."""
    conv, first = (module.conv_rung, (rung,)) if rung else (module.conv2d, ())
    dx = module.conv_rung_backward_input if rung else module.conv2d_backward_input
    dw = module.conv_rung_backward_weight if rung else module.conv2d_backward_weight
    return (
        conv(*first, x, w, b, **geometry),
        dx(*first, dy, w, x_shape=x.shape, **geometry),
        dw(*first, dy, x, w_shape=w.shape, **geometry),
    )


def numbers(rng, n, c, h, w, k, groups=1, dtype=np.float32):
    """x, weight, bias and dy of a 3 x 3 convolution with padding 1."""
    shapes = (n, c, h, w), (k, c // groups, 3, 3), (k,), (n, k, h, w)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 64, 14, 14, 64), 1), ((1, 130, 9, 7, 67), 1), ((3, 64, 5, 6, 96), 2), ((1, 512, 7, 7, 33), 1)],
    ids=str,
)
def test_every_pass_is_close_to_the_float64_result(module, shape, groups, rng):
    arrays = numbers(rng, *shape, groups)
    geometry = PLAIN | {"groups": groups}
    exact = passes(module, "implicit", *[a.astype(np.float64) for a in arrays], **geometry)
    for got, expected in zip(passes(module, None, *arrays, **geometry), exact, strict=True):
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_it_is_chosen_from_16_channels(module, rng):
    for channels, rung in ((16, "winograd"), (15, "implicit")):
        arrays = numbers(rng, 2, channels, 9, 9, 20)
        for got, expected in zip(
            passes(module, None, *arrays, **PLAIN), passes(module, rung, *arrays, **PLAIN), strict=True
        ):
            assert np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
@pytest.mark.parametrize(("padding", "groups"), [(0, 1), (1, 1), (2, 2), (3, 1)])
def test_values_and_gradients_are_pytorchs(padding, groups, dtype, rng):
    torch = pytest.importorskip("torch")
    x, w, b, _ = numbers(rng, 2, 32, 9, 11, 34, groups, dtype)
    keywords = {"padding": padding, "groups": groups}
    same_as_torch(
        torch,
        lambda *xs: conv2d(*xs, **keywords),
        lambda *xs: torch.nn.functional.conv2d(*xs, **keywords),
        *(x, w, b),
        tolerance=10,
    )


def test_first_and_second_derivatives_are_the_numeric_ones(rng):
    x, w, b, _ = numbers(rng, 1, 16, 3, 4, 16, dtype=np.float64)
    inputs = [gg.tensor(a, requires_grad=True) for a in (x[..., :3, :2], w, b)]
    directions = [gg.tensor(rng.standard_normal(t.shape)) for t in inputs]

    def along(s):  # of 2,600 inputs, a line through them
        return conv2d(*[t.detach() + s * d for t, d in zip(inputs, directions, strict=True)], padding=1)

    s = gg.tensor(0.3, dtype=gg.float64, requires_grad=True)
    assert gg.gradcheck(along, (s,))
    assert gg.gradgradcheck(along, (s,))


def test_an_infinity_spoils_its_tiles_only(module, rng):
    x, w, b, _ = numbers(rng, 1, 16, 20, 20, 16)
    x[0, 3, 9, 9] = np.inf
    y = module.conv2d(x, w, b, **PLAIN)
    sees = np.zeros((20, 20), bool)
    sees[8:12, 8:12] = True  # the 4 x 4 outputs of the only tile that sees row 9 and column 9
    assert np.isnan(y[0, :, sees]).all()
    assert np.isfinite(y[0, :, ~sees]).all()


@pytest.mark.parametrize("change", [{"stride": (2, 1)}, {"dilation": (1, 2)}])
def test_the_rung_refuses_other_geometries(module, change):
    x, w = np.ones((1, 2, 8, 8), np.float32), np.ones((2, 2, 3, 3), np.float32)
    with pytest.raises(RuntimeError, match=r"got \(3, 3\).*expected \(3, 3\), \(1, 1\) and \(1, 1\)"):
        module.conv_rung("winograd", x, w, None, **(PLAIN | change))
