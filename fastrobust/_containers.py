"""Arrays whose numbers, NumPy's, are not all: labels, masks, units, laziness.  That is kept, or the call refused.

The dispatcher sends here what takes part in NumPy's ufuncs and is not NumPy's own array.  Element by element, each
library says itself what a ufunc of its arrays is, by ``__array_ufunc__``.  Where the numbers would leave it (sums,
weights, a truncation) they are aligned as the library aligns them, and what comes out is labelled again:

pandas      Series by their index; the labels must be the same, in any order
xarray      DataArray and Variable by the names of their dimensions and their coordinates; likewise
subclasses  of NumPy's array that have no rules of arithmetic of their own

All others are refused there, and units everywhere.  No library is imported: one whose arrays come already is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import _arguments as arguments
from ._backends import numpy as plain
from ._dispatch import shown
from ._meaning import (
    check,
    check_only_labels,
    has_rules,
    is_a,
    is_container,
    is_index,
    is_lazy,
    is_masked,
    is_named,
    is_series,
)
from ._types import ArrayLike, NDArray, Options, Shaped
from .kernels.losses.definition import Definition

xp = np  # the library's functions
closed_forms = plain.closed_forms
_Container: TypeAlias = Any  # an array of pandas, of xarray, or of a subclass of NumPy's: they share no methods
_Values = dict[str, _Container]  # arguments by name, of which some are containers, others arrays of NumPy and numbers
_Results: TypeAlias = "NDArray | tuple[NDArray | None, ...]"  # an output for each element, or several of them
_Wrap: TypeAlias = "Callable[[NDArray], _Container]"  # what makes a container of NumPy's array


# --- labels


def _one_library(values: _Values) -> None:
    """Refuse labels of two kinds, and labels together with masks or whatever else their library would drop."""
    labelled = [name for name, value in values.items() if is_series(value) or is_named(value)]
    if not labelled:
        return
    first, leading = labelled[0], values[labelled[0]]
    for name, value in values.items():
        if name in labelled:
            if is_series(value) is not is_series(leading):
                raise TypeError(
                    f"{first} is a {shown(leading)} and {name} a {shown(value)}: convert one, by .to_xarray(), "
                    ".to_series()"
                )
        elif is_container(value) and (is_masked(value) or has_rules(value)):
            raise TypeError(
                f"{name} is a {shown(value)}, of which {first}, a {shown(leading)}, would not know: make it one of "
                "these, too, with NaN where it is masked"
            )


def _check_positions(labelled: _Values, values: _Values) -> None:
    """Refuse arrays without labels where those of the others are in different orders: they would follow none."""
    for name, value in values.items():
        if name not in labelled and np.ndim(value):
            raise ValueError(
                f"{name} has no labels, and those of {' and '.join(labelled)} are in different orders: label it, too"
            )


def _check_index(series: _Values) -> None:
    """Refuse labels of which some are missing in another Series, or which are repeated."""
    (first, leading), *others = series.items()
    for name, other in others:
        if not (_is_unique(leading.index) and _is_unique(other.index)):
            raise ValueError(
                f"{first} and {name} have repeated labels, in different orders: make them unique, or give "
                f"numpy.asarray({name}) if the orders agree"
            )
        if len(leading) != len(other) or (leading.index.get_indexer(other.index) < 0).any():
            raise ValueError(
                f"{first} and {name} have different labels: make them the same, by {first}.align({name}, join='inner')"
            )


def _is_unique(index: _Container) -> bool:
    """Tell whether each label is found once; pandas finds no intervals among overlapping ones."""
    return index.is_unique and not getattr(index, "is_overlapping", False)


def _same_index(series: _Values) -> bool:
    """Tell whether all Series have the same labels in the same order."""
    first, *others = series.values()
    return all(other.index.equals(first.index) for other in others)


def _same_coordinates(named: _Values) -> bool:
    """Tell whether the arrays of xarray have equal coordinates in the same order, as xarray itself decides it."""
    arrays = [value for value in named.values() if is_a(value, "xarray", "DataArray")]
    try:
        sys.modules["xarray"].align(*arrays, join="exact", copy=False)
    except ValueError:
        return False
    return True


def _name(values: Iterable[object]) -> object:
    """The name of a result: that of all arguments which have one, or None where they differ."""
    names = {value.name for value in values if hasattr(value, "name")}
    return names.pop() if len(names) == 1 else None


# --- numbers out of a container, and results back into it


class Opened(NamedTuple):
    """The arguments as plain arrays, and what labels results."""

    operands: tuple[ArrayLike, ...]
    weights: Any  # None where there are none
    whole: _Wrap  # for the broadcast shape
    wraps: dict[str, _Wrap]  # for what has the shape of an argument, by the argument's name
    labelled: bool = True

    def each(self, results: _Results, out: object = None) -> Any:
        """Results for each element with labels, but for memory that was given."""
        given = out if isinstance(out, tuple) else (out,)
        if isinstance(results, tuple):
            return tuple(self._labelled(self.whole, result, given) for result in results)
        return self._labelled(self.whole, results, given)

    def reduced(
        self, definition: Definition, results: Sequence[NDArray | None], out: Sequence[Shaped | None] | None = None
    ) -> tuple[_Container, ...]:
        """The value as it is, and gradients with labels, but for memory that was given."""
        value, *gradients = results
        wraps = [self.whole] * len(definition.data)
        wraps += [self.wraps.get(name, _as_it_is) for name in definition.parameters]
        return value, *(self._labelled(wrap, g, out or ()) for wrap, g in zip(wraps, gradients, strict=True))

    @staticmethod
    def _labelled(wrap: _Wrap, result: NDArray | None, given: Sequence[object]) -> _Container:
        """The result as a container, unless it is one of the arrays given as memory, or was not asked for."""
        return result if result is None or any(result is array for array in given) else wrap(result)

    def check_out(self, out: object) -> None:
        """Refuse memory for results that would have labels, which an array given by the user has not."""
        if self.labelled and any(array is not None for array in (out if isinstance(out, tuple) else (out,))):
            raise TypeError("out: not taken for labelled arrays together with weights or a reduction; leave it out")


def opened(definition: Definition, operands: Sequence[ArrayLike], weights: ArrayLike | None = None) -> Opened:
    """These arguments, of which some are containers, as plain arrays; or an error where something would be lost."""
    values = dict(zip(definition.operands, operands, strict=True)) | {"weights": weights}
    for name, value in values.items():
        if is_container(value):
            check(name, value)
            check_only_labels(name, value)
    _one_library(values)
    if any(map(is_named, values.values())):
        return _opened_named(values)
    if any(map(is_series, values.values())):
        return _opened_series(values)
    wraps: dict[str, _Wrap] = {n: functools.partial(_wrapped, v) for n, v in values.items() if is_container(v)}
    like = [value for name, value in values.items() if name in wraps and name != "weights"]
    first = max(like, key=lambda value: getattr(value, "__array_priority__", 0.0), default=None)
    whole: _Wrap = functools.partial(_wrapped, first) if like else _as_it_is
    return Opened(*_divided(_numbers(values)), whole, wraps, labelled=False)


def _numbers(values: _Values) -> _Values:
    """The arguments without their labels: NumPy's arrays in the place of containers, all else as it is."""
    return {name: np.asarray(value) if is_container(value) else value for name, value in values.items()}


