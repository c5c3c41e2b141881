"""The drop-in for ``robust_loss_pytorch``: what it takes beyond tensors, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrobust as fr  # noqa: E402
from fastrobust.compat.robust_loss_pytorch import adaptive, cubic_spline, distribution, general, util, wavelet  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
X = torch.tensor([[0.5, -1.0], [2.0, 30.0]])
DIST = distribution.Distribution()


def module(num_dims: Any = 2, float_dtype: Any = np.float32, **options: Any) -> Any:
    return adaptive.AdaptiveLossFunction(num_dims, float_dtype, **options)


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "num_dims 0": (lambda: module(0), ValueError, "num_dims must be a positive number, got 0: the length"),
    "num_dims '3'": (lambda: module("3"), TypeError, "num_dims must be an integer, got '3'"),
    "num_dims 2.5": (lambda: adaptive.StudentsTLossFunction(2.5, np.float32), TypeError, "num_dims .* got 2.5"),
    "float_dtype None": (lambda: module(2, None), ValueError, "float_dtype must be float16, .* got None"),
    "float_dtype int32": (lambda: module(2, torch.int32), ValueError, "float_dtype must be .* got torch.int32"),
    "alpha_hi inf": (
        lambda: module(alpha_hi=math.inf),
        ValueError,
        "alpha_hi must be .* < inf, got 0.001 and inf: .*100",
    ),
    "alpha_hi nan": (lambda: module(alpha_hi=math.nan), ValueError, "alpha_lo and alpha_hi must be .* nan"),
    "alpha_lo None": (lambda: module(alpha_lo=None), TypeError, "alpha_lo must be a number, got None"),
    "alpha_init": (
        lambda: module(alpha_init=1.999),
        ValueError,
        "alpha_init must lie between alpha_lo=0.001 and alpha_hi",
    ),
    "scale_lo 0": (lambda: module(scale_lo=0), ValueError, "scale_lo and scale_init must be 0 < lo .* got 0 and 1.0"),
    "scale_init 0": (lambda: module(scale_init=0), ValueError, "scale_lo and scale_init must be .* got 1e-05 and 0"),
    "scale_init inf": (
        lambda: module(scale_init=math.inf),
        ValueError,
        "scale_init must be .* < inf, got 1e-05 and inf",
    ),
    "scale_init str": (lambda: module(scale_init="1 m"), TypeError, "scale_init must be a number, got '1 m'"),
    "x str": (lambda: module().lossfun("a"), TypeError, "x is 'a', of which PyTorch makes no tensor .* pass a tensor"),
    "x None": (lambda: module().lossfun(None), TypeError, "x is None, of which PyTorch makes no tensor"),
    "x shape": (lambda: module().lossfun(X[:, :1]), ValueError, "x must have num_dims=2 as its last axis"),
    "x ragged": (
        lambda: general.lossfun([[1.0], [1.0, 2.0]], 1, 1),
        TypeError,
        "x is .* of which PyTorch makes no tensor",
    ),
    "x complex": (lambda: general.lossfun(X + 1j, 1, 1), TypeError, "x is a tensor of torch.complex64"),
    "alpha None": (lambda: general.lossfun(X, None, 1), TypeError, "alpha is None, of which PyTorch makes no tensor"),
    "scale 0": (lambda: general.lossfun(X, 1, 0), ValueError, "scale must be positive everywhere, got 0"),
    "scale 0 of NumPy": (lambda: general.lossfun(X, 1, np.float32(0)), ValueError, "scale must be positive .* got 0"),
    "scale tensor 0": (
        lambda: general.lossfun(X, 1.0, torch.tensor(0.0)),
        ValueError,
        "scale must be positive .* clamp",
    ),
    "scale element": (
        lambda: general.lossfun(X, 1.0, torch.tensor([1, -2.0])),
        ValueError,
        "scale must be .* got -2.0",
    ),
    "nllfun alpha": (lambda: DIST.nllfun(X, -1.0, 1.0), ValueError, "alpha must be >= 0 everywhere, got -1.0"),
    "nllfun alpha tensor": (
        lambda: DIST.nllfun(X, torch.tensor(-1.0), 1.0),
        ValueError,
        "alpha must be >= 0 everywhere",
    ),
    "nllfun scale": (
        lambda: DIST.nllfun(X, 1.0, torch.tensor([1.0, math.nan])),
        ValueError,
        "scale must be .* got nan",
    ),
    "log Z": (lambda: DIST.log_base_partition_function(-1.0), ValueError, "alpha must be >= 0 everywhere, got -1.0"),
    "samples": (lambda: DIST.draw_samples(1.0, 0.0), ValueError, "scale must be positive everywhere, got 0.0"),
    "samples str": (lambda: DIST.draw_samples("a", 1.0), TypeError, "alpha is 'a', of which PyTorch makes no tensor"),
    "numer": (lambda: distribution.analytical_base_partition_function("1", 0), ValueError, "denom > 0, got '1' and 0"),
    "curve": (lambda: distribution.partition_spline_curve(1j), TypeError, "alpha is a tensor of torch.complex64"),
    "spline": (lambda: cubic_spline.interpolate1d(X, "ab", X), TypeError, "values is 'ab', of which PyTorch makes no"),
    "student": (lambda: util.students_t_nll(X, 0.0, 1.0), ValueError, "df must be positive everywhere, got 0.0"),
    "log_safe": (lambda: util.log_safe("a"), TypeError, "x is 'a', of which PyTorch makes no tensor"),
    "rgb": (lambda: util.rgb_to_syuv(X), ValueError, r"rgb must have 3 channels as its last axis, got shape \(2, 2\)"),
    "dct": (lambda: util.image_dct(X[0]), ValueError, "image must have two axes at least"),
    "images": (lambda: adaptive.AdaptiveImageLossFunction((4, 4), "f4"), ValueError, r"\(width, height, channels\)"),
    "levels": (
        lambda: adaptive.AdaptiveImageLossFunction((16, 16, 3), "f4"),
        ValueError,
        "wavelet_num_levels must be from 0 to 4 for images of 16 by 16, got 5",
    ),
    "grey": (lambda: adaptive.AdaptiveImageLossFunction((32, 32, 1), "f4"), ValueError, "take color_space='RGB'"),
    "wavelets": (lambda: wavelet.construct(torch.zeros(1, 4, 4), 1, "db2"), ValueError, "wavelet_type must be one of"),
    "pyramid": (lambda: wavelet.construct(torch.zeros(1, 4, 4), 3, "CDF9/7"), ValueError, "num_levels must be from 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_argument_its_value_and_a_remedy(case: str) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_arrays_and_lists_give_tensors() -> None:
    """lossfun of a NumPy array was a NumPy array, of a number a NumPy number; doubles became single in nllfun."""
    wide = X.double().numpy()
    truth = torch.from_numpy(fr.loss(wide, 1.0, 0.5))
    for x in (wide, X.double(), wide.tolist()):
        found = general.lossfun(x, 1.0, np.float64(0.5))
        assert isinstance(found, torch.Tensor)
        torch.testing.assert_close(found, truth.to(found.dtype), rtol=1e-6, atol=0)
    assert torch.equal(general.lossfun(wide, np.array([1.0]), [0.5]), truth)
    assert general.lossfun(2.0, 1.0, 1.0).shape == ()
    assert torch.equal(general.lossfun(np.arange(3), 1, 1), fr.loss(torch.arange(3), 1, 1))
    assert torch.equal(DIST.nllfun(wide, 1, 2), torch.from_numpy(fr.nll(wide, 1.0, 2.0)))
    assert DIST.log_base_partition_function(np.array([1.0, 2.0])).dtype == torch.float64
    assert DIST.draw_samples(np.ones(3), 1.0).dtype == torch.float64
    student = util.students_t_nll(X.double(), 0.3, 0.7)
    assert torch.equal(student, util.students_t_nll(X.double(), *torch.tensor([0.3, 0.7], dtype=torch.float64)))
    knots = np.array([0.0, 1.0, 4.0])
    expected = cubic_spline.interpolate1d(X, torch.tensor(knots), torch.tensor(2 * np.arange(3.0)))
    assert torch.equal(cubic_spline.interpolate1d(X, knots, [0.0, 2.0, 4.0]), expected)


def test_integers_keep_their_digits() -> None:
    """2^24 + 1 became 2^24."""
    large = torch.tensor([2**24 + 1])
    assert DIST.nllfun(large, 2, 1).item() == float(fr.nll(2.0**24 + 1, 2.0, 1.0))
    assert general.lossfun(large, 2, 1).item() == (2**24 + 1) ** 2 / 2
    assert torch.equal(general.lossfun(X, 10**400, 1), general.lossfun(X, math.inf, 1))


def test_what_cannot_be_looked_at_is_not_checked() -> None:
    """A compiler and transforms see no elements; there a bad scale gives NaN."""
    compiled = torch.compile(general.lossfun, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(X, torch.tensor(1.0), torch.tensor(2.0)), fr.loss(X, 1.0, 2.0))
    rows = torch.func.vmap(general.lossfun, (None, None, 0))(X, 1.0, torch.tensor([2.0, -1.0]))
    assert torch.equal(rows[0], fr.loss(X, 1.0, 2.0)) and torch.isnan(rows[1]).all()
    torch._dynamo.reset()
