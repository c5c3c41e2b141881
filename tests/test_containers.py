"""Arrays that mean more than their numbers: labels, masks, units and laziness are kept, or the call is refused.

What is right is said label by label, with numbers of Python's.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust._meaning import check_plain, check_rows

Call = Callable[..., Any]
LABELS = ("a", "b", "c", "d")
NUMBERS = {
    "x": dict(zip(LABELS, (0.5, -1.0, 2.0, 7.0), strict=True)),
    "alpha": dict(zip(LABELS, (0.0, 1.0, 1.5, 2.5), strict=True)),
    "scale": dict(zip(LABELS, (1.0, 0.5, 2.0, 3.0), strict=True)),
    "weights": dict(zip(LABELS, (1.0, 0.0, 0.5, 2.0), strict=True)),
}
# Every argument in an order of its own.
ORDERS = {"x": "abcd", "alpha": "dbca", "scale": "bdac", "weights": "cadb"}
ONE = {"x": 3.0, "alpha": 0.5, "scale": 2.0, "weights": 0.25}
ELEMENTWISE = ("loss", "influence", "weight", "curvature", "nll")
GRADIENTS = ("value", "dx", "dalpha", "dscale")
some = [set(names) for n in (1, 2, 3) for names in itertools.combinations(("x", "alpha", "scale"), n)]
labelled_arguments = pytest.mark.parametrize("labelled", some, ids=lambda names: "+".join(sorted(names)))
truncations = pytest.mark.parametrize("truncation", [None, 5.0])


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas", reason="needs pip install pandas")


@pytest.fixture
def xr() -> Any:
    return pytest.importorskip("xarray", reason="needs pip install xarray")


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(got, float), np.asarray(want, float), rtol=1e-13, atol=1e-15)


def likelihood(truncation: float | None) -> dict[str, Any]:
    return {} if truncation is None else {"truncation": truncation}


def refusal(kind: Any, call: Call, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def refusals(arguments: dict[str, Any]) -> Iterator[str]:
    """What every function of three arguments says to these, element by element, reduced, weighted and truncated."""
    for call in (fr.loss, fr.nll, fr.loss_and_grad, fr.nll_and_grad):
        for more in ({}, {"reduction": "sum"}, {"weights": np.ones(2)}, {"truncation": 9.0}):
            if "truncation" not in more or call in (fr.nll, fr.nll_and_grad):
                yield refusal(TypeError, call, **{**more, **arguments})


# --- what every call gives for one label


def at(label: str, labelled: set[str], name: str) -> float:
    return NUMBERS[name][label] if name in labelled else ONE[name]


def values_at(label: str, labelled: set[str]) -> dict[str, float]:
    return {name: at(label, labelled, name) for name in ("x", "alpha", "scale")}


def gradient_at(label: str, labelled: set[str], family: str, truncation: float | None) -> fr.LossGrad:
    return getattr(fr, family + "_and_grad")(**values_at(label, labelled), **likelihood(truncation))  # type: ignore[no-any-return]


def summed(family: str, labelled: set[str], mean: bool, truncation: float | None) -> dict[str, Any]:
    """The sum or mean and its gradients, by label where the argument has labels."""
    weights = {label: at(label, labelled, "weights") for label in LABELS}
    each = {label: gradient_at(label, labelled, family, truncation) for label in LABELS}
    total = sum(weights.values()) if mean else 1.0
    found: dict[str, Any] = {
        "value": sum(weights[k] * each[k].value for k in LABELS if weights[k]) / total,
        "dx": {k: weights[k] * each[k].dx / total for k in LABELS},
    }
    for name in ("alpha", "scale"):
        parts = {k: weights[k] * getattr(each[k], "d" + name) / total for k in LABELS}
        found["d" + name] = parts if name in labelled else sum(parts.values())
    return found


# --- pandas


def series(pd: Any, name: str, dtype: Any = float) -> Any:
    order = ORDERS[name]
    return pd.Series([NUMBERS[name][label] for label in order], index=list(order), dtype=dtype)


def arguments_of(pd: Any, labelled: set[str]) -> dict[str, Any]:
    return {name: series(pd, name) if name in labelled else ONE[name] for name in ("x", "alpha", "scale")}


@labelled_arguments
@pytest.mark.parametrize("family", ELEMENTWISE)
def test_series_are_aligned_by_their_index(pd: Any, family: str, labelled: set[str]) -> None:
    got = getattr(fr, family)(**arguments_of(pd, labelled))
    assert isinstance(got, pd.Series)
    for label in LABELS:
        close(got[label], getattr(fr, family)(**values_at(label, labelled)))


@truncations
@labelled_arguments
@pytest.mark.parametrize("weighted", [False, True])
def test_series_are_aligned_with_weights_and_truncations(
    pd: Any, labelled: set[str], weighted: bool, truncation: float | None
) -> None:
    weights = series(pd, "weights") if weighted else None
    for family in ("loss", "nll") if truncation is None else ("nll",):
        more = {"weights": weights, **likelihood(truncation)}
        value = getattr(fr, family)(**arguments_of(pd, labelled), **more)
        found = getattr(fr, family + "_and_grad")(**arguments_of(pd, labelled), **more)
        for label in LABELS:
            factor = NUMBERS["weights"][label] if weighted else 1.0
            want = gradient_at(label, labelled, family, truncation)
            close(value[label], factor * want.value if factor else 0.0)
            close([part[label] for part in found], [factor * part if factor else 0.0 for part in want])


@truncations
@labelled_arguments
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_series_are_those_of_their_elements(
    pd: Any, labelled: set[str], weighted: bool, reduction: Any, truncation: float | None
) -> None:
    more = {"reduction": reduction, "weights": series(pd, "weights") if weighted else None, **likelihood(truncation)}
    for family in ("loss", "nll") if truncation is None else ("nll",):
        if weighted:
            want = summed(family, labelled | {"weights"}, reduction == "mean", truncation)
        else:
            want = summed(family, labelled, reduction == "mean", truncation)
            if reduction == "sum":  # of the weight that it is without
                want = {
                    k: {n: g / ONE["weights"] for n, g in v.items()} if isinstance(v, dict) else v / ONE["weights"]
                    for k, v in want.items()
                }
        close(getattr(fr, family)(**arguments_of(pd, labelled), **more), want["value"])
        found = getattr(fr, family + "_and_grad")(**arguments_of(pd, labelled), **more)
        assert np.ndim(found.value) == 0
        for name in GRADIENTS[1:]:
            got, argument = getattr(found, name), name[1:]
            if isinstance(want[name], dict):
                assert isinstance(got, pd.Series)
                close([got[label] for label in LABELS], [want[name][label] for label in LABELS])
                if argument in labelled and name != "dx":  # in the shape of the parameter, so that steps can be added
                    assert list(got.index) == list(ORDERS[argument])
            else:
                close(got, want[name])


def test_the_issue_s_series() -> None:
    pd = pytest.importorskip("pandas", reason="needs pip install pandas")
    x, scale = pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], index=[1, 0])
    each = fr.loss(x, 1.0, scale)
    close(fr.loss(x, 1.0, scale, reduction="sum"), each.sum())
    close(fr.loss_and_grad(x, 1.0, scale, reduction="sum").value, each[0] + each[1])
    close(
        fr.nll(x, 1.0, scale, truncation=9.0),
        [fr.nll(1.0, 1.0, 2.0, truncation=9.0), fr.nll(2.0, 1.0, 1.0, truncation=9.0)],
    )


def test_labels_that_are_missing_or_repeated_are_refused_in_sums(pd: Any) -> None:
    x = pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"])
    others = {"other": ["b", "c", "d"], "more": ["a", "b", "c", "d"], "fewer": ["a"], "repeated": ["a", "a", "b"]}
    for index in others.values():
        other = pd.Series(np.ones(len(index)), index=index)
        for name in ("alpha", "scale", "weights"):
            arguments = {"x": x, "alpha": 1.0, "scale": 1.0, name: other}
            for call, more in ((fr.loss, {"reduction": "sum"}), (fr.nll_and_grad, {"reduction": "mean"}),
                               (fr.nll, {"truncation": 3.0})):  # fmt: skip
                message = refusal(ValueError, call, **arguments, **more)
                kind = "repeated" if index == others["repeated"] else "different"
                assert f"x and {name} have {kind} labels" in message
                assert f"x.align({name}, join='inner')" in message or kind == "repeated"
    left, right = x.align(pd.Series([1.0, 5.0], index=["c", "b"]), join="inner")
    close(fr.loss(left, 1.0, right, reduction="sum"), fr.loss(2.0, 1.0, 5.0) + fr.loss(3.0, 1.0, 1.0))
    close(
        fr.loss(x, 1.0, pd.Series([1.0, 5.0], index=["c", "b"])),
        [np.nan, fr.loss(2.0, 1.0, 5.0), fr.loss(3.0, 1.0, 1.0)],
    )


def test_overlapping_intervals_are_repeated_labels(pd: Any) -> None:
    index = pd.IntervalIndex.from_tuples([(0, 2), (1, 3)])
    x, scale = pd.Series([1.0, 2.0], index=index), pd.Series([2.0, 1.0], index=index[::-1])
    for more in ({}, {"reduction": "sum"}):
        assert "repeated labels" in refusal(ValueError, fr.loss, x, 1.0, scale, **more)
        close(np.sum(fr.loss(x, 1.0, scale[::-1], **more)), fr.loss(1.0, 1.0, 1.0) + fr.loss(2.0, 1.0, 2.0))


def test_repeated_labels_in_the_same_order_are_no_obstacle(pd: Any) -> None:
    index = pd.Index(["a", "a", "b"], name="row")
    x, alpha = (
        pd.Series([1.0, 2.0, 3.0], index=index, name="x"),
        pd.Series([1.0, 0.5, 2.0], index=index.rename("other")),
    )
    found = fr.loss_and_grad(x, alpha, 1.0, reduction="sum")
    want = fr.loss_and_grad(x.to_numpy(), alpha.to_numpy(), 1.0, reduction="sum")
    close(found.value, want.value)
    close(found.dalpha, want.dalpha)
    assert found.dx.index.equals(index) and found.dalpha.index.equals(alpha.index)


def test_an_array_without_labels_goes_with_labels_in_one_order_only(pd: Any) -> None:
    x, alpha, scale = (series(pd, name) for name in ("x", "alpha", "scale"))
    plain = np.array([1.0, 2.0, 3.0, 4.0])
    for values in (plain, plain.tolist(), pd.Index(plain)):
        for arguments in ((values, alpha, scale), (x, values, scale), (x, alpha, values)):
            for more in ({}, {"reduction": "sum"}, {"weights": series(pd, "weights")}):
                message = refusal(ValueError, fr.loss, *arguments, **more)
                assert "has no labels" in message and "different orders" in message
        close(fr.loss(x, 1.0, values), fr.loss(x.to_numpy(), 1.0, plain))
        close(fr.loss(x, 1.0, values, reduction="sum"), fr.loss(x.to_numpy(), 1.0, plain, reduction="sum"))
        message = refusal(ValueError, fr.loss, x, 1.0, scale, weights=values)
        assert "weights has no labels" in message


@pytest.mark.parametrize("more", [{}, {"weights": 0.5}, {"reduction": "sum"}], ids=str)
def test_a_result_that_no_series_holds_is_refused(pd: Any, more: dict[str, Any]) -> None:
    x = pd.Series([1.0, 2.0])
    for alpha in (np.ones((2, 1)), np.ones((3, 2)), [[1.0, 1.0]]):
        message = refusal(ValueError, fr.loss, x, alpha, 1.0, **more)
        assert "x with 2 labels" in message and "numpy.asarray()" in message
    for more_axes in (np.ones((2, 1)), np.ones((3, 2))):
        close(fr.loss(pd.Index([1.0, 2.0]), more_axes, 1.0, **more), fr.loss([1.0, 2.0], more_axes, 1.0, **more))


def test_out_and_where_do_not_lose_labels(pd: Any) -> None:
    x, scale, out = series(pd, "x"), series(pd, "scale"), np.zeros(4)
    close(fr.loss(x, 1.0, 1.0, out=out), fr.loss(x.to_numpy(), 1.0, 1.0))  # in the order of x
    assert "out" in refusal(TypeError, fr.loss, x, 1.0, scale, out=out)
    assert "out" in refusal(TypeError, fr.loss, x, 1.0, 1.0, out=np.zeros(()), reduction="sum")
    assert "out" in refusal(TypeError, fr.loss_and_grad, x, 1.0, 1.0, out=(None, out, None, None), reduction="sum")
    for values in (x, x.to_numpy()):
        for call in (fr.loss, fr.influence, fr.nll):
            assert "where is a Series" in refusal(TypeError, call, values, 1.0, 1.0, where=x > 0)
    assert "where is a Series" in refusal(TypeError, fr.log_partition, np.ones(4), where=x > 0)


def test_float32_series_stay_float32(pd: Any) -> None:
    x, scale = series(pd, "x", np.float32), series(pd, "scale", np.float32)
    assert fr.loss(x, 1.0, scale).dtype == fr.loss(x, 1.0, scale, weights=series(pd, "weights")).dtype == np.float32
    found = fr.loss_and_grad(x, 1.0, scale, reduction="sum")
    assert found.dx.dtype == found.dscale.dtype == found.value.dtype == np.float32


def test_an_index_is_an_array_of_its_labels(pd: Any) -> None:
    for index in (pd.Index([1.0, 2.5], name="x"), pd.RangeIndex(1, 3)):
        want = fr.loss_and_grad(index.to_numpy(), 1.0, 1.0)
        for got, value in zip(fr.loss_and_grad(index, 1.0, 1.0), want, strict=True):
            assert isinstance(got, pd.Index) and got.name == index.name
            close(got, value)
        close(fr.loss(index, 1.0, 1.0), want.value)
        close(fr.loss_and_grad(index, 1.0, 1.0, reduction="sum").dx, want.dx)
        close(fr.log_partition_and_grad(index).dalpha, fr.log_partition_and_grad(index.to_numpy()).dalpha)
        close(fr.loss(pd.Series([1.0, 2.0]), index, 1.0), fr.loss([1.0, 2.0], index.to_numpy(), 1.0))


@truncations
def test_the_partition_function_of_a_series_is_one(pd: Any, truncation: float | None) -> None:
    alpha = series(pd, "alpha")
    found = fr.log_partition_and_grad(alpha, **likelihood(truncation))
    want = fr.log_partition_and_grad(alpha.to_numpy(), **likelihood(truncation))
    for got in (fr.log_partition(alpha, **likelihood(truncation)), found.value):
        assert got.index.equals(alpha.index)
        close(got, want.value)
    close(found.dalpha, want.dalpha)


# --- xarray

TIMES, CHANNELS = "pqrs", "abcd"  # as many, so that an axis taken for the other is not seen by its length
TABLE = {
    "x": {(t, c): 0.7 * i * j - 3.0 for i, t in enumerate(TIMES) for j, c in enumerate(CHANNELS)},
    "alpha": dict(zip(CHANNELS, (0.0, 1.0, 1.5, 2.5), strict=True)),
    "scale": dict(zip(TIMES, (1.0, 0.5, 2.0, 3.0), strict=True)),
    "weights": {(t, c): float((i + 2 * j) % 4) for i, t in enumerate(TIMES) for j, c in enumerate(CHANNELS)},
}
CELLS = [(t, c) for t in TIMES for c in CHANNELS]


def array(xr: Any, name: str, t: str, ch: str, dims: tuple[str, ...], coords: bool = True) -> Any:
    order = {"t": t, "ch": ch}
    keys = {("t", "ch"): lambda t, c: (t, c), ("ch", "t"): lambda c, t: (t, c)}.get(dims, lambda k: k)  # type: ignore[arg-type,call-overload]
    shape = tuple(len(order[dim]) for dim in dims)
    values = [TABLE[name][keys(*labels)] for labels in itertools.product(*(order[dim] for dim in dims))]
    labels = {dim: list(order[dim]) for dim in dims} if coords else None
    return xr.DataArray(np.reshape(values, shape), dims=dims, coords=labels)


def arrays(xr: Any, coords: bool) -> dict[str, Any]:
    """x by (t, ch), weights by (ch, t), alpha by ch, scale by t; with coordinates, each in an order of its own."""
    orders = {"x": ("pqrs", "abcd"), "alpha": ("", "dbca"), "scale": ("rspq", ""), "weights": ("sqpr", "cadb")}
    dims = {"x": ("t", "ch"), "alpha": ("ch",), "scale": ("t",), "weights": ("ch", "t")}
    return {n: array(xr, n, *(orders[n] if coords else orders["x"]), dims[n], coords) for n in orders}


def cell(found: Any, key: tuple[str, str], coords: bool) -> float:
    t, c = key
    if coords:
        return float(found.sel(t=t, ch=c))
    return float(found.isel(t=TIMES.index(t), ch=CHANNELS.index(c)))


def want_cell(family: str, key: tuple[str, str], truncation: float | None) -> fr.LossGrad:
    t, c = key
    values = TABLE["x"][key], TABLE["alpha"][c], TABLE["scale"][t]
    return getattr(fr, family + "_and_grad")(*values, **likelihood(truncation))  # type: ignore[no-any-return]


@pytest.mark.parametrize("coords", [True, False])
@pytest.mark.parametrize("variables", [False, True])
@truncations
def test_named_dimensions_and_coordinates_are_aligned(
    xr: Any, coords: bool, variables: bool, truncation: float | None
) -> None:
    given = arrays(xr, coords and not variables)
    if variables:
        given, coords = {name: value.variable for name, value in given.items()}, False
    weights, kind = given.pop("weights"), type(given["x"])
    for family in ("loss", "nll") if truncation is None else ("nll",):
        more = likelihood(truncation)
        plain = getattr(fr, family)(**given, **more)
        weighted = getattr(fr, family + "_and_grad")(**given, weights=weights, **more)
        mean = getattr(fr, family + "_and_grad")(**given, weights=weights, reduction="mean", **more)
        total = sum(TABLE["weights"].values())
        want = {key: want_cell(family, key, truncation) for key in CELLS}
        for key in CELLS:
            w = TABLE["weights"][key]
            close(cell(plain, key, coords), want[key].value)
            close([cell(part, key, coords) for part in weighted], [w * p if w else 0.0 for p in want[key]])
            close(cell(mean.dx, key, coords), w * want[key].dx / total)
        close(mean.value, sum(TABLE["weights"][k] * want[k].value for k in CELLS if TABLE["weights"][k]) / total)
        close(getattr(fr, family)(**given, weights=weights, reduction="mean", **more), mean.value)
        assert {type(part) for part in (plain, *weighted, *mean[1:])} == {kind}
        for name, dim, place in (("dalpha", "ch", 1), ("dscale", "t", 0)):
            slope, labels = getattr(mean, name), (TIMES, CHANNELS)[place]
            assert slope.dims == (dim,)
            if coords:  # in the order of the parameter, so that steps can be added
                assert list(slope[dim].values) == list(given[name[1:]][dim].values)
            for label in labels:
                got = slope.sel({dim: label}) if coords else slope[labels.index(label)]
                parts = [TABLE["weights"][k] * getattr(want[k], name) for k in CELLS if k[place] == label]
                close(float(got), sum(parts) / total)


def test_a_parameter_may_bring_a_dimension_of_its_own(xr: Any) -> None:
    scale, x = xr.DataArray([1.0, 2.0, 3.0], dims="trial"), xr.DataArray([0.5, -2.0], dims="t")
    each, found = fr.loss(x, 1.0, scale), fr.loss_and_grad(x, 1.0, scale, reduction="sum")
    assert each.dims == found.dx.dims == ("t", "trial") and found.dscale.dims == ("trial",)
    close(found.value, each.sum())
    close(fr.loss(x, 1.0, scale, reduction="sum"), fr.loss(x.values[:, None], 1.0, scale.values, reduction="sum"))


def test_names_go_before_positions(xr: Any) -> None:
    """The check of shapes by position has no say: scale lies along t, and t is not the last axis."""
    x, scale = xr.DataArray(np.full((2, 3), 2.0), dims=("t", "ch")), xr.DataArray([1.0, 4.0], dims="t")
    want = [[fr.loss(2.0, 1.0, 1.0)] * 3, [fr.loss(2.0, 1.0, 4.0)] * 3]
    close(fr.loss(x, 1.0, scale), want)
    for part, other in zip(
        fr.loss_and_grad(x, 1.0, scale), fr.loss_and_grad(x.values, 1.0, scale.values[:, None]), strict=True
    ):
        close(part, other)
    close(fr.loss(x, 1.0, scale, reduction="sum"), np.sum(want))
    close(fr.loss(x, 1.0, 1.0, weights=scale, reduction="mean"), fr.loss(2.0, 1.0, 1.0))
    assert "dimensions" in refusal(ValueError, fr.loss, scale, 1.0, 1.0, weights=x, reduction="sum")
    for more in ({}, {"reduction": "sum"}, {"weights": 1.0}):
        for wide in (np.ones((3, 2)), np.ones((1, 2)), np.ones(3)):
            message = refusal(ValueError, fr.loss, scale, 1.0, wide, **more)
            assert "{'t': 2}" in message and str(wide.shape) in message and "xarray.DataArray" in message
        close(fr.loss(xr.DataArray(2.0), 1.0, 1.0, **more), fr.loss(2.0, 1.0, 1.0))
        refusal(ValueError, fr.loss, xr.DataArray(2.0), 1.0, [1.0, 2.0], **more)


def test_coordinates_that_differ_are_refused_in_sums(xr: Any) -> None:
    x = xr.DataArray([1.0, 2.0], dims="t", coords={"t": [0, 1]})
    for labels in ([1, 2], [0], [0, 1, 2]):
        scale = xr.DataArray(np.ones(len(labels)), dims="t", coords={"t": labels})
        for more in ({"reduction": "sum"}, {"weights": x}):
            message = refusal(ValueError, fr.loss, x, 1.0, scale, **more)
            assert "different coordinates" in message and "xarray.align" in message
    left, right = xr.align(x, xr.DataArray([5.0, 1.0], dims="t", coords={"t": [1, 2]}), join="inner")
    close(fr.loss(left, 1.0, right, reduction="sum"), fr.loss(2.0, 1.0, 5.0))
    close(fr.loss(x, 1.0, xr.DataArray([5.0, 1.0], dims="t", coords={"t": [1, 2]})), [fr.loss(2.0, 1.0, 5.0)])


def test_a_plain_array_goes_with_coordinates_in_one_order_only(xr: Any) -> None:
    x = xr.DataArray([1.0, 2.0], dims="t", coords={"t": [0, 1]})
    scale = xr.DataArray([1.0, 2.0], dims="t", coords={"t": [1, 0]})
    for more in ({}, {"reduction": "sum"}):
        assert "has no labels" in refusal(ValueError, fr.loss, x, np.ones(2), scale, **more)
    assert "weights has no labels" in refusal(ValueError, fr.loss, x, 1.0, scale, weights=np.ones(2))
    close(fr.loss(x, 1.0, np.array([2.0, 1.0]), reduction="sum"), fr.loss([1.0, 2.0], 1.0, [2.0, 1.0], reduction="sum"))
    close(fr.loss(x, [1.0, 0.0], 1.0, weights=x), fr.loss([1.0, 2.0], [1.0, 0.0], 1.0, weights=[1.0, 2.0]))


def test_out_and_where_of_xarray_are_refused(xr: Any) -> None:
    x = xr.DataArray([1.0, 2.0], dims="t")
    for more in ({}, {"weights": np.ones(2)}):
        assert "out" in refusal(TypeError, fr.loss, x, 1.0, 1.0, out=np.zeros(2), **more)
    assert "out" in refusal(TypeError, fr.loss, x, 1.0, 1.0, reduction="sum", out=np.zeros(()))
    for values in (x, x.values):
        assert "where is a DataArray" in refusal(TypeError, fr.loss, values, 1.0, 1.0, where=x > 1)


def test_multiple_and_further_coordinates(xr: Any, pd: Any) -> None:
    rows = pd.MultiIndex.from_product([["a", "b"], [0, 1]], names=["letter", "digit"])
    frame = pd.Series([0.5, 1.0, 2.0, 7.0], index=rows)
    x = xr.DataArray(frame.to_numpy(), dims="row", coords=xr.Coordinates.from_pandas_multiindex(rows, "row"))
    x = x.assign_coords(place=("row", [4, 3, 2, 1]), run=7)
    found = fr.loss_and_grad(x, 1.0, x[::-1], reduction="sum")
    close(found.dx, fr.loss_and_grad(x.values, 1.0, x.values).dx)
    assert float(found.dx.sel(letter="b", digit=1)) == found.dx.values[3] and int(found.dx.run) == 7
    close(found.dscale, found.dscale.reindex_like(x[::-1]))
    close(fr.loss(frame, 1.0, frame[::-1], reduction="sum"), found.value)


def test_pandas_and_xarray_together_are_refused(xr: Any, pd: Any) -> None:
    x, scale = pd.Series([1.0, 2.0]), xr.DataArray([1.0, 2.0], dims="t")
    for more in ({}, {"reduction": "sum"}, {"weights": np.ones(2)}):
        assert "convert one" in refusal(TypeError, fr.loss, x, 1.0, scale, **more)


# --- laziness


def test_what_dask_has_not_computed_stays_so(xr: Any) -> None:
    da = pytest.importorskip("dask.array", reason="needs pip install dask")
    import dask

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    values = np.array([0.5, -2.0, 3.0, 0.0])
    x = xr.DataArray(da.from_array(values, chunks=2), dims="t")
    with dask.config.set(scheduler=never):
        lazy = [getattr(fr, family)(x, 1.0, 2.0) for family in ELEMENTWISE]
        lazy += [fr.loss(xr.DataArray(values, dims="t"), 1.0, abs(x) + 1.0), fr.log_partition(abs(x))]
        assert all(part.chunks == ((2, 2),) for part in lazy)
        for name in ("x", "alpha", "scale", "weights"):
            arguments = {"x": values, "alpha": 1.0, "scale": 1.0, name: x}
            for more in ({"reduction": "sum"}, {"weights": values} | arguments):
                message = refusal(TypeError, fr.loss, **{**arguments, **more, name: x})
                assert f"{name} is a DataArray that Dask has not computed" in message and f"{name}.compute()" in message
            assert "Dask" in refusal(TypeError, fr.nll, **arguments, truncation=5.0)
            if name != "weights":
                assert "functions of one result" in refusal(TypeError, fr.loss_and_grad, **arguments)
        assert "Dask" in refusal(TypeError, check_rows, y=x) and "Dask" in refusal(TypeError, check_rows, y=x.data)
        assert "dask" in refusal(TypeError, fr.loss, x.data, 1.0, 1.0)
    for family, part in zip(ELEMENTWISE, lazy, strict=False):
        close(part, getattr(fr, family)(values, 1.0, 2.0))
    close(fr.loss(x.compute(), 1.0, 2.0, reduction="sum"), lazy[0].sum())


# --- masks


def masked(library: str, values: Any, mask: Any) -> Any:
    if library == "numpy":
        return np.ma.masked_array(values, mask)
    if library == "Column":
        return pytest.importorskip("astropy.table", reason="needs pip install astropy").MaskedColumn(values, mask=mask)
    return pytest.importorskip("astropy.utils.masked", reason="needs pip install astropy").Masked(
        np.array(values), mask
    )


@pytest.mark.parametrize("library", ["numpy", "Masked", "Column"])
@pytest.mark.parametrize("name", ["x", "alpha", "scale", "weights"])
def test_masks_are_kept_or_refused(library: str, name: str) -> None:
    values, mask = [1.0, 2.0, 7.0], [False, False, True]
    arguments = {"x": np.array([1.0, 2.0, 3.0]), "alpha": 1.0, "scale": 1.0, name: masked(library, values, mask)}
    for call in (fr.loss, fr.nll, fr.loss_and_grad, fr.nll_and_grad):
        for more in ({"reduction": "sum"}, {"reduction": "mean"}, {"weights": np.ones(3)}, {"truncation": 20.0}):
            if "truncation" in more and call not in (fr.nll, fr.nll_and_grad):
                continue
            message = refusal(TypeError, call, **{**more, **arguments})
            assert f"{name} is a masked array" in message and "weights of 0 under the mask" in message
        if name != "weights":
            found = call(**arguments)
            for part in found if isinstance(found, tuple) else (found,):
                assert np.array_equal(part.mask, mask)
            data = call(**{**arguments, name: np.array(values)})
            close(np.asarray(found)[..., :2], np.asarray(data)[..., :2])
    for family in ELEMENTWISE:
        if name != "weights":
            assert np.array_equal(getattr(fr, family)(**arguments).mask, mask)
    assert "masked array" in refusal(TypeError, check_rows, y=arguments[name])


def test_the_issue_s_masked_array() -> None:
    x = np.ma.array([1, 2, 7], mask=[0, 0, 1])
    for reduction in ("none", "mean"):
        refusal(TypeError, fr.nll, x, -1, 1, truncation=20, reduction=reduction)
    remedy = fr.nll(x.data, -1, 1, truncation=20, reduction="mean", weights=~x.mask)
    close(remedy, fr.nll([1, 2], -1, 1, truncation=20, reduction="mean"))
    assert round(float(remedy), 4) == 2.5744


def test_a_mask_is_not_lost_in_out_or_where() -> None:
    x, out = np.ma.masked_array([1.0, 2.0, 7.0], [False, False, True]), np.ma.zeros(3)
    got = fr.loss(x, 1.0, 1.0, out=out)
    assert got is out and np.array_equal(out.mask, x.mask)
    assert "masked" in refusal(TypeError, fr.loss, x, 1.0, 1.0, out=np.zeros(3))
    assert "masked" in refusal(TypeError, fr.loss_and_grad, x, 1.0, 1.0, out=(None, np.zeros(3), None, None))
    for values in (x, x.data):
        assert "where is a" in refusal(TypeError, fr.loss, values, 1.0, 1.0, where=x > 1)


@pytest.mark.parametrize("library", ["numpy", "Masked", "Column"])
def test_masks_and_labels_together_are_refused(pd: Any, xr: Any, library: str) -> None:
    """pandas and xarray would drop the mask."""
    mask = masked(library, [1.0, 2.0], [False, True])
    for labelled in (pd.Series([1.0, 2.0]), xr.DataArray([1.0, 2.0], dims="t")):
        for more in ({}, {"reduction": "sum"}, {"weights": np.ones(2)}):
            for arguments in ((labelled, 1.0, mask), (mask, labelled, 1.0)):
                assert "mask" in refusal(TypeError, fr.loss, *arguments, **more)


# --- units


def quantities(library: str) -> tuple[Any, Any, Any]:
    """[1, 2] km, 1000 m, and [1, 2] without a unit."""
    if library == "astropy":
        u = pytest.importorskip("astropy.units", reason="needs pip install astropy")
        return [1, 2] * u.km, 1000 * u.m, [1, 2] * u.dimensionless_unscaled
    if library == "Column":
        column = pytest.importorskip("astropy.table", reason="needs pip install astropy").Column
        return column([1.0, 2.0], unit="km"), column([1000.0], unit="m"), column([1.0, 2.0], unit="")
    if library == "unyt":
        unyt = pytest.importorskip("unyt", reason="needs pip install unyt")
        return unyt.unyt_array([1, 2], "km"), unyt.unyt_quantity(1000, "m"), unyt.unyt_array([1, 2], "dimensionless")
    registry = pytest.importorskip("pint", reason="needs pip install pint").UnitRegistry()
    return np.array([1, 2]) * registry.km, 1000 * registry.m, np.array([1, 2]) * registry.dimensionless


@pytest.mark.parametrize("library", ["astropy", "Column", "unyt", "pint"])
def test_units_are_refused_by_name_and_the_remedy_works(library: str) -> None:
    x, scale, bare = quantities(library)
    way = {"pint": "m_as(unit)", "Column": "quantity.to_value(unit)"}.get(library, "to_value(unit)")
    for given, unit in ((x, "k"), (scale, "m"), (bare, "")):
        for name in ("x", "alpha", "scale", "weights"):
            arguments = {"x": np.ones(2), "alpha": 1.0, "scale": 1.0, name: given}
            for message in refusals(arguments):
                assert f"{name} is a {type(given).__name__} in units of {unit}" in message
                assert message.endswith(f": {name}.{way}")
            for family in ELEMENTWISE:
                if name != "weights":
                    assert "in units of" in refusal(TypeError, getattr(fr, family), **arguments)
        assert "in units of" in refusal(TypeError, fr.log_partition, given)
        assert "in units of" in refusal(TypeError, fr.log_partition, given, truncation=3.0)
        for check in (check_rows, check_plain):
            keywords = {"y": given} if check is check_rows else {"name": "y", "value": given}
            assert "y is a" in refusal(TypeError, check, **keywords)

    def plain(value: Any) -> Any:
        value = value.quantity if library == "Column" else value
        return (value.m_as if library == "pint" else value.to_value)("m")

    got = fr.loss(plain(x), 1.0, plain(scale), reduction="sum")
    assert round(float(got), 4) == 1.6503


@pytest.mark.parametrize("library", ["astropy", "unyt"])
def test_results_are_not_written_to_memory_with_a_unit(library: str) -> None:
    out = quantities(library)[0].astype(float)
    for more in ({}, {"weights": np.ones(2)}):
        assert "out for value must be an array" in refusal(ValueError, fr.loss, np.ones(2), 1.0, 1.0, out=out, **more)
    message = refusal(ValueError, fr.loss_and_grad, np.ones(2), 1.0, 1.0, out=(None, out, None, None), reduction="sum")
    assert "out for dx must be an array" in message and type(out).__name__ in message


def test_units_inside_of_a_labelled_array_are_refused(xr: Any) -> None:
    registry = pytest.importorskip("pint", reason="needs pip install pint").UnitRegistry()
    x = xr.DataArray(np.ones(2) * registry.km, dims="t")
    for more in ({}, {"reduction": "sum"}, {"weights": np.ones(2)}):
        assert "over a pint.Quantity" in refusal(TypeError, fr.loss, x, 1.0, 1.0, **more)


@pytest.mark.parametrize("library", ["astropy", "unyt"])
@pytest.mark.parametrize("name", ["x", "alpha", "scale", "weights"])
def test_units_of_subclasses_inside_of_a_labelled_array_are_refused(xr: Any, library: str, name: str) -> None:
    from fastrobust._meaning import check_rows

    data = quantities(library)[1] * np.ones(2)
    for value in (xr.DataArray(data, dims="t"), xr.Variable("t", data)):
        arguments = {"x": np.ones(2), "alpha": 1.0, "scale": 1.0, name: value}
        for more in ({}, {"reduction": "sum"}, {"truncation": 3.0}):
            call = fr.nll if "truncation" in more else fr.loss
            message = refusal(TypeError, call, **arguments, **more)
            assert f"{name}.data is a {type(data).__name__} in units of" in message
        assert "in units of" in refusal(TypeError, check_rows, x=value)


def test_a_mask_inside_of_a_labelled_array_is_kept_or_refused(xr: Any) -> None:
    from fastrobust._meaning import check_rows

    masked = pytest.importorskip("astropy.utils.masked", reason="needs pip install astropy")
    values = np.array([0.5, 1.0, 30.0])
    x = xr.DataArray(masked.Masked(values, mask=[False, False, True]), dims="t")
    found = fr.loss(x, 1.0, 1.0).data
    close(found.unmasked, fr.loss(values, 1.0, 1.0))
    assert found.mask.tolist() == [False, False, True]
    for arguments in ({"x": x}, {"x": values, "scale": x}, {"x": values, "weights": x}):
        message = refusal(TypeError, fr.loss, **{"alpha": 1.0, "scale": 1.0, **arguments}, reduction="mean")
        assert "data is a masked array" in message
    assert "x is a masked array" in refusal(TypeError, check_rows, x=x)


# --- arrays of others


class Owned(np.ndarray):
    """A subclass with rules of its own for results."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return super().__array_wrap__(array, context, return_scalar)