def _divided(values: _Values) -> tuple[tuple[ArrayLike, ...], ArrayLike | None]:
    """The operands, and the weights, which are the last of the arguments."""
    *operands, weights = values.values()
    return tuple(operands), weights


def _as_it_is(result: NDArray) -> NDArray:
    """The result itself, where no argument is a container of that shape."""
    return result


def _wrapped(like: _Container, result: NDArray) -> _Container:
    """An array made one of the class of ``like``, as NumPy and pandas do it with a ufunc's results."""
    if type(result) is not np.ndarray:
        return result
    if is_index(like):
        return sys.modules["pandas"].Index(result, name=like.name) if result.ndim == 1 else result
    return like.__array_wrap__(result)


def _opened_series(values: _Values) -> Opened:
    """Open Series, aligned by the index of the first one."""
    series = {name: value for name, value in values.items() if is_series(value)}
    index = next(iter(series.values())).index
    plain_values = _numbers(values)
    if not _same_index(series):
        _check_index(series)
        _check_positions(series, values)
        plain_values |= {name: value.reindex(index).to_numpy() for name, value in series.items()}
    _check_length(plain_values, series)
    make = functools.partial(sys.modules["pandas"].Series, index=index)

    def like(value: _Container) -> _Wrap:
        if index.equals(value.index):
            return functools.partial(make, name=value.name)
        return lambda gradient: make(gradient, name=value.name).reindex(value.index)

    name = _name(v for n, v in series.items() if n != "weights")
    wraps = {name: like(value) for name, value in series.items()}
    return Opened(*_divided(plain_values), functools.partial(make, name=name), wraps)


