"""The bounds of bounds.py against the mpmath oracle: structured points, fresh random points, worst cases, defects."""

from __future__ import annotations

import math
import secrets
from typing import Any

import attack
import numpy as np
import oracle
import points
import pytest
from bounds import BOUNDS, IN_WORDS, WITNESSES
from marks import slow
from mpmath import mpf

import fastrobust as fr
from fastrobust._dispatch import backend
from fastrobust.kernels.losses.catalogue import LOSS

ELEMENTWISE = attack.DEFAULT.split(",")
LIKELIHOOD = ["nll", "nll_and_grad.dx", "nll_and_grad.dalpha", "nll_and_grad.dscale"]
LIKELIHOOD_BOUND = 8  # ulp of the largest summand: these are sums, and have zeros
DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.filterwarnings("default::RuntimeWarning")


def beyond(errors: dict[str, list[attack.Error]], dtype: str, seed: int) -> list[str]:
    """One line for the worst violation of each function."""
    lines = []
    for function, found in errors.items():
        bound = attack.bound_of(function, dtype)
        bound = LIKELIHOOD_BOUND if math.isinf(bound) else bound
        worst = max(found, key=lambda e: e.ulp)
        if worst.ulp > bound:
            witness = f"x={worst.x.hex()} alpha={worst.alpha.hex()} scale={worst.scale.hex()}"
            lines.append(f"{function} {dtype} seed {seed}: {worst.ulp:.4g} ulp > {bound} at {witness}")
    return lines


def few_or_many(few: int, many: int) -> Any:
    """So many points in the ordinary run, and in the slow one: mpmath takes milliseconds for each."""
    return pytest.mark.parametrize("count", [few, *slow(many)])


@few_or_many(1500, 10_000)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_hold_at_fresh_random_points(dtype: str, count: int) -> None:
    """Points that nobody chose; a failure names the seed, for attack.py."""
    seed = secrets.randbits(32)
    assert not beyond(attack.evaluate(fr, ELEMENTWISE, dtype, count, 1, seed), dtype, seed)


def in_words(function: str, x: Any, alpha: Any, scale: Any) -> Any:
    """A function of the loss in float32 by the code without doubles, which some GPUs run."""
    output = {"loss": "value", "influence": "dx"}.get(function, function)
    return backend(x).evaluate(LOSS.in_words, (output,), (x, alpha, scale), {})


@pytest.mark.parametrize("function", IN_WORDS)
def test_bounds_hold_without_doubles(function: str) -> None:
    """At fresh points, at the witness, where a twentieth of the bound is reached, and at the worst that were found."""
    seed = secrets.randbits(32)
    worst = [case for case in points.worst_cases(function, "float32") if case.function == function]
    known = [WITNESSES[function][0], *((case.x, case.alpha, case.scale) for case in worst)]
    drawn = points.points(np.float32, 500, seed)
    at = [np.append(column, more) for column, more in zip(np.float32(known).T, drawn, strict=True)]
    errors = []
    for value, x, alpha, scale in zip(in_words(function, *at), *at, strict=True):
        truth, at_least = attack.truth_of(function, float(x), float(alpha), float(scale), "float32")
        errors.append(oracle.ulp_error(float(value), truth, "float32", at_least))
    assert max(errors) <= IN_WORDS[function], (seed, np.argmax(errors))
    assert errors[0] >= IN_WORDS[function] / 20


@few_or_many(8, 80)
@pytest.mark.parametrize("dtype", DTYPES)
def test_likelihood_at_fresh_random_points(dtype: str, count: int) -> None:
    seed = secrets.randbits(32)
    assert not beyond(attack.evaluate(fr, LIKELIHOOD, dtype, 40, count, seed), dtype, seed)


