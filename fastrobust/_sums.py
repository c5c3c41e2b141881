"""Losses of sums as objects: one number for all elements, or for those along some axes; see `kernels.losses.sums`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from . import _dispatch, _evaluate
from ._call import check_reduction, check_wrt
from ._loss import Loss, Named
from .kernels.compilers.alone import imported
from .kernels.losses.combinations import Factor
from .kernels.losses.formula import Formula
from .kernels.losses.sums import Split, added

if TYPE_CHECKING:
    from ._accuracy import Accuracy
    from ._types import ArrayLike

__all__ = ["Axes", "Rows", "SumsLoss", "derivatives_of", "narrow", "narrowed", "prepared", "taken", "value_of"]

_OPTIONS = {"axis": None, "reduction": "none", "weights": None}

Axes = int | Sequence[int] | None


class Rows(NamedTuple):
    """The operands of a call, looked at: what the sums are taken of, and in which shapes they come."""

    target: Any  # the backend
    operands: tuple[Any, ...]
    kept: tuple[int, ...]  # the shape of the sums, with the axes that they are taken along of length 1
    shape: tuple[int, ...]  # that without these axes
    half: Any  # the dtype of the results, if they are computed in a wider one
    pull: Callable[[Any], Any] | None = None  # what makes derivatives in the first of the data those in what was given

    @property
    def own(self) -> Any:
        """The module of a library that differentiates these sums by itself, or None: see `Backend`."""
        return getattr(self.target, "own_sums", None)


class SumsLoss(Named):
    """A loss that is made of sums over elements, such as Dice's: by `fastrobust.define`, or of `fastrobust.losses`.

    Called with its operands, the data first, arrays of NumPy, CuPy, PyTorch or JAX that broadcast, it is one number for
    all elements, or with ``axis`` one for those along some axes.

    Attributes
    ----------
    data, parameters : tuple of str
        The names of the operands.
    parts : tuple of Loss or SumsLoss
        The losses that this is the sum of, with their factors, or itself alone.

    Notes
    -----
    The data are read once for all sums, and once more for the derivatives in them, by the kernels for elements. Sums
    are rounded to the dtype of the result (float32 for the halves), before the value is made of them.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> from fastrobust.math import sum
    >>> @fr.define
    ... def relative(x, target):
    ...     return sum((x - target) ** 2) / sum(target**2)
    >>> x, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> relative(x, target, axis=1)
    array([0.  , 0.04])
    >>> relative.value_and_grad(x, target, axis=1, wrt=("x",), reduction="sum").dx
    array([[0.  , 0.  ],
           [0.  , 0.08]])
    """

    def __init__(
        self,
        formula: Formula,
        module: str = "",
        parts: tuple[Any, ...] = (),
        made_by: tuple[Callable[..., Any], tuple[Any, ...]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(formula, module, parts, made_by, {**_OPTIONS, **(options or {})})
        self.split = Split(formula)
        self.data, self.parameters = formula.data, formula.parameters

    def __call__(
        self,
        *operands: ArrayLike,
        axis: Axes = None,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        **named: Any,
    ) -> Any:
        """The loss.

        Parameters
        ----------
        *operands : array_like, broadcastable
            The data, then the parameters, which may also be given by name. Parameters are numbers, or arrays that
            broadcast to the shape of the sums with the axes that these are taken along kept, of length 1.
        axis : int or sequence of int, optional
            The axes of the data that the sums are taken along. Default: all.
        weights : array_like, broadcast to the data, optional
            Factor for each element in all sums; one of 0 excludes the element, whatever its value. What is left of sums
            without any element is 0, and what the formula makes of that counts in a mean.
        reduction : {"none", "sum", "mean"}
            What becomes of the losses along the axes that are left.

        Returns
        -------
        array of the shape of the axes that are left, or a number
        """
        given, options = self._bound(operands, named)
        self._refuse(options)
        return value_of(self.split, self._rows(given, axis, weights), weights, reduction)

    def value_and_grad(
        self,
        *operands: ArrayLike,
        axis: Axes = None,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        wrt: Sequence[str] | None = None,
        out: ArrayLike | None = None,
        **named: Any,
    ) -> Any:
        """The loss and its derivatives in the operands.

        Parameters
        ----------
        *operands, axis, weights, reduction, **named
            As in a call of the loss.
        wrt : sequence of str, optional
            The operands to differentiate by; None stands for those in all others in the result. Default: all.
        out : array, optional
            Memory for the derivatives in the first of the data, of the data's broadcast shape: an array of NumPy or
            CuPy, or a tensor.

        Returns
        -------
        namedtuple
            ``value``, then a field "d" and the operand's name for each operand: in data of the data's broadcast shape,
            in parameters, with a reduction, of the parameter's, without one of the losses'.
        """
        given, options = self._bound(operands, named)
        self._refuse(options)
        wanted = self._wanted(wrt)
        found = derivatives_of(self.split, self._rows(given, axis, weights), weights, reduction, wanted, out=out)
        return self.Grad(*found)

    def accuracy(self, points: int = 200, seed: int = 0) -> Accuracy:
        """Measure the errors of the terms, for each element, and of what is made of the sums; see `Loss.accuracy`.

        Parameters
        ----------
        points : int
            How many operands to try, of many sizes.
        seed : int
            Which.

        Returns
        -------
        Accuracy
            A tuple of rows, of the terms times a factor for each sum, then of the value of the sums.
        """
        module = imported("fastrobust._accuracy")
        found = []
        for part, formula in (("terms", self.split.terms), ("of sums", self.split.value)):
            rows = module.measured(formula, points, seed)
            found += [row._replace(output=f"{part}: {row.output}") for row in rows]
        measured: Accuracy = module.Accuracy(found)
        return measured

    def _refuse(self, options: Mapping[str, Any]) -> None:
        """Refuse options that a call does not take."""
        if options:
            raise TypeError(
                f"{self.__name__} does not take {', '.join(sorted(options))}: its options are {', '.join(self.options)}"
            )

    def _wanted(self, wrt: Sequence[str] | None) -> tuple[str, ...]:
        return self.formula.operands if wrt is None else check_wrt(wrt, self.formula.operands)

    def _library(self, given: tuple[Any, ...], weights: ArrayLike | None) -> Any:
        """The backend of the operands, if it is one of plain arrays."""
        target = _dispatch.common(self.formula.operands, given, weights)
        if _dispatch.is_container(target):
            values = [value for value in (*given, weights) if value is not None]
            kinds = {_dispatch.shown(value) for value in values if _dispatch.is_container(_dispatch.backend(value))}
            raise TypeError(
                f"{self.__name__} takes arrays of NumPy, CuPy, PyTorch and JAX, got a {', '.join(sorted(kinds))}: "
                "convert it"
            )
        return target

    def _rows(
        self,
        given: tuple[Any, ...],
        axis: Axes,
        weights: ArrayLike | None,
        pull: Callable[[Any], Any] | None = None,
        half: Any = None,
    ) -> Rows:
        """The operands of a call, checked; ``half`` is the dtype of results, if they are prepared already."""
        target = self._library(given, weights)
        count = len(self.data)
        if target.xp is np:
            data = [np.asarray(value) for value in given[:count]]
            numbers = [value if isinstance(value, float | int) else np.asarray(value) for value in given[count:]]
            given = (*data, *numbers)
        half = half or narrow(given)
        given = (prepared(given[0]), *given[1:])
        shapes = {name: np.shape(value) for name, value in zip(self.formula.operands, given, strict=True)}
        try:
            shape = np.broadcast_shapes(*(shapes[name] for name in self.data))
        except ValueError:
            told = ", ".join(f"{name} {shapes[name]}" for name in self.data)
            raise ValueError(f"the data of {self.__name__} do not broadcast: {told}") from None
        axes = _axes_of(axis, len(shape))
        kept = tuple(1 if place in axes else length for place, length in enumerate(shape))
        for name in self.parameters:
            if not arguments.fits(shapes[name], kept):
                raise ValueError(
                    f"{name} has the shape {shapes[name]}: it must be a number, or broadcast to {kept}, the shape of "
                    "the data with the axes that are summed kept"
                )
        return Rows(target, given, kept, tuple(n for place, n in enumerate(shape) if place not in axes), half, pull)

    def __add__(self, other: object) -> Any:
        return _total(self, other)

    def __radd__(self, other: object) -> Any:
        return _total(other, self)

    def _combined(self, name: str, factor: Factor, defaults: Mapping[str, float], parts: Any, made_by: Any) -> SumsLoss:
        return SumsLoss(added(name, [(factor, self.formula)], defaults), parts=parts, made_by=made_by)


def _total(one: object, other: object) -> Any:
    """The sum of two losses of which at least one is of sums: of a loss of elements the mean counts."""
    if not isinstance(one, Loss | SumsLoss) or not isinstance(other, Loss | SumsLoss):
        return NotImplemented
    formula = added(f"{one.__name__}_plus_{other.__name__}", [(1.0, one.formula), (1.0, other.formula)])
    return SumsLoss(formula, parts=(*one.parts, *other.parts), made_by=(_total, (one, other)))


Counts = Callable[[Sequence[Any]], Any]  # of the sums: what each of the losses counts in a mean


def value_of(split: Split, rows: Rows, weights: ArrayLike | None, reduction: str, counts: Counts | None = None) -> Any:
    """The losses, or their sum or mean."""
    check_reduction(reduction)
    sums = _summed(split, rows, weights)
    counted = None if counts is None or reduction == "none" else counts(sums)
    operands = (*sums, *rows.operands[len(split.formula.data) :])
    if rows.own is not None and reduction != "none":  # whose sums hold nothing of what they are differentiated by
        value = rows.own.reduced(
            _evaluate.value_of(split.value.definition, operands, "none", None, {}), counted, reduction
        )
    else:
        value = _evaluate.value_of(split.value.definition, operands, reduction, counted, {})
    return narrowed(value if reduction != "none" else value.reshape(rows.shape), rows.half)


def derivatives_of(
    split: Split,
    rows: Rows,
    weights: ArrayLike | None,
    reduction: str,
    wanted: Sequence[str],
    counts: Counts | None = None,
    out: Any = None,
) -> list[Any]:
    """The losses, or their sum or mean, and the derivatives in all operands, None for those that are not wanted."""
    check_reduction(reduction)
    formula, each = split.formula, reduction == "none"
    first = formula.data[0]
    if out is not None and first not in wanted:
        raise ValueError(f"out is memory for d{first}, and wrt has no {first}: leave it out, or add that")
    copied = rows.pull is not None or rows.half is not None  # to the memory, of what is not the result yet
    data, parameters = rows.operands[: len(formula.data)], rows.operands[len(formula.data) :]
    sums = _summed(split, rows, weights)
    counted = None if counts is None or each else counts(sums)
    if each and rows.shape:  # so that there is a derivative of each
        parameters = tuple(parameter * _ones(rows) for parameter in parameters)
    of_sums, of_terms = split.value.definition, split.terms.definition
    names = (*of_sums.data, *(name for name in formula.parameters if name in wanted))
    value, *found = _evaluate.value_and_grad(of_sums, (*sums, *parameters), reduction, counted, names, None)
    slopes, by_parameters = found[: len(sums)], found[len(sums) :]
    results = dict(zip(formula.parameters, by_parameters, strict=True))
    names = tuple(name for name in wanted if name in formula.data or name in split.in_terms)
    if names:
        memory = None if copied else out
        by_terms = _evaluate.slopes_of(of_terms, (*data, *parameters, *slopes), weights, names, memory)
        for name, part in by_terms.items():
            results[name] = part if results.get(name) is None else results[name] + part
    if rows.pull is not None and first in results:
        results[first] = rows.pull(results[first])
    if copied and out is not None:
        _fill(out, f"d{first}", results[first])
    shaped = [value, *(results.get(name) for name in formula.parameters)] if each else []
    value, *by_parameters = [None if part is None else part.reshape(rows.shape) for part in shaped] or [value]
    results.update(zip(formula.parameters, by_parameters, strict=False))
    found = [narrowed(part, rows.half) for part in (value, *(results.get(name) for name in formula.operands))]
    if copied and out is not None:
        found[1] = out
    return found


def _fill(out: Any, name: str, found: Any) -> None:
    """Write results to memory that is of their kind."""
    shape, kind = tuple(found.shape), str(getattr(out, "dtype", ""))
    if type(out).__module__.startswith("jax") or not isinstance(out, type(found)) or tuple(out.shape) != shape:
        got = f"shape {tuple(out.shape)}" if isinstance(out, type(found)) else f"a {_dispatch.shown(out)}"
        raise ValueError(f"out for {name} must be an array of shape {shape}, got {got}")
    if "float" not in kind:
        raise TypeError(f"out of dtype {kind} does not take {found.dtype}: pass a floating-point array")
    if getattr(out, "requires_grad", False) or not getattr(getattr(out, "flags", None), "writeable", True):
        raise ValueError(f"out for {name} is read-only, or has gradients of its own: pass other memory")
    out[...] = found.detach() if hasattr(found, "detach") else found


def _summed(split: Split, rows: Rows, weights: ArrayLike | None) -> list[Any]:
    """All sums, of the shape that is kept, or numbers if all axes are summed."""
    operands = (*rows.operands, *[_ones(rows) for _ in split.sums])
    if rows.own is not None:
        return rows.own.summed(split, operands, weights)
    found = _evaluate.slopes_of(split.terms.definition, operands, weights, split.factors)
    return [found[name] for name in split.factors]


def _axes_of(axis: Axes, count: int) -> tuple[int, ...]:
    """The axes that are summed, counted from the first."""
    if axis is None:
        return tuple(range(count))
    given = axis if isinstance(axis, tuple | list) else (axis,)
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise TypeError(f"axis must be an integer or a sequence of integers, got {axis!r}")
        if not -count <= one < count:
            raise ValueError(f"axis {one} is not one of the {count} axes of the data")
    axes = tuple(int(one) % count for one in given)
    if len(set(axes)) < len(axes) or not axes:
        raise ValueError(f"axis must name at least one axis, each once, got {axis!r}")
    return axes


def narrow(given: Sequence[Any]) -> Any:
    """The dtype of the results if it is a half, as all arrays of floating-point numbers are; else None."""
    kinds = {str(value.dtype): value.dtype for value in given if "float" in str(getattr(value, "dtype", ""))}
    (kind, dtype), *others = kinds.items() or [("", None)]
    return dtype if "float16" in kind and not others else None  # bfloat16 among them


def narrowed(part: Any, half: Any) -> Any:
    """A result in the dtype of the data, if that is a half."""
    if half is None or part is None:
        return part
    return part.to(half) if hasattr(part, "to") else part.astype(half)


def taken(x: ArrayLike, what: str) -> tuple[Any, Any, Any]:
    """The backend of an array, the dtype of the result if it is a half, and the array as it is computed with.

    ``what`` takes it, for the message.
    """
    target: Any = _dispatch.backend(x)
    kind = str(getattr(x, "dtype", "")).removeprefix("torch.")
    known = "float" not in kind or kind in ("float16", "bfloat16", "float32", "float64")
    dense = str(getattr(x, "layout", "torch.strided")) == "torch.strided"
    if _dispatch.is_container(target) or "complex" in kind or (target.xp is not np and not (known and dense)):
        raise TypeError(
            f"x is a {_dispatch.shown(x)} of dtype {getattr(x, 'dtype', None)}: {what} take arrays of NumPy, CuPy, "
            "PyTorch and JAX, dense and of real numbers; convert it"
        )
    if target.xp is np:
        x = np.asarray(x)
        arguments.supported("x", x.dtype)
    return target, narrow([x]), prepared(x)


def prepared(x: Any) -> Any:
    """The first of the data as floating-point numbers of at least 32 bits."""
    kind = str(getattr(x, "dtype", "float64"))
    if "float16" in kind:
        return x.float() if hasattr(x, "float") else x.astype(np.float32)
    if "float" not in kind:
        return x.double() if hasattr(x, "double") else x * 1.0
    return x


def _ones(rows: Rows) -> Any:
    """1 for each sum: a number, if there is one of each."""
    if not rows.shape:
        return 1.0
    xp, x = rows.target.xp, rows.operands[0]
    return xp.broadcast_to(xp.ones_like(xp.sum(x.reshape(-1)[:1])), rows.kept)