def _check_length(values: _Values, series: _Values) -> tuple[int, ...]:
    """The shape of the result, which a Series must hold."""
    shape, length = _broadcast(values), len(next(iter(series.values())))
    if shape != (length,):
        raise ValueError(
            f"{' and '.join(series)} with {length} labels cannot label the result of {_listed(values)}, of shape "
            f"{shape}: give numpy.asarray() instead of a Series"
        )
    return shape


def _listed(values: _Values) -> str:
    """The names of the operands, for a message."""
    *most, last = (name for name in values if name != "weights")
    return f"{', '.join(most)} and {last}" if most else last


def _broadcast(values: _Values) -> tuple[int, ...]:
    """The shape of the result."""
    arrays = {n: plain.array(n, v) for n, v in values.items() if n != "weights" and not np.isscalar(v)}
    return arguments.broadcast(arrays, arrays.values())


def _check_dimensions(sizes: dict[Hashable, int], values: _Values) -> None:
    """Refuse arrays without names that have more axes, or longer ones, than there are names."""
    named_shape = tuple(sizes.values())
    shapes = {
        name: plain.array(name, value).shape
        for name, value in values.items()
        if name != "weights" and not (np.isscalar(value) or is_named(value))
    }
    try:
        fits = np.broadcast_shapes(named_shape, *shapes.values()) == named_shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"the named dimensions are {dict(sizes)}, and arrays without names have the shapes {shapes}: name the axes "
            "of all, by xarray.DataArray, or of none, by numpy.asarray()"
        )


def _opened_named(values: _Values) -> Opened:
    """Open arrays by the names of their dimensions, in the order of appearance; axes of length 1 for those lacking.

    xarray aligns their coordinates as it is set to do for arithmetic, and alignment that would leave out elements is
    refused.  Results get the dimensions of all arguments but the weights, and gradients those of their parameters.
    """
    xarray = sys.modules["xarray"]
    named = {
        name: value if is_a(value, "xarray", "DataArray") else xarray.DataArray(value)
        for name, value in values.items()
        if is_named(value)
    }
    if not _same_coordinates(named):
        _check_positions(named, values)
    join = xarray.get_options()["arithmetic_join"]
    aligned = dict(zip(named, xarray.align(*named.values(), join=join, copy=False), strict=True))
    for name, array in aligned.items():
        if array.sizes != named[name].sizes:
            raise ValueError(
                f"{' and '.join(named)} have different coordinates: make them the same, with xarray.align(..., "
                "join='inner')"
            )
    whole = [array for name, array in aligned.items() if name != "weights"] or [aligned["weights"]]
    sizes = {dim: size for array in whole for dim, size in array.sizes.items()}
    if "weights" in aligned and (more := set(aligned["weights"].dims) - set(sizes)):
        raise ValueError(f"weights has dimensions that the result has not: {', '.join(map(str, more))}")
    plain_values = _numbers(values)
    for name, array in aligned.items():
        dims = [dim for dim in sizes if dim in array.dims]
        data = np.asarray(array.transpose(*dims).data)
        plain_values[name] = data[tuple(slice(None) if dim in dims else np.newaxis for dim in sizes)]
    _check_dimensions(sizes, values)

    def like(template: _Container, variable: bool, result: NDArray) -> _Container:
        made = xarray.DataArray(np.reshape(result, template.shape), template.coords, template.dims, template.name)
        return made.variable if variable else made

    def like_parameter(name: str) -> _Wrap:
        """The function that labels a gradient as the argument is, with the argument's order of axes and labels."""
        template = aligned[name].transpose(*(dim for dim in sizes if dim in aligned[name].dims))

        def labelled(gradient: NDArray) -> _Container:
            array = like(template, False, gradient).transpose(*named[name].dims).reindex_like(named[name])
            return array.variable if variable[name] else array

        return labelled

    variable = {name: array is not values[name] for name, array in named.items()}
    template = xarray.broadcast(*whole)[0].transpose(*sizes).rename(_name(whole))
    return Opened(
        *_divided(plain_values),
        functools.partial(like, template, all(variable.values())),
        {name: like_parameter(name) for name in named if name != "weights"},
    )


