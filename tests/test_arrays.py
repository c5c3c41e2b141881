"""Arrays: whatever the layout, the size, the path and the number of threads, the same bits; and sums that are right."""

from __future__ import annotations

import concurrent.futures
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow
from numpy.typing import NDArray

import fastrobust as fr
from fastrobust import _threads
from fastrobust._backends import numpy as backend
from fastrobust._backends.numpy import sums
from fastrobust._call import WRT
from fastrobust.kernels.losses.catalogue import LOSS

Array = NDArray[Any]
INF, NAN = math.inf, math.nan
F4, F8 = np.float32, np.float64
FIELDS = fr.LossGrad._fields
PARALLEL = backend.PARALLEL

ONE_OUTPUT = {name: getattr(fr, name) for name in ("loss", "influence", "weight", "curvature", "nll")}
WITH_GRAD = {"loss": fr.loss_and_grad, "nll": fr.nll_and_grad}


def same(got: Any, want: Any) -> bool:
    """Same dtype, shape and bits; all NaN are one."""
    got, want = np.asarray(got), np.asarray(want)
    if got.dtype != want.dtype or got.shape != want.shape:
        return False
    a, b = np.ascontiguousarray(got).reshape(-1), np.ascontiguousarray(want).reshape(-1)
    nan = (a != a) & (b != b)
    words = f"u{a.dtype.itemsize}"
    return bool(np.all(nan | (a.view(words) == b.view(words))))


def all_same(got: Any, want: Any) -> bool:
    """`same` for two tuples; None only matches None."""
    return len(got) == len(want) and all(
        g is None and w is None if g is None or w is None else same(g, w) for g, w in zip(got, want, strict=True)
    )


def residuals(shape: Any, dtype: Any = F8, seed: int = 1, wild: bool = True) -> Array:
    """Ordinary residuals; if wild, among them zeros, infinities, NaN, and the largest and smallest numbers."""
    rng = np.random.default_rng(seed)
    x = np.asarray(rng.standard_t(2, shape), dtype)
    if wild and x.size > 20:
        info = np.finfo(dtype)
        special = [0, -0.0, INF, -INF, NAN, info.max, -info.max, info.tiny, info.smallest_subnormal, 1e20, -1e-20]
        x.reshape(-1)[rng.choice(x.size, len(special), replace=False)] = np.array(special, dtype)
    return x


def shapes_of(shape: Any, dtype: Any = F8, seed: int = 2, low: float = -3.0) -> Array:
    """alpha, among it 0, 1, 2 and their neighbours."""
    rng = np.random.default_rng(seed)
    alpha = np.asarray(rng.uniform(low, 4, shape), dtype)
    flat = alpha.reshape(-1)
    special = np.array([0, 1, 2, np.nextafter(dtype(2), dtype(0)), 4], dtype)
    if alpha.ndim:
        flat[:: max(1, alpha.size // 7)][: len(special)] = special[: len(flat[:: max(1, alpha.size // 7)])]
    return alpha


def scales_of(shape: Any, dtype: Any = F8, seed: int = 3) -> Array:
    return np.asarray(np.exp(np.random.default_rng(seed).uniform(-2, 2, shape)), dtype)


def one_by_one(function: Callable[..., Any], x: Any, alpha: Any, scale: Any, piece: int = 97) -> Any:
    """The function over contiguous full-shape copies, a few elements a call: the path with the least to it."""
    arrays = [np.array(a) for a in np.broadcast_arrays(x, alpha, scale)]
    shape, flats = arrays[0].shape, [a.reshape(-1) for a in arrays]
    pieces = [function(*(f[i : i + piece] for f in flats)) for i in range(0, flats[0].size, piece)]
    if isinstance(pieces[0], tuple):
        return tuple(np.concatenate(p).reshape(shape) for p in zip(*pieces, strict=True))
    return np.concatenate(pieces).reshape(shape)


def _strided(a: Array) -> Array:
    buffer = np.empty(tuple(2 * n for n in a.shape), a.dtype)
    view = buffer[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def _unaligned(a: Array) -> Array:
    view = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _field(a: Array) -> Array:
    record = np.zeros(a.shape, [("pad", np.uint8), ("value", a.dtype), ("more", np.float32)])
    record["value"] = a
    view: Array = record["value"]
    return view


def _frozen(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "every second": _strided,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "Fortran": np.asfortranarray,
    "unaligned": _unaligned,
    "field of a record": _field,
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": _frozen,
}

# --- shapes and broadcasting


@pytest.mark.parametrize(
    ("x", "alpha", "scale"),
    [
        ((7,), (), ()),
        ((7,), (1,), (7,)),
        ((), (3,), (2, 1)),
        ((5, 1), (4,), ()),
        ((1,), (3, 1), (3, 4)),
        ((2, 1, 4), (3, 1), (1,)),
        ((2, 3, 4), (3, 1), (2, 1, 1)),
        ((1, 1), (), (6, 5)),
        ((0,), (1,), ()),
        ((3, 0), (3, 1), (0,)),
        ((0, 3), (3,), (1, 1)),
        ((), (0,), ()),
    ],
)
@pytest.mark.parametrize("name", WITH_GRAD)
def test_arguments_broadcast_like_any_ufunc(name: str, x: Any, alpha: Any, scale: Any) -> None:
    arguments = residuals(x), shapes_of(alpha, low=0.0), scales_of(scale)
    shape = np.broadcast_shapes(x, alpha, scale)
    got = WITH_GRAD[name](*arguments)
    assert [g.shape for g in got] == [shape] * 4
    if math.prod(shape):
        assert all_same(got, one_by_one(WITH_GRAD[name], *arguments, piece=1))


@pytest.mark.parametrize("name", ONE_OUTPUT)
@pytest.mark.parametrize("x", [3.0, 3, np.float64(3), np.array(3.0)], ids=["float", "int", "scalar", "0-d array"])
def test_one_number_gives_a_numpy_scalar(name: str, x: Any) -> None:
    got = ONE_OUTPUT[name](x, 1.0, 2.0)
    assert type(got) is np.float64
    assert same(got, ONE_OUTPUT[name](np.array([3.0]), 1.0, 2.0)[0])


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "mean", "weights": 2.0}, {"weights": 2.0}])
def test_one_number_gives_numpy_scalars_with_every_option(options: dict[str, Any]) -> None:
    assert {type(v) for v in fr.loss_and_grad(np.float32(3), 1.0, 2.0, **options)} == {np.float32}
    assert type(fr.loss(3.0, 1.0, 2.0, **options)) is np.float64


def test_partition_of_one_number_is_a_numpy_scalar() -> None:
    assert [type(v) for v in (fr.log_partition(1), *fr.log_partition_and_grad(np.float32(1)))] == [F8, F4, F4]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_arrays_give_empty_results_sum_0_and_mean_nan(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, F4)
    assert all(v.shape == shape and v.dtype == F4 for v in fr.loss_and_grad(x, 1.0, 1.0))
    for alpha in (1.0, np.ones(shape[-1:], F4)):
        total = fr.loss_and_grad(x, alpha, 1.0, reduction="sum")
        mean = fr.loss_and_grad(x, alpha, 1.0, reduction="mean")
        assert total.value == 0
        assert np.isnan(mean.value)
        assert total.dx.shape == mean.dx.shape == shape
        assert total.dalpha.shape == mean.dalpha.shape == np.shape(alpha)
        assert np.all(total.dalpha == 0)
        assert total.dscale == 0
        assert np.isnan(mean.dscale)
        assert total.value.dtype == total.dalpha.dtype == total.dscale.dtype == F4