class Tagged(np.ndarray):
    """A subclass without."""


class Foreign:
    """Not an array, with a dtype and a rule for ufuncs."""

    dtype, shape = np.dtype(float), (2,)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return ("computed", ufunc.nout)

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.ones(2)


class Unwilling(Foreign):
    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        return NotImplemented


SUBCLASSES: dict[str, Callable[[Any], Any]] = {
    "matrix": lambda values: np.asarray(values).view(np.matrix),
    "recarray": lambda values: np.asarray(values).view(np.recarray),
    "Tagged": lambda values: np.asarray(values).view(Tagged),
    "Column": lambda values: pytest.importorskip("astropy.table", reason="needs pip install astropy").Column(values),
}


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_subclasses_of_arrays_come_back_as_themselves(kind: str) -> None:
    values = np.array([[0.5, -1.0], [2.0, 7.0]])
    x, alpha, w = SUBCLASSES[kind](values), SUBCLASSES[kind](np.array([[0.5, 1.0]])), SUBCLASSES[kind](np.abs(values))
    for reduction in ("none", "sum", "mean"):
        for weights in (None, w):
            for more in ({}, {"truncation": 9.0}):
                for call in (fr.loss_and_grad, fr.nll_and_grad) if not more else (fr.nll_and_grad,):
                    plain = None if weights is None else np.asarray(weights)
                    want = call(values, np.asarray(alpha), 1.0, reduction=reduction, weights=plain, **more)
                    got = call(x, alpha, 1.0, reduction=reduction, weights=weights, **more)
                    for name, part, other in zip(GRADIENTS, got, want, strict=True):
                        close(part, other)
                        if np.ndim(other) and not (name == "dscale" and reduction != "none"):
                            assert type(part) is type(x)
                    close(
                        fr.loss(x, alpha, 1.0, reduction=reduction),
                        fr.loss(values, np.asarray(alpha), 1.0, reduction=reduction),
                    )


