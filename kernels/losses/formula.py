"""Definitions made from formulas: a function of Python's is traced, and everything follows from its graph.

The outputs are the value and the derivatives in all operands; derivatives of those, of any order, are definitions of
their own, made when they are asked for.  Each output is evaluated in the working precision, or in wide numbers where
that loses digits.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..arithmetic import arrays
from ..arithmetic.nodes import Double, Single, traced
from ..arithmetic.primitives import scalar, where
from ..graph import formats
from ..graph.derivatives import derivatives, divided
from ..graph.real import lifted, operand, ordered
from .definition import Definition, Domain, Library, Stage

__all__ = ["Formula", "Precision", "disagreement", "in_wide_numbers", "with_operands"]

# The widest comes last; "shared" is "auto" for float64, and "half wide" for float32, where outputs have work in common.
Precision = Literal["auto", "working", "shared", "half wide", "wide"]
Form = Callable[[Sequence[Any], Sequence[Any], int], tuple[Any, ...]]  # one of `formats`
_LOST = 4.0  # units in the last place that an output may lose before it gets wide numbers
_LOST_IN_HALF = 1.0  # and those before it gets all of their digits; neighbours, where rounding decides, differ by one
_POINTS = 1024


class Formula:
    """A loss by its formula.

    ``function`` takes all operands, data first; those that are named as parameters have gradients of their own shapes.
    ``slopes`` are derivatives by hand, by the operand, as functions of all operands; ``owner`` is the module of the
    loss, if not that of the function. ``ranges`` are what operands are expected to be, where not of any size.
    ``of_terms`` are operands in which the derivative is a difference that is 0 somewhere, and is evaluated like the
    value: right to the last digits of its terms, and near that 0 not to its own.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Sequence[str] = (),
        *,
        precision: Precision = "auto",
        domains: Mapping[str, Domain] | None = None,
        slopes: Mapping[str, Callable[..., Any]] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        of_terms: Sequence[str] = (),
        owner: str = "",
    ) -> None:
        self.function, self.precision, self.of_terms = function, precision, tuple(of_terms)
        self.operands, self.defaults = _operands_of(function)
        _check(function.__name__, self.operands, tuple(parameters), self.defaults)
        self.parameters = tuple(name for name in self.operands if name in parameters)
        self.data = tuple(name for name in self.operands if name not in parameters)
        self.domains, self.slopes = dict(domains or {}), dict(slopes or {})
        self.ranges = dict(ranges or {})
        if unknown := [name for name in self.ranges if name not in self.operands]:
            raise ValueError(f"{function.__name__} has no argument {', '.join(unknown)}, for which ranges are given")
        self.title, self.module = _title(function), owner or function.__module__
        self._is_ours = not owner and self.module.startswith(__name__.partition(".")[0] + ".")
        self._orders: dict[tuple[int, ...], _Order] = {}
        self._weights: list[Formula] = []

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the graph, of what is by hand, of the operands and of how they are evaluated."""
        places: dict[int, int] = {}
        by_hand = sorted(self.slopes)
        roots = [self.value, *(self.graph_of(self.slopes[name]) for name in by_hand)]
        what = (
            self.data,
            self.parameters,
            self.precision,
            by_hand,
            sorted(self.domains.items()),
            sorted(self.ranges.items()),
            self.of_terms,
            self.made_of,
        )
        total = hashlib.sha256(repr(what).encode())
        for node in ordered(roots):
            arguments = [places[id(argument)] for argument in node.arguments]
            places[id(node)] = len(places)
            total.update(repr((node.operation, node.content, arguments)).encode())
        total.update(repr([places[id(root)] for root in roots]).encode())
        return total.hexdigest()[:16]

    @functools.cached_property
    def name(self) -> str:
        """The name of the definition: that of the function, if it is ours; else one that no other formula has.

        PyTorch's programs know a definition by it, and functions of one name may be many, such as a function makes.
        """
        if self._is_ours:
            return self.title
        return f"{self.module.replace('.', '_').strip('_')}_{self.title}_{self.digest[:8]}"

    @functools.cached_property
    def value(self) -> Any:
        """The graph of the value."""
        return self.graph_of(self.function)

    def graph_of(self, function: Callable[..., Any]) -> Any:
        """The graph of a function of the same operands."""
        return lifted(function(*map(operand, range(len(self.operands)))))

    def graph_at(self, nodes: Sequence[Any]) -> Any:
        """The graph of the value at other nodes than the operands."""
        return lifted(self.function(*nodes))

    @property
    def made_of(self) -> tuple[Any, ...]:
        """What derivatives are made of besides this graph, for the digest: of a formula alone, nothing."""
        return ()

    def like(self, function: Callable[..., Any], name: str) -> Formula:
        """A formula of the same operands, domains and ranges, whose name goes on with that."""
        whole = with_operands(function, f"{self.function.__name__}_{name}", self.operands, self.defaults)
        return Formula(
            whole,
            self.parameters,
            precision=self.precision,
            domains=self.domains,
            ranges=self.ranges,
            owner=self.module,
        )

    def with_slopes(self, slopes: Mapping[str, Callable[..., Any]]) -> Formula:
        """This formula, with these derivatives by hand."""
        made = Formula(
            self.function,
            self.parameters,
            precision=self.precision,
            domains=self.domains,
            slopes={**self.slopes, **slopes},
            ranges=self.ranges,
            of_terms=self.of_terms,
            owner=self.module,
        )
        return made.with_defaults(self.defaults)

    def with_defaults(self, defaults: Mapping[str, float]) -> Formula:
        """This formula with other defaults: definitions and kernels, which do not know of them, stay the same ones."""
        other = copy.copy(self)
        other.defaults = {**self.defaults, **defaults}
        return other

    @property
    def definition(self) -> Definition:
        """The definition of the value and its first derivatives."""
        return self.order((0,) * len(self.operands)).definition

    def order(self, orders: tuple[int, ...]) -> _Order:
        """The derivative of these orders in the operands, as a definition with its own derivatives."""
        if orders not in self._orders:
            self._orders[orders] = _Order(self, orders)
        return self._orders[orders]

    @property
    def weight(self) -> Formula:
        """The formula of psi(x)/x, the weight of the first operand, at 0 its limit."""
        if not self._weights:
            psi = self.root((1, *[0] * (len(self.operands) - 1)))

            def weight(*nodes: Any) -> Any:
                return divided(psi, nodes[0])

            self._weights.append(self.like(weight, "weight"))  # which formulas with other defaults have in common
        return self._weights[0]

    def root(self, orders: tuple[int, ...]) -> Any:
        """The graph of the derivative of these orders, which begins with a derivative by hand where there is one."""
        places = [i for i, order in enumerate(orders) if order]
        if not places:
            return self.value
        place = max(places, key=lambda i: (self.operands[i] not in self.slopes, i))
        if sum(orders) == 1 and self.operands[place] in self.slopes:
            return self.graph_of(self.slopes[self.operands[place]])
        before = self.order(_moved(orders, place, -1)).root
        (slope,) = derivatives([before], operand(place))
        return slope


def with_operands(
    function: Callable[..., Any], name: str, operands: Sequence[str], defaults: Mapping[str, float]
) -> Callable[..., Any]:
    """The function, which takes any arguments, with that name and the operands as its arguments."""
    kind, none = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    arguments = [inspect.Parameter(part, kind, default=defaults.get(part, none)) for part in operands]
    function.__name__ = name
    function.__signature__ = inspect.Signature(arguments, __validate_parameters__=False)  # type: ignore[attr-defined]
    return function


def _operands_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of a function's arguments, and the defaults of those that have one."""
    names, defaults = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{function.__name__}: {parameter} must be an operand with a name and a place of its own")
        names.append(parameter.name)
        if parameter.default is not parameter.empty:
            defaults[parameter.name] = parameter.default
    return tuple(names), defaults