@few_or_many(12, 120)
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_partition_at_fresh_random_points(dtype: str, count: int) -> None:
    seed = secrets.randbits(32)
    functions = ["log_partition", "log_partition_dalpha"]
    assert not beyond(attack.evaluate(fr, functions, dtype, 1, count, seed), dtype, seed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_hold_on_the_structured_grid(dtype: str) -> None:
    """Neighbours of every branch point, powers of two, extremes: a third of the grid, another at each run of CI."""
    third = secrets.randbelow(3)
    x, alpha, scale = (v[third::3] for v in points.structured(dtype))
    got = fr.loss_and_grad(x, alpha, scale)
    computed = {
        "loss": got.value,
        "influence": got.dx,
        "dalpha": got.dalpha,
        "dscale": got.dscale,
        "weight": fr.weight(x, alpha, scale),
        "curvature": fr.curvature(x, alpha, scale),
    }
    for i in range(x.size):
        for function, values in computed.items():
            truth, at_least = attack.truth_of(function, float(x[i]), float(alpha[i]), float(scale[i]), dtype)
            ulp = oracle.ulp_error(float(values[i]), truth, dtype, at_least)
            assert ulp <= BOUNDS[function][dtype], (function, x[i], alpha[i], scale[i], float(values[i]), truth)


def test_worst_cases_stay_within_bounds() -> None:
    """Witnesses of large errors, found by attack.py; the list only grows."""
    cases = points.worst_cases()
    assert cases
    for case in cases:
        kind = np.dtype(case.dtype).type
        args = [np.array([v], kind) for v in (case.x, case.alpha, case.scale)]
        value = float(attack.COMPUTE[case.function](fr, *args)[0])
        truth, at_least = attack.truth_of(case.function, case.x, case.alpha, case.scale, case.dtype)
        assert oracle.ulp_error(value, truth, case.dtype, at_least) <= BOUNDS[case.function][case.dtype], case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", WITNESSES)
def test_witnesses_beside_the_code_come_near_the_bounds(function: str, dtype: str) -> None:
    """A bound that nothing comes near says nothing: at the witness the error is a twentieth of it at least."""
    operands = WITNESSES[function][DTYPES.index(dtype)]
    x, alpha, scale = (0.0, *operands, 1.0) if function.startswith("log_partition") else operands
    kind = np.dtype(dtype).type
    value = float(attack.COMPUTE[function](fr, *(np.array([v], kind) for v in (x, alpha, scale)))[0])
    truth, at_least = attack.truth_of(function, x, alpha, scale, dtype)
    error, bound = oracle.ulp_error(value, truth, dtype, at_least), BOUNDS[function][dtype]
    assert bound / 20 <= error <= bound


# (dtype, x, alpha, scale, output, truth): measured defects of the reference implementations.
DEFECTS = [
    (np.float32, 1e-4, 1.0, 1.0, "value", 5e-9),
    (np.float64, 3.0, 1e-8, 1.0, "value", 1.7047),
    (np.float32, 3.0, 1e-8, 1.0, "value", 1.7047),
    (np.float32, 3.0, 1e-30, 1.0, "value", 1.7047),
    (np.float32, 3.0, 0.0, 1.0, "dalpha", 0.28325837747),
    (np.float64, 3.0, 0.0, 1.0, "dalpha", 0.28325837747),
    (np.float32, 1e20, 1.0, 1.0, "value", 1e20),
    (np.float32, 1e20, 1.0, 1.0, "dx", 1.0),
    (np.float16, 300.0, 1.0, 1.0, "value", 299.0),
]


@pytest.mark.parametrize(("dtype", "x", "alpha", "scale", "output", "truth"), DEFECTS)
def test_defects_of_the_reference_are_right_here(
    dtype: Any, x: float, alpha: float, scale: float, output: str, truth: float
) -> None:
    got = getattr(fr.loss_and_grad(dtype(x), dtype(alpha), scale), output)
    assert got.dtype == dtype
    assert float(got) == pytest.approx(truth, rel=5e-5)


def test_gradients_are_finite_at_infinite_alpha() -> None:
    for alpha in (-np.inf, np.inf):
        assert np.isfinite(fr.loss_and_grad(np.float32(1.5), alpha, 1.0)).all()


def test_mean_alpha_gradient_of_small_residuals() -> None:
    """float32, alpha = 1e-4, residuals of standard deviation 0.05: the reference gives 1.44."""
    x = np.random.default_rng(0).normal(0, 0.05, 10_000).astype(np.float32)
    truth = sum(oracle.dalpha(float(v), float(np.float32(1e-4)), 1.0) for v in x) / x.size
    got = fr.loss_and_grad(x, 1e-4, 1.0, reduction="mean").dalpha
    assert float(truth) == pytest.approx(2.3e-9, rel=0.5, abs=0)
    assert float(got) == pytest.approx(float(truth), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_partition_near_two(dtype: Any) -> None:
    """Where the reference's spline is off by 1.3e-6, and its derivative by 4.2e-2."""
    for delta in (-1e-4, -5e-6, 5e-6, 1e-4):
        alpha = dtype(2 + delta)
        value, slope = fr.log_partition_and_grad(alpha)
        truth = oracle.partition_at(float(alpha), np.dtype(dtype).name)
        eps = np.finfo(dtype).eps
        assert abs(mpf(float(value)) - truth[0]) < 2 * eps
        assert abs(mpf(float(slope)) / truth[1] - 1) < 16 * eps


# Special values: (x, alpha) -> rho, psi, d/dalpha, d/dc at c = 2; None where not asserted.
INF, NAN = np.inf, np.nan
SPECIAL = [
    ((INF, -INF), (1.0, 0.0, 0.0, 0.0)),
    ((INF, -2.0), (2.0, 0.0, 0.5, 0.0)),
    ((INF, 0.0), (INF, 0.0, INF, -1.0)),
    ((INF, 1.0), (INF, 0.5, INF, -INF)),
    ((-INF, 1.0), (INF, -0.5, INF, -INF)),
    ((INF, 1.5), (INF, INF, INF, -INF)),
    ((-INF, 2.0), (INF, -INF, INF, -INF)),
    ((INF, INF), (INF, INF, 0.0, -INF)),
    ((NAN, 1.0), (NAN, NAN, NAN, NAN)),
    ((1.0, NAN), (NAN, NAN, NAN, NAN)),
    ((INF, NAN), (NAN, NAN, NAN, NAN)),
    ((0.0, 1.0), (0.0, 0.0, 0.0, 0.0)),
    ((0.0, -INF), (0.0, 0.0, 0.0, 0.0)),
    ((6.0, 2.0), (4.5, 1.5, None, -4.5)),
    ((1e30, INF), (INF, INF, 0.0, -INF)),
    ((1e30, -INF), (1.0, 0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("at", "expected"), SPECIAL)
def test_special_values(at: tuple[float, float], expected: tuple[Any, ...], dtype: Any) -> None:
    x, alpha = map(dtype, at)
    for parameters in ((alpha, dtype(2)), (np.full(3, alpha), np.full(3, 2, dtype))):  # shared, and one for each
        got = fr.loss_and_grad(np.full(3, x), *parameters)
        for name, values, value in zip(got._fields, got, expected, strict=True):
            if value is not None:
                np.testing.assert_array_equal(values, value, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.0, -1.0, -np.inf, np.nan])
def test_scale_without_meaning_gives_nan(scale: float, dtype: Any) -> None:
    for x in map(dtype, (0.0, 1.0, np.inf, np.nan)):
        assert np.isnan(fr.nll_and_grad(np.array(x), dtype(1), np.array(scale, dtype))).all()
        assert np.isnan(fr.weight(x, dtype(1), np.array(scale, dtype)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_likelihood_below_zero_is_inf(dtype: Any) -> None:
    got = fr.nll_and_grad(dtype(1), np.array(-1, dtype), dtype(1))
    assert got.value == np.inf
    assert np.isnan(got.dalpha)
    assert got.dx == fr.influence(dtype(1), -1.0, dtype(1))
    assert fr.log_partition(np.array(-1e-3, dtype)) == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_is_least_squares_exactly_and_has_a_finite_positive_alpha_gradient(dtype: Any) -> None:
    x = np.linspace(-8, 8, 65).astype(dtype)
    got = fr.loss_and_grad(x, 2.0, 0.5)
    np.testing.assert_array_equal(got.value, 2 * x * x)
    np.testing.assert_array_equal(got.dx, 4 * x)
    np.testing.assert_array_equal(fr.curvature(x, 2.0, 0.5), np.full_like(x, 4))
    assert np.isfinite(got.dalpha).all()
    assert (got.dalpha[x != 0] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [-np.inf, -2.0, 0.0, 0.3, 1.0, 1.9, 1.999, 2.0, 3.0, 30.0])
def test_float32_exhaustively_in_x(alpha: float) -> None:
    """Every positive float32, against the float64 kernels, which the other tests hold to a few ulp of their own."""
    alpha32, scale = np.float32(alpha), np.float32(1.3)
    outputs = ("value", "dx", "dalpha", "dscale")
    bound = dict(zip(outputs, ("loss", "influence", "dalpha", "dscale"), strict=True))
    step = 1 << 24
    worst = dict.fromkeys(outputs, 0.0)
    beyond, largest = 2.0**128, np.finfo(np.float32).max
    with np.errstate(all="ignore"):
        # At alpha = 2 the float64 gradient is that at 2 - 2^-52, the float32 one at 2 - 2^-23.
        at = np.float64(2 - 2.0**-23) if alpha == 2 else np.float64(alpha32)
        for start in range(0, 0x7F800000, step):
            x = np.arange(start, min(start + step, 0x7F800000), dtype=np.uint32).view(np.float32)
            got = fr.loss_and_grad(x, alpha32, scale)
            truth = fr.loss_and_grad(x.astype(np.float64), np.float64(alpha32), np.float64(scale))
            truth = truth._replace(dalpha=fr.loss_and_grad(x.astype(np.float64), at, np.float64(scale)).dalpha)
            for name in outputs:
                # Infinity counts as the number after the largest: the last values before an overflow have their ulp.
                one, many = (np.clip(getattr(r, name).astype(np.float64), -beyond, beyond) for r in (got, truth))
                assert not np.isnan(one - many).any(), name
                spacing = np.spacing(np.minimum(np.abs(many), largest).astype(np.float32)).astype(np.float64)
                worst[name] = max(worst[name], float((np.abs(one - many) / spacing).max()))
    for name, ulp in worst.items():
        assert ulp <= BOUNDS[bound[name]]["float32"], (name, ulp)