@pytest.mark.parametrize("x", [[1, -2.5, 3], (1, -2.5, 3), [[1.0], [-2.5]], [True, False], []])
def test_lists_and_tuples_are_arrays_of_float64(x: Any) -> None:
    assert same(fr.loss(x, 0.5, 2), fr.loss(np.array(x, F8), 0.5, 2.0))
    assert same(fr.loss(np.array(x, F8), [0.5], (2,)), fr.loss(np.array(x, F8), 0.5, 2.0))


# --- dtypes

INTEGERS = [np.dtype(c) for c in "?bBhHiIlLqQ"]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_and_bool_are_computed_in_float64(dtype: np.dtype[Any]) -> None:
    x = np.array([0, 1, 1, 100], dtype)
    assert same(fr.loss(x, 1.0, 1.0), fr.loss(x.astype(F8), 1.0, 1.0))
    assert all_same(fr.loss_and_grad(x, x, 2), fr.loss_and_grad(x.astype(F8), x.astype(F8), 2.0))


@pytest.mark.parametrize("name", ONE_OUTPUT)
@pytest.mark.parametrize("size", [5, PARALLEL + 5])
@pytest.mark.parametrize(
    ("alpha", "scale"),
    [(1.5, 2), (2, 0.5), (True, True), (np.array([1]), np.int64(2)), (np.uint8(1), np.array([True]))],
)
def test_float32_stays_float32_with_numbers_and_integers(name: str, size: int, alpha: Any, scale: Any) -> None:
    x = residuals(size, F4)
    got = ONE_OUTPUT[name](x, alpha, scale)
    want = ONE_OUTPUT[name](x, np.full(size, alpha, F4), np.full(size, scale, F4))
    assert got.dtype == F4
    assert same(got, want)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("x", "alpha", "scale", "want"),
    [
        (F4, F4, F4, F4),
        (F4, F8, F4, F8),
        (F8, F4, F4, F8),
        (np.float16, F4, F4, F4),
        (np.float16, np.float16, np.float16, np.float16),
        (np.float16, F4, F8, F8),
        (np.int8, F4, F4, F8),
        (F4, np.int64, np.int64, F4),
        (np.float16, np.int64, np.int64, np.float16),
    ],
)
def test_dtypes_are_promoted_without_a_detour(x: Any, alpha: Any, scale: Any, want: Any, reduction: Any) -> None:
    got = fr.loss_and_grad(np.ones(3, x), np.ones(3, alpha), np.ones(3, scale), reduction=reduction)
    assert {v.dtype for v in got} == {np.dtype(want)}


def test_python_numbers_beyond_float32_are_infinite_and_quiet() -> None:
    x = residuals(9, F4, wild=False)
    assert same(fr.loss(x, 1e39, 1.0), fr.loss(x, INF, 1.0))
    assert same(fr.loss(x, 1.0, 1e39), fr.loss(x, 1.0, INF))
    assert same(fr.loss(x, -(10**39), 1.0), fr.loss(x, -INF, 1.0))
    assert same(fr.loss(x, 1e39, np.ones(9, F4)), fr.loss(x, INF, 1.0))


HALVES = ["float16", "bfloat16"]


def half(name: str) -> np.dtype[Any]:
    if name == "float16":
        return np.dtype(np.float16)
    return np.dtype(pytest.importorskip("ml_dtypes", reason="bfloat16 needs pip install ml_dtypes").bfloat16)


def every_half(name: str) -> Array:
    return np.arange(1 << 16, dtype=np.uint16).view(half(name))


def rounded(values: Any, dtype: Any) -> Any:
    with np.errstate(over="ignore"):
        return values.astype(dtype)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # has a test of its own, below
@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("function", ONE_OUTPUT)
@pytest.mark.parametrize(("alpha", "scale"), [(0.5, 1.0), (3.0, 0.25)])
def test_half_precision_is_float32_rounded_once_for_every_x(name: str, function: str, alpha: Any, scale: Any) -> None:
    x = every_half(name)
    want = rounded(ONE_OUTPUT[function](x.astype(F4), alpha, scale), x.dtype)
    for size in (len(x), len(x) - 1):  # in threads, and not
        assert same(ONE_OUTPUT[function](x[:size], alpha, scale), want[:size])
    columns = x.reshape(-1, 4), np.full(4, alpha, x.dtype), np.full(4, scale, x.dtype)
    assert same(ONE_OUTPUT[function](*columns), want.reshape(-1, 4))


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", HALVES)
def test_half_precision_gradients_are_float32_rounded_once(name: str) -> None:
    x = every_half(name)
    want = [rounded(v, x.dtype) for v in fr.loss_and_grad(x.astype(F4), 0.5, 2.0)]
    assert all_same(fr.loss_and_grad(x, 0.5, 2.0), want)
    out = fr.LossGrad(*(np.empty_like(x) for _ in range(4)))
    assert all(a is b for a, b in zip(fr.loss_and_grad(x, 0.5, 2.0, out=out), out, strict=True))
    assert all_same(out, want)


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_with_weights_is_rounded_once(name: str) -> None:
    x = np.linspace(-3, 3, 301).astype(half(name))
    weights = np.linspace(0, 1, 301).astype(F4)
    value = fr.loss(x.astype(F4), 0.5, 2.0)
    assert same(fr.loss(x, 0.5, 2.0, weights=weights), (value * weights).astype(x.dtype))


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_is_summed_in_float32_at_least(name: str) -> None:
    x = np.linspace(-3, 3, 10007).astype(half(name))
    got = fr.loss_and_grad(x, 0.5, 2.0, reduction="mean")
    want = fr.loss_and_grad(x.astype(F4), 0.5, 2.0, reduction="mean")
    assert all_same(got, [np.asarray(v).astype(x.dtype)[()] for v in want])


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("size", [5, PARALLEL])
def test_half_precision_overflows_to_inf_quietly(name: str, size: int) -> None:
    x = np.full(size, np.finfo(F4).max if name == "bfloat16" else 6e4).astype(half(name))
    x[:] = np.nextafter(half(name).type(INF), half(name).type(0))
    assert np.all(fr.loss(x, 2.0, 0.5) == INF)
    assert np.all(fr.loss(x, 2.0, np.full(size, 0.5, x.dtype)) == INF)
    assert fr.loss(x, 2.0, 0.5, reduction="sum") == INF


@pytest.mark.parametrize("name", HALVES)
def test_partition_takes_half_precision(name: str) -> None:
    alpha = every_half(name)
    want = [rounded(v, alpha.dtype) for v in fr.log_partition_and_grad(alpha.astype(F4))]
    assert all_same(fr.log_partition_and_grad(alpha), want)
    assert same(fr.log_partition(alpha), want[0])


# --- layouts: the same bits


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(7, 11), (263, 257)], ids=["small", "large"])
def test_memory_layout_does_not_change_a_bit(layout: str, shape: tuple[int, int], dtype: Any) -> None:
    lay = LAYOUTS[layout]
    x, full, column = residuals(shape, dtype), shapes_of(shape, dtype), shapes_of(shape[1], dtype)
    scale = scales_of(shape[1], dtype)
    for alpha, c in [(dtype(0.5), dtype(2)), (column, scale), (full, scale)]:
        laid = lay(x), *(lay(p) if p.ndim else p for p in (alpha, c))
        assert all_same(fr.loss_and_grad(*laid), fr.loss_and_grad(x, alpha, c))
        got = fr.loss_and_grad(*laid, reduction="mean", weights=lay(np.abs(full)))
        assert all_same(got, fr.loss_and_grad(x, alpha, c, reduction="mean", weights=np.abs(full)))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "read-only"])