# --- what the dispatcher calls


def evaluate(definition: Definition, names: tuple[str, ...], operands: Sequence[ArrayLike], options: Options) -> Any:
    """The named outputs for each element, as the containers' library defines it: a container, or a tuple of them.

    What the libraries would combine by position, drop in silence, or fail at in words of their own is refused first.
    Then NumPy's ufunc is called with the containers, each of which says by ``__array_ufunc__`` what comes out; pandas
    fails on an Index where there are several results, so those go in as arrays, and the results become Indexes here.
    """
    values: _Values = dict(zip(definition.operands, operands, strict=True))
    out = options.get("out")
    for name, value in {**values, "where": options.get("where")}.items():
        if is_container(value):
            if name == "where":
                raise TypeError(f"where is a {type(value).__name__}: it must be a plain array, numpy.asarray(where)")
            check(name, value)
            if is_lazy(value) and len(names) > 1:
                raise TypeError(
                    f"{name} is a {type(value).__name__} that Dask has not computed: call functions of one result, "
                    f"such as loss and influence, or {name}.compute()"
                )
    _one_library(values)
    if any(map(is_named, values.values())):
        if out is not None:
            raise TypeError("out: not taken for arrays of xarray; leave it out")
        named = {name: value for name, value in values.items() if is_named(value)}
        if _same_coordinates(named):
            _check_dimensions({d: n for value in named.values() for d, n in value.sizes.items()}, values)
        else:
            _check_positions(named, values)
    elif any(map(is_series, values.values())):
        _check_series(values, names, out)
    elif out is not None and any(map(is_masked, values.values())):
        given = arguments.given(out, names, dict.fromkeys(names, _broadcast(values)))
        if not all(array is None or is_masked(array) for array in given):
            raise TypeError("out must be a masked array, as an argument is: a plain one would lose the mask")
    index = next(filter(is_index, values.values()), None)
    try:
        arrays = [np.asarray(value) if is_index(value) else value for value in operands]
        results = plain.evaluate(definition, names, arrays, options)
    except TypeError as error:
        if "__array_ufunc__" not in str(error):
            raise
        name, value = next((name, value) for name, value in values.items() if is_container(value))
        raise TypeError(
            f"{name} is a {shown(value)}, whose library does not take this function: give a plain array, "
            f"numpy.asarray({name}), if its numbers are all it is"
        ) from error
    if index is None or out is not None:
        return results
    return tuple(_wrapped(index, part) for part in results) if len(names) > 1 else _wrapped(index, results)


def _check_series(values: _Values, names: tuple[str, ...], out: object) -> None:
    """Refuse what pandas would combine by position although there are labels, and what it cannot."""
    series = {name: value for name, value in values.items() if is_series(value)}
    if _same_index(series):
        arguments.given(out, names, dict.fromkeys(names, _check_length(values, series)))
        return
    if not all(_is_unique(value.index) for value in series.values()):
        _check_index(series)
    _check_positions(series, values)
    if out is not None:
        raise TypeError(f"out: not taken where {' and '.join(series)} have different labels; leave it out")


def weighted(
    definition: Definition,
    names: tuple[str, ...],
    operands: Sequence[ArrayLike],
    weights: ArrayLike,
    options: Options,
) -> Any:
    """`evaluate`, each output multiplied by the weights."""
    call, out = opened(definition, operands, weights), options.get("out")
    call.check_out(out)
    return call.each(plain.weighted(definition, names, call.operands, call.weights, options), out)


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Sequence[ArrayLike],
    reduction: str,
    weights: ArrayLike | None,
    out: tuple[Shaped | None, ...] | None,
) -> tuple[_Container, ...]:
    """Sum or weighted mean; derivatives in data labelled as the elements are, the other ones as their parameters."""
    call = opened(definition, operands, weights)
    call.check_out(out)
    summed = plain.reduce(definition, wrt, call.operands, reduction, call.weights, out)
    return call.reduced(definition, summed, out)
