"""For alpha < 0 the loss rises to a limit: it never exceeds what it returns at infinity, and does not fall on its way.

So does its derivative in alpha.  The limits themselves are the true ones, rounded once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import points
import pytest

import fastrobust as fr

ALL = pytest.mark.parametrize("dtype", [np.float32, np.float64])
HALVES = pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])


def negative(n: int, dtype: Any, seed: int) -> Any:
    """Shapes below 0 of every size, -inf among them."""
    rng = np.random.default_rng(seed)
    alphas = -np.exp2(rng.uniform(-30, 120, n)).astype(dtype)
    alphas[: n // 2] = -np.exp2(rng.uniform(-7, 7, n // 2)).astype(dtype)
    alphas[-1] = -np.inf
    return alphas


def capped(alpha: Any) -> Any:
    """Where the kernels take alpha as it is: d/dalpha of larger ones is scaled, and may exceed its limit by a unit."""
    return abs(alpha) <= (2.0**48 if alpha.dtype == np.float32 else 2.0**90)


def largest(dtype: Any) -> float:
    return float(ml_dtypes.finfo(dtype).max)


@ALL
def test_the_limit_at_infinity_is_the_true_one_rounded_once(dtype: Any) -> None:
    alphas = negative(400, dtype, 1)[:-1]
    found = fr.loss_and_grad(dtype(np.inf), alphas, dtype(1.5), wrt=("alpha",))
    for alpha, value, slope in zip(alphas, found.value, found.dalpha, strict=True):
        exact = Fraction(float(alpha))
        for number, true in ((value, 1 - 2 / exact), (slope, 2 / exact**2)):
            if number and np.isfinite(number):
                step = Fraction(float(np.spacing(number)))
                # 2^-20 of a step: not every tie is broken rightly; d/dalpha is right to one step far beyond
                most = Fraction(1, 2) + Fraction(1, 1 << 20) if number is value or abs(exact) < 2**40 else 2
                assert abs(Fraction(float(number)) - true) <= most * step, (alpha, number)


@ALL
def test_what_rises_to_a_limit_does_not_exceed_it(dtype: Any) -> None:
    alphas = negative(4000, dtype, 2)[:, None]
    x = np.exp2(np.linspace(0, np.log2(largest(dtype)) - 1e-3, 60)).astype(dtype)
    for scale in (1e-5, 1.0, 300.0):
        found = fr.loss_and_grad(x, alphas, dtype(scale), wrt=("alpha",))
        limit = fr.loss_and_grad(dtype(np.inf), alphas, dtype(scale), wrt=("alpha",))
        assert (found.value <= limit.value).all()
        assert (found.dalpha <= limit.dalpha)[capped(alphas)[:, 0]].all()
        assert (found.value[:2000, -1] == limit.value[:2000, 0]).mean() > 0.5  # many have arrived


@ALL
def test_every_kind_of_point_stays_below_the_limit(dtype: Any) -> None:
    x, alpha, scale = points.points(dtype, 100_000, 20)
    with np.errstate(all="ignore"):
        found, limit = (fr.loss_and_grad(v, alpha, scale) for v in (x, np.full_like(x, np.inf)))
    assert (found.value <= limit.value).all()
    assert (found.dalpha <= limit.dalpha)[capped(alpha)].all()
    for part in (found.value, found.dalpha, found.dx * np.sign(x), -found.dscale):
        assert (part >= 0).all()


@ALL
def test_consecutive_residuals_have_no_falling_loss(dtype: Any) -> None:
    """Near the limit, where true values differ by less than a unit, and elsewhere."""
    rng = np.random.default_rng(3)
    alphas = np.concatenate([negative(25, dtype, 4), np.array([0, 0.3, 1, 1.5, 2, 3], dtype)])
    for alpha in alphas:
        for start in np.exp2(rng.uniform(-6, 40, 12)).astype(dtype):
            x = start + np.arange(1000, dtype=dtype) * np.spacing(start)
            assert (np.diff(fr.loss(x, alpha, 1.0)) >= 0).all(), (alpha, start)


@ALL
def test_a_larger_residual_has_no_smaller_loss(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    alphas = np.concatenate([negative(60, dtype, 6), np.linspace(0, 3, 31).astype(dtype)])[:, None]
    x = np.sort(np.exp2(rng.uniform(-30, 100, 20_000)).astype(dtype))
    with np.errstate(all="ignore"):
        values = fr.loss(x, alphas, dtype(1.0))
        values[np.isinf(values)] = np.inf
    assert (values[:, 1:] >= values[:, :-1]).all()


@HALVES
def test_the_halves_are_bounded_and_rise_for_every_residual(dtype: Any) -> None:
    with np.errstate(invalid="ignore"):
        x = np.arange(0, 1 << 15, dtype=np.uint16).view(dtype)
        x = x[np.isfinite(x.astype(np.float32))]
    for alpha in (-0.3, -1.1, -2.0, -7.7, -1e9, -np.inf):
        values = fr.loss(x, alpha, 1.0).astype(np.float32)
        assert (np.diff(values) >= 0).all()
        assert values[-1] <= np.float32(fr.loss(np.array([np.inf], dtype), alpha, 1.0)[0])


@ALL
def test_the_formulas_as_operations_of_xla_are_bounded_too(dtype: Any) -> None:
    jax = pytest.importorskip("jax")
    from fastrobust.jax import _calls
    from fastrobust.kernels.losses.catalogue import LOSS

    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        alphas = negative(500, dtype, 7)[:250, None]
        x = np.concatenate([np.exp2(np.linspace(0, 100, 50)), [np.inf]]).astype(dtype)
        operands = [jax.numpy.asarray(a) for a in (x[None, :], alphas, np.ones((1, 1), dtype))]
        value, slope = _calls._composite(LOSS, ("value", "dalpha"), *operands)
    assert (value[:, :-1] <= value[:, -1:]).all()
    assert (slope[:, :-1] <= slope[:, -1:]).all()  # no alpha here is beyond the cap
