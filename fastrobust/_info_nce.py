"""InfoNCE, the contrastive loss of embeddings in batches: cross-entropy of their similarities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _row_loss as rows
from ._against_rest import places_of
from ._call import check_reduction
from ._cross_entropy import cross_entropy
from ._dispatch import backend, common, shown
from ._row_functions import norm
from ._sums import narrow, narrowed, prepared

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["InfoNce", "InfoNceGrad", "info_nce"]

Reduction = Literal["none", "sum", "mean"]
_WRT = "anchor", "positive", "negatives", "temperature"


class InfoNceGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    danchor: Any
    dpositive: Any
    dnegatives: Any
    dtemperature: Any


class InfoNce:
    """InfoNCE: the cross-entropy of the similarities of each anchor to all positives, of which its own is right.

    Parameters
    ----------
    anchor, positive : array_like of shape (N, D), real
        Embeddings; the positive of each anchor is in its row, and those of the others are its negatives. The result has
        the dtype of all of them, float64 for integers.
    temperature : float, positive
        By which similarities, cosines, are divided.
    negatives : array_like of shape (M, D), optional
        Further negatives of all anchors, such as those of earlier batches.
    symmetric : bool
        Whether the mean of that and of the loss with anchors and positives exchanged is taken, as for pairs of images
        and texts; not with further negatives.
    normalize : bool
        Whether embeddings are divided by their length; if not, similarities are products as they are.
    reduction : {"none", "sum", "mean"}

    Returns
    -------
    array of shape (N,), or a number

    Raises
    ------
    TypeError, ValueError
        For operands that do not fit, and arrays of other libraries than NumPy, CuPy, PyTorch and JAX.

    Notes
    -----
    van den Oord et al. 2018; symmetric it is the loss of CLIP (Radford et al. 2021). NT-Xent (Chen et al. 2020) counts
    the other anchors as negatives as well, which this does not.
    An anchor of zeros has the similarity 0 to all, and the derivative 0. Similarities of NumPy's arrays are computed in
    double, and the cross-entropy keeps the digits of a pair that is told apart from all others. Tensors and arrays of
    JAX are differentiated by their libraries.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> anchor = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> losses.info_nce(anchor, anchor, 0.1)
    array([4.53988992e-05, 4.53988992e-05])
    """

    __name__ = __qualname__ = "info_nce"

    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        temperature: Any = 0.1,
        *,
        negatives: ArrayLike | None = None,
        symmetric: bool = False,
        normalize: bool = True,
        reduction: Reduction = "none",
    ) -> Any:
        """The loss of each anchor, or their sum or mean; see ``help(losses.info_nce)``."""
        given = _checked(anchor, positive, negatives, symmetric, reduction)
        xp = backend(anchor, "anchor").xp
        if rows.of_library(anchor, "anchor") is None:
            return _evaluated(given, temperature, symmetric, normalize, reduction, ()).value
        half = narrow(given)
        given = [prepared(part) for part in given]
        dtype = max((part.dtype for part in given), key=str)  # float32 or float64
        given = [part if part.dtype == dtype else part * xp.ones_like(part, dtype=dtype) for part in given]
        units = [_unit(xp, part) if normalize else part for part in given]
        similarities = units[0] @ xp.concatenate(units[1:]).T
        own = places_of(xp, similarities)[: similarities.shape[0]]
        found = cross_entropy(similarities, own, temperature=temperature, reduction=reduction)
        if symmetric:
            other = cross_entropy(similarities.T, own, temperature=temperature, reduction=reduction)
            found = 0.5 * (found + other)
        return narrowed(found, half)

    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        temperature: float = 0.1,
        *,
        negatives: ArrayLike | None = None,
        symmetric: bool = False,
        normalize: bool = True,
        reduction: Reduction = "none",
        wrt: Sequence[str] = ("anchor", "positive"),
    ) -> InfoNceGrad:
        """The loss and its derivatives, of arrays of NumPy and CuPy; others are differentiated by their libraries.

        Parameters
        ----------
        wrt : sequence of str
            Some of "anchor", "positive", "negatives" and "temperature". The others are those of a call. Derivatives are
            of the sum or mean, and of the sum without a reduction, since all losses depend on all positives.
        """
        if not isinstance(wrt, tuple | list) or not set(wrt) <= set(_WRT):
            raise ValueError(f"wrt must be a tuple of names out of {_WRT}, got {wrt!r}")
        if rows.of_library(anchor, "anchor") is not None:
            raise TypeError(
                f"value_and_grad takes arrays of NumPy and CuPy: let the library of this {shown(anchor)} differentiate"
            )
        if "negatives" in wrt and negatives is None:
            raise ValueError("wrt names negatives, and there are none: give them, or leave them out there")
        given = _checked(anchor, positive, negatives, symmetric, reduction)
        return _evaluated(given, temperature, symmetric, normalize, reduction, tuple(wrt))

    def __repr__(self) -> str:
        return "<loss info_nce(anchor, positive, temperature)>"

    def __reduce__(self) -> str:
        return "info_nce"


info_nce = InfoNce()


def _checked(anchor: object, positive: object, negatives: object, symmetric: bool, reduction: Reduction) -> list[Any]:
    """The embeddings, which fit."""
    check_reduction(reduction)
    named: dict[str, Any] = {"anchor": anchor, "positive": positive}
    if negatives is not None:
        named["negatives"] = negatives
    common(tuple(named), tuple(named.values()))
    if rows.of_library(anchor, "anchor") is None:
        kernels = rows.kernels_for("info_nce", tuple(named), tuple(named.values()))
        named = {name: rows.real(kernels, name, value) for name, value in named.items()}
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    if len(shapes["anchor"]) != 2 or shapes["positive"] != shapes["anchor"] or not shapes["anchor"][0]:
        raise ValueError(
            f"anchor and positive must have one shape (N, D), N at least 1, got {shapes['anchor']} and "
            f"{shapes['positive']}"
        )
    if negatives is not None:
        if symmetric:
            raise ValueError("negatives go with anchors alone: leave out symmetric=True")
        if len(shapes["negatives"]) != 2 or shapes["negatives"][1] != shapes["anchor"][1]:
            raise ValueError(f"negatives must have shape (M, {shapes['anchor'][1]}), got {shapes['negatives']}")
    return list(named.values())


def _unit(xp: Any, x: Any) -> Any:
    """Vectors over their length; those of zeros as they are, and constant."""
    length = norm(x)[..., None]
    return xp.where(length == 0, xp.zeros_like(x), x / xp.where(length == 0, xp.ones_like(length), length))


def _evaluated(
    given: list[Any], temperature: Any, symmetric: bool, normalize: bool, reduction: Reduction, wrt: tuple[str, ...]
) -> InfoNceGrad:
    """The loss and the derivatives that are wanted, by kernels."""
    kernels = rows.kernels_for("info_nce", ("anchor",), given[:1])
    with kernels.place(given[0]):
        return _found(kernels.xp, given, temperature, symmetric, normalize, reduction, wrt)


def _found(
    xp: Any,
    given: list[Any],
    temperature: Any,
    symmetric: bool,
    normalize: bool,
    reduction: Reduction,
    wrt: tuple[str, ...],
) -> InfoNceGrad:
    """`_evaluated` with that library's functions."""
    dtype = np.result_type(*(part.dtype if part.dtype.kind == "f" else np.float64 for part in given))
    wide = [part.astype(np.float64) for part in given]
    units = [_unit(xp, part) if normalize else part for part in wide]
    keys = xp.concatenate(units[1:])
    similarities, own = units[0] @ keys.T, xp.arange(len(wide[0]))
    ways = [similarities, similarities.T] if symmetric else [similarities]
    share = 1.0 / len(ways)
    if not wrt:
        each = [cross_entropy(way, own, temperature=temperature, reduction=reduction) for way in ways]
        return InfoNceGrad(xp.asarray(sum(each) * share).astype(dtype)[()], None, None, None, None)
    found = [
        cross_entropy.value_and_grad(
            xp.ascontiguousarray(way), own, temperature=temperature, reduction=reduction, wrt=("x", "temperature")
        )
        for way in ways
    ]
    value = sum(part.value for part in found) * share
    slopes = found[0].dx * share + (found[1].dx.T * share if symmetric else 0.0)
    of_keys, ends = slopes.T @ units[0], [0, *itertools.accumulate(map(len, wide[1:]))]
    parts = [slopes @ keys, *(of_keys[first:end] for first, end in itertools.pairwise(ends))]
    results: dict[str, Any] = {"temperature": sum(part.dtemperature.sum() for part in found) * share}
    for name, part, unit, x in zip(_WRT, parts, units, wide, strict=False):
        results[name] = part
        if normalize:
            length = norm(x)[..., None]
            across = part - unit * (unit * part).sum(-1, keepdims=True)
            results[name] = xp.where(length == 0, 0.0, across / xp.where(length == 0, 1.0, length))
    wanted = [results.get(name) if name in wrt else None for name in _WRT]
    return InfoNceGrad(*[None if part is None else xp.asarray(part).astype(dtype)[()] for part in (value, *wanted)])