def _check(name: str, operands: tuple[str, ...], parameters: tuple[str, ...], defaults: Mapping[str, Any]) -> None:
    """Refuse operands that no call could give."""
    unknown = [parameter for parameter in parameters if parameter not in operands]
    if unknown:
        raise ValueError(f"{name} has no argument {', '.join(unknown)}: params must be some of {', '.join(operands)}")
    leading = len(operands) - len(parameters)
    if leading == 0:
        raise ValueError(f"{name} needs at least one argument that is no parameter: the residual, or what is predicted")
    if not set(operands[leading:]) == set(parameters):
        raise ValueError(f"{name}: the parameters {', '.join(parameters)} must come after the data in its arguments")
    for operand_name, default in defaults.items():
        if not isinstance(default, int | float) or isinstance(default, bool):
            raise TypeError(f"{name}: the default of {operand_name} must be a number, got {default!r}")


def _title(function: Callable[..., Any]) -> str:
    """The name of a function, which has one."""
    if not function.__name__.isidentifier():
        raise ValueError(f"a loss needs a name, got {function.__name__!r}: write its function with def")
    return function.__name__


def _moved(orders: tuple[int, ...], place: int, by: int) -> tuple[int, ...]:
    """The orders with that one more or less."""
    return (*orders[:place], orders[place] + by, *orders[place + 1 :])


