"""Cross-entropy of logits, a loss of rows: one value for all classes of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _arguments as arguments
from ._call import check_reduction
from ._dispatch import backend, shown
from ._row_operations import Given
from .kernels.losses import cross_entropy as definitions

if TYPE_CHECKING:
    from ._types import ArrayLike, NDArray

__all__ = [
    "OPTIONS",
    "CrossEntropy",
    "CrossEntropyGrad",
    "Samples",
    "checked_axis",
    "checked_index",
    "checked_options",
    "combined",
    "cross_entropy",
    "divisor",
    "evaluated",
    "of_library",
    "samples_of",
    "slopes_of",
    "values_of",
]

OPTIONS = definitions.OPTIONS
_WRT = "x", *OPTIONS


class CrossEntropyGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    dx: Any
    dtemperature: Any
    dlabel_smoothing: Any
    dz_loss: Any


class Samples(NamedTuple):
    """The arguments looked at: data with the classes along the second of three axes, and what each sample counts."""

    dtype: Any  # of the results
    shape: tuple[int, ...]  # of x
    axis: int
    data: list[NDArray]
    chosen: NDArray | None  # the index of each sample's class
    weights: NDArray  # 0 for what is ignored
    definition: Any
    options: tuple[float, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of the samples."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]


class CrossEntropy:
    """Cross-entropy of logits and classes: log sum_k exp(x_k) - x_t for each sample.

    ``losses.cross_entropy(x, target)`` is the loss, ``losses.cross_entropy.value_and_grad(x, target)`` the same with
    its derivatives in one pass.

    Parameters
    ----------
    x : array_like, real
        Logits, with the classes along ``axis``. The result has its dtype, float64 for integers.
    target : array_like
        The index of the right class for each sample, integers of x's shape without ``axis``; or a probability for each
        class, floating-point numbers of x's shape. Probabilities need not add up to 1; one of 0 counts nothing,
        whatever its logit is.
    axis : int
        Where the classes are. Default: the last.
    weights : array_like, optional
        A factor for each sample, broadcast to the samples; one of 0 excludes it, whatever it holds.
    class_weights : array_like of shape (K,), optional
        A factor for each class, by which samples of that class count; for indices only. It multiplies a sample's whole
        loss, label smoothing included (`torch.nn.CrossEntropyLoss` weighs the parts of a smoothed one by themselves).
    ignore_index : int, optional
        The index of samples that are left out, any number.
    label_smoothing : float, from 0 to 1
        The share eps of each sample that is spread over all K classes, eps/K on each, the right one among them, as
        PyTorch and Keras have it.
    smooth_over : {"all", "finite"}
        Whether that goes to all classes, with which the loss is infinite where a logit is -inf, or in equal parts to
        those whose logit is not.
    temperature : float, positive
        By which logits are divided.
    z_loss : float
        Factor of lse^2, with lse = log sum_k exp(x_k/temperature), which keeps logits near where they are normalized.
    reduction : {"none", "sum", "mean"}
        "mean" divides by the sum of the weights, those of the classes among them, as PyTorch does; Keras divides by the
        number of samples, which is "sum" over that.
    empty : {"nan", "zero"}
        What the mean is if all weights are 0, or there is no sample: NaN as in PyTorch, or 0 as in Keras.

    Returns
    -------
    array of the samples' shape, or a number

    Raises
    ------
    TypeError
        For targets that are neither integers nor floating-point numbers, and arrays of other libraries than
        NumPy, PyTorch and JAX.
    ValueError
        For an index that is no class, shapes that do not fit, options outside of their ranges.

    Notes
    -----
    With m the largest logit and R = sum over k != t of exp(x_k - m), the loss is log1p(R) where the right class is the
    likeliest, and the derivative in its logit -R/S, S = R + exp(x_t - m): both keep their digits for the surest of
    right answers, for which log-softmax gives 0. Without options errors are below 1 unit in the last place in float32
    and 4 in float64, with them of the largest term. A NaN among the logits makes NaN of the sample's loss and
    derivatives, and so does +inf. Sums are made in double, those of float64 in two words: the bits depend neither on
    threads nor on the processor.

    Tensors and arrays of JAX are differentiated to any order; plain tensors on the CPU by the same kernels, in the pass
    that gives the loss, all others, and second derivatives, by operations of the library, in which the same sums are
    taken, in its own precision. There the temperature, the smoothing and the factor of the z-loss may be arrays, too,
    and an index that is no class gives NaN where values cannot be looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> losses.cross_entropy(np.array([[40.0, 0.0], [1.0, 3.0]]), np.array([0, 0]))
    array([4.24835426e-18, 2.12692801e+00])
    >>> g = losses.cross_entropy.value_and_grad(np.array([[40.0, 0.0]]), np.array([0]), reduction="mean")
    >>> g.dx
    array([[-4.24835426e-18,  4.24835426e-18]])
    """

    __name__ = __qualname__ = "cross_entropy"

    def __call__(
        self,
        x: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        smooth_over: Literal["all", "finite"] = "all",
        temperature: float = 1.0,
        z_loss: float = 0.0,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
    ) -> Any:
        """The loss of each sample, or their sum or mean; see ``help(losses.cross_entropy)``."""
        given = Given(target, axis, weights, class_weights, ignore_index, smooth_over, reduction, empty)
        options = temperature, label_smoothing, z_loss
        if (own := of_library(x)) is not None:
            return own.loss(x, given, options)
        return evaluated(x, given, options, ()).value

    def value_and_grad(
        self,
        x: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        smooth_over: Literal["all", "finite"] = "all",
        temperature: float = 1.0,
        z_loss: float = 0.0,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
        wrt: Sequence[str] = ("x",),
        out: ArrayLike | None = None,
    ) -> CrossEntropyGrad:
        """The loss and its derivatives, in one pass.

        Parameters
        ----------
        wrt : sequence of str
            Some of "x", "temperature", "label_smoothing" and "z_loss". The others are those of a call.
        out : array, optional
            Memory for the derivatives in x, a NumPy array of the shape of x and the result's dtype.

        Returns
        -------
        CrossEntropyGrad
            With a reduction derivatives are of the sum or mean: in x of its shape, in the options numbers; without one
            those in options are of each sample's loss.
        """
        if isinstance(wrt, str) or not set(wrt) <= set(_WRT):
            raise ValueError(f"wrt must be a tuple of names out of {_WRT}, got {wrt!r}")
        given = Given(target, axis, weights, class_weights, ignore_index, smooth_over, reduction, empty)
        options = temperature, label_smoothing, z_loss
        if (own := of_library(x)) is not None:
            if out is not None:
                raise TypeError("out is taken for NumPy arrays only")
            return own.loss_and_grad(x, given, options, tuple(wrt))
        return evaluated(x, given, options, tuple(wrt), out)

    def __repr__(self) -> str:
        return "<loss cross_entropy(x, target)>"

    def __reduce__(self) -> str:
        return "cross_entropy"


cross_entropy = CrossEntropy()


def of_library(x: object) -> Any:
    """The functions for arrays of the library of x, if that differentiates by itself, else None: see `Backend`."""
    return getattr(backend(x, "x"), "cross_entropy", None)


def evaluated(
    x: object, given: Given, options: tuple[float, ...], wrt: tuple[str, ...], out: object = None
) -> CrossEntropyGrad:
    """The loss and the derivatives that are wanted, of NumPy arrays; those in x in the memory that is given."""
    samples = _samples(x, given, options, not set(wrt) & set(OPTIONS))
    memory = None if out is None else _memory(out, samples, wrt)
    return _found(samples, given.reduction, given.empty, wrt, memory)


def _memory(out: object, samples: Samples, wrt: tuple[str, ...]) -> NDArray:
    """The memory for the derivatives in x."""
    if not isinstance(out, np.ndarray) or out.shape != samples.shape or out.dtype != samples.dtype:
        raise ValueError(f"out must be an array of shape {samples.shape} and dtype {samples.dtype}, got {shown(out)}")
    if "x" not in wrt or not out.flags.writeable:
        raise ValueError("out must be an array that can be written to, for derivatives in x that are wanted")
    return out


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
    axis = given.axis
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis must be an integer, got {axis!r}")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} is not one of the {len(shape)} axes of x")
    axis %= len(shape)
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


def _real(name: str, value: object) -> NDArray:
    """The array of a real type, of NumPy's; numbers and lists are made one."""
    if getattr(backend(value, name), "__name__", "") != f"{__package__}._backends.numpy":
        raise TypeError(f"{name} is a {shown(value)}: cross_entropy takes arrays of NumPy, PyTorch and JAX; convert it")
    array = np.asarray(value)
    arguments.supported(name, array.dtype)
    return array


