"""Losses as objects: called on arrays of any library, differentiated, added up, and checked for their accuracy."""

from __future__ import annotations

import collections
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from . import _evaluate
from ._call import check_options
from ._types import ArrayLike
from .kernels.compilers.alone import imported
from .kernels.losses.combinations import Combination, Factor
from .kernels.losses.formula import Formula, disagreement

if TYPE_CHECKING:
    from ._accuracy import Accuracy
    from ._traits import Traits

__all__ = ["Loss", "Named"]

_OPTIONS = {"reduction": "none", "weights": None}
_TAKEN = *_OPTIONS, "wrt", "out"  # arguments of a call that are no operands


class Named:
    """A loss of a formula under a name: what it is made of, its fields of derivatives, and how it is pickled."""

    def __init__(
        self,
        formula: Formula,
        module: str,
        parts: tuple[Any, ...],
        made_by: tuple[Callable[..., Any], tuple[Any, ...]] | None,
        options: Mapping[str, Any],
    ) -> None:
        if taken := [name for name in formula.operands if name in _TAKEN or name in options]:
            raise ValueError(
                f"{formula.function.__name__} has an operand {taken[0]!r}, which is an option of each call"
            )
        self.formula, self._made_by = formula, made_by
        self.options = tuple(options)
        self.parts = parts or (self,)
        self.__name__ = self.__qualname__ = formula.function.__name__
        self.__module__ = module or formula.module  # where pickle finds it
        self.__doc__ = formula.function.__doc__
        self.__signature__ = _signature(formula, options)

    @functools.cached_property
    def Grad(self) -> type[Any]:
        """The type of what `value_and_grad` returns."""
        title = "".join(part.capitalize() for part in self.__name__.split("_")) + "Grad"
        return collections.namedtuple(title, ("value", *("d" + name for name in self.formula.operands)))

    def times(self, name: str, default: float | None = None) -> Any:
        """This loss times a factor that is a parameter, as the weight of a term in a sum of losses.

        Parameters
        ----------
        name : str
            The name of the factor. Factors of one name in a sum are one.
        default : float, optional
            The factor in calls that do not give it.

        Returns
        -------
        Loss or SumsLoss
            With one more parameter of that name, the last. The derivative in it is this loss, and where it is 0,
            nothing is left of the loss, even if that is infinite.

        Raises
        ------
        ValueError
            If the loss has an operand of that name, or the name is none for an operand.
        TypeError
            If the default is no number.

        Notes
        -----
        For a factor that is fixed write ``0.1 * loss``.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrobust import losses
        >>> total = losses.mse + losses.mae.times("lam", default=0.1)
        >>> total(np.array([1.0, -2.0]))
        array([1.1, 4.2])
        >>> total.value_and_grad(np.array([1.0, -2.0]), lam=0.5, reduction="sum").dlam
        np.float64(3.0)
        """
        if not isinstance(name, str):
            raise TypeError(f"the factor's name must be a str, got {name!r:.100}: for a number write loss * number")
        if name in self.formula.operands:
            raise ValueError(f"{self.__name__} has an operand {name!r} already: give the factor another name")
        parts = tuple(part.times(name, default) for part in self.parts) if len(self.parts) > 1 else ()
        defaults = {} if default is None else {name: default}
        made_by = Named.times, (self, name, default)
        return self._combined(f"{self.__name__}_times_{name}", name, defaults, parts, made_by)

    def __mul__(self, factor: object) -> Any:
        if not isinstance(factor, int | float) or isinstance(factor, bool):
            return NotImplemented
        number = float(factor)
        parts = tuple(part * number for part in self.parts) if len(self.parts) > 1 else ()
        made_by = operator.mul, (self, factor)
        return self._combined(f"{self.__name__}_times_{_word(number)}", number, {}, parts, made_by)

    __rmul__ = __mul__

    def _combined(self, name: str, factor: Factor, defaults: Mapping[str, float], parts: Any, made_by: Any) -> Any:
        """This loss times a factor, a number or the name of a parameter."""
        raise NotImplementedError

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


class Loss(Named):
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

    formula: Formula

    def __init__(
        self,
        formula: Formula,
        module: str = "",
        parts: tuple[Loss, ...] = (),
        made_by: tuple[Callable[..., Loss], tuple[Any, ...]] | None = None,
    ) -> None:
        super().__init__(formula, module, parts, made_by, _OPTIONS)
        self.data, self.parameters = formula.data, formula.parameters

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
            self._made_by = None  # which would make one without it
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
        formula = Combination(f"{self.__name__}_plus_{other.__name__}", ((1.0, self.formula), (1.0, other.formula)))
        return Loss(formula, parts=(*self.parts, *other.parts), made_by=(operator.add, (self, other)))

    def _combined(self, name: str, factor: Factor, defaults: Mapping[str, float], parts: Any, made_by: Any) -> Loss:
        return Loss(Combination(name, ((factor, self.formula),), defaults), parts=parts, made_by=made_by)


def _signature(formula: Formula, options: Mapping[str, Any]) -> inspect.Signature:
    """The arguments of a call, for `help`: operands, then options by name."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    operands = [inspect.Parameter(name, kind, default=formula.defaults.get(name, empty)) for name in formula.operands]
    by_name = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=options[name]) for name in options]
    return inspect.Signature(
        [*operands, *by_name, inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)],
        __validate_parameters__=False,  # a parameter with a default may stand before one without
    )


def _with_defaults(loss: Loss, defaults: Mapping[str, float]) -> Loss:
    """The loss with those defaults, which its parts get too, as far as they have such parameters."""
    parts = tuple(
        _with_defaults(part, {name: value for name, value in defaults.items() if name in part.parameters})
        for part in (loss.parts if len(loss.parts) > 1 else ())
    )
    formula = loss.formula.with_defaults(defaults)
    return Loss(formula, loss.__module__, parts, made_by=(_with_defaults, (loss, dict(defaults))))


def _word(number: float) -> str:
    """A number as a part of a name."""
    return f"{number:g}".replace("-", "minus_").replace("+", "").replace(".", "_")
