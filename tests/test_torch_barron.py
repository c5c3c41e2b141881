"""Barron's distribution for PyTorch: integers, what is NaN, and Kullback and Leibler's divergence."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.distributions import Cauchy, Independent, Normal, kl_divergence  # noqa: E402

import fastrobust as fr  # noqa: E402
import fastrobust.torch as frt  # noqa: E402
from fastrobust import _density  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
D = torch.float64
INF, NAN = math.inf, math.nan


def barron(alpha: Any, loc: Any, scale: Any) -> Any:
    """In double, whatever the parameters."""
    return frt.Barron(*(torch.as_tensor(v, dtype=D) for v in (alpha, loc, scale)), validate_args=False)


# --- the order of the arguments


def test_the_shape_comes_first_as_in_scipy() -> None:
    from fastrobust.stats import barron as for_scipy

    at = torch.tensor(1.5, dtype=D)
    assert frt.Barron(1.0, 0.3, 0.7).log_prob(at).item() == pytest.approx(
        for_scipy(1.0, 0.3, 0.7).logpdf(1.5), rel=1e-6
    )
    plain = frt.Barron(1.0)
    assert (plain.alpha.item(), plain.loc.item(), plain.scale.item()) == (1.0, 0.0, 1.0)
    assert torch.equal(plain.log_prob(at), frt.Barron(1.0, loc=0.0, scale=1.0).log_prob(at))
    assert frt.Barron(torch.tensor(1.0, dtype=D)).loc.dtype == D
    with pytest.raises(ValueError, match="parameter alpha"):
        frt.Barron(-0.5, 2.0, 1.0, validate_args=True)  # loc, alpha, scale; torch.compile turns the default off
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'alpha'"):
        frt.Barron(loc=0.0, scale=1.0)  # type: ignore[call-arg]


# --- integers


def test_integers_are_promoted() -> None:
    """Barron(1.7, torch.tensor(0), 2.9) had alpha 1 and scale 2."""
    for loc in (torch.tensor(0), torch.tensor(False), torch.tensor(0, dtype=torch.uint8)):
        ours = frt.Barron(1.7, loc, 2.9)
        assert ours.alpha.item() == 1.7 and ours.scale.item() == 2.9
        assert ours.log_prob(torch.tensor(1)).item() == pytest.approx(-2.1634, abs=5e-5)
    assert ours.log_prob(torch.tensor(1)).item() == pytest.approx(-float(fr.nll(1.0, 1.7, 2.9)), rel=1e-12)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ((1, 0, 2), torch.float32),
        ((torch.tensor([1, 2]), torch.tensor(0), 3), D),
        ((torch.tensor(1.5), torch.tensor(0), 2), torch.float32),
        ((torch.tensor(1.5).half(), torch.tensor(0), 2), torch.float16),
        ((1, torch.tensor([0]), torch.ones(2, dtype=D)), D),
    ],
)
def test_dtypes_of_parameters(given: Any, dtype: Any) -> None:
    ours = frt.Barron(*given)
    expected = [float(torch.as_tensor(v).flatten()[-1]) for v in given]
    assert [p.flatten()[-1].item() for p in (ours.alpha, ours.loc, ours.scale)] == expected
    for one in (ours, ours.expand((4, *ours.batch_shape)), copy.deepcopy(ours)):
        assert {one.loc.dtype, one.alpha.dtype, one.scale.dtype, one.rsample((3,)).dtype} == {dtype}


def test_integer_values_keep_their_digits() -> None:
    ours = frt.Barron(1.0, 16777216, 1.0)
    near = frt.Barron(1.0, 0.0, 1.0)
    assert torch.equal(ours.log_prob(torch.tensor(16777217)), near.log_prob(torch.tensor(1)))
    assert torch.equal(ours.cdf(torch.tensor(16777217)), near.cdf(torch.tensor(1.0)))


@pytest.mark.parametrize(("bad", "name"), [((1, [0], 1), "loc"), (("a", 0, 1), "alpha"), ((1, 0, 1j), "scale")])
def test_no_parameters(bad: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is a .*: make it a tensor"):
        frt.Barron(*bad)
    with pytest.raises(TypeError, match=r"loc is a tensor of torch\.complex64: make it real"):
        frt.Barron(1, torch.tensor(1j), 1)


# --- what is NaN


def test_quantiles_of_what_is_no_probability() -> None:
    """icdf(nan) was infinite."""
    p = torch.tensor([NAN, -0.1, -INF, 1.1, INF], dtype=D)
    for alpha in (0.0, 0.5, 2.0, INF):
        ours = barron(alpha, 0.3, 0.7)
        assert torch.isnan(ours.icdf(p)).all()
        assert ours.icdf(torch.tensor([0.0, 1.0], dtype=D)).tolist() == [-INF, INF]
    assert torch.isnan(_density.upper_quantile(torch, p, torch.ones_like(p))[:3]).all()


@pytest.mark.parametrize(
    ("alpha", "scale"), [(-1.0, 1.0), (-INF, 1.0), (NAN, 1.0), (1.0, 0.0), (1.0, -1.0), (2.0, NAN)]
)
def test_where_there_is_no_distribution_nothing_is_a_number(alpha: float, scale: float) -> None:
    """With alpha = -1, cdf was 1 everywhere and the entropy infinite; with scale -1, cdf fell."""
    ours, at = barron(alpha, 0.3, scale), torch.tensor([-INF, -1.0, 0.3, 2.0, INF], dtype=D)
    for found in (ours.cdf(at), ours.icdf(torch.linspace(0, 1, 5, dtype=D)), ours.mean, ours.variance, ours.entropy()):
        assert torch.isnan(found).all()
    assert torch.isnan(ours.sample((3,))).all()
    assert torch.isnan(kl_divergence(ours, barron(1, 0, 1))) and torch.isnan(kl_divergence(barron(1, 0, 1), ours))


def test_values_that_are_limits() -> None:
    ends = torch.tensor([-INF, INF, NAN], dtype=D)
    for alpha in (0.0, 1.0, 2.0, INF):
        ours = barron(alpha, 0.3, 0.7)
        assert ours.cdf(ends)[:2].tolist() == [0.0, 1.0] and torch.isnan(ours.cdf(ends)[2])
        assert ours.log_prob(ends)[:2].tolist() == [-INF, -INF] and torch.isnan(ours.log_prob(ends)[2])


# --- Kullback and Leibler's divergence


def quadrature(p: Any, q: Any, reach: float) -> float:
    """By SciPy, over pieces that both centres and scales cut out, out to where p is nothing."""
    from scipy import integrate

    def integrand(x: float) -> float:
        own = float(fr.nll(x - p[1], p[0], p[2]))
        return math.exp(-own) * (float(fr.nll(x - q[1], q[0], q[2])) - own)

    ends = [p[1] + reach * p[2] * k / 20 for k in range(-20, 21)] + [q[1] + q[2] * k for k in range(-8, 9)]
    ends = sorted(e for e in set(ends) if abs(e - p[1]) <= reach * p[2])
    return sum(integrate.quad(integrand, *piece, epsabs=1e-15, epsrel=1e-13)[0] for piece in itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("p", "q", "reach"),
    [
        ((1.7, 0.0, 1.0), (1.0, 1.0, 2.0), 40.0),
        ((2.0, 0.3, 1.0), (0.0, -2.0, 1e-2), 9.0),
        ((4.0, 0.0, 0.5), (0.3, 0.5, 0.1), 5.0),
        ((50.0, 0.0, 1.0), (0.5, 0.1, 2.0), 3.8),
        ((INF, 0.0, 1.0), (1.5, 0.3, 0.7), 3.3),
        ((3.0, 0.0, 1.0), (INF, 0.5, 1.2), 7.0),
        ((INF, 0.0, 1.0), (INF, 1.0, 1.5), 3.3),
        ((1.0, 0.0, 1.0), (8.0, 0.0, 0.5), 60.0),
    ],
    ids=str,
)
def test_divergence_against_quadrature(p: Any, q: Any, reach: float) -> None:
    expected = quadrature(p, q, reach)
    assert kl_divergence(barron(*p), barron(*q)).item() == pytest.approx(expected, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0004, 0.003, 0.019, 0.021, 0.1, 1.0, 2.0, 10.0, INF])
@pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.0), (3.0, 1e-3), (1e5, 2.0)])
def test_divergence_to_the_normal_is_the_second_moment(alpha: float, shift: float, ratio: float) -> None:
    """For small alpha the integral is all far out in the tails: at alpha = 0.0004 it is 7e236."""
    p = barron(alpha, 0.0, 1.0)
    second = math.exp(_density.log_moment(torch, 2, p.alpha).item())
    expected = (second + shift**2) / (2 * ratio**2) + math.log(ratio) + 0.5 * math.log(2 * math.pi) - p.entropy().item()
    found = kl_divergence(p, Normal(torch.tensor(shift, dtype=D), torch.tensor(ratio, dtype=D)))
    assert found.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 1), (0, 1)), ((0, 1), (5, 1e-8)), ((0, 1), (1e10, 1e-3)), ((1e-5, 1e10), (0, 1)), ((0, 1e-200), (0, 1e100))],
    ids=str,
)
def test_divergence_of_cauchys(first: Any, second: Any) -> None:
    """F. Chyzak and F. Nielsen, arXiv 1905.10965: log(((g + h)^2 + (x - y)^2)/(4 g h))."""
    (x, g), (y, h) = first, second
    expected = math.log((g + h) / g / 2) + math.log((g + h) / h / 2) + math.log1p(((x - y) / (g + h)) ** 2)
    p, q = (Cauchy(*(torch.tensor(float(v), dtype=D) for v in pair)) for pair in (first, second))
    ours = barron(0.0, x, g / math.sqrt(2)), barron(0.0, y, h / math.sqrt(2))
    for found in (kl_divergence(*ours), kl_divergence(ours[0], q), kl_divergence(p, ours[1])):
        assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("alpha", [0.1, 0.9, 0.999, 1 - 1e-7])
def test_divergence_of_the_heaviest_tails(alpha: float) -> None:
    """Cauchy's against a loss that grows almost as |x|: E (1 + x^2/2)^(alpha/2) is a quotient of gamma functions."""
    b = 2 - alpha
    mean = math.exp(math.lgamma((1 - alpha) / 2) - math.lgamma(1 - alpha / 2)) / math.sqrt(math.pi)
    scale, p = math.sqrt(2 / b), barron(0, 0, 1)
    expected = b / alpha * (mean - 1) + math.log(scale) + float(fr.log_partition(alpha)) - p.entropy().item()
    assert kl_divergence(p, barron(alpha, 0, scale)).item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ((0, 0, 1), (1, 0, 1), INF),
        ((0, 0, 1), (1.5, 5, 100), INF),
        ((1, 0, 1), (INF, 0, 5), INF),
        ((2, 0, 1), (INF, 0, 1), INF),
        # E exp(x^2/(2 c^2)) of a normal variable is (1 - 1/c^2)^(-1/2).
        ((2, 0, 1), (INF, 0, 1.25), 2 / 3 + math.log(1.25) + float(fr.log_partition(INF)) - 1.4189385332046727),
        ((1, 0, 1), (1e300, 0, 1), INF),  # too large for a double
        ((1e-8, 0, 1), (1.01, 0, 1), NAN),  # said to be unknown
    ],
    ids=str,
)
def test_divergences_that_are_infinite_and_that_are_not(p: Any, q: Any, expected: float) -> None:
    found = kl_divergence(barron(*p), barron(*q)).item()
    assert found == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_derivatives_of_the_divergence() -> None:
    values = ((1.2, 3.0), (0.0, 1.0), (1.0, 2.0), (0.7, 5.0), (0.0, 0.5), (2.0, 0.4))
    args = [torch.tensor(v, dtype=D, requires_grad=True) for v in values]

    def divergence(*args: Any) -> Any:
        p, q = (frt.Barron(*half, validate_args=False) for half in (args[:3], args[3:]))
        return kl_divergence(p, q)

    assert torch.autograd.gradcheck(divergence, args)
    total = lambda *a: divergence(*a).sum()  # noqa: E731
    expected, fixed = torch.autograd.grad(total(*args), args), [a.detach() for a in args]
    for one, other in zip(torch.func.grad(total, tuple(range(6)))(*fixed), expected, strict=True):
        torch.testing.assert_close(one, other)
    tangent = torch.func.jvp(total, tuple(fixed), tuple(map(torch.ones_like, fixed)))[1]
    torch.testing.assert_close(tangent, sum(g.sum() for g in expected))
    heavy = torch.tensor([1.5, 0.5], dtype=D, requires_grad=True)
    found = kl_divergence(barron(0, 0, 1), frt.Barron(heavy, 0.0, 1.0))
    assert torch.isinf(found).tolist() == [True, False]
    assert torch.isfinite(torch.autograd.grad(found[1], heavy)[0]).all()


