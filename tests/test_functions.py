"""Elementary functions: within their bounds of mpmath in one word and in two, and at the ends of their domains."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import fastrobust.math as frm
from fastrobust.kernels.arithmetic import arrays, families, functions, short, words
from fastrobust.kernels.arithmetic.nodes import Double, Single, traced

DTYPES = (np.float32, np.float64)
mp = mpmath.mp.clone()
mp.prec = 220


def log_cosh(x: Any) -> Any:
    return mp.log(mp.cosh(x)) if abs(x) > 1e-15 else x * x / 2


TRUTH: dict[str, Any] = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": lambda x: mp.log(x) if x > 0 else mp.nan,
    "log1p": lambda x: mp.log1p(x) if x > -1 else mp.nan,
    "sqrt": lambda x: mp.sqrt(x) if x >= 0 else mp.nan,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: max(x, 0) + mp.log1p(mp.exp(-abs(x))),
    "tanh": mp.tanh,
    "logcosh": log_cosh,
    "erf": mp.erf,
}
# Units in the last place; the largest errors found at 4,000 points of each, in this order, were 0.75, 0.88, 0.5, 0.5,
# 0.5, 1.7, 1.4, 2.4, 3.0, 2.2, and 1.5 of the power.
BOUNDS = {
    "exp": 1,
    "expm1": 1,
    "log": 1,
    "log1p": 1,
    "sqrt": 0.5,
    "sigmoid": 2,
    "softplus": 1.5,
    "tanh": 3,
    "logcosh": 3.5,
    "erf": 2.5,
}


def numbers(dtype: Any, count: int) -> Any:
    """Of all sizes, near 1, and where exponentials end."""
    random = np.random.default_rng(20261127)
    most = 37 if dtype is np.float32 else 307
    parts = [
        random.normal(size=count),
        random.choice([-1, 1], count) * 10.0 ** random.uniform(-most, most, count),
        random.uniform(-110, 110, count),
        random.uniform(-750, 750, count),
        1 + random.choice([-1, 1], count) * 10.0 ** random.uniform(-16, 0, count),
    ]
    return np.concatenate(parts).astype(dtype)


def ulps(found: Any, true: Any, dtype: Any) -> float:
    """The error in units in the last place; 0 where the true value is out of range."""
    limits = np.finfo(dtype)
    if mp.isnan(true):
        return 0.0 if np.isnan(found) else np.inf
    if abs(true) > float(limits.max):
        return 0.0 if np.isinf(found) or abs(found) == limits.max else np.inf
    exponent = mp.frexp(abs(true))[1] if true else limits.minexp
    return float(abs(mp.mpf(float(found)) - true) / mp.ldexp(1, max(exponent, limits.minexp + 1) - limits.nmant - 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRUTH)
def test_a_function_is_within_its_bound(name: str, dtype: Any) -> None:
    x = numbers(dtype, 150)
    found = getattr(frm, name)(x)
    assert found.dtype == dtype
    errors = [ulps(f, TRUTH[name](mp.mpf(float(value))), dtype) for f, value in zip(found, x, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS[name], f"{name}({x[worst]!r}) = {found[worst]!r}: {errors[worst]:.2f} ulp"


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_are_within_their_bound(dtype: Any) -> None:
    x = abs(numbers(dtype, 100))
    y = np.random.default_rng(3).permutation(np.clip(numbers(dtype, 100), -60, 60))
    found = frm.power(x, y)
    for base, exponent, f in zip(x, y, found, strict=True):
        true = mp.power(mp.mpf(float(base)), mp.mpf(float(exponent)))
        assert ulps(f, true, dtype) <= 2, (base, exponent, f)


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", {0: 1, INF: INF, -INF: 0}),
        ("expm1", {0: 0, INF: INF, -INF: -1}),
        ("log", {0: -INF, 1: 0, INF: INF, -1: NAN, -INF: NAN}),
        ("log1p", {0: 0, -1: -INF, INF: INF, -2: NAN, -INF: NAN}),
        ("sqrt", {0: 0, INF: INF, -1: NAN}),
        ("sigmoid", {0: 0.5, INF: 1, -INF: 0}),
        ("softplus", {INF: INF, -INF: 0}),
        ("tanh", {0: 0, INF: 1, -INF: -1}),
        ("logcosh", {0: 0, INF: INF, -INF: INF}),
        ("erf", {0: 0, INF: 1, -INF: -1, 7: 1}),
        ("abs", {0: 0, -INF: INF, -2: 2}),
        ("sign", {0: 0, -INF: -1, 3: 1}),
    ],
)
def test_ends_of_domains(name: str, pairs: dict[float, float], dtype: Any) -> None:
    function = getattr(frm, name)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(function(np.array([*pairs, NAN], dtype)), np.array([*pairs.values(), NAN], dtype))


@pytest.mark.parametrize(
    ("x", "y", "result"),
    [
        *((0, 2, 0), (0, 0, 1), (0, -1, INF), (INF, 2, INF), (INF, 0, 1), (INF, -2, 0)),
        *((1, INF, 1), (2, INF, INF), (2, -INF, 0), (0.5, INF, 0), (-1, 0.5, NAN), (NAN, 0, NAN), (2, NAN, NAN)),
    ],
)
def test_powers_at_the_ends(x: float, y: float, result: float) -> None:
    for dtype in DTYPES:
        np.testing.assert_array_equal(frm.power(np.array([x], dtype), np.array([y], dtype)), [result])


def test_the_smaller_and_the_larger() -> None:
    a, b = np.array([1.0, 2, NAN, 1, 0]), np.array([2.0, 1, 1, NAN, -0.0])
    np.testing.assert_array_equal(frm.minimum(a, b), [1, 1, NAN, NAN, 0])
    np.testing.assert_array_equal(frm.maximum(a, b), [2, 2, NAN, NAN, 0])
    np.testing.assert_array_equal(frm.clip(a, 1.5, None), [1.5, 2, NAN, 1.5, 1.5])
    np.testing.assert_array_equal(frm.where(a > 1, a, b), [2, 2, 1, NAN, -0.0])


def test_numbers_and_halves() -> None:
    assert frm.exp(0) == 1 and isinstance(frm.exp(1.0), float)
    assert frm.exp(np.float16(1)).dtype == np.float16


# --- doubles for float32: 36 bits, and the ends of the functions that have all


def rest(function: Any) -> Any:
    """The function less its argument, with the digits that this takes."""

    def less(x: Any) -> Any:
        with mp.workdps(60 if abs(x) > 1e-15 else 700):
            return function(x) - x

    return less


_RESTS = {"expm1mx": rest(mp.expm1), "log1pmx": rest(TRUTH["log1p"])}
_SHORT_TRUTH = {
    **TRUTH,
    **_RESTS,
    **dict.fromkeys(("log1p_of_fraction", "log1p_of_positive"), mp.log1p),
    "log_of_usual": mp.log,
    "exp_of_negative": mp.exp,
    "root": mp.sqrt,
    "inverse_root": lambda x: 1 / mp.sqrt(x),
}
_SHORT = [name for name in short.__all__ if name not in ("LEAST", "maximum", "minimum", "power", "root_and_inverse")]


@pytest.mark.parametrize("name", _SHORT)
def test_short_functions_hold_36_bits(name: str) -> None:
    fraction = name == "log1p_of_fraction"
    x = np.random.default_rng(9).uniform(0, 1, 300) if fraction else numbers(np.float32, 60).astype(np.float64)
    if name == "exp_of_negative":
        x = -abs(x)
    if name in ("inverse_root", "log1p_of_positive", "log_of_usual", "root"):
        x = np.maximum(abs(np.append(x, 10.0 ** np.random.default_rng(10).uniform(-300, 308, 300))), short.LEAST)
    graph = traced(getattr(short, name), [Double])
    with np.errstate(all="ignore"):
        (found,) = arrays.evaluated(arrays.NUMPY, graph, [x])
    truth = _SHORT_TRUTH[name]
    for value, f in zip(x, found, strict=True):
        true = truth(mp.mpf(float(value)))
        if mp.isnan(true):
            assert np.isnan(f), value
        elif abs(true) > 1e307:
            assert abs(f) > 1e306, value
        elif abs(true) > 1e-307:
            assert abs(mp.mpf(float(f)) - true) <= abs(true) * mp.mpf(2) ** -36, value
        else:
            assert abs(f) <= 1e-307


def test_roots_and_their_inverses_from_those_of_floats_hold_45_bits() -> None:
    x = 2.0 ** np.random.default_rng().uniform(-100, 100, 3000)
    graph = traced(short.root_and_inverse, [Double])
    roots, inverses = arrays.evaluated(arrays.NUMPY, graph, [x])
    for value, root, inverse in zip(x, roots, inverses, strict=True):
        true = mp.sqrt(mp.mpf(float(value)))
        assert abs(mp.mpf(float(root)) - true) <= true * mp.mpf(2) ** -45, value
        assert abs(mp.mpf(float(inverse)) * true - 1) <= mp.mpf(2) ** -45, value


def test_short_functions_have_the_same_ends() -> None:
    x, y = (part.ravel() for part in np.meshgrid(*[np.array([INF, -INF, NAN, 0.0, -0.0, -1, 1, 2, -2, 0.5])] * 2))
    with np.errstate(all="ignore"):
        for name in set(short.__all__) & set(functions.__all__) - {"log1p_of_fraction"}:
            given = [x, y] if name in ("maximum", "minimum", "power") else [x]
            graphs = [traced(getattr(module, name), [Double] * len(given)) for module in (short, functions)]
            one, two = (arrays.evaluated(arrays.NUMPY, graph, given)[0] for graph in graphs)
            np.testing.assert_allclose(one, two, rtol=1e-10, atol=4e-308, err_msg=name)  # which no float is


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inverse_root", [1, 0.5, 0, NAN]),
        ("root", [1, 2, INF, NAN]),
        ("log_of_usual", [0, np.log(4), INF, NAN]),
        ("log1p_of_positive", [np.log(2), np.log(5), INF, NAN]),
    ],
)
def test_functions_of_usual_numbers_end_at_infinity(name: str, expected: list[float]) -> None:
    graph = traced(getattr(short, name), [Double])
    with np.errstate(all="ignore"):
        (found,) = arrays.evaluated(arrays.NUMPY, graph, [np.array([1.0, 4.0, INF, NAN])])
    np.testing.assert_allclose(found, expected, rtol=2.0**-36)


@pytest.mark.parametrize("name", _RESTS)
@pytest.mark.parametrize(("kind", "dtype"), [(Single, np.float32), (Double, np.float64)])
def test_rests_of_functions_are_near_the_truth(name: str, kind: Any, dtype: Any) -> None:
    """The largest errors found were 1.3 and 1.5 units in the last place."""
    x = numbers(dtype, 400)
    graph = traced(getattr(functions, name), [kind])
    with np.errstate(all="ignore"):
        (found,) = arrays.evaluated(arrays.NUMPY, graph, [x])
    errors = [ulps(f, _RESTS[name](mp.mpf(float(value))), dtype) for value, f in zip(x, found, strict=True)]
    assert max(errors) <= 1.75, x[int(np.argmax(errors))]


# --- families: integrals by mpmath's functions, with digits to spare


def gap(n: int, a: Any) -> Any:
    if n == 0:
        return mp.loggamma(a) - mp.loggamma(a + 0.5) + mp.log(a) / 2
    return mp.psi(n - 1, a) - mp.psi(n - 1, a + 0.5) + (-1) ** (n - 1) * mp.factorial(n - 1) / (2 * a**n)


def moment(n: int, z: Any) -> Any:
    return mp.hyp1f1(n + 1, n + 2, z) / (n + 1)


def deviance(n: int, u: Any, q: Any) -> Any:
    return u ** (n + 1) * (moment(n, (q + 1) * u) - moment(n, q * u))


# Units in the last place for one word, by the order: the largest found at some 2,000 points were 2.3, 4.8, 5.3, 6.8;
# 1.7, 2, 2.8, 8; 53, 64, 77, 48. Two words hold at least four bits more than one.
FAMILIES = {"gap": (gap, (3, 6, 7, 8)), "moment": (moment, (2, 3, 4, 10)), "deviance": (deviance, (90, 90, 90, 90))}


def arguments_of(name: str, dtype: Any, random: Any) -> list[Any]:
    """Of all sizes that a loss may meet, and on both sides of where a form ends and another begins."""
    near, small = random.uniform(-3, 3, 60), random.choice([-1, 1], 60) * 10.0 ** random.uniform(-5, 0, 60)
    if name == "gap":
        return [
            np.concatenate(
                [10.0 ** random.uniform(-4, 11 if dtype is np.float64 else 5, 100), random.uniform(0, 9, 80)]
            )
        ]
    large = random.uniform(-20, 20, 60)
    if name == "moment":
        return [np.concatenate([near, small, 4 * large])]
    powers = random.uniform(-2.5, 2.5, 180)
    powers[::9], powers[1::9], powers[2::9] = 0, -1, 1e-9
    return [np.concatenate([near, small, large]), powers]


@pytest.mark.parametrize("order", families.ORDERS)
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("kind", "dtype"), [(Single, np.float32), (Double, np.float64)])
def test_families_in_one_word_and_in_two(name: str, order: int, kind: Any, dtype: Any) -> None:
    truth, bounds = FAMILIES[name]
    random = np.random.default_rng(12)
    high = [argument.astype(dtype) for argument in arguments_of(name, dtype, random)]
    low = [(h * random.uniform(-0.25, 0.25, h.size) * np.finfo(dtype).eps).astype(dtype) for h in high]
    member, count = f"{name}{order}", len(high)
    with np.errstate(under="ignore"):
        one = traced(lambda *x: families.WORD[member](*x), [kind] * count)
        (found,) = arrays.evaluated(arrays.NUMPY, one, high)
        two = traced(lambda *x: families.WORDS[member](*zip(x[:count], x[count:], strict=True)), [kind] * 2 * count)
        pairs = arrays.evaluated(arrays.NUMPY, two, high + low)
    for i in range(high[0].size):
        at = [mp.mpf(float(h[i])) for h in high]
        assert ulps(found[i], truth(order, *at), dtype) <= bounds[order], (member, at)
        true = truth(order, *(a + mp.mpf(float(rest[i])) for a, rest in zip(at, low, strict=True)))
        error = abs(mp.fsum(float(part[i]) for part in pairs) - true)
        assert error <= abs(true) * mp.mpf(2) ** -(np.finfo(dtype).nmant + 5), (member, at)


# --- two words: some bits more than one has, of a function fewer where it is made of others by a difference

_BITS = {"erf": 3, "expm1": 4, "expm1mx": 2, "log1pmx": 2, "logcosh": 3, "tanh": 4}


@pytest.mark.parametrize(
    "name",
    ["exp", "expm1", "expm1mx", "log", "log1p", "log1pmx", "root", "sigmoid", "softplus", "tanh", "logcosh", "erf"],
)
@pytest.mark.parametrize(("kind", "dtype"), [(Single, np.float32), (Double, np.float64)])
def test_two_words_hold_more(name: str, kind: Any, dtype: Any) -> None:
    random = np.random.default_rng(8)
    high = np.concatenate([random.uniform(-3, 30, 60), random.choice([-1, 1], 60) * 10.0 ** random.uniform(-8, 0, 60)])
    if name in ("log", "root"):
        high = abs(high)
    elif name in ("log1p", "log1pmx"):
        high = np.where(high < -0.5, -high, high)
    high = high.astype(dtype)
    low = (high * random.uniform(-0.25, 0.25, high.size) * np.finfo(dtype).eps).astype(dtype)
    graph = traced(lambda x, y: getattr(words, name)((x, y)), [kind, kind])
    found, rest = arrays.evaluated(arrays.NUMPY, graph, [high, low])
    truth = {**TRUTH, **_RESTS, "root": mp.sqrt}[name]
    for i in range(high.size):
        true = truth(mp.mpf(float(high[i])) + mp.mpf(float(low[i])))
        error = abs(mp.mpf(float(found[i])) + mp.mpf(float(rest[i])) - true)
        assert error <= abs(true) * mp.mpf(2) ** -(np.finfo(dtype).nmant + 1 + _BITS.get(name, 6)), (name, high[i])


@pytest.mark.parametrize(("name", "truth"), [("plus", "+"), ("minus", "-"), ("times", "*"), ("divided", "/")])
def test_arithmetic_of_two_words(name: str, truth: str) -> None:
    random = np.random.default_rng(9)
    a, b = (10.0 ** random.uniform(-5, 5, 200) * random.choice([-1, 1], 200) for _ in range(2))
    al, bl = (x * random.uniform(-1, 1, 200) * 2.0**-54 for x in (a, b))
    graph = traced(lambda *x: getattr(words, name)(x[:2], x[2:]), [Double] * 4)
    found, rest = arrays.evaluated(arrays.NUMPY, graph, [a, al, b, bl])
    operation = {"+": mp.fadd, "-": mp.fsub, "*": mp.fmul, "/": mp.fdiv}[truth]
    for i in range(200):
        x, y = mp.mpf(a[i]) + mp.mpf(al[i]), mp.mpf(b[i]) + mp.mpf(bl[i])
        true = operation(x, y)
        scale = abs(x) + abs(y) if truth in "+-" else abs(true)
        assert abs(mp.mpf(float(found[i])) + mp.mpf(float(rest[i])) - true) <= scale * mp.mpf(2) ** -99
