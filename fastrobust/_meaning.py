"""What an array is beside its numbers (labels, a mask, a unit, not yet computed), and what is refused because of it.

By the modules and names of its classes: no library is imported for it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ._dispatch import origins, shown

# --- what a value is


def is_a(value: object, library: str, *names: str) -> bool:
    """Tell whether it is of that library's class of one of these names, or derived from it."""
    kind = type(value)
    return any(
        origin == library and base.__name__ in names for base, origin in zip(kind.__mro__, origins(kind), strict=True)
    )


def is_series(value: object) -> bool:
    """Tell whether it is a Series of pandas, or of a class derived from it."""
    return is_a(value, "pandas", "Series")


def is_index(value: object) -> bool:
    """Tell whether it is labels of pandas, which may be numbers and so the argument of a loss."""
    return is_a(value, "pandas", "Index")


def is_named(value: object) -> bool:
    """Tell whether it has names for its dimensions."""
    return is_a(value, "xarray", "DataArray", "Variable")


def is_masked(value: object) -> bool:
    """Tell whether it has a mask of NumPy's or of Astropy's."""
    return isinstance(value, np.ma.MaskedArray) or is_a(value, "astropy", "Masked")


def is_lazy(value: Any) -> bool:
    """Tell whether it is a collection of Dask's, or an array of xarray's over one."""
    return "dask" in origins(type(value)) or (is_named(value) and value.chunks is not None)


def is_container(value: object) -> bool:
    """Tell whether it takes part in NumPy's ufuncs without being an array or a scalar of NumPy's own class."""
    return bool(getattr(value, "__array_ufunc__", None)) and not (
        type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic)
    )


def has_rules(value: object) -> bool:
    """Tell whether its class has rules of its own for what comes out of arithmetic."""
    if not isinstance(value, np.ndarray):
        return not is_index(value)
    kind = type(value)
    usual = (np.ndarray.__array_wrap__, np.memmap.__array_wrap__)
    special = kind.__array_ufunc__ is not np.ndarray.__array_ufunc__ or kind.__array_wrap__ not in usual
    return special and not is_a(value, "astropy", "Column")  # whose rule is about scalars


def _held(name: str, value: Any) -> tuple[str, object]:
    """The array to whose axes xarray gives names, which may have a mask or a unit; what else there is holds nothing."""
    if is_named(value) and not is_lazy(value) and is_container(value.data):
        return f"{name}.data", value.data
    return name, None


def _unit(value: object) -> object:
    """The unit that it has, if any.  Attributes of pandas and xarray are names of the user's."""
    if "pandas" in origins(type(value)) or "xarray" in origins(type(value)):
        return None
    units = (getattr(value, name, None) for name in ("unit", "units"))
    return next((unit for unit in units if unit is not None), None)


# --- what is refused


def _check_units(name: str, value: object) -> None:
    """Refuse a value with a unit, and say how its library gives the numbers."""
    if (unit := _unit(value)) is not None:
        calls = {"to_value": "to_value(unit)", "m_as": "m_as(unit)", "quantity": "quantity.to_value(unit)"}
        way = next((f"{name}.{call}" for method, call in calls.items() if hasattr(value, method)), "its numbers")
        raise TypeError(
            f"{name} is a {type(value).__name__} in units of {str(unit) or '1'}, which are not followed: give numbers, "
            f"in one unit for x and scale: {way}"
        )


def check(name: str, value: Any) -> None:
    """Refuse units, and what does not lie in memory as numbers of NumPy's."""
    _check_units(name, value)
    kind = type(value).__name__
    if not isinstance(getattr(value, "dtype", None), np.dtype):
        way = "convert it with numpy.asarray()"
        if is_a(value, "xarray", "Dataset"):
            way = "give one of its variables"
        elif is_a(value, "pandas", "DataFrame"):
            way = "give one of its columns, or convert it with numpy.asarray(), which has no labels"
        elif is_a(value, "pandas", "NAType"):
            way = "float('nan') is a missing number"
        elif "pandas" in origins(type(value)) and hasattr(value, "astype"):
            way = "convert it with .astype('float64'), if it holds numbers"
        raise TypeError(f"{name} is a {kind} without a NumPy dtype: {way}")
    if is_named(value) and not is_lazy(value) and not isinstance(value.data, (np.ndarray, np.generic)):
        raise TypeError(f"{name} is a {kind} over a {shown(value.data)}: it must be one over an array of NumPy")
    _check_units(*_held(name, value))


def check_only_labels(name: str, value: object) -> None:
    """Refuse what has more to say than its numbers and its labels."""
    if is_masked(value):
        raise TypeError(
            f"{name} is a masked array, which is not taken in sums, with weights or a truncation: pass its data, and "
            "weights of 0 under the mask"
        )
    if is_lazy(value):
        raise TypeError(
            f"{name} is a {type(value).__name__} that Dask has not computed: {name}.compute() does; or sum what the "
            "call without reduction, weights and truncation gives, which is as lazy"
        )
    if not (is_series(value) or is_named(value)) and has_rules(value):
        raise TypeError(
            f"{name} is a {shown(value)}, which has its own rules of arithmetic, and they do not reach sums, weights "
            f"and truncations: give a plain array, numpy.asarray({name}), if its numbers are all it is"
        )
    name, value = _held(name, value)
    if value is not None:
        check_only_labels(name, value)


# --- for functions that make arrays of whatever they get


def check_plain(name: str, value: object) -> None:
    """Refuse all that ``numpy.asarray`` would strip of something: for libraries that could not give it back."""
    if is_container(value):
        check(name, value)
        check_only_labels(name, value)
        if is_series(value) or is_named(value):
            raise TypeError(f"{name} is a {shown(value)}, whose labels would be lost: give numpy.asarray({name})")


def check_rows(**values: object) -> None:
    """Refuse what ``numpy.asarray`` would drop in silence: masks, units, laziness, and rows in different orders."""
    rows = {}
    for name, value in values.items():
        if value is None or type(value) in (np.ndarray, list, tuple):
            continue
        if is_masked(value) or is_masked(_held(name, value)[1]):
            raise TypeError(
                f"{name} is a masked array: give its data, with weights of 0 where it is masked, or without these rows"
            )
        if is_lazy(value):
            raise TypeError(f"{name} is a {type(value).__name__} that Dask has not computed: {name}.compute() does")
        _check_units(name, value)
        _check_units(*_held(name, value))
        rows[name] = _rows(value)
    for (first, (dim, index)), (name, (other_dim, other)) in itertools.combinations(rows.items(), 2):
        if (dim and other_dim and dim != other_dim) or not (index is None or other is None or index.equals(other)):
            raise ValueError(
                f"the rows of {first} and {name} have different labels: put them in one order, by .reindex() for one, "
                f"or say that they are in one by numpy.asarray({name})"
            )


def _rows(value: Any) -> tuple[object, Any]:
    """The dimension of the rows and their labels, where there are any."""
    if is_a(value, "pandas", "Series", "DataFrame"):
        return None, value.index
    if is_a(value, "xarray", "DataArray") and value.dims:
        return value.dims[0], value.indexes.get(value.dims[0])
    return None, None
