"""Properties of the functions for whatever arguments: symmetry, scaling, order, and identities between the functions.

Tolerances are the bounds of `bounds`, once for each function that enters, and half a unit for each operation of the
test. One unit in the last place of v is at most epsilon |v|.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bounds import BOUNDS
from numpy.typing import NDArray

import fastrobust as fr

pytest.importorskip("hypothesis", reason="needs pip install hypothesis")

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Array = NDArray[Any]
INF = math.inf

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# --- what is drawn: whole arrays, so that an example is one call

dtypes = st.sampled_from([np.float32, np.float64])
SPECIAL_ALPHA = [-INF, -1e30, -1e6, -2.0, -1.0, -1e-8, 0.0, 1e-8, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 1e6, 1e30, INF]


def numbers(dtype: Any, low: float, high: float, **more: Any) -> st.SearchStrategy[float]:
    """Numbers of that dtype from low to high."""
    ends = float(dtype(low)), float(dtype(high))
    return st.floats(*ends, width=np.dtype(dtype).itemsize * 8, **more)  # type: ignore[call-overload]


def alphas(dtype: Any, low: float = -INF, high: float = INF) -> st.SearchStrategy[float]:
    """Shapes from low to high, and among them the branch points with their neighbours."""
    special = np.array([a for a in SPECIAL_ALPHA if low <= a <= high], dtype)
    near = np.concatenate([special, -following(-special), following(special)])
    chosen = sorted({float(a) for a in near if low <= a <= high})
    return st.sampled_from(chosen) | numbers(dtype, max(low, -30), min(high, 30))


def ordinary(dtype: Any) -> st.SearchStrategy[float]:
    """Zero, and magnitudes from 1e-6 to 1e6 of either sign."""
    size = numbers(dtype, 1e-6, 1e6)
    return st.just(0.0) | size | size.map(lambda v: -v)


def arrays(dtype: Any, elements: st.SearchStrategy[float], shape: Any = None) -> st.SearchStrategy[Array]:
    shape = st.integers(1, 40) if shape is None else shape
    return hnp.arrays(dtype, shape, elements=elements, fill=st.nothing())


@st.composite
def triples(draw: Any, low: float = -INF, high: float = INF, any_x: bool = False) -> tuple[Array, Array, Array]:
    """x, alpha, scale of one shape, or with alpha or scale a single number."""
    dtype = draw(dtypes)
    n = draw(st.integers(1, 40))
    x = draw(arrays(dtype, numbers(dtype, -INF, INF) if any_x else ordinary(dtype), n))
    alpha = draw(arrays(dtype, alphas(dtype, low, high), draw(st.sampled_from([n, ()]))))
    scale = draw(arrays(dtype, numbers(dtype, 1e-3, 1e3), draw(st.sampled_from([n, ()]))))
    return x, alpha, scale


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    words = f"u{a.dtype.itemsize}"
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and bool(np.all((a.view(words) == b.view(words)) | ((a != a) & (b != b))))
    )


def unit(values: Array) -> Array:
    """One unit in the last place, at most two; of infinity that of the largest number."""
    info = np.finfo(values.dtype)
    return np.maximum(info.eps * np.minimum(np.abs(values), info.max), info.smallest_subnormal)


def following(a: Array) -> Array:
    """The next larger numbers."""
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(a, a.dtype.type(INF))


def bound(name: str, dtype: Any) -> int:
    return BOUNDS[name][np.dtype(dtype).name]


def wide(a: Array) -> Array:
    """The same numbers in a type with more bits, where there is one."""
    return a.astype(np.float64 if a.dtype == np.float32 else np.longdouble)


def assert_close(got: Array, want: Array, ulps: float, least: Any = 0.0) -> None:
    """|got - want| <= ulps epsilon |want| + least, in a wider type; where got is infinite, want is too large too."""
    info = np.finfo(got.dtype)
    beyond = np.isinf(got) & (np.abs(wide(want)) >= (1 - ulps * info.eps) * wide(np.array(info.max)))
    with np.errstate(invalid="ignore"):
        near = np.abs(wide(got) - want) <= ulps * float(info.eps) * np.abs(want) + least
    bad = ~(near | beyond | (got == want))
    assert not np.any(bad), f"{got[bad]} is not {want[bad]}"


# --- symmetry and scaling: to the bit


@examples
@given(triples(any_x=True))
def test_loss_is_even_and_influence_odd_in_x(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    there, back = fr.loss_and_grad(x, alpha, scale), fr.loss_and_grad(-x, alpha, scale)
    assert same_bits(there.value, back.value)
    assert np.array_equal(there.dx, -back.dx, equal_nan=True)
    assert same_bits(there.dalpha, back.dalpha)
    assert np.array_equal(there.dscale, back.dscale, equal_nan=True)  # a zero may have either sign
    assert np.array_equal(fr.influence(x, alpha, scale), -fr.influence(-x, alpha, scale), equal_nan=True)


@examples
@given(triples(any_x=True))
def test_weight_is_even_in_x(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    assert same_bits(fr.weight(x, alpha, scale), fr.weight(-x, alpha, scale))


@examples
@given(triples(), st.integers(-20, 20))
def test_only_x_over_scale_matters_powers_of_two_to_the_bit(
    arguments: tuple[Array, Array, Array], exponent: int
) -> None:
    """rho(kx, a, kc) = rho(x, a, c), and the derivatives scale by 1/k, where neither is subnormal or overflows."""
    x, alpha, scale = arguments
    k = x.dtype.type(2.0**exponent)
    plain, scaled = fr.loss_and_grad(x, alpha, scale), fr.loss_and_grad(k * x, alpha, k * scale)
    assert same_bits(plain.value, scaled.value)
    assert same_bits(plain.dalpha, scaled.dalpha)
    info = np.finfo(x.dtype)
    with np.errstate(over="ignore", under="ignore"):
        pairs = [
            (plain.dx, scaled.dx * k),
            (plain.dscale, scaled.dscale * k),
            (fr.weight(x, alpha, scale), fr.weight(k * x, alpha, k * scale) * k * k),
        ]
    for one, other in pairs:
        normal = (np.abs(one) > info.tiny * 2.0**40) & (np.abs(one) < info.max * 2.0**-41)
        assert same_bits(one[normal], other[normal])
        assert np.all(np.abs(one[(one == 0) != (other == 0)]) <= info.tiny * 2.0**40)


# --- order


def assert_rising(values: Array, ulps: int) -> None:
    assert np.all(np.isfinite(values) | (values == INF))
    assert np.all(values[1:] >= values[:-1] - ulps * unit(values[:-1]))


@examples
@given(st.data())
def test_loss_rises_with_the_size_of_x(data: Any) -> None:
    dtype = data.draw(dtypes)
    x = np.abs(data.draw(arrays(dtype, numbers(dtype, 0, 1e30))))
    x = np.sort(np.concatenate([x, following(x), x * dtype(2)]))
    value = fr.loss_and_grad(x, data.draw(alphas(dtype)), data.draw(numbers(dtype, 1e-3, 1e3))).value
    assert_rising(value, 2 * bound("loss", dtype))


@examples
@given(st.data())
def test_loss_rises_with_alpha(data: Any) -> None:
    dtype = data.draw(dtypes)
    alpha = data.draw(arrays(dtype, alphas(dtype)))
    alpha = np.sort(np.concatenate([alpha, following(alpha), np.array([0, 1, 2, INF], dtype)]))
    x = dtype(data.draw(ordinary(dtype)))
    value = fr.loss_and_grad(x, alpha, data.draw(numbers(dtype, 1e-3, 1e3))).value
    assert_rising(value, 2 * bound("loss", dtype))


@examples
@given(triples(any_x=True))
def test_the_derivative_in_alpha_is_never_negative(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    dalpha = fr.loss_and_grad(x, alpha, scale).dalpha
    assert np.all(dalpha >= 0)


@examples
@given(triples(any_x=True))
def test_signs_of_the_other_outputs(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    got = fr.loss_and_grad(x, alpha, scale)
    assert np.all(got.value >= 0)
    assert np.all(got.dx * np.sign(x) >= 0)
    assert np.all(got.dscale <= 0)
    assert np.all(fr.weight(x, alpha, scale) >= 0)


@examples
@given(triples(high=2.0))
def test_loss_is_at_most_least_squares_up_to_alpha_2(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    z = wide(x) / wide(scale)
    value = fr.loss_and_grad(x, alpha, scale).value
    # The bound of rho, and at most two units for the half of z^2 where no type is wider than double.
    assert np.all(wide(value) <= z * z / 2 * (1 + (bound("loss", x.dtype) + 2) * float(np.finfo(x.dtype).eps)))


@examples
@given(triples(low=2.0))
def test_loss_is_at_least_least_squares_from_alpha_2(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    z = wide(x) / wide(scale)
    value = fr.loss_and_grad(x, alpha, scale).value
    assert np.all(wide(value) >= z * z / 2 * (1 - (bound("loss", x.dtype) + 2) * float(np.finfo(x.dtype).eps)))


# --- identities between the functions


@examples
@given(triples())
def test_influence_is_weight_times_x(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    influence, weight = fr.influence(x, alpha, scale), fr.weight(x, alpha, scale)
    units = bound("influence", x.dtype) + bound("weight", x.dtype) + 1
    subnormal = float(np.finfo(x.dtype).smallest_subnormal) * units * (1 + np.abs(x).astype(np.float64))
    finite = np.isfinite(weight)
    assert_close(influence[finite], (wide(weight) * wide(x))[finite], units, subnormal[finite])
    assert np.all(np.isinf(influence[~finite]) | (x[~finite] == 0))


@examples
@given(triples())
def test_the_derivative_in_scale_is_minus_x_over_scale_times_that_in_x(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    got = fr.loss_and_grad(x, alpha, scale)
    finite = np.isfinite(got.dx)
    z = wide(x) / wide(scale)
    units = bound("influence", x.dtype) + bound("dscale", x.dtype) + 1
    subnormal = float(np.finfo(x.dtype).smallest_subnormal) * units * (1 + np.abs(z).astype(np.float64))
    assert_close(got.dscale[finite], (-z * wide(got.dx))[finite], units, subnormal[finite])


@examples
@given(triples(low=0.0))
def test_the_likelihood_is_loss_plus_log_scale_plus_log_partition(arguments: tuple[Array, Array, Array]) -> None:
    x, alpha, scale = arguments
    loss, got = fr.loss_and_grad(x, alpha, scale), fr.nll_and_grad(x, alpha, scale)
    log_z, slope = fr.log_partition_and_grad(alpha)
    eps = float(np.finfo(x.dtype).eps)
    finite = np.isfinite(loss.value)
    log_c = np.log(wide(scale))
    want = wide(loss.value) + (log_c + wide(log_z))
    # log c to two units, and two sums: half a unit of the largest term each, and of what they give.
    allowed = 3 * eps * (np.abs(log_c) + np.abs(log_z) + np.abs(loss.value)).astype(np.float64)
    single = x.dtype == np.float32  # in doubles, which have a log Z of their own
    allowed += single * bound("log_partition", x.dtype) * eps * np.maximum(1, np.abs(log_z))
    assert_close(got.value[finite], want[finite], 0, np.broadcast_to(allowed, x.shape)[finite])
    assert np.all(got.value[~finite] == INF)
    assert same_bits(got.dx, loss.dx)
    if single:
        units = eps * (bound("log_partition_dalpha", x.dtype) + 1)
        allowed = units * (np.abs(slope) + np.abs(loss.dalpha)).astype(np.float64)
        usual = np.isfinite(loss.dalpha) & np.isfinite(slope)
        want = wide(loss.dalpha) + wide(slope)
        assert_close(got.dalpha[usual], want[usual], 0, np.broadcast_to(allowed, x.shape)[usual])
        assert same_bits(got.dalpha[~usual], (loss.dalpha + slope)[~usual])
    else:
        assert same_bits(got.dalpha, loss.dalpha + slope)
    inverse = 1 / wide(scale)
    allowed = eps * (inverse + np.abs(wide(loss.dscale))).astype(np.float64)
    finite = np.isfinite(loss.dscale)
    assert_close(
        got.dscale[finite], (wide(loss.dscale) + inverse)[finite], 0, np.broadcast_to(allowed, x.shape)[finite]
    )


@examples
@given(triples())
def test_at_two_the_loss_is_least_squares(arguments: tuple[Array, Array, Array]) -> None:
    x, _, scale = arguments
    got = fr.loss_and_grad(x, 2.0, scale)
    z = wide(x) / wide(scale)
    assert_close(got.value, z * z / 2, bound("loss", x.dtype) + 1)
    assert_close(got.dx, z / wide(scale), bound("influence", x.dtype) + 1)


# --- broadcasting

FUNCTIONS: dict[str, Callable[..., Any]] = {"loss": fr.loss_and_grad, "nll": fr.nll_and_grad}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(examples, max_examples=30)
@given(data=st.data(), shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4))
def test_broadcasting_is_a_loop_over_elements(name: str, data: Any, shapes: Any) -> None:
    dtype = data.draw(dtypes)
    elements = (numbers(dtype, -INF, INF), alphas(dtype), numbers(dtype, 1e-3, 1e3))
    arguments = [data.draw(arrays(dtype, e, s)) for e, s in zip(elements, shapes.input_shapes, strict=True)]
    got = FUNCTIONS[name](*arguments)
    assert {v.shape for v in got} == {shapes.result_shape}
    expanded = np.broadcast_arrays(*arguments)
    for index in np.ndindex(shapes.result_shape):
        one = FUNCTIONS[name](*(np.array(a[index]) for a in expanded))
        assert all(same_bits(g[index], o) for g, o in zip(got, one, strict=True))


@settings(examples, max_examples=30)
@given(data=st.data(), shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4))
def test_sums_over_what_was_broadcast_give_gradients_in_the_shapes_of_the_parameters(data: Any, shapes: Any) -> None:
    """Against exact sums of the elements' gradients."""
    dtype = np.float32
    elements = (ordinary(dtype), alphas(dtype, -4, 4), numbers(dtype, 0.5, 2))
    x, alpha, scale = (data.draw(arrays(dtype, e, s)) for e, s in zip(elements, shapes.input_shapes, strict=True))
    each = fr.loss_and_grad(x, alpha, scale)
    assume(all(np.all(np.isfinite(v)) for v in each))
    got = fr.loss_and_grad(x, alpha, scale, reduction="sum")
    assert np.array_equal(got.dx, each.dx)
    for name, like in (("value", np.zeros(())), ("dalpha", alpha), ("dscale", scale)):
        terms = np.asarray(getattr(each, name), np.float64)
        groups: dict[tuple[int, ...], list[float]] = {}
        lead = terms.ndim - like.ndim
        for index in np.ndindex(terms.shape):
            place = tuple(
                0 if n == 1 else i for i, n in zip(index[max(lead, 0) :], like.shape[max(-lead, 0) :], strict=True)
            )
            groups.setdefault((0,) * max(-lead, 0) + place, []).append(float(terms[index]))
        result = np.asarray(getattr(got, name))
        assert result.shape == like.shape
        for place in itertools.product(*map(range, like.shape)):
            members = groups.get(place, [])
            # Sums in float64 and one rounding to the dtype.
            allowed = (len(members) * 2.0**-52 + float(np.finfo(dtype).eps)) * math.fsum(map(abs, members))
            assert abs(float(result[place]) - math.fsum(members)) <= allowed
