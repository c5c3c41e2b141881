"""The samples of losses of classes: their arguments looked at, what they count, and how they are summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from . import _row_loss as rows
from ._call import check_reduction
from ._dispatch import backend, shown
from ._row_operations import Given
from .kernels.losses import cross_entropy as definitions

if TYPE_CHECKING:
    from ._types import NDArray

__all__ = [
    "OPTIONS",
    "Samples",
    "check_ignored",
    "checked_axis",
    "checked_index",
    "checked_options",
    "combined",
    "divisor",
    "factors",
    "kernels_for",
    "like_x",
    "looked_at",
    "of_library",
    "samples_of",
]

OPTIONS = definitions.OPTIONS


class Samples(NamedTuple):
    """The arguments looked at: data with the classes along the second of three axes, and what each sample counts."""

    kernels: Any
    dtype: Any  # of the results
    shape: tuple[int, ...]  # of x
    axis: int
    data: list[Any]
    chosen: Any  # the index of each sample's class, or None
    weights: Any  # 0 for what is ignored
    definition: Any
    options: tuple[float, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of the samples."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]


def of_library(x: object) -> Any:
    """The functions for arrays of the library of x, if that differentiates by itself, else None: see `Backend`."""
    return getattr(backend(x, "x"), "cross_entropy", None)


def checked_axis(shape: tuple[int, ...], target_shape: tuple[int, ...], kind: str, given: Given) -> int:
    """The axis of the classes, counted from the first, if shapes and conventions fit.

    ``kind`` is that of the target's dtype, a letter as NumPy has it.
    """
    check_reduction(given.reduction)
    if given.smooth_over not in ("all", "finite"):
        raise ValueError(f"smooth_over must be 'all' or 'finite', got {given.smooth_over!r}")
    if given.empty not in ("nan", "zero"):
        raise ValueError(f"empty must be 'nan' or 'zero', got {given.empty!r}")
    if not shape:
        raise ValueError("x has no axis for the classes: it must have the logits of at least one class along one")
    axis = arguments.axis_of(given.axis, len(shape), "x")
    if shape[axis] == 0:
        raise ValueError("x has no classes: its axis for them has the length 0")
    samples = shape[:axis] + shape[axis + 1 :]
    if kind == "b":
        raise TypeError("target has dtype bool: it must hold class indices, or a probability for each class")
    if kind in "iu":
        if target_shape != samples:
            raise ValueError(f"target of shape {target_shape} does not fit: x has samples of shape {samples}")
        return axis
    for name, value in (("class_weights", given.class_weights), ("ignore_index", given.ignore_index)):
        if value is not None:
            raise ValueError(f"{name} goes with class indices, and target holds probabilities: use weights instead")
    if target_shape != shape:
        raise ValueError(f"target of shape {target_shape} does not fit x of shape {shape}: probabilities have the same")
    return axis


def kernels_for(x: object, given: Given) -> Any:
    """The kernels for the library of x, of which all arguments are."""
    named = {"x": x, "target": given.target}
    for name, value in (("weights", given.weights), ("class_weights", given.class_weights)):
        if value is not None:
            named[name] = value
    return rows.kernels_for("a loss of classes", tuple(named), tuple(named.values()))


def looked_at(kernels: Any, x: object, given: Given, options: tuple[float, ...], plain: bool) -> Samples:
    """All arguments checked; ``plain`` says that no derivatives in options are wanted."""
    xp, logits, classes = kernels.xp, rows.real(kernels, "x", x), rows.real(kernels, "target", given.target)
    checked_options(options)
    options = tuple(map(float, options))
    axis = checked_axis(logits.shape, classes.shape, classes.dtype.kind, given)
    count, shape = logits.shape[axis], logits.shape[:axis] + logits.shape[axis + 1 :]
    dtype = arguments.result_dtype({"x": logits}, "x")
    stored = kernels.stored(dtype)
    ways = (math.prod(logits.shape[:axis]), count, math.prod(logits.shape[axis + 1 :]))
    data, index = [xp.ascontiguousarray(logits, stored).reshape(ways)], None
    counted = _broadcast(kernels, "weights", 1.0 if given.weights is None else given.weights, shape)
    if classes.dtype.kind in "iu":
        if xp is np:  # without waiting for a device; there the kernels make NaN of what is no class
            checked_index(classes, count, given.ignore_index)
        check_ignored(given.ignore_index)
        chosen = True if given.ignore_index is None else classes != given.ignore_index
        index = (classes if chosen is True else xp.where(chosen, classes, 0)).astype(np.int64, copy=False)
        if given.class_weights is not None:
            of_class = _class_weights(kernels, given.class_weights, count)
            if xp is np:
                counted = counted * of_class[index]
            else:  # where an index that is no class would be that of another
                inside = (index >= 0) & (index < count)
                of_class = xp.where(inside, of_class[xp.where(inside, index, 0)], np.nan)
                counted = xp.where(counted == 0, 0.0, counted * of_class)
        if chosen is not True:
            counted = xp.where(chosen, counted, 0.0)
        index = xp.ascontiguousarray(index).reshape(ways[0], ways[2])
    else:
        data.append(xp.ascontiguousarray(classes, stored).reshape(ways))
    definition = _definition(index is not None, options, given.smooth_over, plain)
    counted = xp.ascontiguousarray(counted, np.float64).reshape(ways[0], ways[2])
    used = options if definition.numbers else ()
    return Samples(kernels, dtype, logits.shape, axis, data, index, counted, definition, used)


def samples_of(kernels: Any, x: object, given: Given) -> Samples:
    """The arguments of a loss of what the cross-entropy without options is."""
    samples = looked_at(kernels, x, given, (1.0, 0.0, 0.0), plain=True)
    if samples.chosen is None:
        raise TypeError("target must hold class indices, integers")
    return samples


def _definition(by_index: bool, options: tuple[float, ...], smooth_over: str, plain: bool) -> Any:
    """The definition for these options: the simplest."""
    finite = smooth_over == "finite"
    if not by_index:
        return definitions.OF_PROBABILITIES_OVER_FINITE if finite else definitions.OF_PROBABILITIES
    if plain and options == (1.0, 0.0, 0.0):
        return definitions.CROSS_ENTROPY
    return definitions.OVER_FINITE if finite else definitions.WITH_OPTIONS


def checked_options(options: Sequence[Any], differentiable: tuple[type, ...] = ()) -> None:
    """Refuse options that are no numbers in their ranges; arrays of a library that differentiates are not looked at."""
    for name, value in zip(OPTIONS, options, strict=True):
        if isinstance(value, differentiable):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
            raise TypeError(f"{name} must be a number, got a {shown(value)}")
        if name == "temperature" and not 0.0 < value < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {value}")
        if name == "label_smoothing" and not 0.0 <= value <= 1.0:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {value}")
        if name == "z_loss" and not math.isfinite(value):
            raise ValueError(f"z_loss must be finite, got {value}")


def _broadcast(kernels: Any, name: str, value: object, shape: tuple[int, ...]) -> Any:
    """Doubles of that shape."""
    array = rows.real(kernels, name, value)
    try:
        return kernels.xp.broadcast_to(array.astype(np.float64, copy=False), shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to the samples, of shape {shape}; got shape {array.shape}") from None


def check_ignored(ignore_index: object) -> None:
    """Refuse what is no index."""
    if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")


def checked_index(classes: NDArray, count: int, ignore_index: int | None) -> None:
    """Refuse indices that are neither a class nor ignored."""
    wrong = (classes < 0) | (classes >= count)
    check_ignored(ignore_index)
    if ignore_index is not None:
        wrong &= classes != ignore_index
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        hint = "" if ignore_index is not None else "; samples to be left out are named by ignore_index="
        raise ValueError(
            f"target has the class {classes[place]} at {place}, and x has {count} classes, 0 to {count - 1}{hint}"
        )


def _class_weights(kernels: Any, value: object, count: int) -> Any:
    """The weights of the classes."""
    array = rows.real(kernels, "class_weights", value)
    if array.shape != (count,):
        raise ValueError(
            f"class_weights has the shape {array.shape}: it must have a weight for each of {count} classes"
        )
    return array.astype(np.float64)


def like_x(samples: Samples, slopes: Any) -> Any:
    """The derivatives as x is."""
    with np.errstate(over="ignore", under="ignore"):
        return slopes.astype(samples.dtype, copy=False).reshape(samples.shape)


def combined(values: Any, samples: Samples, reduction: str, total: Any) -> Any:
    """The values weighted, or their sum or mean; what is too large for the dtype is infinite."""
    xp = samples.kernels.xp
    return rows.combined(xp, values, samples.weights, samples.rows, reduction, total, samples.dtype)


def divisor(samples: Samples, given: Given) -> Any:
    """What sums over the samples are divided by."""
    return rows.divisor(samples.kernels.xp, samples.weights, samples.weights.size, given.reduction, given.empty)


def factors(samples: Samples, total: Any) -> Any:
    """Those of the samples' derivatives: the weights over what sums are divided by."""
    return rows.over(samples.kernels.xp, samples.weights, total)
