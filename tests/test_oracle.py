"""The oracle against facts that were not made with it, and the measure and the generators against their definitions."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import attack
import numpy as np
import oracle
import points
import pytest
from bounds import BOUNDS, RELATIVE_TO
from mpmath import mp, mpf
from oracle import Loss, all_at, partition_at, ulp_error

INF, NAN = math.inf, math.nan


def close(got: Any, want: Any, tolerance: float) -> bool:
    """Whether got equals want within a relative tolerance, in exact enough arithmetic."""
    with mp.workdps(60):
        return bool(abs(mpf(got) - mpf(want)) <= tolerance * abs(mpf(want)))


# ---------------------------------------------------------------------------------------------------------------------
# The loss

CLOSED_FORMS = {
    "alpha = 1, pseudo-Huber": (1.0, lambda s: mp.sqrt(s + 1) - 1),
    "alpha = 0, Cauchy": (0.0, lambda s: mp.log(s / 2 + 1)),
    "alpha = -2, Geman-McClure": (-2.0, lambda s: 2 * s / (s + 4)),
    "alpha = -inf, Welsch": (-INF, lambda s: 1 - mp.exp(-s / 2)),
    "alpha = 2, quadratic": (2.0, lambda s: s / 2),
    "alpha = 4": (4.0, lambda s: s / 2 + s**2 / 8),
    "alpha = inf": (INF, lambda s: mp.exp(s / 2) - 1),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_loss_is_the_known_one_at_special_alpha(name: str) -> None:
    alpha, rho = CLOSED_FORMS[name]
    for x, c in [(1e-9, 1.0), (0.3, 2.0), (-3.0, 0.75), (20.0, 1.5)]:
        with mp.workdps(80):
            want = rho((mpf(x) / mpf(c)) ** 2)
        assert close(oracle.loss(x, alpha, c), want, 1e-32)


POINTS = [
    (0.5, 1.0, 1.0),
    (-3.0, 1.5, 2.0),
    (0.01, 1e-8, 0.5),
    (3.0, 0.0, 1.0),
    (1e-3, 0.0, 2.0),
    (40.0, -3.0, 7.0),
    (1.5, 2 - 2.0**-52, 1.0),
    (1.5, 2 + 2.0**-51, 1.0),
    (2.0, 3.0, 0.25),
    (0.7, 1e6, 0.5),
    (0.7, -1e6, 0.5),
    (1e200, 0.5, 3.0),
    (3.0, 5e-324, 1.0),
]


@pytest.mark.parametrize(("x", "alpha", "c"), POINTS)
def test_derivatives_are_the_differences_of_loss(x: float, alpha: float, c: float) -> None:
    at = all_at(x, alpha, c)
    # The step is relative for x and c and, because of alpha = 2 - eps, absolute and far below eps for alpha.
    with mp.workprec(400):
        step = mpf(2) ** -120
        x, alpha, c = mpf(x), mpf(alpha), mpf(c)

        def slope(f: Any, v: mpf, h: mpf) -> mpf:
            return (f(v + h) - f(v - h)) / (2 * h)

        assert close(at.influence, slope(lambda v: oracle.loss(v, alpha, c), x, x * step), 1e-30)
        assert close(at.dscale, slope(lambda v: oracle.loss(x, alpha, v), c, c * step), 1e-30)
        assert close(at.dalpha, slope(lambda v: oracle.loss(x, v, c), alpha, step), 1e-30)
        assert close(at.curvature, slope(lambda v: oracle.influence(v, alpha, c), x, x * step), 1e-30)
        assert close(at.weight, at.influence / x, 1e-30)


def test_the_number_of_digits_suffices() -> None:
    # The same points at six times the precision: no cancellation may have gone unnoticed.
    for dtype in (np.float32, np.float64):
        for x, alpha, c in zip(*points.points(dtype, 500, seed=11), strict=True):
            at = all_at(x, alpha, c, dtype)
            with mp.workprec(700):
                better = all_at(x, alpha, c, dtype)
                for name, got, want in zip(Loss._fields, at, better, strict=True):
                    size = max(abs(want), abs(better.weight)) if name == "curvature" else abs(want)
                    assert abs(got - want) <= mpf(10) ** -32 * size + mpf(2) ** -1290, (name, x, alpha, c)


# From peers.md and numerics.md; the last digit given is rounded.
@pytest.mark.parametrize(
    ("field", "x", "alpha", "c", "want", "tolerance"),
    [
        ("loss", 1e-4, 1.0, 1.0, 5e-9, 1e-8),
        ("loss", 3.0, 1e-8, 1.0, 1.7047, 5e-5),
        ("loss", 1e20, 1.0, 1.0, 1e20, 1e-19),
        ("influence", 1e20, 1.0, 2.0, 0.5, 1e-19),
        ("loss", 300.0, 1.0, 1.0, 299, 1e-5),
        ("dalpha", 3.0, 0.0, 1.0, 0.28325837747, 2e-11),
    ],
)
def test_truths_of_the_peers_defects(
    field: str, x: float, alpha: float, c: float, want: float, tolerance: float
) -> None:
    assert close(getattr(all_at(x, alpha, c), field), want, tolerance)


def test_mean_gradient_in_alpha_of_small_residuals() -> None:
    # Residuals of standard deviation 0.05 at alpha = 1e-4: the mean over the normal distribution, by Gauss-Hermite.
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    mean = sum(w * float(oracle.dalpha(0.05 * z, 1e-4, 1.0)) for z, w in zip(nodes, weights, strict=True))
    assert mean / math.sqrt(2 * math.pi) == pytest.approx(2.3e-9, rel=0.05, abs=0)


@pytest.mark.parametrize(("alpha", "scale"), points.EFFICIENT)
def test_influence_and_curvature_give_95_percent_efficiency(alpha: float, scale: float) -> None:
    # (E psi')^2 / E psi^2 for the standard normal; the trapezoidal rule is exact enough for an analytic integrand.
    x = np.arange(-10, 10.01, 0.1)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * 0.1
    at = [all_at(v, alpha, scale) for v in x]
    bend = density @ [float(f.curvature) for f in at]
    power = density @ [float(f.influence) ** 2 for f in at]
    assert bend**2 / power == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize("alpha", [-INF, -1e300, -3.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_infinite_x_is_the_limit_of_large_x(alpha: float, sign: int) -> None:
    far, limit = all_at(sign * mpf("1e1000"), alpha, 0.5), all_at(sign * INF, alpha, 0.5)
    for name, got, want in zip(Loss._fields, far, limit, strict=True):
        if mp.isinf(want):
            assert got * mp.sign(want) > 1e3, name
        else:
            assert abs(got - want) <= 1e-25 * abs(want) + mpf("1e-400"), name


@pytest.mark.parametrize("sign", [-1, 1])
def test_infinite_alpha_is_the_limit_of_large_alpha(sign: int) -> None:
    for name, got, want in zip(Loss._fields, all_at(3.0, sign * 1e30, 2.0), all_at(3.0, sign * INF, 2.0), strict=True):
        assert abs(got - want) <= 1e-28, name
        assert want != 0 or name == "dalpha"


def test_derivative_in_alpha_at_two_is_that_at_two_minus_epsilon() -> None:
    assert oracle.dalpha(3.0, 2.0, 1.0, np.float32) == oracle.dalpha(3.0, 2 - 2.0**-23, 1.0)
    assert oracle.dalpha(3.0, 2.0, 1.0, np.float16) == oracle.dalpha(3.0, 2 - 2.0**-23, 1.0)
    assert oracle.dalpha(3.0, 2.0, 1.0) == oracle.dalpha(3.0, 2 - 2.0**-52, 1.0)
    # and it diverges like (s/4)(log(s/b) - 2)
    assert close(oracle.dalpha(3.0, 2.0, 1.0), 9 / mpf(4) * (mp.log(9 * mpf(2) ** 52) - 2), 1e-13)


def test_zero_and_nan() -> None:
    assert all_at(0.0, 0.5, 2.0) == Loss(0, 0, 0.25, 0.25, 0, 0)
    for arguments in [(NAN, 1.0, 1.0), (1.0, NAN, 1.0), (1.0, 1.0, NAN), (INF, INF, 0.0), (1.0, 1.0, -1.0)]:
        assert all(mp.isnan(v) for v in all_at(*arguments))


def test_arguments_of_any_width_are_taken_exactly() -> None:
    x = np.float32(0.1)
    assert oracle.loss(x, np.float32(2), np.float16(1)) == oracle.loss(float(x), 2.0, 1.0) == mpf(float(x)) ** 2 / 2


def test_arguments_beyond_the_range_of_floats_in_between() -> None:
    # x/c and its square overflow in float64; the exponential of alpha = inf has an exponent of 2000 bits.
    with mp.workdps(40):
        assert close(oracle.loss(1e308, 1.0, 1e-6), mpf(1e308) / mpf(1e-6), 1e-30)
    assert oracle.loss(1e308, INF, 1e-6) > mpf(2) ** 10**9
    assert oracle.loss(1e308, -INF, 1e-6) == 1


# ---------------------------------------------------------------------------------------------------------------------
# The partition function

Z = {
    0.25: "3.9124485762197320363",
    0.5: "3.6389931308930457365",
    1.5: "2.965924888712789472",
    1.75: "2.7940520158545852927",
    mpf("1.9"): "2.6603731935531309621",
    mpf("1.99"): "2.5343540504691490114",
    mpf("2.1"): "2.372782055280686222",
    3.0: "2.1532028570864028853",
    8.0: "2.0545002219075327473",
    100.0: "2.0263774807764370983",
    INF: "2.024373468508486802705813",
}


def test_partition_function_in_closed_form() -> None:
    with mp.workdps(40):
        quarter = mpf(1) / 4
        closed = {
            0: mp.pi * mp.sqrt(2),
            1: 2 * mp.e * mp.besselk(1, 1),
            2: mp.sqrt(2 * mp.pi),
            4: mp.exp(quarter) * mp.besselk(quarter, quarter),
        }
        for alpha, z in closed.items():
            assert close(oracle.log_partition(alpha), mp.log(z), 1e-30)


def test_partition_function_in_numbers() -> None:
    with mp.workdps(40):
        # The decimal alpha is wanted to 20 digits, more than a float holds.
        for alpha, z in Z.items():
            exact = mpf(mp.nstr(alpha, 5)) if isinstance(alpha, mpf) else alpha
            assert close(mp.exp(oracle.log_partition(exact)), mpf(z), 1e-19)


def test_partition_derivative_at_zero_and_near_two() -> None:
    with mp.workdps(40):
        at_zero = -(mp.log(2) ** 2 + mp.pi**2 / 12 - mp.log(2) + mpf(1) / 4)
        assert close(oracle.log_partition_dalpha(0.0), at_zero, 1e-30)
        assert close(oracle.log_partition_dalpha(5e-324), at_zero, 1e-30)
        for b in (2.0**-52, -(2.0**-51), 2.0**-30):
            near_two = -(mp.psi(0, 1.5) + mp.log(2) - 2 - mp.log(abs(b))) / 4
            assert close(oracle.log_partition_dalpha(2 - b), near_two, 50 * abs(b))
        assert oracle.log_partition_dalpha(2.0) == oracle.log_partition_dalpha(2 - 2.0**-52)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_partition_derivative_is_the_difference_of_log_partition(alpha: float) -> None:
    h = 2.0**-30
    with mp.workdps(40):
        slope = (oracle.log_partition(alpha + h) - oracle.log_partition(alpha - h)) / (2 * h)
    assert close(oracle.log_partition_dalpha(alpha), slope, 1e-16)


def test_partition_derivative_keeps_its_digits_at_large_alpha() -> None:
    # log Z(alpha) = log Z(inf) + C/alpha + O(1/alpha^2), so (log Z)' = -C/alpha^2 however small that is.
    with mp.workdps(40):
        constant = (oracle.log_partition(1e12) - oracle.log_partition(INF)) * mpf(1e12)
        for alpha in (1e12, 1e40, 1e160):
            assert close(-oracle.log_partition_dalpha(alpha) * mpf(alpha) ** 2, constant, 1e-11)


def test_partition_function_outside_its_domain() -> None:
    assert partition_at(INF).log_partition_dalpha == 0
    assert oracle.log_partition(-1.0) == INF and mp.isnan(oracle.log_partition_dalpha(-1.0))
    assert all(mp.isnan(v) for v in partition_at(NAN))


def test_likelihood_is_the_sum_of_its_terms() -> None:
    with mp.workdps(30):
        at = oracle.nll_at(1.5, 1.0, 2.0)
        assert close(at.nll, mp.sqrt(mpf(25) / 16) - 1 + mp.log(2) + mp.log(2 * mp.e * mp.besselk(1, 1)), 1e-28)
        assert close(at.dscale, oracle.dscale(1.5, 1.0, 2.0) + 0.5, 1e-28)
        assert close(at.dalpha, oracle.dalpha(1.5, 1.0, 2.0) + oracle.log_partition_dalpha(1.0), 1e-28)
        assert close(at.dx, oracle.influence(1.5, 1.0, 2.0), 1e-30)
    assert oracle.nll(1.0, -1.0, 1.0) == INF and mp.isnan(oracle.nll(1.0, 1.0, 0.0))
    assert close(oracle.nll_summands(1e-9, 1.0, 1e-6).nll, 6 * mp.log(10), 1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# The measure


@pytest.mark.parametrize(
    ("got", "truth", "dtype", "want"),
    [
        (1.0, mpf(1), "float32", 0.0),
        (1 + 2.0**-23, mpf(1), "float32", 1.0),
        (1 + 2.0**-52, mpf(1), "float64", 1.0),
        (1 + 2.0**-10, mpf(1), "float16", 1.0),
        (1 + 2.0**-7, mpf(1), "bfloat16", 1.0),
        (1.0, 1 + mpf(2) ** -24, "float32", 0.5),
        (1 - 2.0**-24, mpf(1), "float32", 0.5),  # the unit is that of 1
        (1 - 2.0**-24, 1 - mpf(2) ** -24, "float32", 0.0),
        (1 - 2.0**-23, 1 - mpf(2) ** -24, "float32", 1.0),  # the unit is that below 1
        (1.0, 1 - mpf(2) ** -30, "float32", 2.0**-7),  # the truth rounds up to 1
        (-1.0, mpf(1), "float32", 2.0**24),
        (0.0, mpf(0), "float32", 0.0),
        (-0.0, mpf(0), "float32", 0.0),
        (2.0**-149, mpf(0), "float32", 1.0),
        (0.0, mpf(2) ** -150, "float32", 0.5),
        (2.0**-149, mpf(2) ** -1000000, "float32", 1.0),
        (3 * 2.0**-149, mpf(2) ** -148, "float32", 1.0),
        (5e-324, mpf(0), "float64", 1.0),
        (NAN, oracle.NAN, "float32", 0.0),
        (NAN, mpf(1), "float32", INF),
        (1.0, oracle.NAN, "float32", INF),
        (INF, oracle.INF, "float32", 0.0),
        (-INF, oracle.INF, "float32", INF),
        (3e38, oracle.INF, "float32", INF),
        (INF, mpf(2) ** 128 - mpf(2) ** 103, "float32", 0.0),  # half a unit beyond the largest: rounds to inf
        (INF, mpf(2) ** 128 - mpf(2) ** 103 - mpf(2) ** 78, "float32", 0.5),  # just below: an inf is the number 2**128
        (INF, mpf(2) ** 128 - mpf(2) ** 104, "float32", 1.0),
        (-INF, mpf(2) ** 128, "float32", 2.0**25),
        (float(np.finfo(np.float32).max), mpf(2) ** 128, "float32", 1.0),
        (float(np.finfo(np.float64).max), mpf(2) ** 1024, "float64", 1.0),
        (1.0, mpf(2) ** mpf(2) ** 500, "float64", INF),
    ],
)
def test_ulp_error(got: float, truth: mpf, dtype: str, want: float) -> None:
    assert ulp_error(got, truth, dtype) == pytest.approx(want, rel=1e-7)
    assert ulp_error(-got, -truth, dtype) == ulp_error(got, truth, dtype)


def test_ulp_error_at_least() -> None:
    assert ulp_error(2.0**-24, mpf(0), np.float32, at_least=mpf(1)) == 0.5
    assert ulp_error(4 + 2.0**-21, mpf(4), np.float32, at_least=1.0) == 1.0
    assert ulp_error(INF, mpf(2) ** 200, np.float32, at_least=mpf(2) ** 300) == 0.0


def test_ulp_error_of_a_rounded_number_is_at_most_a_half() -> None:
    for dtype in (np.float16, np.float32):
        for v in np.random.default_rng(5).lognormal(0, 20, 500):
            with np.errstate(over="ignore", under="ignore"):
                assert ulp_error(dtype(v), mpf(v), dtype) <= 0.5


# ---------------------------------------------------------------------------------------------------------------------
# The generators and the attack


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_points_lie_in_the_domain_and_repeat(dtype: Any) -> None:
    for x, alpha, c in (points.points(dtype, 5000, seed=1), points.structured(dtype)):
        assert x.dtype == alpha.dtype == c.dtype == dtype
        assert np.isfinite(x).all() and not np.isnan(alpha).any()
        assert c.min().astype(float) >= 1e-6 and c.max().astype(float) <= 1e6
    again = points.points(dtype, 5000, seed=1)
    assert all(np.array_equal(u, v) for u, v in zip(points.points(dtype, 5000, seed=1), again, strict=True))
    assert not np.array_equal(again[0], points.points(dtype, 5000, seed=2)[0])
    assert sum(points.SHARES.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_alphas_are_there(dtype: Any) -> None:
    got = set(points.alphas(dtype).tolist())
    for v in (0, 1, 2):
        neighbours = [np.nextafter(dtype(v), dtype(d)) for d in (-9, 9)]
        assert {float(v), *map(float, neighbours)} <= got
    top = float(np.finfo(dtype).max)
    assert {INF, -INF, top, -top, float(np.finfo(dtype).smallest_subnormal)} <= got
    assert (points.partition_alphas(dtype, 100, seed=1) >= 0).all()


def test_neighbours_step_through_zero_and_stop_at_infinity() -> None:
    assert points.neighbours([0.0, 0.0], [-1, 1], np.float64).tolist() == [-5e-324, 5e-324]
    assert points.neighbours([1.0, -1.0], [1, 1], np.float32).tolist() == [1 + 2.0**-23, -1 + 2.0**-24]
    assert points.neighbours([INF, -INF], [3, -3], np.float64).tolist() == [INF, -INF]


def test_aimed_points_reach_the_branch_points() -> None:
    x, alpha, c = (v.astype(np.float64) for v in points.aimed(np.random.default_rng(1), 20000, np.float64))
    with np.errstate(all="ignore"):
        u = (x / c) ** 2 / np.abs(alpha - 2)
        t = np.log1p(u)
        kt = alpha / 2 * t
    for value, target in [(t, 1.0), (t, 2.0), (t, math.log(2) / 2), (u, math.sqrt(2) - 1), (kt, 1.0), (kt, -2.0)]:
        assert (np.abs(value - target) < 1e-14).sum() > 20
    assert (np.abs(kt - 709.78) < 1).sum() > 20 and (np.abs(kt + 745.1) < 1).sum() > 20


def rounded_oracle(**errors: float) -> SimpleNamespace:
    """A perfect library, but for relative errors in the named functions."""

    def function(name: str) -> Any:
        def compute(*arguments: Any) -> Any:
            truths = [attack.truth_of(name, *map(float, v), "float32")[0] for v in zip(*arguments, strict=True)]
            with np.errstate(all="ignore"):
                return np.array([float(v * (1 + mpf(errors.get(name, 0)))) for v in truths]).astype(np.float32)

        return compute

    def gradient(x: Any, alpha: Any, scale: Any) -> SimpleNamespace:
        return SimpleNamespace(**{name: function(name)(x, alpha, scale) for name in ("dalpha", "dscale")})

    one_output = {name: function(name) for name in ("loss", "influence", "weight", "curvature")}
    return SimpleNamespace(**one_output, loss_and_grad=gradient)


def test_attack_finds_errors_and_only_errors(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    functions = attack.DEFAULT.split(",")
    library = rounded_oracle(weight=2.0**-20)
    errors = attack.evaluate(library, functions, "float32", n=300, partition_n=0, seed=4)
    beyond = {f: attack.report(f, errors[f], attack.bound_of(f, "float32")) for f in functions}
    assert all(max(errors[f]).ulp <= 0.5 for f in functions if f != "weight")
    assert {f for f in functions if beyond[f]} == {"weight"} and 4 < max(errors["weight"]).ulp < 17
    assert "weight: max" in capsys.readouterr().out

    path = tmp_path / "worst.csv"
    path.write_text(points.WORST_CASES.read_text().splitlines()[0] + "\n")
    worst = max(errors["weight"])
    assert attack.add("weight", "float32", worst, path) and not attack.add("weight", "float32", worst, path)
    (row,) = points.worst_cases("weight", "float32", path)
    assert (row.x, row.alpha, row.scale) == (worst.x, worst.alpha, worst.scale)
    assert row.ulp == pytest.approx(worst.ulp, rel=1e-3)


def test_worst_cases_name_known_functions() -> None:
    for case in points.worst_cases():
        assert case.function in BOUNDS or case.function.startswith("nll")
        assert case.dtype in BOUNDS["loss"]


def test_every_function_has_a_bound_in_every_dtype() -> None:
    assert set(Loss._fields) | set(oracle.Partition._fields) == set(BOUNDS)
    assert all(set(row) == set(oracle.FORMATS) for row in BOUNDS.values())
    assert set(RELATIVE_TO) <= set(BOUNDS)