@pytest.mark.parametrize("name", ["x", "alpha", "scale", "weights"])
def test_arrays_with_rules_of_their_own_are_refused_where_these_end(name: str) -> None:
    sparse = [(Owned, np.ones(2).view(Owned)), (Foreign, Foreign()), (Unwilling, Unwilling())]
    for kind, value in sparse:
        arguments = {"x": np.ones(2), "alpha": 1.0, "scale": 1.0, name: value}
        for call, more in ((fr.loss, {"reduction": "sum"}), (fr.nll_and_grad, {"reduction": "mean"}),
                           (fr.loss, {"weights": np.ones(2)}), (fr.nll, {"truncation": 4.0})):  # fmt: skip
            message = refusal(TypeError, call, **{**more, **arguments})
            assert f"{name} is a " in message and kind.__name__ in message and f"numpy.asarray({name})" in message
    if name != "weights":
        arguments = {"x": np.ones(2), "alpha": 1.0, "scale": 1.0}
        assert type(fr.loss(**{**arguments, name: np.ones(2).view(Owned)})) is Owned
        assert fr.loss(**{**arguments, name: Foreign()}) == ("computed", 1)
        message = refusal(TypeError, fr.loss, **{**arguments, name: Unwilling()})
        assert "does not take this function" in message and f"numpy.asarray({name})" in message