def _samples(x: object, given: Given, options: tuple[float, ...], plain: bool) -> Samples:
    """All arguments checked; ``plain`` says that no derivatives in options are wanted."""
    logits, classes = _real("x", x), _real("target", given.target)
    checked_options(options)
    options = tuple(map(float, options))
    axis = checked_axis(logits.shape, classes.shape, classes.dtype.kind, given)
    count, rows = logits.shape[axis], logits.shape[:axis] + logits.shape[axis + 1 :]
    dtype = arguments.result_dtype({"x": logits}, "x")
    compute = arguments.compute_type(dtype)
    ways = (math.prod(logits.shape[:axis]), count, math.prod(logits.shape[axis + 1 :]))
    data, index = [np.ascontiguousarray(logits, compute).reshape(ways)], None
    counted = _broadcast("weights", 1.0 if given.weights is None else given.weights, rows)
    if classes.dtype.kind in "iu":
        checked_index(classes, count, given.ignore_index)
        chosen = True if given.ignore_index is None else classes != given.ignore_index
        index = (classes if chosen is True else np.where(chosen, classes, 0)).astype(np.int64, copy=False)
        if given.class_weights is not None:
            counted = counted * _class_weights(given.class_weights, count)[index]
        if chosen is not True:
            counted = np.where(chosen, counted, 0.0)
        index = index.reshape(ways[0], ways[2])
    else:
        data.append(np.ascontiguousarray(classes, compute).reshape(ways))
    definition = _definition(index is not None, options, given.smooth_over, plain)
    counted = np.ascontiguousarray(counted, np.float64).reshape(ways[0], ways[2])
    used = options if definition.numbers else ()
    return Samples(dtype, logits.shape, axis, data, index, counted, definition, used)


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