@pytest.mark.parametrize("shape", [(7, 11), (263, 257)], ids=["small", "large"])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_results_go_into_memory_of_any_layout(layout: str, shape: tuple[int, int], reduction: Any) -> None:
    x, column = residuals(shape), shapes_of(shape[1])
    for alpha in (0.5, column):
        want = fr.loss_and_grad(x, alpha, 2.0, reduction=reduction)
        out = tuple(LAYOUTS[layout](np.zeros_like(v)) if np.ndim(v) else np.zeros_like(v) for v in want)
        got = fr.loss_and_grad(x, alpha, 2.0, reduction=reduction, out=tuple(map(np.asarray, out)))
        assert all_same([v.astype(F8) for v in got], want)
        assert all(g is o for g, o in zip(got, out, strict=True) if o.ndim)


def test_broadcast_views_are_read_as_what_they_stand_for() -> None:
    row = residuals(300)
    x = np.broadcast_to(row, (301, 300))
    want = fr.loss_and_grad(row, 0.5, 2.0)
    for got, line in zip(fr.loss_and_grad(x, 0.5, 2.0), want, strict=True):
        assert same(got, np.broadcast_to(line, x.shape))
    got = fr.loss_and_grad(x, 0.5, 2.0, reduction="sum")
    assert all_same(got, fr.loss_and_grad(x.copy(), 0.5, 2.0, reduction="sum"))


@pytest.mark.parametrize("size", [1000, PARALLEL + 17])
def test_files_in_memory_are_read_and_written(tmp_path: Path, size: int) -> None:
    x = residuals(size, F4)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    for alpha in (0.5, shapes_of(size, F4)):
        assert all_same(fr.loss_and_grad(mapped, alpha, 2.0), fr.loss_and_grad(x, alpha, 2.0))
        got = fr.loss_and_grad(mapped, alpha, 2.0, reduction="mean")
        assert all_same(got, fr.loss_and_grad(x, alpha, 2.0, reduction="mean"))
        out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", F4, (size,))
        assert fr.loss(mapped, alpha, 2.0, out=out) is out
        out.flush()
        assert same(np.load(tmp_path / "out.npy"), fr.loss(x, alpha, 2.0))


# --- paths: scalar, per-column and full parameters, small and large

SIZES = [(1,), (127,), (128,), (1023,), (1025,), (PARALLEL - 1,), (PARALLEL,), (PARALLEL + 1,), (3 * PARALLEL + 5,)]
SHORT_ROWS = [(2, 3), (343, 3), (700, 3), (70001, 1), (35001, 2), (22003, 3), (70001, 1, 1), (5, 4, 3, 2)]
LONG_ROWS = [(131, 511), (131, 512), (131, 513), (67, 1024), (7, 10007), (1, 70001), (2, 40000), (211, 3, 113)]


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("shape", SIZES + SHORT_ROWS + LONG_ROWS, ids=str)
def test_every_path_gives_the_bits_of_a_single_element(shape: tuple[int, ...], dtype: Any) -> None:
    x = residuals(shape, dtype)
    row = shape[1:]
    for alpha, scale in [
        (dtype(0.5), dtype(2)),
        (shapes_of(row[-1:], dtype), dtype(2)),
        (dtype(1), scales_of(row[-1:], dtype)),
        (shapes_of(row, dtype), scales_of((1,) * len(row), dtype)),
        (shapes_of((*shape[:1], *(1 for _ in row)), dtype), scales_of(row, dtype)),
        (shapes_of(shape, dtype), scales_of(shape, dtype)),
    ]:
        want = one_by_one(fr.loss_and_grad, x, alpha, scale, piece=4099)
        assert all_same(fr.loss_and_grad(x, alpha, scale), want)
        assert same(fr.loss(x, alpha, scale), want[0])


@pytest.mark.parametrize("dtype", [F4, F8])
def test_python_numbers_give_the_bits_of_arrays(dtype: Any) -> None:
    x = residuals(300, dtype)
    for alpha in (0.0, 1e-30, 0.3, 1.0, 2.0, 2.1, -4.0, INF, -INF):
        want = fr.loss_and_grad(x, np.full(300, alpha, dtype), np.full(300, 0.7, dtype))
        assert all_same(fr.loss_and_grad(x, alpha, 0.7), want)


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("alpha", [-INF, -1e6, -2.0, 0.0, 0.5, 1.0, 1.95, 2.0, 2.05, 3.0, 1e6, INF])
def test_an_element_does_not_depend_on_its_neighbours(alpha: float, dtype: Any) -> None:
    # The kernels choose a quicker way for a block of elements that are all ordinary: the bits must not tell.
    x = residuals(256, dtype, wild=False)
    far = x.copy()
    far[::2] = np.resize(np.array([INF, NAN, np.finfo(dtype).max, 1e30], dtype), 128)
    for got, want in zip(fr.nll_and_grad(far, abs(alpha), 0.7), fr.nll_and_grad(x, abs(alpha), 0.7), strict=True):
        assert same(got[1::2], want[1::2])
    for got, want in zip(fr.loss_and_grad(far, alpha, 0.7), fr.loss_and_grad(x, alpha, 0.7), strict=True):
        assert same(got[1::2], want[1::2])


@pytest.mark.parametrize("name", ["influence", "weight", "curvature"])
def test_one_output_functions_agree_with_each_other_bit_for_bit(name: str) -> None:
    x, alpha, scale = residuals(PARALLEL + 3), shapes_of(PARALLEL + 3), scales_of(PARALLEL + 3)
    assert same(ONE_OUTPUT[name](x, alpha, scale), one_by_one(ONE_OUTPUT[name], x, alpha, scale, piece=4099))
    if name == "influence":
        assert same(fr.influence(x, alpha, scale), fr.loss_and_grad(x, alpha, scale).dx)


@pytest.mark.parametrize("subset", [(), ("x",), *slow(("scale", "alpha")), ("x", "scale")])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_gradient_that_is_not_wanted_is_none_and_the_rest_the_same(subset: tuple[str, ...], reduction: Any) -> None:
    x = residuals((50, 3), F4, wild=False)
    for alpha in (F4(0.5), shapes_of(3, F4), shapes_of((50, 1), F4)):
        whole = fr.loss_and_grad(x, alpha, 2.0, reduction=reduction)
        part = fr.loss_and_grad(x, alpha, 2.0, reduction=reduction, wrt=subset)
        wanted = {"value", *("d" + name for name in subset)}
        assert isinstance(part, fr.LossGrad)
        assert all_same(part, [v if f in wanted else None for f, v in zip(FIELDS, whole, strict=True)])


# --- ufunc options

SMALL_AND_LARGE = pytest.mark.parametrize("size", [9, PARALLEL + 9])


@pytest.mark.parametrize("name", ONE_OUTPUT)
@SMALL_AND_LARGE
def test_out_is_filled_and_returned(name: str, size: int) -> None:
    x = residuals(size)
    for alpha in (0.5, np.full(size, 0.5)):
        want, out = ONE_OUTPUT[name](x, alpha, 2.0), np.zeros(size)
        assert ONE_OUTPUT[name](x, alpha, 2.0, out=out) is out
        assert same(out, want)
        out[:] = 0
        assert ONE_OUTPUT[name](x, alpha, 2.0, out=(out,)) is out
        assert same(out, want)