def strangers() -> Iterator[tuple[str, Any, str]]:
    """A library, a value that is refused in every call, and the remedy that the message names."""
    values = [1.0, 0.0]
    yield "scipy.sparse", lambda m: m.csr_array([values]), ".toarray()"
    yield "scipy.sparse", lambda m: m.coo_matrix([values]), ".toarray()"
    yield "polars", lambda m: m.Series(values), "numpy.asarray()"
    yield "polars", lambda m: m.Series([1.0, None]), "numpy.asarray()"
    yield "polars", lambda m: m.DataFrame({"a": values}), "numpy.asarray()"
    yield "pandas", lambda m: m.DataFrame({"a": values}), "numpy.asarray()"
    yield "pandas", lambda m: m.array([1.0, None], dtype="Float64"), ".astype('float64')"
    yield "pandas", lambda m: m.Series([1.0, None], dtype="Float64"), ".astype('float64')"
    yield "pandas", lambda m: m.Series(["1", "2"]).astype("category"), ".astype('float64')"
    yield "pandas", lambda m: m.Series(values).astype("Sparse[float64]"), ".astype('float64')"
    yield "xarray", lambda m: m.Dataset({"a": ("t", values)}), "one of its variables"
    yield "pyarrow", lambda m: m.array(values), "numpy.asarray()"
    yield "pyarrow", lambda m: m.chunked_array([values]), "numpy.asarray()"
    yield "dask.array", lambda m: m.ones(2), "numpy.asarray()"
    yield "dask.dataframe", lambda m: m.from_dict({"a": values}, 1)["a"], "numpy.asarray()"


