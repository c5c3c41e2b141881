"""Losses as objects: called on arrays of any library, differentiated, added up, and checked for their accuracy."""

from __future__ import annotations

import collections
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from . import _evaluate
from ._call import check_options
from ._types import ArrayLike
from .kernels.compilers.alone import imported
from .kernels.losses.formula import Formula, Precision, disagreement

if TYPE_CHECKING:
    from ._accuracy import Accuracy
    from ._traits import Traits

__all__ = ["Loss", "defined"]


class Loss:
    """A loss function made from a formula, by `fastrobust.define` or of `fastrobust.losses`.

    It is called with its operands, the data first, arrays of NumPy, CuPy, PyTorch or JAX that broadcast; parameters may
    be given by name, and left out where they have a default.

    Attributes
    ----------
    data, parameters : tuple of str
        The names of the operands. A gradient in a parameter has the parameter's shape, one in data that of all.
    parts : tuple of Loss
        The losses that this is the sum of, with their factors, or itself alone.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> losses.huber(np.array([0.5, 3.0]), delta=1.0)
    array([0.125, 2.5  ])
    >>> losses.huber.value_and_grad(np.array([0.5, 3.0]), 1.0, reduction="sum")
    HuberGrad(value=np.float64(2.625), dx=array([0.5, 1. ]), ddelta=np.float64(2.0))
    """

    def __init__(
        self,
        formula: Formula,
        module: str = "",
        parts: tuple[Loss, ...] = (),
        made_by: tuple[Callable[..., Loss], tuple[Any, ...]] | None = None,
    ) -> None:
        self.formula, self._made_by = formula, made_by
        self.data, self.parameters = formula.data, formula.parameters
        self.parts = parts or (self,)
        self.__name__ = self.__qualname__ = formula.function.__name__
        self.__module__ = module or formula.module  # where pickle finds it
        self.__doc__ = formula.function.__doc__
        self.__signature__ = _signature(formula)

    def __call__(
        self, *operands: ArrayLike, reduction: str = "none", weights: ArrayLike | None = None, **named: Any
    ) -> Any:
        """The loss for each element, or its sum or mean.

        Parameters
        ----------
        *operands : array_like, broadcastable
            The data, then the parameters, which may also be given by name.
        reduction : {"none", "sum", "mean"}
            "mean" divides by the sum of the weights.
        weights : array_like, broadcast to the result, optional
            Factor for each element; one of 0 excludes the element, whatever its value.
        **named
            Parameters by name, and ``out`` and the other options of a ufunc as `fastrobust.loss` takes them.
        """
        given, options = self._bound(operands, named)
        return _evaluate.value_of(self.formula.definition, given, reduction, weights, options)

    def value_and_grad(
        self,
        *operands: ArrayLike,
        wrt: Sequence[str] | None = None,
        reduction: str = "none",
        weights: ArrayLike | None = None,
        out: object = None,
        **named: Any,
    ) -> Any:
        """The loss and its derivatives in the operands, in one pass.

        Parameters
        ----------
        *operands, reduction, weights, **named
            As in a call of the loss.
        wrt : sequence of str, optional
            The operands to differentiate by; None stands for those in all others in the result. Default: all.
        out : tuple, optional
            Memory for each field of the result, or None.

        Returns
        -------
        namedtuple
            ``value``, then a field "d" and the operand's name for each operand. With a reduction those are of the sum
            or mean: in data of the broadcast shape, in parameters of the parameter's.
        """
        given, options = self._bound(operands, named)
        check_options(self.__name__, options, frozenset())
        definition = self.formula.definition
        chosen = definition.operands if wrt is None else wrt
        found = _evaluate.value_and_grad(definition, given, reduction, weights, chosen, out)
        return self.Grad(*(found if isinstance(found, tuple | list) else (found,)))

    @functools.cached_property
    def Grad(self) -> type[Any]:
        """The type of what `value_and_grad` returns."""
        title = "".join(word.capitalize() for word in self.__name__.split("_")) + "Grad"
        return collections.namedtuple(title, ("value", *("d" + name for name in self.formula.operands)))

    def influence(self, *operands: ArrayLike, **named: Any) -> Any:
        """The derivative in the first operand, psi."""
        given, options = self._bound(operands, named)
        return _evaluate.output_of("influence", self.formula.definition, "d" + self.data[0], given, options)

    def curvature(self, *operands: ArrayLike, **named: Any) -> Any:
        """The second derivative in the first operand."""
        given, options = self._bound(operands, named)
        twice = self.formula.order((2, *[0] * (len(self.formula.operands) - 1)))
        return _evaluate.value_of(twice.definition, given, "none", None, options)

    def weight(self, *operands: ArrayLike, **named: Any) -> Any:
        """The weight psi(x)/x of iteratively reweighted least squares, at x = 0 the curvature there.

        Raises
        ------
        TypeError
            If the loss is not one of residuals: it has data besides x.
        """
        if len(self.data) > 1:
            raise TypeError(f"{self.__name__} has no weights: {self._data_besides()}")
        given, options = self._bound(operands, named)
        return _evaluate.value_of(self.formula.weight.definition, given, "none", None, options)

    def _data_besides(self) -> str:
        """Why this is no loss of residuals, for messages."""
        return f"they are of losses of a residual alone, and this one has the data {', '.join(self.data)}"

    def traits(self, **parameters: float) -> Traits:
        """What kind of loss of residuals this is, by looking at it at some five thousand of them.

        Parameters
        ----------
        **parameters : float
            Those of the loss, by name; its defaults stand for others.

        Returns
        -------
        Traits
            ``even``: the loss of -x is that of x. ``convex``. ``bounded_influence``: no residual has more than a
            certain influence psi. ``redescending``: the influence of far residuals goes to 0. ``falling_weights``:
            psi(x)/x is finite, not negative, and does not rise with the size of x, so that no step of iteratively
            reweighted least squares can raise a sum of losses; of a loss that is not even it never holds.

        Raises
        ------
        TypeError
            If the loss is not one of residuals, it has data besides x; for unknown and for missing parameters.
        ValueError
            For parameters that the loss has no meaning for.

        Notes
        -----
        A check, and no proof: value, influence and weight are evaluated in float64, at 0 and at residuals of both signs
        from 2^-250 to 2^250, 32 in each octave between 2^-24 and 2^24 and two in others, and compared to a relative
        1e-9. A loss whose parameters lie far outside of that range, or that changes between two such residuals, can
        have other traits. Residuals whose loss is too large for a float64 are left out.

        Examples
        --------
        >>> from fastrobust import losses
        >>> losses.huber.traits()
        Traits(even=True, convex=True, bounded_influence=True, redescending=False, falling_weights=True)
        >>> losses.tukey.traits(c=2.0).redescending
        True
        """
        if len(self.data) > 1:
            raise TypeError(f"{self.__name__} has no such traits: {self._data_besides()}")
        numbers = self._numbers(parameters)
        found: Traits = imported("fastrobust._traits").traits_of(self.formula, numbers)
        return found

    def with_defaults(self, **parameters: float) -> Loss:
        """The same loss, with other numbers for parameters that a call leaves out.

        Parameters
        ----------
        **parameters : float
            Some of the loss's, by name.

        Returns
        -------
        Loss
            It has the name of this one, and uses the same kernels.

        Raises
        ------
        TypeError
            For names that are no parameters, and for what is no number.
        ValueError
            For NaN, and for numbers that the loss has no meaning for.

        Examples
        --------
        >>> from fastrobust import losses
        >>> narrow = losses.huber.with_defaults(delta=0.1)
        >>> narrow
        <loss huber(x, delta=0.1, *, reduction='none', weights=None, **options)>
        >>> narrow(2.0) == losses.huber(2.0, 0.1)
        np.True_
        """
        return _with_defaults(self, self._checked(parameters))

    def _checked(self, parameters: Mapping[str, object]) -> dict[str, float]:
        """Numbers for parameters, refused where they are none, and outside of the domains."""
        checked: dict[str, float] = {}
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "no parameters"
                raise TypeError(f"{self.__name__} has no parameter {name}: it has {known}")
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, got {value!r:.100}: give arrays and tensors in calls")
            checked[name] = number = float(value)
            domain = self.formula.domains.get(name)
            if number != number:
                raise ValueError(f"{name} must be a number, got {value!r}")
            if domain is not None and not domain.holds(number):
                raise ValueError(domain.error.format(value))
        return checked

    def _numbers(self, parameters: Mapping[str, object]) -> tuple[float, ...]:
        """A number for each parameter, a default where none is given."""
        defaults = {name: value for name, value in self.formula.defaults.items() if name in self.parameters}
        known = {**self._checked(defaults), **self._checked(parameters)}
        for name in self.parameters:
            if name not in known:
                raise TypeError(f"{self.__name__} needs {name}: it has {', '.join(self.parameters)}")
        return tuple(known[name] for name in self.parameters)

    def derivative(self, name: str) -> Callable[[Callable[..., Any]], Loss]:
        """A decorator for a derivative by hand, where the automatic one loses digits.

        Parameters
        ----------
        name : str
            The operand. The decorated function takes the operands of the loss, and is traced like it.

        Returns
        -------
        callable
            It returns this loss, which from then on has that derivative.

        Raises
        ------
        ValueError
            If the derivative is another function than the automatic one: the message shows where.
        """
        if name not in self.formula.operands:
            raise ValueError(f"{self.__name__} has no operand {name!r}: it has {', '.join(self.formula.operands)}")

        def with_slope(function: Callable[..., Any]) -> Loss:
            formula = self.formula.with_slopes({name: function})
            found = disagreement(self.formula, name, formula)
            if found is not None:
                raise ValueError(f"the derivative of {self.__name__} in {name} by hand is wrong: {found}")
            self.formula = formula
            return self

        return with_slope

    def accuracy(self, points: int = 200, seed: int = 0) -> Accuracy:
        """Measure the error of every output against the formula in exact arithmetic; it prints as a table.

        Parameters
        ----------
        points : int
            How many operands to try, of many sizes.
        seed : int
            Which.

        Returns
        -------
        Accuracy
            A tuple of rows: output, dtype, the largest error in units in the last place, where it was, and whether the
            output is evaluated in wide numbers.

        Raises
        ------
        ImportError
            If mpmath is not installed.
        """
        measured: Accuracy = imported("fastrobust._accuracy").measured(self.formula, points, seed)
        return measured

    def __add__(self, other: object) -> Any:
        if not isinstance(other, Loss):
            return NotImplemented
        return _sum((*self.parts, *other.parts))

    def __mul__(self, factor: object) -> Any:
        if not isinstance(factor, int | float) or isinstance(factor, bool):
            return NotImplemented
        return _times(float(factor), self)

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        """Pickled by reference: by the name under which its module has it, or that its parts have."""
        module: Any = sys.modules.get(self.__module__)
        if getattr(module, self.__qualname__, None) is self:
            return self.__qualname__
        if self._made_by is not None:
            return self._made_by
        raise TypeError(
            f"{self!r} cannot be pickled: it is not {self.__module__}.{self.__qualname__}; define it in a module, "
            "under its own name"
        )

    def __repr__(self) -> str:
        return f"<loss {self.__name__}{self.__signature__}>"

    def _bound(
        self, operands: tuple[ArrayLike, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[ArrayLike, ...], dict[str, Any]]:
        """All operands in their order, and the arguments by name that are none."""
        names, given = self.formula.operands, list(operands)
        if len(given) > len(names):
            raise TypeError(f"{self.__name__} takes {len(names)} operands, {', '.join(names)}; got {len(given)}")
        options = dict(named)
        for name in names[len(given) :]:
            if name in options:
                given.append(options.pop(name))
            elif name in self.formula.defaults:
                given.append(self.formula.defaults[name])
            else:
                raise TypeError(f"{self.__name__} needs {name}: it takes {', '.join(names)}")
        for name in names:
            if name in options:
                raise TypeError(f"{self.__name__} got {name} twice")
        return tuple(given), options


def _signature(formula: Formula) -> inspect.Signature:
    """The arguments of a call, for `help`."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    operands = [inspect.Parameter(name, kind, default=formula.defaults.get(name, empty)) for name in formula.operands]
    by_name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            *operands,
            inspect.Parameter("reduction", by_name, default="none"),
            inspect.Parameter("weights", by_name, default=None),
            inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD),
        ],
        __validate_parameters__=False,  # a parameter with a default may stand before one without
    )


def defined(
    function: Callable[..., Any],
    parameters: Sequence[str],
    precision: Precision,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> Loss:
    """The loss of a function, which is traced now, so that what cannot be traced is an error here."""
    formula = Formula(function, parameters, precision=precision, ranges=ranges)
    _ = formula.value
    return Loss(formula)


def _with_defaults(loss: Loss, defaults: Mapping[str, float]) -> Loss:
    """The loss with those defaults, which its parts get too, as far as they have such parameters."""
    parts = tuple(
        _with_defaults(part, {name: value for name, value in defaults.items() if name in part.parameters})
        for part in (loss.parts if len(loss.parts) > 1 else ())
    )
    formula = loss.formula.with_defaults(defaults)
    return Loss(formula, loss.__module__, parts, made_by=(_with_defaults, (loss, dict(defaults))))


def _times(factor: float, loss: Loss) -> Loss:
    """The loss times a number."""
    if len(loss.parts) > 1:
        return _sum(tuple(_times(factor, part) for part in loss.parts))
    formula = loss.formula

    def scaled(*operands: Any) -> Any:
        return factor * formula.graph_at(operands)

    return Loss(formula.like(scaled, f"times_{_word(factor)}"), made_by=(_times, (factor, loss)))


def _sum(parts: tuple[Loss, ...]) -> Loss:
    """The sum of losses; operands of one name are one operand."""
    formulas = [part.formula for part in parts]
    data = tuple(dict.fromkeys(name for formula in formulas for name in formula.data))
    parameters = tuple(dict.fromkeys(name for formula in formulas for name in formula.parameters))
    mixed = set(data) & set(parameters)
    if mixed:
        raise ValueError(f"{', '.join(sorted(mixed))} is data of one loss and a parameter of the other")
    operands = (*data, *parameters)

    def total(*given: Any) -> Any:
        by_name = dict(zip(operands, given, strict=True))
        terms = [formula.graph_at([by_name[name] for name in formula.operands]) for formula in formulas]
        return functools.reduce(lambda a, b: a + b, terms)

    defaults = {name: value for formula in reversed(formulas) for name, value in formula.defaults.items()}
    first = formulas[0]
    name = "_plus_".join(formula.function.__name__ for formula in formulas)
    return Loss(
        first.combined(total, name, data, parameters, defaults, formulas), parts=parts, made_by=(_sum, (parts,))
    )


def _word(number: float) -> str:
    """A number as a part of a name."""
    return f"{number:g}".replace("-", "minus_").replace("+", "").replace(".", "_")
