"""Cross-entropy of logits, a loss of rows: one value for all classes of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _arguments as arguments
from ._dispatch import backend, shown
from ._row_loss import real
from ._row_operations import Given
from ._samples import OPTIONS, Samples, combined, divisor, factors, kernels_for, like_x, looked_at, of_library
from ._sums import narrow, narrowed, prepared
from .math import tanh

if TYPE_CHECKING:
    from ._types import ArrayLike, NDArray

__all__ = [
    "OPTIONS",
    "CrossEntropy",
    "CrossEntropyGrad",
    "cross_entropy",
    "evaluated",
    "slopes_of",
    "values_of",
]

_WRT = "x", *OPTIONS


class CrossEntropyGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    dx: Any
    dtemperature: Any
    dlabel_smoothing: Any
    dz_loss: Any


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
    softcap : float, positive, optional
        c of c tanh(x/c), which takes the place of the logits before all else and keeps them below c.
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
        For targets that are neither integers nor floating-point numbers, and arrays of other libraries than NumPy,
        CuPy, PyTorch and JAX.
    ValueError
        For an index that is no class, shapes that do not fit, options outside of their ranges.

    Notes
    -----
    With m the largest logit and R = sum over k != t of exp(x_k - m), the loss is log1p(R) where the right class is the
    likeliest, and the derivative in its logit -R/S, S = R + exp(x_t - m): both keep their digits for the surest of
    right answers, for which log-softmax gives 0. Without options errors are below 1 unit in the last place in float32
    and 4 in float64, with them of the largest term. A NaN among the logits makes NaN of the sample's loss and
    derivatives, and so does +inf. Sums are made in double, those of float64 in two words: the bits depend neither on
    threads nor on the processor; GPUs sum in another order, always the same.

    Tensors and arrays of JAX are differentiated to any order; plain tensors by the same kernels, in the pass that gives
    the loss, all others, and second derivatives, by operations of the library, in which the same sums are taken, in its
    own precision. There the temperature, the smoothing and the factor of the z-loss may be arrays, too. An index that
    is no class gives NaN where values cannot be looked at, or not without waiting for a GPU.

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
        softcap: float | None = None,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
    ) -> Any:
        """The loss of each sample, or their sum or mean; see ``help(losses.cross_entropy)``."""
        given = Given(target, axis, weights, class_weights, ignore_index, smooth_over, reduction, empty)
        options = temperature, label_smoothing, z_loss
        if (own := of_library(x)) is not None:
            if softcap is None:
                return own.loss(x, given, options)
            half, x = narrow((x,)), prepared(x)
            found = own.loss(_capped_by_library(x, softcap), given, options)
            return narrowed(found, half)
        if softcap is not None:
            return _evaluated_capped(x, softcap, given, options, (), None).value
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
        softcap: float | None = None,
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
        if not isinstance(wrt, tuple | list) or not set(wrt) <= set(_WRT):
            raise ValueError(f"wrt must be a tuple of names out of {_WRT}, got {wrt!r}")
        given = Given(target, axis, weights, class_weights, ignore_index, smooth_over, reduction, empty)
        options = temperature, label_smoothing, z_loss
        if (own := of_library(x)) is not None:
            if out is not None:
                raise TypeError("out is taken for NumPy arrays only")
            if softcap is not None:
                raise TypeError(
                    "value_and_grad with softcap takes arrays of NumPy and CuPy: let autograd differentiate"
                )
            return own.loss_and_grad(x, given, options, tuple(wrt))
        if softcap is not None:
            return _evaluated_capped(x, softcap, given, options, tuple(wrt), out)
        return evaluated(x, given, options, tuple(wrt), out)

    def __repr__(self) -> str:
        return "<loss cross_entropy(x, target)>"

    def __reduce__(self) -> str:
        return "cross_entropy"


cross_entropy = CrossEntropy()


def evaluated(
    x: object, given: Given, options: tuple[float, ...], wrt: tuple[str, ...], out: object = None
) -> CrossEntropyGrad:
    """The loss and the derivatives that are wanted, by kernels; those in x in the memory that is given."""
    kernels = kernels_for(x, given)
    with kernels.place(x):
        samples = looked_at(kernels, x, given, options, not set(wrt) & set(OPTIONS))
        memory = None if out is None else _memory(out, samples, wrt)
        return _found(samples, given, wrt, memory)


def _check_softcap(softcap: object) -> None:
    """Refuse what caps nothing."""
    if isinstance(softcap, bool) or not isinstance(softcap, int | float | np.floating | np.integer):
        raise TypeError(f"softcap must be a number, got a {shown(softcap)}")
    if not 0.0 < softcap < math.inf:
        raise ValueError(f"softcap must be positive and finite, got {softcap}")


def _capped_by_library(x: Any, softcap: float) -> Any:
    """The logits capped, differentiable: a NaN as it is, so that one that is excluded has a derivative of 0."""
    _check_softcap(softcap)
    xp = backend(x, "x").xp
    is_nan = x != x
    return xp.where(is_nan, x, softcap * tanh(xp.where(is_nan, xp.zeros_like(x), x) / softcap))


def _evaluated_capped(
    x: object, softcap: float, given: Given, options: tuple[float, ...], wrt: tuple[str, ...], out: object
) -> CrossEntropyGrad:
    """`evaluated` of capped logits, in double, with derivatives in what is capped."""
    _check_softcap(softcap)
    kernels = kernels_for(x, given)
    with kernels.place(x):
        xp, logits = kernels.xp, real(kernels, "x", x)
        dtype = arguments.result_dtype({"x": logits}, "x")
        size = logits.astype(np.float64) / softcap
        found = evaluated(softcap * xp.tanh(size), given, options, wrt)
        dx = found.dx
        if dx is not None:
            with np.errstate(over="ignore", under="ignore"):
                # 1 less the square of tanh would have lost its digits; what is excluded has none.
                dx = xp.where(dx == 0, 0.0, dx / xp.cosh(size) ** 2).astype(dtype)
            if out is not None:
                memory = _memory(out, looked_at(kernels, x, given, options, False), wrt)
                memory[...] = dx
                dx = memory
        value, *others = (
            None if part is None else xp.asarray(part).astype(dtype)[()] for part in (found.value, *found[2:])
        )
        return CrossEntropyGrad(value, dx, *others)


def _memory(out: object, samples: Samples, wrt: tuple[str, ...]) -> NDArray:
    """The memory for the derivatives in x."""
    if samples.kernels.xp is not np:
        raise TypeError("out is taken for NumPy arrays only")
    if not isinstance(out, np.ndarray) or out.shape != samples.shape or out.dtype != samples.dtype:
        raise ValueError(f"out must be an array of shape {samples.shape} and dtype {samples.dtype}, got {shown(out)}")
    if "x" not in wrt or not out.flags.writeable:
        raise ValueError("out must be an array that can be written to, for derivatives in x that are wanted")
    return out


def _usable(samples: Samples, memory: NDArray | None) -> Any:
    """Memory for the derivatives like the data: what was given, if it is like that and nothing else is in it."""
    x, *others = samples.data
    if memory is not None and memory.flags.c_contiguous and memory.dtype == x.dtype:
        place = memory.reshape(x.shape)
        apart = place.ctypes.data == x.ctypes.data or not np.may_share_memory(place, x)
        if apart and not any(np.may_share_memory(place, other) for other in (*others, samples.weights)):
            return place
    return samples.kernels.xp.empty_like(x)


def _found(samples: Samples, given: Given, wrt: tuple[str, ...], memory: NDArray | None) -> CrossEntropyGrad:
    """The loss and the derivatives that are wanted."""
    total, reduction = divisor(samples, given), given.reduction
    slopes = [_usable(samples, memory)] if "x" in wrt else None
    scaled = factors(samples, total)
    found = samples.kernels.of_rows(samples.definition, samples.data, samples.chosen, samples.options, scaled, slopes)
    by_option = dict(zip(samples.definition.numbers, found.by_numbers, strict=True))
    dx = None if slopes is None else like_x(samples, slopes[0])
    if memory is not None and dx is not None:
        if not np.may_share_memory(memory, dx):
            memory[...] = dx
        dx = memory
    options = [combined(by_option[name], samples, reduction, total) if name in wrt else None for name in OPTIONS]
    return CrossEntropyGrad(combined(found.value, samples, reduction, total), dx, *options)


def values_of(samples: Samples) -> Any:
    """The cross-entropy of each sample, in double, not weighted; 0 for those of weight 0."""
    return samples.kernels.of_rows(samples.definition, samples.data, samples.chosen, (), samples.weights, None).value


def slopes_of(samples: Samples, by_sample: Any) -> Any:
    """Its derivatives in the logits, those of each sample times a factor."""
    slopes = [samples.kernels.xp.empty_like(samples.data[0])]
    samples.kernels.of_rows(samples.definition, samples.data, samples.chosen, (), by_sample, slopes)
    return like_x(samples, slopes[0])