STRANGERS = list(strangers())


@pytest.mark.parametrize(
    ("library", "make", "remedy"), STRANGERS, ids=[f"{lib}-{i}" for i, (lib, *_) in enumerate(STRANGERS)]
)
def test_other_containers_are_refused_in_every_call(library: str, make: Call, remedy: str) -> None:
    value = make(pytest.importorskip(library, reason=f"needs pip install {library}"))
    for name in ("x", "alpha", "scale", "weights"):
        arguments = {"x": np.ones(2), "alpha": 1.0, "scale": 1.0, name: value}
        for message in refusals(arguments):
            assert f"{name} is a " in message and remedy in message
    for call in (fr.log_partition, fr.log_partition_and_grad):
        for more in ({}, {"truncation": 3.0}):
            assert remedy in refusal(TypeError, call, value, **more)


def test_an_unread_variable_of_a_file_is_refused(tmp_path: Any) -> None:
    """numpy.asarray() of one would take what is missing, 9.97e36, for data."""
    netcdf = pytest.importorskip("netCDF4", reason="needs pip install netCDF4")
    with netcdf.Dataset(tmp_path / "file.nc", "w") as file:
        file.createDimension("t", 3)
        variable = file.createVariable("x", "f8", ("t",))
        variable[:2] = [1.0, 2.0]
        message = refusal(TypeError, fr.loss, variable, 1.0, 1.0)
        assert "x[...]" in message and "asarray" not in message
        got = fr.loss(variable[...], 1.0, 1.0)
        assert np.array_equal(got.mask, [False, False, True])