@SMALL_AND_LARGE
def test_out_of_a_narrower_float_is_rounded_and_of_an_integer_refused(size: int) -> None:
    x = residuals(size, wild=False)
    for alpha in (0.5, np.full(size, 0.5)):
        assert same(fr.loss(x, alpha, 2.0, out=np.empty(size, F4)), fr.loss(x, alpha, 2.0).astype(F4))
        with pytest.raises(TypeError, match="same_kind"):
            fr.loss(x, alpha, 2.0, out=np.empty(size, np.int64))


@pytest.mark.parametrize("name", ONE_OUTPUT)
@SMALL_AND_LARGE
def test_where_leaves_the_rest_alone(name: str, size: int) -> None:
    x, chosen = residuals(size), np.arange(size) % 3 == 0
    for alpha in (0.5, np.full(size, 0.5)):
        out = np.full(size, 7.0)
        assert ONE_OUTPUT[name](x, alpha, 2.0, out=out, where=chosen) is out
        assert same(out, np.where(chosen, ONE_OUTPUT[name](x, alpha, 2.0), 7.0))


@pytest.mark.parametrize("of_x", [F4, F8], ids=["float32 x", "float64 x"])
@pytest.mark.parametrize("dtype", [F4, F8], ids=["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.1, np.float32(0.1), [0.1]], ids=["float", "scalar", "list"])
@SMALL_AND_LARGE
def test_dtype_says_in_what_it_is_computed(of_x: Any, dtype: Any, alpha: Any, size: int) -> None:
    x = residuals(size, of_x, wild=False)
    got = fr.loss(x, alpha, 0.7, dtype=dtype)
    assert same(got, fr.loss(x.astype(dtype), np.asarray(alpha).astype(dtype), dtype(0.7)))


def test_dtype_of_partition_says_in_what_it_is_computed() -> None:
    alpha = np.linspace(0, 5, 9, dtype=F4)
    assert same(fr.log_partition(alpha, dtype=F8), fr.log_partition(alpha.astype(F8)))
    assert same(fr.log_partition(alpha.astype(F8), dtype=F4), fr.log_partition(alpha))


@pytest.mark.parametrize("dtype", [np.int64, np.complex128, np.longdouble, object], ids=str)
def test_dtype_without_a_kernel_is_refused(dtype: Any) -> None:
    for alpha in (0.5, [0.5]):
        with pytest.raises(TypeError):
            fr.loss(np.ones(3), alpha, 1.0, dtype=dtype)


@pytest.mark.parametrize("alpha", [1.0, [1.0]], ids=["float", "list"])
def test_casting_is_obeyed(alpha: Any) -> None:
    x = residuals(9, wild=False)
    assert same(fr.loss(x, alpha, 1.0, casting="safe"), fr.loss(x, 1.0, 1.0))
    with pytest.raises(TypeError, match="safe"):
        fr.loss(x, alpha, 1.0, out=np.empty(9, F4), casting="safe")
    got = fr.loss(x, alpha, 1.0, out=np.empty(9, int), casting="unsafe")
    assert np.array_equal(got, fr.loss(x, 1.0, 1.0).astype(int))


def test_partition_is_a_ufunc_too() -> None:
    alpha, out = np.linspace(0, 5, 9), np.zeros(9)
    assert fr.log_partition(alpha, out=out) is out
    assert same(out, fr.log_partition(list(alpha)))
    assert same(fr.log_partition(alpha, casting="safe"), out)
    masked = fr.log_partition(alpha, out=np.zeros(9), where=alpha > 2)
    assert same(masked, np.where(alpha > 2, out, 0.0))
    many = np.linspace(0, 5, 2 * PARALLEL)
    assert same(fr.log_partition(many[::2]), fr.log_partition(many)[::2])


# --- subclasses and other libraries' arrays


class Tagged(np.ndarray):
    """A subclass like many."""


@pytest.mark.parametrize("size", [9, PARALLEL + 9])
def test_subclasses_come_back_as_themselves(size: int) -> None:
    x = residuals(size)
    for alpha in (0.5, np.full(size, 0.5)):
        got = fr.loss_and_grad(x.view(Tagged), alpha, 2.0)
        assert {type(v) for v in got} == {Tagged}
        assert all_same(got, fr.loss_and_grad(x, alpha, 2.0))
    assert type(fr.loss(x, np.full(size, 0.5).view(Tagged), 2.0)) is Tagged
    weights = np.ones(size)
    got = fr.loss(x.view(Tagged), 0.5, 2.0, weights=weights)
    assert type(got) is Tagged and same(got, fr.loss(x, 0.5, 2.0, weights=weights))


def test_masked_arrays_keep_their_mask() -> None:
    x = np.ma.masked_array(residuals(30), mask=np.arange(30) % 4 == 0)
    for got, want in zip(fr.loss_and_grad(x, 0.5, 2.0), fr.loss_and_grad(x.data, 0.5, 2.0), strict=True):
        assert np.array_equal(np.ma.getmaskarray(got), x.mask)
        assert same(got.data[~x.mask], want[~x.mask])


def test_masked_elements_never_enter_a_sum() -> None:
    # Either they are left out or the call is refused; counting them in silently would be wrong.
    x = np.ma.masked_array([1.0, 2.0, 1e6], mask=[False, False, True])
    try:
        got = fr.loss(x, 0.5, 2.0, reduction="sum")
    except TypeError as error:
        assert "mask" in str(error)  # noqa: PT017
    else:
        assert got == fr.loss(np.array([1.0, 2.0]), 0.5, 2.0, reduction="sum")


class Recorder:
    """An array of another library that takes part in NumPy's ufunc protocol."""

    def __init__(self, values: Array) -> None:
        self.values, self.dtype, self.shape = values, values.dtype, values.shape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [i.values if isinstance(i, Recorder) else i for i in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        return tuple(map(Recorder, result)) if isinstance(result, tuple) else Recorder(result)


def test_array_ufunc_protocol_is_followed() -> None:
    x, alpha = residuals(30, F4), shapes_of(30, F4)
    for arguments in [(Recorder(x), 0.5, 2.0), (x, Recorder(np.full(30, 0.5, F4)), 2.0)]:
        got = fr.loss_and_grad(*arguments)
        assert {type(v) for v in got} == {Recorder}
        assert all_same([v.values for v in got], fr.loss_and_grad(x, 0.5, 2.0))
    assert type(fr.log_partition(Recorder(abs(alpha)))) is Recorder


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas", reason="needs pip install pandas")


def test_series_come_back_as_series_with_their_index(pd: Any) -> None:
    x = residuals(30, F4)
    series = pd.Series(x, index=[f"row {i}" for i in range(30)], name="residual")
    for got, want in zip(fr.loss_and_grad(series, 0.5, 2.0), fr.loss_and_grad(x, 0.5, 2.0), strict=True):
        assert isinstance(got, pd.Series)
        assert got.index.equals(series.index)
        assert got.name == "residual"
        assert same(got.to_numpy(), want)
    total = fr.loss(series[2:9], 0.5, 2.0, reduction="sum")
    assert same(total, fr.loss(x[2:9], 0.5, 2.0, reduction="sum"))


def test_series_with_weights(pd: Any) -> None:
    x, w = residuals(30, wild=False), np.full(30, 0.5)
    series = pd.Series(x, index=range(5, 35))
    got = fr.loss(series, 0.5, 2.0, weights=w)
    assert got.index.equals(series.index) and same(got.to_numpy(), fr.loss(x, 0.5, 2.0, weights=w))
    assert same(fr.loss(series, 0.5, 2.0, weights=w, reduction="sum"), fr.loss(x, 0.5, 2.0, weights=w, reduction="sum"))


def test_frames_are_computed_or_refused_by_name(pd: Any) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    try:
        got = fr.loss(frame, 0.5, 2.0)
    except TypeError as error:
        assert "DataFrame" in str(error)  # noqa: PT017
    else:
        assert same(got.to_numpy(), fr.loss(frame.to_numpy(), 0.5, 2.0))


# --- in place, and outputs that overlap arguments


@pytest.mark.parametrize("size", [100, PARALLEL + 100])
@pytest.mark.parametrize("name", ONE_OUTPUT)
def test_in_place_gives_the_same_bits(name: str, size: int) -> None:
    x, alpha = residuals(size), np.abs(shapes_of(size))
    for parameter in (0.5, alpha):
        want, work = ONE_OUTPUT[name](x, parameter, 2.0), x.copy()
        assert ONE_OUTPUT[name](work, parameter, 2.0, out=work) is work
        assert same(work, want)


@pytest.mark.parametrize("size", [100, 2 * PARALLEL])
@pytest.mark.parametrize("shift", [-200, -130, -1, 1, 64, 200])
def test_outputs_may_overlap_arguments(size: int, shift: int) -> None:
    buffer = residuals(size + 400, wild=False)
    for parameter in (0.5, shapes_of(size)):
        work = buffer.copy()
        x, out = work[200 : 200 + size], work[200 + shift : 200 + shift + size]
        want = fr.loss(x.copy(), parameter, 2.0)
        assert same(fr.loss(x, parameter, 2.0, out=out), want)
    work = buffer.copy()
    x, backwards = work[200 : 200 + size], work[200 : 200 + size][::-1]
    want = fr.loss(x.copy(), 0.5, 2.0)
    assert same(fr.loss(x, 0.5, 2.0, out=backwards), want)


@pytest.mark.parametrize("shape", [(40, 3), (PARALLEL // 2, 3)], ids=["small", "large"])
@pytest.mark.parametrize(
    ("onto", "parameters"),
    [*itertools.product(["x", "weights"], ["number", "columns", "full"]), ("alpha", "full"), ("scale", "full")],
)
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("shift", [0, 30])
def test_gradients_may_overwrite_any_argument(
    shape: tuple[int, ...], onto: str, parameters: str, reduction: Any, shift: int
) -> None:
    of = {"number": (), "columns": shape[1:], "full": shape}[parameters]
    arguments = {
        "x": residuals(shape, wild=False),
        "alpha": shapes_of(of),
        "scale": scales_of(of),
        "weights": np.abs(shapes_of(shape, seed=5)),
    }
    want = fr.loss_and_grad(**arguments, reduction=reduction)
    count = math.prod(shape)
    buffer = np.empty(count + shift)
    victim = buffer[:count].reshape(shape)
    victim[...] = arguments[onto]
    arguments[onto] = victim
    dx = buffer[shift:].reshape(shape)
    got = fr.loss_and_grad(**arguments, reduction=reduction, out=(None, dx, None, None))
    assert got.dx is dx
    assert all_same(got, want)


# --- memory for the results


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("parameters", [(), (3,), (50, 1), (50, 3)], ids=str)
@pytest.mark.parametrize("weights", [None, 0.5])
@pytest.mark.parametrize("given", [FIELDS, ("value",), ("dx",), ("dalpha", "dscale")], ids=str)
def test_given_memory_is_what_comes_back(
    reduction: Any, parameters: tuple[int, ...], weights: Any, given: tuple[str, ...]
) -> None:
    x, alpha, scale = residuals((50, 3), F4), shapes_of(parameters, F4), scales_of(parameters, F4)
    want = fr.loss_and_grad(x, alpha, scale, reduction=reduction, weights=weights)
    out = fr.LossGrad(*(np.full_like(v, 9) if f in given else None for f, v in zip(FIELDS, want, strict=True)))
    got = fr.loss_and_grad(x, alpha, scale, reduction=reduction, weights=weights, out=out)
    assert all(o is None or g is o for g, o in zip(got, out, strict=True))
    assert all_same(got, want)


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_out_of_a_gradient_that_is_not_wanted_is_left_alone(reduction: Any) -> None:
    x = residuals(20, F4)
    out = tuple(np.full(20 if i == 1 or reduction == "none" else (), 9, F4) for i in range(4))
    got = fr.loss_and_grad(x, 0.5, 2.0, reduction=reduction, wrt=("x",), out=out)
    assert (got.value is out[0], got.dx is out[1], got.dalpha, got.dscale) == (True, True, None, None)
    assert np.all(out[2] == 9)
    assert np.all(out[3] == 9)


def test_reduced_value_goes_into_given_memory() -> None:
    x, out = residuals(20, wild=False), np.zeros(())
    assert fr.loss(x, 0.5, 2.0, reduction="mean", out=out) is out
    assert same(out, np.asarray(fr.loss(x, 0.5, 2.0, reduction="mean")))


# --- special values and quiet floating point

SPECIAL = [  # x, alpha, c, rho, psi
    (3.0, 0.0, 1.0, math.log1p(4.5), 3 / 5.5),
    (3.0, 2.0, 2.0, 9 / 8, 3 / 4),
    (3.0, -INF, 1.0, -math.expm1(-4.5), 3 * math.exp(-4.5)),
    (3.0, INF, 1.0, math.expm1(4.5), 3 * math.exp(4.5)),
    (1e4, INF, 1.0, INF, INF),
    (INF, 0.0, 1.0, INF, 0.0),
    (INF, 0.5, 2.0, INF, 0.0),
    (-INF, 1.0, 2.0, INF, -0.5),
    (INF, 1.0, 2.0, INF, 0.5),
    (-INF, 1.5, 2.0, INF, -INF),
    (INF, 2.0, 2.0, INF, INF),
    (INF, INF, 2.0, INF, INF),
    (INF, -2.0, 2.0, 2.0, 0.0),
    (-INF, -INF, 2.0, 1.0, 0.0),
    (1e20, 1.0, 1.0, 1e20, 1.0),
    (0.0, 0.3, 2.0, 0.0, 0.0),
    (NAN, 1.0, 1.0, NAN, NAN),
    (0.0, NAN, 1.0, NAN, NAN),
    (INF, NAN, 1.0, NAN, NAN),
    (0.0, 1.0, NAN, NAN, NAN),
    (INF, 1.0, NAN, NAN, NAN),
    (1.0, 1.0, 0.0, NAN, NAN),
    (0.0, 1.0, -1.0, NAN, NAN),
    (INF, 2.0, -INF, NAN, NAN),
]


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize(("x", "alpha", "c", "rho", "psi"), SPECIAL)
def test_special_values(x: float, alpha: float, c: float, rho: float, psi: float, dtype: Any) -> None:
    arguments = [np.full(3, v, dtype) for v in (x, alpha, c)]
    tolerance = 4 * np.finfo(dtype).eps  # 4 ulp
    got = fr.loss_and_grad(*arguments)
    np.testing.assert_allclose(got.value, rho, tolerance)
    np.testing.assert_allclose(got.dx, psi, tolerance)
    assert same(fr.influence(*arguments), got.dx)
    if math.isnan(rho):
        assert np.all(np.isnan([*got, fr.weight(*arguments), fr.curvature(*arguments), fr.nll(*arguments)]))
    if math.isinf(alpha) and not math.isnan(rho):
        assert np.all(got.dalpha == 0)
    for reduction in ("sum", "mean"):
        total = fr.loss_and_grad(*arguments, reduction=reduction)
        factor = 3 if reduction == "sum" else 1
        np.testing.assert_allclose(total.value, factor * rho, tolerance)
        np.testing.assert_allclose(total.dx, psi / (3 / factor), 2 * tolerance)


def test_dalpha_at_0_and_2_lets_an_optimizer_leave() -> None:
    np.testing.assert_allclose(fr.loss_and_grad(3.0, 0.0, 1.0).dalpha, 0.28325837747, rtol=1e-10)
    at_two = fr.loss_and_grad(np.array([0.5, 3.0, -40.0]), 2.0, 1.0).dalpha
    assert np.all((at_two > 0) & (at_two < INF))


@pytest.mark.parametrize("alpha", [1.0, np.array([1.0, 0.5, 2.0]), np.ones((4, 3))], ids=["number", "columns", "full"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_nan_and_inf_reach_the_sums(alpha: Any, reduction: Any) -> None:
    x = residuals((4, 3), wild=False)
    x[1, 1] = NAN
    got = fr.loss_and_grad(x, alpha, 1.0, reduction=reduction)
    assert np.isnan(got.value)
    assert np.isnan(got.dscale)
    assert np.array_equal(np.isnan(got.dx), np.isnan(x))
    if np.ndim(alpha) == 1:  # the other columns do not hear of it
        assert np.array_equal(np.isnan(got.dalpha), [False, True, False])
    x[1, 1] = INF
    got = fr.loss_and_grad(x, alpha, 1.0, reduction=reduction)
    assert got.value == INF
    assert got.dscale == -INF
    assert np.all(np.isfinite(got.dx))


def test_negative_alpha_in_the_likelihood_is_inf_elementwise() -> None:
    got = fr.nll(residuals(3, wild=False), np.array([-1.0, 0.0, -INF]), 1.0)
    assert np.array_equal(np.isposinf(got), [True, False, True])
    assert fr.nll(residuals(3, wild=False), np.array([-1.0, 0.0, 1.0]), 1.0, reduction="mean") == INF


EXTREMES = [0.0, -0.0, 1e-45, 1e-38, 1e-20, 0.5, 1.0, 3.0, -40.0, 1e19, 3e38, INF, -INF, NAN, 1e-308, 1e154, 1.7e308]
ALPHAS = [-INF, -1e30, -2.0, -1e-30, 0.0, 1e-10, 0.5, 1.0, 1.9999999, 2.0, 2.0000002, 4.0, 1e30, INF, NAN]
SCALES = [1e-6, 1.0, 1e6, 1e-40, 1e30, INF, 0.0, -1.0, NAN]


@pytest.mark.parametrize("dtype", [F4, F8])
def test_extreme_arguments_raise_no_floating_point_error(dtype: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):
        x, alpha, scale = (np.array(v).astype(dtype) for v in (EXTREMES, ALPHAS, SCALES))
    grid = x, alpha[:, None], scale[:, None, None]
    with np.errstate(all="raise"):
        for function in (*ONE_OUTPUT.values(), *WITH_GRAD.values()):
            function(*grid)
        fr.log_partition_and_grad(alpha)
        for a in ALPHAS:
            fr.loss_and_grad(x, a, 1.0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weights", [None, np.resize([0.0, 1.0, 0.5], len(EXTREMES))], ids=["", "weights"])
@pytest.mark.parametrize("dtype", [F4, F8])
def test_extreme_arguments_are_summed_quietly(reduction: Any, weights: Any, dtype: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):
        x, alpha, scale = (np.array(v).astype(dtype) for v in (EXTREMES, ALPHAS, SCALES))
    with np.errstate(all="raise", under="ignore"):
        for a, c in [(alpha[:, None], 1.0), (dtype(1), scale[:, None]), (alpha[4:13, None], scale[:, None])]:
            fr.loss_and_grad(x, a, c, reduction=reduction, weights=weights)
        for a in ALPHAS:
            fr.loss_and_grad(x, a, 1.0, reduction=reduction, weights=weights)
        fr.loss_and_grad(np.resize(x, (40, 15)), alpha, np.resize(scale, 15), reduction=reduction)


@pytest.mark.parametrize("wrt", [(), ("x",), ("alpha",), ("x", "scale"), WRT], ids=str)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (1000,), (1 << 16,)], ids=str)
def test_sums_of_few_elements_have_the_bits_of_the_general_way(
    shape: Any, dtype: Any, reduction: Any, wrt: Any
) -> None:
    """They are one call of a ufunc; the other way is that of sums with weights, and those of 1 change nothing."""
    x = np.asarray(np.random.default_rng(3).standard_normal(shape), dtype)
    found = fr.loss_and_grad(x, 0.7, 1.3, reduction=reduction, wrt=wrt)
    other = sums._reduce(LOSS, wrt, (x, 0.7, 1.3), reduction, None, None)
    for one, expected in zip(found, other, strict=True):
        assert (one is None) == (expected is None)
        if one is not None:
            assert type(one) is type(expected) and np.shape(one) == np.shape(expected)
            np.testing.assert_array_equal(one, expected)
    if "x" in wrt:
        memory = np.full_like(x, np.nan)
        again = fr.loss_and_grad(x, 0.7, 1.3, reduction=reduction, wrt=wrt, out=(None, memory, None, None))
        assert again.dx is memory
        np.testing.assert_array_equal(memory, other[1])
        in_place = x.copy()
        fr.loss_and_grad(in_place, 0.7, 1.3, reduction=reduction, wrt=wrt, out=(None, in_place, None, None))
        np.testing.assert_array_equal(in_place, other[1])


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 0.0, 2.0])], ids=["", "weights"])
@pytest.mark.parametrize("alpha", [2.0, np.full(4, 2.0)], ids=["number", "full"])
def test_a_sum_beyond_the_largest_number_is_inf_quietly(weights: Any, alpha: Any) -> None:
    for dtype, x in ((F4, 2e19), (F8, 1.5e154)):
        a = alpha if isinstance(alpha, float) else alpha.astype(dtype)
        assert fr.loss(np.full(4, x, dtype), a, 1.0, reduction="sum", weights=weights) == INF


# --- sums


def reference(name: str, x: Any, alpha: Any, scale: Any, weights: Any, reduction: str) -> tuple[Any, Any, Any]:
    """Sums of the elements' values and gradients in exact arithmetic, in the parameters' shapes, and of |terms|."""
    elements = WITH_GRAD[name](x, alpha, scale)
    shape = elements.value.shape
    w = np.ones(shape) if weights is None else np.broadcast_to(weights, shape).astype(F8)
    total = math.fsum(w.reshape(-1)) if reduction == "mean" else 1.0

    def fold(gradient: Any, target: tuple[int, ...], absolute: bool = False) -> Any:
        terms = np.where(w == 0, 0.0, np.where(w == 0, 0.0, gradient.astype(F8)) * w)
        terms = np.abs(terms) if absolute else terms
        result = np.zeros(target)
        padded = (1,) * (len(shape) - len(target)) + target
        cells: dict[tuple[int, ...], list[float]] = {}
        for index in np.ndindex(shape):
            cell = tuple(0 if n == 1 else i for i, n in zip(index, padded, strict=True))
            cells.setdefault(cell[len(shape) - len(target) :], []).append(float(terms[index]))
        for cell, values in cells.items():
            result[cell] = math.fsum(values) / total
        return result

    targets = (), np.shape(alpha), np.shape(scale)
    fields = elements.value, elements.dalpha, elements.dscale
    sums = [fold(f, t) for f, t in zip(fields, targets, strict=True)]
    sizes = [fold(f, t, True) / (1 if total > 0 else -1) for f, t in zip(fields, targets, strict=True)]
    return sums, sizes, np.where(w == 0, 0.0, elements.dx.astype(F8)) * w / total


def assert_sums(got: fr.LossGrad, want: tuple[Any, Any, Any], dtype: Any) -> None:
    sums, sizes, dx = want
    for result, total, size in zip((got.value, got.dalpha, got.dscale), sums, sizes, strict=True):
        assert result.dtype == dtype
        assert np.shape(result) == np.shape(total)
        # One rounding to the dtype, that of each term (by its weight), and those of the sum, in float64.
        bound = np.finfo(dtype).eps * (np.abs(total) + size) + 16 * np.finfo(F8).eps * size
        assert np.all(np.abs(result - total) <= bound)
    np.testing.assert_allclose(got.dx, dx, rtol=3 * np.finfo(dtype).eps)


PARAMETERS = [(), (1,), (5,), (1, 1), (1, 5), (4, 1), (4, 5)]
PARAMETERS += [(1, 1, 1), (1, 1, 5), (1, 4, 1), (3, 1, 1), (3, 1, 5), (3, 4, 5)]


@pytest.mark.parametrize("alpha", PARAMETERS, ids=str)
@pytest.mark.parametrize("scale", PARAMETERS, ids=str)
def test_parameter_gradients_have_the_shapes_of_the_parameters(alpha: Any, scale: Any) -> None:
    arguments = residuals((3, 4, 5), wild=False), shapes_of(alpha, low=0), scales_of(scale)
    got = fr.loss_and_grad(*arguments, reduction="sum")
    assert_sums(got, reference("loss", *arguments, None, "sum"), F8)


@pytest.mark.parametrize(
    ("x", "alpha", "scale"),
    [
        ((5,), (4, 1), ()),
        ((4, 1), (5,), (1, 1)),
        ((), (3,), (2, 1)),
        ((3, 1, 5), (4, 1), (4, 5)),
        ((1, 5), (6, 1), (6, 5)),
        ((1,), (), ()),
        ((1, 1), (1,), (1, 1)),
        ((9, 1, 2), (1, 2), (9, 1, 1)),
        ((6, 2, 2, 2), (2, 1, 2), (1, 2, 2)),
    ],
)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", WITH_GRAD)
def test_gradients_are_reduced_where_x_is_the_one_that_is_broadcast(
    x: Any, alpha: Any, scale: Any, reduction: Any, name: str
) -> None:
    arguments = residuals(x, wild=False), shapes_of(alpha, low=0), scales_of(scale)
    got = WITH_GRAD[name](*arguments, reduction=reduction)
    assert_sums(got, reference(name, *arguments, None, reduction), F8)


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("shape", [(37,), (301, 3), (9, 1100), *slow((1000, 1), (3, 301), (7, 4, 60))], ids=str)
@pytest.mark.parametrize("weights", ["none", "number", "columns", "full"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sums_and_means_are_those_of_exact_arithmetic(shape: Any, weights: str, reduction: Any, dtype: Any) -> None:
    x = residuals(shape, dtype, wild=False)
    of = {"none": None, "number": (), "columns": shape[-1:], "full": shape}[weights]
    w = None if of is None else np.asarray(np.random.default_rng(7).uniform(0, 3, of), dtype)
    for parameters in ((), shape[-1:], (shape[0], *(1 for _ in shape[1:])), shape):
        arguments = x, shapes_of(parameters, dtype, low=0), scales_of(parameters, dtype)
        got = fr.loss_and_grad(*arguments, reduction=reduction, weights=w)
        assert_sums(got, reference("loss", *arguments, w, reduction), dtype)
        value = fr.loss(*arguments, reduction=reduction, weights=w)
        assert same(value, got.value)


@pytest.mark.parametrize("parameters", [(), (3,), (40, 1), (40, 3)], ids=str)
@pytest.mark.parametrize("name", WITH_GRAD)
@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e300])
def test_a_weight_of_0_excludes_the_element_whatever_it_is(parameters: Any, name: str, bad: float) -> None:
    x, alpha, scale = residuals((40, 3), wild=False), shapes_of(parameters, low=0), scales_of(parameters)
    weights = (np.random.default_rng(9).random((40, 3)) < 0.7).astype(F8)
    spoiled = np.where(weights == 0, bad, x)
    if alpha.shape == x.shape:
        alpha = np.where(weights == 0, NAN, alpha)
    for reduction in ("sum", "mean"):
        got = WITH_GRAD[name](spoiled, alpha, scale, reduction=reduction, weights=weights)
        clean = np.where(np.isnan(alpha), 1.0, alpha)
        assert all_same(got, WITH_GRAD[name](x, clean, scale, reduction=reduction, weights=weights))
        assert np.all(got.dx[weights == 0] == 0)
    each = WITH_GRAD[name](spoiled, alpha, scale, weights=weights)
    assert all(np.all(np.isfinite(v)) and np.all(v[weights == 0] == 0) for v in each)


@pytest.mark.parametrize("dtype", [bool, np.int64, F4, F8])
def test_a_mask_gives_the_mean_over_what_is_kept(dtype: Any) -> None:
    x = residuals(1000, wild=False)
    keep = np.arange(1000) % 3 != 0
    got = fr.nll_and_grad(x, 0.5, 2.0, reduction="mean", weights=keep.astype(dtype))
    want = fr.nll_and_grad(x[keep], 0.5, 2.0, reduction="mean")
    for a, b in zip(got._replace(dx=got.dx[keep]), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert np.all(got.dx[~keep] == 0)


@pytest.mark.parametrize("parameters", [(), (3,), (40, 3)], ids=str)
def test_a_mean_over_nothing_is_nan(parameters: Any) -> None:
    x, alpha = residuals((40, 3), wild=False), shapes_of(parameters)
    got = fr.loss_and_grad(x, alpha, 1.0, reduction="mean", weights=0.0)
    assert np.isnan(got.value)
    assert np.all(np.isnan(got.dalpha))
    assert fr.loss(x, alpha, 1.0, reduction="sum", weights=np.zeros(3)) == 0


@pytest.mark.parametrize(
    "weights", [2.0, 0, True, [0.5, 0.0, 3.0], np.full((40, 1), 2, np.int32), np.full((40, 3), 0.5, F4)]
)
def test_weights_multiply_each_element_without_reduction(weights: Any) -> None:
    x = residuals((40, 3), wild=False)
    for got, want in zip(fr.loss_and_grad(x, 0.5, 2.0, weights=weights), fr.loss_and_grad(x, 0.5, 2.0), strict=True):
        np.testing.assert_allclose(got, want * np.asarray(weights, F8), rtol=3e-16)
    assert same(fr.loss(x, 0.5, 2.0, weights=weights), fr.loss_and_grad(x, 0.5, 2.0, weights=weights).value)


def test_weights_do_not_change_the_dtype_nor_themselves() -> None:
    x, weights = residuals(50, F4, wild=False), np.linspace(0, 1, 50)
    before = weights.copy()
    for reduction in ("none", "sum", "mean"):
        assert {v.dtype for v in fr.loss_and_grad(x, 0.5, 2.0, weights=weights, reduction=reduction)} == {np.dtype(F4)}
    assert same(weights, before)


# --- threads


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        yield lambda count: monkeypatch.setattr(_threads, "_pool", lambda: (pool.submit, count))


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((1_000_003,), ()),
        ((100_003, 3), (3,)),
        ((40, 3001), (3001,)),
        ((400, 3001), (3001,)),
        ((2, 100_003), (100_003,)),
        ((300_001,), (300_001,)),
        ((3001, 40), (3001, 1)),
    ],
    ids=str,
)
def test_the_number_of_threads_does_not_change_a_bit(
    threads: Callable[[int], None], shape: Any, parameters: Any, dtype: Any
) -> None:
    arguments = residuals(shape, dtype, wild=False), shapes_of(parameters, dtype), scales_of(parameters, dtype)
    weights = np.abs(shapes_of(shape, dtype, seed=11))
    results = []
    for count in (1, 2, 3, 5, 16):
        threads(count)
        results.append(
            (
                *fr.loss_and_grad(*arguments, reduction="sum"),
                *fr.loss_and_grad(*arguments, reduction="mean", weights=weights),
                *fr.loss_and_grad(*arguments),
            )
        )
    assert all(all_same(r, results[0]) for r in results[1:])


def test_calls_from_several_threads_do_not_disturb_one_another() -> None:
    arrays = [residuals(2 * PARALLEL + i, F4, seed=i) for i in range(8)]
    want = [fr.loss_and_grad(x, 0.5, 2.0) for x in arrays]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda x: fr.loss_and_grad(x, 0.5, 2.0), arrays))
    assert all(itertools.starmap(all_same, zip(got, want, strict=True)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_too() -> None:
    program = f"""
import os, numpy as np, fastrobust as fr
x = np.ones({4 * PARALLEL}, np.float32)
fr.loss(x, 1.0, 1.0)
child = os.fork()
if not child:
    os._exit(0 if fr.loss(x, 1.0, 1.0)[-1] == fr.loss(x[:1], 1.0, 1.0)[0] else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    root = str(Path(fr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=False, env=environment)
    assert done.returncode == 0


# --- accuracy of sums


def test_float32_mean_of_ten_million_is_right_to_1e_6() -> None:
    x = np.random.default_rng(12).standard_t(2, 10_000_000).astype(F4)
    got = fr.loss_and_grad(x, 0.5, 2.0, reduction="mean")
    want = fr.loss_and_grad(x.astype(F8), 0.5, 2.0, reduction="mean")
    for name in ("value", "dalpha", "dscale"):
        assert abs(getattr(got, name) / getattr(want, name) - 1) < 1e-6
    columns = fr.loss_and_grad(x.reshape(-1, 2), np.array([0.5, 0.5], F4), 2.0, reduction="mean")
    assert abs(columns.value / want.value - 1) < 1e-6
    assert abs(columns.dalpha.sum() / want.dalpha - 1) < 1e-6


@pytest.mark.parametrize("parameters", [(), (3,), (30, 1), (30, 3)], ids=str)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weights", [None, "uniform"])
@pytest.mark.parametrize("name", WITH_GRAD)
def test_reduced_gradients_are_the_derivatives_of_the_reduced_value(
    name: str, parameters: Any, reduction: Any, weights: Any
) -> None:
    rng = np.random.default_rng(13)
    arguments = [rng.standard_t(3, (30, 3)), rng.uniform(0.2, 1.8, parameters), rng.uniform(0.5, 2, parameters)]
    w = None if weights is None else rng.uniform(0, 2, (30, 3))
    function, grad = {"loss": fr.loss, "nll": fr.nll}[name], WITH_GRAD[name](*arguments, reduction=reduction, weights=w)
    h = 1e-5
    for place, gradient in enumerate((grad.dx, grad.dalpha, grad.dscale)):
        direction = np.asarray(rng.uniform(-1, 1, np.shape(gradient)))
        ends = []
        for sign in (1, -1):
            moved = list(arguments)
            moved[place] = arguments[place] + sign * h * direction
            ends.append(function(*moved, reduction=reduction, weights=w))
        slope = float(np.sum(gradient * direction))
        # h^2 of the third derivative, and epsilon/h of the value.
        scale = 1e-8 * float(np.sum(np.abs(gradient * direction))) + 1e-10 * abs(float(grad.value))
        assert abs((ends[0] - ends[1]) / (2 * h) - slope) < scale + 1e-9


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sums_of_byte_swapped_arrays(order: str, reduction: Any) -> None:
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    found = fr.loss_and_grad(x.astype(f"{order}f4"), 0.5, 1.5, reduction=reduction)
    for one, other in zip(found, fr.loss_and_grad(x, 0.5, 1.5, reduction=reduction), strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_without_axes_are_scalars_on_every_path() -> None:
    for weights in (None, 1.0):
        found = fr.loss_and_grad(np.array(1.0), 1.0, 1.0, reduction="sum", weights=weights)
        assert all(type(field) is np.float64 for field in found)


def test_large_arrays_after_the_main_thread_has_ended() -> None:
    code = """
import threading, time, numpy as np, fastrobust as fr
def late():
    threading.main_thread().join()
    print(fr.loss(np.ones(300_000), 1.0, 1.0).sum())
threading.Thread(target=late).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(300_000 * (2**0.5 - 1)), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_forked_during_a_compilation_computes() -> None:
    code = """
import os, threading, time, warnings, numpy as np, fastrobust as fr
warnings.simplefilter("ignore")
thread = threading.Thread(target=fr.nll_and_grad, args=(np.ones(3), 1.0, 1.0))
thread.start()
time.sleep(0.7)
child = os.fork()
if child == 0:
    fr.log_partition(np.ones(3))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "FASTROBUST_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e34), (np.float64, 1e266)])
@pytest.mark.parametrize("alpha", [1.0, np.array([1.0, -8.0])])
def test_an_infinite_residual_over_a_huge_scale_has_its_limit(dtype: Any, scale: float, alpha: Any) -> None:
    found = fr.loss_and_grad(np.array([np.inf, 1.0], dtype), alpha if np.ndim(alpha) == 0 else dtype(alpha), scale)
    assert found.value[0] == np.inf and found.dx[0] == dtype(1) / dtype(scale)
    assert found.dalpha[0] == np.inf and found.dscale[0] == -np.inf


@pytest.mark.parametrize("size", [3, 200_000])
def test_results_beyond_a_narrower_output_are_infinite_without_a_warning(size: int) -> None:
    """Warnings are errors in these tests; raising is the strictest a user can ask for."""
    x, wide, narrow = np.full(size, 1e30), np.empty(size), np.empty(size, np.float32)
    half = np.empty(size, np.float16)
    with np.errstate(all="raise"):
        for alpha in (2.0, np.array(2.0)):
            assert np.all(np.isinf(fr.loss(x, alpha, 1.0, out=narrow)))
            assert np.all(np.isinf(fr.loss(x, alpha, 1.0, out=half)))
            found = fr.loss_and_grad(x, alpha, 1.0, out=(wide, half, None, None))
            assert np.all(np.isinf(found.dx)) and np.all(np.isfinite(found.value))
        weights = np.full(size, 1e300)
        assert np.all(np.isinf(fr.loss(np.ones(size, np.float32), 1.0, 1.0, weights=weights)))