class _Order:
    """One derivative of a formula, with a definition in which it is the value."""

    def __init__(self, formula: Formula, orders: tuple[int, ...]) -> None:
        self.formula, self.orders = formula, orders
        self.root = formula.root(orders)
        self._forms: dict[bool, list[Form]] = {}

    @functools.cached_property
    def name(self) -> str:
        """The loss's name, and the operands in which it is differentiated."""
        return "_".join([self.formula.name, *self._parts])

    @property
    def _parts(self) -> list[str]:
        """The operands in which it is differentiated, with how often, as parts of a name."""
        named = zip(self.orders, self.formula.operands, strict=True)
        return [f"d{order if order > 1 else ''}{name}" for order, name in named if order]

    def beyond(self, place: int) -> _Order:
        """The derivative of this in an operand."""
        return self.formula.order(_moved(self.orders, place, 1))

    @functools.cached_property
    def definition(self) -> Definition:
        """The value, its derivatives in all operands, and the rule by which those are differentiated."""
        formula = self.formula
        outputs = ("value", *("d" + name for name in formula.operands))
        return Definition(
            name=self.name,
            data=formula.data,
            parameters=formula.parameters,
            stages=(Stage(self.stage, None, outputs),),
            domains=formula.domains,
            slopes=self._slopes,
            module=formula.module,
            digest=formula.digest,
            title="_".join([formula.title, *self._parts]),
        )

    @functools.cached_property
    def roots(self) -> list[Any]:
        """The graphs of the outputs."""
        return [self.root, *(self.beyond(place).root for place in range(len(self.orders)))]

    @functools.cached_property
    def stage(self) -> Callable[..., Any]:
        """The scalar code: all outputs, each in its precision, and NaN outside of the domains."""
        leading = len(self.formula.data)
        limits = [
            (self.formula.operands.index(name), functools.partial(_holds, domain))
            for name, domain in self.formula.domains.items()
        ]

        def outputs(*given: Any) -> Any:
            """Of the data and the parameters by name."""
            operands = (*given[:leading], *given[leading])
            forms = self.forms(operands[0].itemsize == 8)
            found: list[Any] = [None] * len(self.roots)
            for form in dict.fromkeys(forms):
                places = [i for i, chosen in enumerate(forms) if chosen is form]
                for i, value in zip(places, form([self.roots[i] for i in places], operands, leading), strict=True):
                    found[i] = value
            if limits:
                inside = functools.reduce(operator.and_, [holds(operands[place]) for place, holds in limits])
                found = [where(inside, value, type(value)(np.nan)) for value in found]
            return tuple(found), ()

        return scalar(outputs)

    def forms(self, double: bool) -> list[Form]:
        """The format in which each output is evaluated, in float64 or float32."""
        if double not in self._forms:
            self._forms[double] = self._chosen(double)
        return self._forms[double]

    def _chosen(self, double: bool) -> list[Form]:
        """The narrowest format for each output that is close to wide numbers at all points that are tried."""
        formula = self.formula
        if formula.precision in ("working", "wide"):
            return [getattr(formats, formula.precision)] * len(self.roots)
        true = self._at_points(formats.wide, double)

        def close(form: Form, most: float) -> list[bool]:
            found = self._at_points(form, double)
            with np.errstate(all="ignore"):
                return [_distance(one, other) <= most for one, other in zip(found, true, strict=True)]

        never = [False] * len(self.roots)
        tried = formula.precision == "auto" or (formula.precision == "shared" and double)
        narrow = close(formats.working, _LOST) if tried else list(never)
        for place, name in enumerate(formula.operands):
            narrow[1 + place] |= name in formula.of_terms and not any(self.orders)
        half = never if double else close(formats.half_wide, _LOST_IN_HALF)
        return [
            formats.working if is_narrow else formats.half_wide if is_half else formats.wide
            for is_narrow, is_half in zip(narrow, half, strict=True)
        ]

    def _at_points(self, form: Form, double: bool) -> list[Any]:
        """The outputs in a format, at the points that are tried."""
        kind, dtype = (Double, np.float64) if double else (Single, np.float32)
        points, leading = self.points(dtype), len(self.formula.data)
        graph = traced(lambda *operands: form(self.roots, operands, leading), [kind] * len(points))
        with np.errstate(all="ignore"):
            return arrays.evaluated(arrays.NUMPY, graph, points)

    def points(self, dtype: Any) -> list[Any]:
        """Numbers for each operand, spread over many sizes and all the domain or a range, always the same."""
        formula, spread = self.formula, []
        for place, name in enumerate(formula.operands):
            even = _even(2 * place)
            domain = formula.domains.get(name)
            if name in formula.ranges:
                least, most = formula.ranges[name]
                inside = least + (most - least) * even / 1024
                numbers = np.where(even % 8 == 0, least, np.where(even % 8 == 1, most, inside))
            else:
                numbers = np.ldexp(1 + even / 1024, (_even(2 * place + 1) % 29 - 14).astype(int))
                if domain is not None:
                    numbers = numbers + domain.least
                elif name not in formula.parameters:
                    numbers = np.where(even % 2 == 0, -numbers, numbers)
            spread.append(numbers.astype(dtype))
        return spread

    def _slopes(self, library: Library, name: str, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
        """Rules of differentiation: the derivatives of an output are outputs of its own definition."""
        names = self.formula.operands
        order = self.beyond(names.index(name.removeprefix("d")))
        asked = tuple("d" + operand for operand, is_wanted in zip(names, wanted, strict=True) if is_wanted)
        found = dict(zip(asked, library.evaluate(order.definition, asked, *operands), strict=True))
        return [found.get("d" + operand) for operand in names]


def _holds(domain: Domain, value: Any) -> Any:
    """The condition that a number is inside of a domain."""
    least = type(value)(domain.least)
    return value > least if domain.open else value >= least


def _even(place: int) -> Any:
    """Whole numbers below 1024 that fill the range evenly, another row for each place; the same on all machines."""
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
    step = int(np.sqrt(primes[place % len(primes)]) % 1 * 2**20) | 1
    return np.arange(1, _POINTS + 1) * step % 2**20 // 2**10


def _distance(found: Any, true: Any) -> float:
    """The largest difference in units in the last place, of numbers that are true; infinite where one is not found."""
    found, true = np.broadcast_arrays(found, true)
    unit = np.spacing(np.maximum(np.abs(true), np.finfo(true.dtype).tiny))
    distance = np.where(np.isfinite(found), np.abs(found - true) / unit, np.inf)
    return float(np.max(np.where(np.isfinite(true), distance, 0.0), initial=0.0))


def in_wide_numbers(roots: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
    """The roots of graphs at arrays of float64, in twice that precision and rounded once, by NumPy alone."""
    with np.errstate(all="ignore"):
        graph = traced(lambda *given: formats.wide(roots, given, len(given)), [Double] * len(operands))
        return list(np.broadcast_arrays(*arrays.evaluated(arrays.NUMPY, graph, operands)))


def disagreement(formula: Formula, name: str, other: Formula) -> str | None:
    """Where the derivative of another formula in an operand is not that of this one, in words; None if nowhere."""
    place = formula.operands.index(name)
    orders = tuple(int(i == place) for i in range(len(formula.operands)))
    roots = [formula.root(orders), other.root(orders)]
    points = formula.order((0,) * len(orders)).points(np.float64)
    with np.errstate(all="ignore"):
        ours, theirs = in_wide_numbers(roots, points)
        wrong = ~(np.abs(ours - theirs) <= 1e-6 * np.maximum(np.abs(ours), np.abs(theirs)))
        wrong &= ~(np.isnan(ours) & np.isnan(theirs)) & (np.abs(ours) + np.abs(theirs) > 1e-250) & np.isfinite(ours)
    if not wrong.any():
        return None
    i = int(np.argmax(wrong))
    at = ", ".join(f"{n} = {float(p[i]):.6g}" for n, p in zip(formula.operands, points, strict=True))
    return f"at {at} it is {float(theirs[i]):.9g}, and the formula's is {float(ours[i]):.9g}"