# --- functions that make plain arrays


def test_rows_in_different_orders_are_refused(pd: Any, xr: Any) -> None:
    X = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]}, index=["p", "q"])
    y = pd.Series([1.0, 2.0], index=["q", "p"])
    assert "rows of X and y" in refusal(ValueError, check_rows, X=X, y=y)
    assert "rows of X and weights" in refusal(ValueError, check_rows, X=X, y=[1.0, 2.0], weights=y)
    check_rows(X=X, y=y.reindex(X.index), weights=np.ones(2))
    check_rows(X=X, y=np.asarray(y), weights=None)
    named = xr.DataArray([1.0, 2.0], dims="row", coords={"row": ["p", "q"]})
    check_rows(X=X, y=named, weights=xr.DataArray([1.0, 2.0], dims="row"))
    assert "rows of" in refusal(ValueError, check_rows, X=X, y=named[::-1])
    square = xr.DataArray(np.ones((2, 2)), dims=("feature", "row"))
    assert "rows of" in refusal(ValueError, check_rows, X=square, y=named)


def test_jax_takes_no_labels(pd: Any, xr: Any) -> None:
    pytest.importorskip("jax", reason="needs pip install jax")
    from fastrobust import jax as frj

    values = np.array([1.0, 2.0], np.float32)
    for value in (pd.Series(values), xr.DataArray(values, dims="t"), np.ma.masked_array(values, [False, True])):
        for name in ("x", "alpha", "scale", "weights"):
            arguments = {"x": values, "alpha": 1.0, "scale": 1.0, name: value}
            assert f"{name} is a " in refusal(TypeError, frj.loss, **arguments)
    close(frj.loss(values.view(Tagged), 1.0, 1.0, reduction="sum"), frj.loss(values, 1.0, 1.0, reduction="sum"))