def test_the_interface_of_the_divergence() -> None:
    p = frt.Barron(1.0, torch.zeros(3, 1), 1.0)
    found = kl_divergence(p, frt.Barron(torch.tensor([0.5, 1.0, 2.0]), 0.0, 1.0))
    assert found.shape == (3, 3) and found.dtype == torch.float32 and found[:, 1].abs().max() < 1e-6
    many = torch.linspace(0.5, 2, 34, dtype=D)  # more than are done at once
    alone = torch.stack([kl_divergence(barron(a, 0, 1), barron(1, 1, 1)) for a in many[[0, 33]]])
    torch.testing.assert_close(kl_divergence(barron(many, 0, 1), barron(1, 1, 1))[[0, 33]], alone)
    rows = kl_divergence(Independent(p, 2), Independent(frt.Barron(1.0, torch.zeros(3, 1), 2.0), 2))
    assert rows.shape == () and kl_divergence(barron(1, torch.zeros(0), 1), p).shape == (3, 0)
    with pytest.raises(NotImplementedError):
        kl_divergence(p, torch.distributions.Laplace(0.0, 1.0))


def test_the_divergence_is_the_mean_of_what_samples_say() -> None:
    torch.manual_seed(0)
    p, q = barron(0.7, 0.2, 1.0), barron(1.5, -0.5, 2.0)
    x = p.sample((200_000,))
    draws = (p.log_prob(x) - q.log_prob(x)).numpy()
    error = draws.std() / np.sqrt(draws.size)
    assert abs(draws.mean() - kl_divergence(p, q).item()) < 5 * error
