"""Graphs of formulas: what is rewritten, what is differentiated, and what is refused with a remedy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import fastrobust.math as frm
from fastrobust.kernels.arithmetic import arrays
from fastrobust.kernels.arithmetic.families import ORDERS
from fastrobust.kernels.arithmetic.nodes import Double, Single, traced
from fastrobust.kernels.graph import exact, formats, functions
from fastrobust.kernels.graph.bounds import least
from fastrobust.kernels.graph.derivatives import _RULES, derivatives, divided
from fastrobust.kernels.graph.real import Condition, Real, constant_of, lifted, operand, ordered

mp = mpmath.mp.clone()
mp.dps = 60
X, Y = operand(0), operand(1)


def text(node: Any) -> str:
    """A graph in words."""
    if node.operation == "operand":
        return "xy"[node.content]
    value = constant_of(node)
    return f"{value:g}" if value is not None else f"{node.operation}({', '.join(map(text, node.arguments))})"


@pytest.mark.parametrize(
    ("node", "made"),
    [
        (functions.log(1 + X), "log1p(x)"),
        (functions.log(X + 1), "log1p(x)"),
        (functions.log(1 - X), "log1p(neg(x))"),
        (functions.log(1 + functions.exp(X)), "softplus(x)"),
        (functions.log1p(functions.exp(-X)), "softplus(neg(x))"),
        (functions.log1p(functions.exp(-abs(X))), "log1p_of_fraction(exp(neg(abs(x))))"),
        (1 / (1 + functions.exp(-abs(X))), "div(1, add(1, exp(neg(abs(x)))))"),
        (functions.log(functions.sigmoid(X)), "neg(softplus(neg(x)))"),
        (functions.log(1 - functions.sigmoid(X)), "neg(softplus(x))"),
        (functions.log(1 / (1 + functions.exp(-X))), "neg(softplus(neg(x)))"),
        (functions.exp(X) - 1, "expm1(x)"),
        (1 - functions.exp(-X), "neg(expm1(neg(x)))"),
        (functions.exp(X) - 1 - X, "expm1mx(x)"),
        (functions.expm1(-X) + X, "expm1mx(neg(x))"),
        (X + (functions.exp(-X) - 1), "expm1mx(neg(x))"),
        (X - functions.expm1(X), "neg(expm1mx(x))"),
        (functions.log(1 + X) - X, "log1pmx(x)"),
        (X - functions.log1p(X), "neg(log1pmx(x))"),
        (functions.log1p(-X) + X, "log1pmx(neg(x))"),
        (1 + (functions.sqrt(1 + X) - 1), "sqrt(add(1, x))"),
        (functions.expm1(-X) - (-X), "expm1mx(neg(x))"),
        (1 - functions.sigmoid(X), "sigmoid(neg(x))"),
        (1 / (1 + functions.exp(X)), "sigmoid(neg(x))"),
        (functions.sqrt(1 + X * X) - 1, "sqrt1pm1(mul(x, x))"),
        (1 - functions.sqrt(1 - X), "neg(sqrt1pm1(neg(x)))"),
        (functions.log(functions.exp(X)), "x"),
        (functions.exp(functions.log(X)), "x"),
        (X**3, "mul(x, mul(x, x))"),
        (X**-1, "div(1, x)"),
        (X**0.5, "sqrt(x)"),
        (X**Y, "power(x, y)"),
        (2**X, "power(2, x)"),
        (X - (-Y), "add(x, y)"),
        (-(X - Y), "sub(y, x)"),
        ((-X) * (-Y), "mul(x, y)"),
        (abs(-X), "abs(x)"),
        (X / 4, "mul(0.25, x)"),
        (X / 3, "div(x, 3)"),
        (X * 0 + Y * 1, "y"),
        (functions.where(True, X, Y), "x"),
        (lifted(0.1) + 0.2, "add(0.1, 0.2)"),
        (lifted(0.5) + 0.25, "0.75"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cancels_is_rewritten(node: Any, made: str) -> None:
    """And constants are added up only where that is exact."""
    assert text(node) in (made, made.replace("mul(x, mul(x, x))", "mul(mul(x, x), x)"))


def test_equal_nodes_are_one() -> None:
    assert (X + Y) * 2 is 2 * (X + Y)
    assert len(list(ordered([(X * Y) / (X * Y)]))) == 4


FORMULAS = {
    "add": lambda x, y: x + y * 2,
    "sub": lambda x, y: x * 3 - y,
    "mul": lambda x, y: x * y * x,
    "div": lambda x, y: x / (1 + y * y),
    "neg": lambda x, y: -x * y,
    "abs": lambda x, y: abs(x * y),
    "exp": lambda x, y: functions.exp(x * y),
    "expm1": lambda x, y: functions.expm1(x * y),
    "expm1mx": lambda x, y: functions.expm1(x * y) - x * y,
    "log": lambda x, y: functions.log(abs(x) + y * y),
    "log1p": lambda x, y: functions.log1p(x * x * y * y),
    "log1p_of_fraction": lambda x, y: functions.log1p(functions.exp(-abs(x * y))),
    "log1pmx": lambda x, y: functions.log1p(x * x * y * y) - x * x * y * y,
    "sqrt": lambda x, y: functions.sqrt(x * x + y * y),
    "sqrt1pm1": lambda x, y: functions.sqrt(1 + x * x * y * y) - 1,
    "tanh": lambda x, y: functions.tanh(x * y),
    "sigmoid": lambda x, y: functions.sigmoid(x - y),
    "softplus": lambda x, y: functions.softplus(x * y),
    "logcosh": lambda x, y: functions.logcosh(x * y),
    "erf": lambda x, y: functions.erf(x * y),
    "power": lambda x, y: (1 + x * x) ** (y * x),
    "minimum": lambda x, y: functions.minimum(x * y, x + y),
    "maximum": lambda x, y: functions.maximum(x * y, x + y),
    "where": lambda x, y: functions.where(
        (x < y) & (y > -5) | (x == y), x * y, functions.where(~(x <= 2 * y), y * y * x, x)
    ),
    **{f"gap{n}": lambda x, y, n=n: functions.gap(0.1 + x * x + y * y, n) for n in ORDERS},
    **{f"moment{n}": lambda x, y, n=n: functions.moment(x * y, n) for n in ORDERS},
    **{f"deviance{n}": lambda x, y, n=n: functions.deviance(x, x - y, n) for n in ORDERS},
}


def order_of(name: str) -> int:
    """The order of a member of a family; 0 of other functions."""
    return int(name[-1]) if name[-1].isdigit() else 0


@pytest.mark.parametrize("name", _RULES)
def test_derivatives_are_those_of_mpmath(name: str) -> None:
    """First and second, each in either operand, by differences of 60 digits."""
    root = FORMULAS[name](X, Y)
    assert name in {node.operation for node in ordered([root])}
    random = np.random.default_rng(4)
    for place, other in itertools.product(range(2), repeat=2):
        if order_of(name) > max(ORDERS) - 2:
            continue  # see below
        (first,) = derivatives([root], operand(place))
        (second,) = derivatives([first], operand(other))
        for point in random.normal(size=(6, 2)) * 1.7:
            for low, high, at in ((root, first, place), (first, second, other)):

                def along(t: Any, low: Any = low, at: int = at, point: Any = point) -> Any:
                    moved = [mp.mpf(float(v)) for v in point]
                    moved[at] = t
                    return exact.evaluated(mp, [low], moved)[0]

                expected = mp.diff(along, mp.mpf(float(point[at])))
                (found,) = exact.evaluated(mp, [high], list(point))
                assert abs(found - expected) <= 1e-14 * (1 + abs(expected)), (name, place, other, point)


@pytest.mark.parametrize("name", ["gap", "moment", "deviance"])
def test_derivatives_of_families_end_with_an_error_that_says_so(name: str) -> None:
    node = FORMULAS[f"{name}0"](X, Y)
    for _ in ORDERS[1:]:
        (node,) = derivatives([node], Y)
    with pytest.raises(NotImplementedError, match=f"order 4 of {name}.*up to the order 3, of higher ones take diff"):
        derivatives([node], Y)


def test_no_nan_comes_from_the_side_that_is_not_taken() -> None:
    """Where JAX and PyTorch give NaN at -1 and 0: row 54 of the defects of others."""
    root = functions.where(X > 0, functions.sqrt(X), -X)
    (slope,) = derivatives([root], X)
    for x, expected in ((-1.0, -1), (0.0, -1), (4.0, 0.25)):
        assert exact.evaluated(mp, [slope], [x]) == [expected]
        with np.errstate(all="ignore"):
            assert formats.working([slope], [np.float64(x)], 1) == (expected,)


def test_a_quotient_by_the_operand_has_its_limit() -> None:
    """By taking out a factor where there is one, else by the derivative at 0."""
    (psi,) = derivatives([functions.sqrt(1 + X * X) - 1], X)
    assert not any(node.operation == "where" for node in ordered([divided(psi, X)]))
    weight = divided(functions.tanh(X), X)
    assert [float(v) for v in exact.evaluated(mp, [weight], [0.0])] == [1.0]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: x if x > 0 else -x, r"where\(condition, a, b\)"),
        (lambda x: x > 0 and x, r"&, \| and ~"),
        (lambda x: math.exp(x), r"fastrobust\.math"),
        (lambda x: float(x), r"fastrobust\.math"),
        (lambda x: int(x), r"fastrobust\.math"),
        (lambda x: np.sin(x), r"numpy\.sin cannot be traced: a formula has the functions abs, clip, erf, exp"),
        (lambda x: np.sum(x, axis=0), r"numpy\.sum with axis cannot be traced"),
        (lambda x: np.prod(x), r"fastrobust\.math"),
        (lambda x: np.linalg.norm(x), r"numpy\.norm cannot be traced|fastrobust\.math"),
        (lambda x: x + "a", r"made of numbers, got 'a' of type str"),
        (lambda x: x + np.ones(3), r"give arrays as operands"),
        (lambda x: x + (x > 0), r"a condition is no number: write where"),
        (lambda x: functions.where(x, 1, 2), r"where takes a condition, such as x > 0"),
        (lambda x: list(x), r"no value yet"),
        (lambda x: x % 2, r"unsupported operand"),
        (lambda x: None, r"made of numbers, got None"),
    ],
)
def test_what_cannot_be_traced_is_refused(function: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        lifted(function(X))


@pytest.mark.parametrize(
    ("function", "made"),
    [
        (lambda x: np.exp(x), "exp(x)"),
        (lambda x: np.log(1 + x), "log1p(x)"),
        (lambda x: np.sqrt(x), "sqrt(x)"),
        (lambda x: np.abs(x), "abs(x)"),
        (lambda x: scipy.special.erf(x), "erf(x)"),
        (lambda x: np.square(x), "mul(x, x)"),
        (lambda x: np.maximum(x, 0), "maximum(x, 0)"),
        (lambda x: np.where(x > 0, 1.0, 2.0), "where(<(0, x), 1, 2)"),
        (lambda x: np.where(np.logical_and(x > 0, x < 1), x, 0), "where(and(<(0, x), <(x, 1)), x, 0)"),
        (lambda x: np.clip(x, 0, 1), "minimum(maximum(x, 0), 1)"),
        (lambda x: np.float64(2) * x, "mul(2, x)"),
        (lambda x: np.float32(0.5) - x, "sub(0.5, x)"),
        (lambda x: frm.softplus(x), "softplus(x)"),
        (lambda x: frm.where(x > 0, x, 0), "where(<(0, x), x, 0)"),
        (lambda x: frm.clip(x, None, 2), "minimum(x, 2)"),
        (lambda x: sum(x for _ in range(3)), "add(add(x, x), x)"),
    ],
)
def test_functions_of_numpy_and_ours_are_traced(function: Any, made: str) -> None:
    assert text(lifted(function(X))) == made


def test_every_operation_has_a_rule_and_both_formats() -> None:
    conditions = {"<", "<=", "==", "!=", "and", "or", "not"}
    assert set(formats._WORD) == set(formats._WORDS) == set(exact._OPERATIONS) | {"where"} == set(_RULES) | conditions
    assert set(FORMULAS) == set(_RULES)


@pytest.mark.parametrize("form", [formats.working, formats.half_wide, formats.wide])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("data", [2, 1])
@pytest.mark.parametrize("name", FORMULAS)
def test_formats_are_near_the_truth(name: str, data: int, dtype: Any, form: Any) -> None:
    """In wide numbers to the last place, whatever cancels inside, and whether the second operand is a parameter."""
    root = FORMULAS[name](X, Y)
    random = np.random.default_rng(7)
    for point in (random.normal(size=(8, 2)) * 1.5).astype(dtype):
        with np.errstate(all="ignore"):
            (found,) = form([root], list(point), data)
        (true,) = exact.evaluated(mp, [root], [float(v) for v in point])
        size = sum(abs(float(v)) for v in point) if name in ("add", "sub", "minimum", "maximum", "log") else 0.0
        unit = float(np.spacing(dtype(max(abs(float(true)), size))))
        assert type(found) is dtype
        assert abs(float(mp.mpf(float(found)) - true)) <= (20 if form is formats.working else 0.51) * unit, (
            name,
            point,
        )


def test_division_by_a_parameter_is_division() -> None:
    """The quotient rounded once, where it is a normal number, and what division gives of 0, infinity and NaN."""
    random = np.random.default_rng(3)
    a, b = np.ldexp(random.uniform(1, 2, (2, 4000)), random.integers(-300, 300, (2, 4000)))
    a[:1000] = np.rint(random.uniform(1, 99, 1000)) * b[:1000]
    special = [0.0, -0.0, 1.0, -3.0, 1e300, 1e-300, -1e-300, np.inf, -np.inf, np.nan]
    pairs = np.array(np.meshgrid(special, special)).reshape(2, -1)
    a, b = np.append(a, pairs[0]), np.append(b, pairs[1])
    graph = traced(formats._by_inverse, [Double, Double])
    with np.errstate(all="ignore"):
        (found,) = arrays.evaluated(arrays.NUMPY, graph, [a, b])
        expected = a / b
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


USUAL = {
    "sqrt": functions.sqrt(1 + X * X),
    "inverse": Y / functions.sqrt(1 + X * X),
    "sqrt1pm1": functions.sqrt(1 + X * X) - 1,
    "log": functions.log(2 + abs(X)),
    "log1p": functions.log1p(X * X),
    "div": X / (3 + Y * Y),
    "large": functions.log(functions.where(abs(X) > 2, abs(X), 2)),
    "both": functions.sqrt(functions.maximum(X, 0.5)) + functions.sqrt(1 + functions.exp(Y)),
}


@pytest.mark.parametrize("name", USUAL)
def test_functions_of_usual_numbers_are_those_of_all(name: str) -> None:
    """Where bounds allow them, with whatever stands in the graph beside them, at ordinary numbers and at the ends."""
    random = np.random.default_rng(6)
    ends = [0.0, -0.0, 1e-45, 1e-20, 1.0, -1.0, 1e19, 3e38, -3e38, np.inf, -np.inf, np.nan]
    pairs = np.array(np.meshgrid(ends, ends)).reshape(2, -1)
    points = np.append(random.normal(size=(2, 2000)) * 10.0 ** random.integers(-6, 6, 2000), pairs, 1).astype(
        np.float32
    )
    root = USUAL[name]
    roots = [root, *derivatives([root], X), *derivatives([root], Y)]
    with np.errstate(all="ignore"):
        half, wide = (
            arrays.evaluated(
                arrays.NUMPY, traced(lambda x, y, f=f: f(roots, [x, y], 2), [Single, Single]), list(points)
            )
            for f in (formats.half_wide, formats.wide)
        )
    for found, expected in zip(half, wide, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1.3e-7, atol=1.5e-45)
        some = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[some], np.signbit(expected)[some])


def test_usual_functions_are_taken_where_bounds_allow() -> None:
    def operations(root: Any) -> set[str]:
        graph = traced(lambda x, y: formats.half_wide([root], [x, y], 2), [Single, Single])
        return {node.operation for node in graph.nodes}

    assert "sqrt" not in operations(USUAL["sqrt"]) | operations(USUAL["inverse"]) | operations(USUAL["both"])
    assert "sqrt" in operations(functions.sqrt(X * X)) & operations(functions.sqrt(X))


@pytest.mark.parametrize(
    ("node", "bound"),
    [
        (1 + X * X, 1),
        (X * Y, -np.inf),
        (abs(X) * functions.exp(Y), 0),
        (2 * functions.sqrt(4 + X * X), 4),
        (functions.where(X > 3, X, 5), 3),
        (functions.where(X > 7, X, 5), 5),
        (functions.where(X > 3, Y, 5), -np.inf),
        (functions.where(X > 0, X, 5), 0),
        (functions.maximum(X, 0.25), 0.25),
        (functions.minimum(X, 0.25), -np.inf),
        (functions.log1p(X * X) / (1 + X * X), 0),
        (1 - X * X, -np.inf),
        (functions.log1p(X * X) - X * X, -np.inf),
    ],
    ids=lambda value: text(value) if isinstance(value, Real) else str(value),
)
def test_bounds(node: Any, bound: float) -> None:
    assert least(list(ordered([node])))[id(node)] == bound


@pytest.mark.parametrize("name", FORMULAS)
def test_nothing_is_below_its_bound(name: str) -> None:
    root = FORMULAS[name](X, Y)
    nodes = [node for node in ordered([root]) if not isinstance(node, Condition)]
    bounds = least(list(ordered([root])))
    random = np.random.default_rng(5)
    for point in random.normal(size=(20, 2)) * 3:
        for node, value in zip(nodes, exact.evaluated(mp, nodes, list(point)), strict=True):
            assert not value < bounds[id(node)], (text(node), point)


def test_squares_that_overflow_in_two_words_are_infinite() -> None:
    with np.errstate(all="ignore"):
        (found,) = formats.wide([X * X], [np.float64(1e200)], 1)
    assert found == np.inf