def _broadcast(name: str, value: object, shape: tuple[int, ...]) -> NDArray:
    """Doubles of that shape."""
    array = _real(name, value)
    try:
        return np.broadcast_to(array.astype(np.float64, copy=False), shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to the samples, of shape {shape}; got shape {array.shape}") from None


def checked_index(classes: NDArray, count: int, ignore_index: int | None) -> None:
    """Refuse indices that are neither a class nor ignored."""
    wrong = (classes < 0) | (classes >= count)
    if ignore_index is not None:
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
            raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
        wrong &= classes != ignore_index
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        hint = "" if ignore_index is not None else "; samples to be left out are named by ignore_index="
        raise ValueError(
            f"target has the class {classes[place]} at {place}, and x has {count} classes, 0 to {count - 1}{hint}"
        )


def _class_weights(value: object, count: int) -> NDArray:
    """The weights of the classes."""
    array = _real("class_weights", value)
    if array.shape != (count,):
        raise ValueError(
            f"class_weights has the shape {array.shape}: it must have a weight for each of {count} classes"
        )
    return array.astype(np.float64)


def _usable(samples: Samples, memory: NDArray | None) -> NDArray:
    """Memory for the derivatives like the data: what was given, if it is like that and nothing else is in it."""
    x, *others = samples.data
    if memory is not None and memory.flags.c_contiguous and memory.dtype == x.dtype:
        place = memory.reshape(x.shape)
        apart = place.ctypes.data == x.ctypes.data or not np.may_share_memory(place, x)
        if apart and not any(np.may_share_memory(place, other) for other in (*others, samples.weights)):
            return place
    return np.empty_like(x)


def _found(
    samples: Samples, reduction: str, empty: str, wrt: tuple[str, ...], memory: NDArray | None
) -> CrossEntropyGrad:
    """The loss and the derivatives that are wanted."""
    total = divisor(samples.weights, reduction, empty)
    slopes = [_usable(samples, memory)] if "x" in wrt else None
    scaled = samples.weights / total if total == total else samples.weights
    found = _rows().of_rows(samples.definition, samples.data, samples.chosen, samples.options, scaled, slopes)
    by_option = dict(zip(samples.definition.numbers, found.by_numbers, strict=True))
    dx = None if slopes is None else _like(samples, slopes[0])
    if memory is not None and dx is not None:
        if not np.may_share_memory(memory, dx):
            memory[...] = dx
        dx = memory
    options = [combined(by_option[name], samples, reduction, total) if name in wrt else None for name in OPTIONS]
    return CrossEntropyGrad(combined(found.value, samples, reduction, total), dx, *options)


def _rows() -> Any:
    """The kernels, which are imported when they are first used."""
    from ._backends.numpy import rows

    return rows


def samples_of(x: object, given: Given) -> Samples:
    """The arguments of a loss of what the cross-entropy without options is."""
    samples = _samples(x, given, (1.0, 0.0, 0.0), plain=True)
    if samples.chosen is None:
        raise TypeError("target must hold class indices, integers")
    return samples


def values_of(samples: Samples) -> NDArray:
    """The cross-entropy of each sample, in double, not weighted; 0 for those of weight 0."""
    found = _rows().of_rows(samples.definition, samples.data, samples.chosen, (), samples.weights, None)
    values: NDArray = found.value
    return values


def slopes_of(samples: Samples, factors: NDArray) -> NDArray:
    """Its derivatives in the logits, those of each sample times a factor."""
    slopes = [np.empty_like(samples.data[0])]
    _rows().of_rows(samples.definition, samples.data, samples.chosen, (), factors, slopes)
    return _like(samples, slopes[0])


def _like(samples: Samples, slopes: NDArray) -> NDArray:
    """The derivatives as x is."""
    with np.errstate(over="ignore", under="ignore"):
        return slopes.astype(samples.dtype, copy=False).reshape(samples.shape)


def divisor(weights: NDArray, reduction: str, empty: str) -> float:
    """What sums are divided by: the weights of a mean, NaN or 1 if they come to nothing."""
    total = float(weights.sum()) if reduction == "mean" else 1.0
    return total if total != 0.0 else math.nan if empty == "nan" else 1.0


def combined(values: NDArray, samples: Samples, reduction: str, total: float) -> Any:
    """The values weighted, or their sum or mean; what is too large for the dtype is infinite."""
    with np.errstate(over="ignore", under="ignore"):
        weighted = np.where(samples.weights == 0, 0.0, values) * samples.weights
        if reduction == "none":
            return weighted.astype(samples.dtype).reshape(samples.rows)[()]
        return samples.dtype.type(np.sum(weighted) / total)