def test_no_library_is_imported_to_know_its_arrays() -> None:
    import subprocess

    program = (
        "import sys, numpy as np, fastrobust as fr; x = np.ma.masked_array([1.0], [True]); fr.loss(x, 1.0, 1.0)\n"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'pandas', 'xarray', 'astropy', 'pint', 'unyt', 'dask'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert not done.stdout.strip()


def fits() -> dict[str, Call]:
    """Functions of rows: fit(X, y, weights) gives numbers."""
    pytest.importorskip("scipy", reason='needs pip install "fastrobust[optimize]"')
    from fastrobust.optimize import fit_shape, gnc, irls

    found: dict[str, Call] = {
        "irls": lambda X, y, w: irls(X, y, 1.0, 1.0, weights=w).x,
        "gnc": lambda X, y, w: gnc(X, y, -2.0, 1.0, weights=w).x,
        "fit_shape": lambda X, y, w: fit_shape(y, weights=w).scale,
    }
    try:
        from fastrobust.optimize import RobustRegressor
    except ImportError:  # scikit-learn is missing
        return found
    return {**found, "RobustRegressor": lambda X, y, w: RobustRegressor().fit(X, y, w).coef_}


def test_fits_drop_no_mask_no_unit_and_no_order_of_rows(pd: Any) -> None:
    random = np.random.default_rng(0)
    X = pd.DataFrame({"one": np.ones(30), "t": np.arange(30.0)}, index=[f"row {i}" for i in range(30)])
    y = pd.Series(X.to_numpy() @ [1.0, 2.0] + random.normal(size=30), index=X.index)
    w = pd.Series(1.0 + np.arange(30) % 3, index=X.index)
    for name, fit in fits().items():
        want = fit(X.to_numpy(), y.to_numpy(), w.to_numpy())
        close(fit(X, y, w), want)
        close(fit(X, y.to_numpy()[:, None][:, 0], w), want)
        if name != "fit_shape":
            assert "rows of X and y" in refusal(ValueError, fit, X, y[::-1], w)
            assert "y is a masked array" in refusal(TypeError, fit, X, np.ma.masked_array(y, y > 50), w)
        assert "have different labels" in refusal(ValueError, fit, X, y, w[::-1])
        assert "a masked array" in refusal(TypeError, fit, X, y, np.ma.masked_array(w, w > 2))
        for library in ("astropy", "unyt", "pint"):
            metres = quantities(library)[1] * y.to_numpy()
            assert "in units of" in refusal(TypeError, fit, X, metres, w)


def test_the_distribution_is_fitted_to_numbers_only(xr: Any) -> None:
    pytest.importorskip("scipy", reason='needs pip install "fastrobust[optimize]"')
    from fastrobust.stats import barron

    values = np.random.default_rng(0).normal(size=20)
    with pytest.raises(TypeError, match="in units of"):
        barron.fit(quantities("astropy")[1] * values)
    close(barron.fit(xr.DataArray(values, dims="t")), barron.fit(values))


def test_the_distribution_drops_no_mask_no_unit_and_no_order_of_labels(pd: Any, xr: Any) -> None:
    pytest.importorskip("scipy", reason='needs pip install "fastrobust[optimize]"')
    from fastrobust.stats import barron

    values = np.array([0.25, 0.5, 0.75])
    masked = np.ma.masked_array(values, [False, True, False])
    refused = {
        "a masked array": masked,
        "in units of": quantities("astropy")[1] * values,
        "dtype complex128": values + 1j,
        "dtype timedelta64": values.astype(int).astype("m8[s]"),
        "has not computed": xr.DataArray(values, dims="t").chunk() if find_spec("dask") else masked,
    }
    for word, value in refused.items():
        for name in ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf"):
            method, first = getattr(barron, name), "q" if name in ("ppf", "isf") else "x"
            assert f"{first} " in refusal(TypeError, method, value, 1.0)
            for parameter in ("alpha", "loc", "scale"):
                arguments = {"alpha": 1.0, parameter: value}
                assert f"{parameter} " in refusal(TypeError, method, 0.5, **arguments)
                positional = {"alpha": 1.0, "loc": 0.0, "scale": 1.0, parameter: value}
                assert f"{parameter} " in refusal(TypeError, method, 0.5, *positional.values())
        for name in ("rvs", "stats", "mean", "var", "std", "median", "entropy"):
            assert "scale " in refusal(TypeError, getattr(barron, name), 1.0, scale=value)
            assert "scale " in refusal(TypeError, getattr(barron(1.0, scale=value), name))
        assert "scale " in refusal(TypeError, barron.moment, 2, 1.0, scale=value)
        assert "scale " in refusal(TypeError, barron.interval, 0.9, 1.0, scale=value)
        assert "x " in refusal(TypeError, barron.nnlf, (1.0, 0.0, 1.0), value)
        for more in ({}, {"method": "MM"}):
            message = refusal(TypeError, barron.fit, value, **more)
            assert "data" in message and (word in message or "without a mask" in message)
    series = pd.Series(values, index=list("abc"))
    close(barron.pdf(series, 1.0, scale=series), barron.pdf(values, 1.0, scale=values))
    message = refusal(ValueError, barron.pdf, series, 1.0, scale=series[::-1])
    assert "x and scale have different labels" in message
