"""The definition of a loss: all that code which is generic over losses knows of it.

A definition says what a function of several operands takes and gives, holds its scalar code, its rules of
differentiation and its accuracy, and has nothing to do with where it runs.  The loops of every target, the operators of
PyTorch, the rules of JAX and the public functions take what they need from it, so that a new loss is one file with a
definition in it (`barron` is the longest example, `partition` the shortest).

The scalar code is a row of stages, see `Stage`: first those that prepare what depends on the parameters alone, then
those of an element.  Loops run each stage over a block of elements before the next, and compilers remove what is not
used.  A definition may have other stages for float32 where doubles are fast (`Definition.in_doubles`).
"""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..arithmetic.primitives import scalar

__all__ = [
    "Bound",
    "Cases",
    "Code",
    "Definition",
    "Domain",
    "Library",
    "Scalar",
    "Stage",
    "cases",
    "element",
    "known",
    "prepare",
]

Scalar = Callable[..., Any]  # a scalar function, see `primitives.scalar`


class Stage(NamedTuple):
    """One step of the scalar code.

    What prepares gets the parameters and what the stages before it returned, and returns an instance of ``carries``.
    A stage of an element gets the data, what was prepared (the result of the last stage that prepares; if there is
    none, the parameters by name), what the stages before it carried and, if the definition has cases, their flags.  It
    returns two tuples: its outputs, and an instance of ``carries``, or () if it carries nothing.
    """

    function: Scalar
    carries: type[Any] | None = None  # a NamedTuple of numbers
    outputs: tuple[str, ...] = ()


class Cases(NamedTuple):
    """Quick cases of an element's code: flags that are constants where a loop knows them.

    The flags are ``extreme``, whether operands are arbitrary, and ``close``, as the function of that name says.  Where
    both values of a flag apply, the results are the same.
    """

    ordinary: Scalar  # of what was prepared: whether an element can be other than extreme, and a limit for `outside`
    outside: Scalar  # of the data and that limit: whether an element is extreme nevertheless
    close: Scalar  # of what was prepared: the other flag
    outputs: tuple[str, ...]  # those whose code the flag `close` changes


class Domain(NamedTuple):
    """The numbers that an operand may be; elements of arrays beyond it give NaN or infinity instead of an error."""

    least: float
    open: bool  # whether the least is itself outside
    error: str  # the message, with {} for the number

    def holds(self, value: float) -> bool:
        """Tell whether the number is inside."""
        return value > self.least if self.open else value >= self.least


class Bound(NamedTuple):
    """The accuracy of an output, in units in the last place of the exact result, in float32 and in float64."""

    single: float
    double: float
    witnesses: tuple[tuple[float, ...], tuple[float, ...]]  # operands where the error is about the largest found
    relative_to: str = ""  # another output, or "1": the unit is of the larger of the two, for results with zeros
    words: float = 0.0  # in float32 without doubles, where code in doubles has the bound ``single``


class Library(Protocol):
    """An array library with automatic differentiation, as rules of differentiation need it."""

    xp: Any  # its functions

    def get(self, *names: str) -> list[Any]:
        """Return outputs of this definition for these operands, differentiable."""

    def evaluate(self, definition: Definition, names: Sequence[str], *operands: Any) -> list[Any]:
        """Return outputs of another definition, differentiable."""

    def fold(self, step: Callable[..., Any], total: Any, rows: Sequence[tuple[float, ...]]) -> Any:
        """Return step(total, *row) after the last of the rows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Code:
    """Scalar code: stages that prepare what depends on the parameters alone, and those of an element."""

    parameters: tuple[str, ...]  # operands of any shape that broadcasts, in which their gradients come
    stages: tuple[Stage, ...]
    prepares: tuple[Stage, ...] = ()
    cases: Cases | None = None
    carries: Any = None  # the type of the numbers that stages carry, if not that of the operands

    @functools.cached_property
    def found(self) -> tuple[str, ...]:
        """The names of the outputs in the order in which the stages give them."""
        return tuple(name for stage in self.stages for name in stage.outputs)

    @functools.cached_property
    def kept(self) -> int:
        """How many numbers the stages that prepare return, to be kept for those of an element."""
        return len(self.prepared._fields) if self.prepares else 0

    @functools.cached_property
    def prepared(self) -> type[Any]:
        """The type of what is prepared: without stages for that the parameters by name, and () if there are none."""
        if self.prepares:
            assert self.prepares[-1].carries is not None  # `_check` has looked
            return self.prepares[-1].carries
        return collections.namedtuple("Parameters", self.parameters)


@dataclass(frozen=True, eq=False, kw_only=True)
class Definition(Code):
    """A function of several operands, for each element.

    ``slopes(library, name, operands, wanted)`` returns the derivatives of the output of that name, other than the
    value, in each operand, or None where it is not wanted.
    """

    name: str  # a word; all definitions of a process have different ones
    data: tuple[str, ...]  # operands with an element for each result
    others: tuple[str, ...] = ()  # outputs besides the value and the derivatives in the operands
    in_doubles: Code | None = None  # of float32 operands, for targets where doubles are fast
    general: Definition | None = None  # the definition that this is a case of, whose code it has but for ``in_doubles``
    domains: Mapping[str, Domain] = field(default_factory=dict)
    slopes: Callable[[Library, str, Sequence[Any], Sequence[bool]], list[Any]] | None = None
    costly: frozenset[tuple[str, str]] = frozenset()  # outputs, and operands in which their derivatives are long sums
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    module: str = ""  # where it is defined
    title: str = ""  # what messages call it, if not by its name
    digest: str = ""  # of all that is not written in this package, for its kernels' names; without, they are not kept
    edition: int = field(default=0, init=False)  # how often that name was defined before, as in a notebook
    limited: tuple[tuple[int, Domain], ...] = field(default=(), init=False)  # operands with a domain, by position

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", sys._getframe(2).f_globals["__name__"])
        if not self.title:
            object.__setattr__(self, "title", self.name)
        _check(self)
        limited = tuple((self.operands.index(name), domain) for name, domain in self.domains.items())
        object.__setattr__(self, "limited", limited)
        before = known.get(self.name)
        object.__setattr__(self, "edition", 0 if before is None else before.edition + 1)
        known[self.name] = self

    def harmless(self, name: str) -> float:
        """A number that the operand may be."""
        usual, domain = 1.0 if name in self.parameters else 0.0, self.domains.get(name)
        return usual if domain is None or domain.holds(usual) else domain.least + 1.0

    def __repr__(self) -> str:
        return f"<definition of {self.name}({', '.join(self.operands)})>"

    @property
    def __name__(self) -> str:
        """The name that kernels' names contain; editions of a definition differ in it."""
        if self.digest:
            return f"{self.name}.{self.digest}"
        return f"{self.name}.{self.edition}" if self.edition else self.name

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """The names of data and parameters, in the order in which they are given."""
        return self.data + self.parameters

    @functools.cached_property
    def gradients(self) -> tuple[str, ...]:
        """The names of the derivatives of the value in the operands."""
        return tuple("d" + name for name in self.operands)

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs."""
        return ("value", *self.gradients, *self.others)

    @functools.cached_property
    def sums(self) -> tuple[str, ...]:
        """The names of what a reduction sums up: the value, and the derivatives in the parameters."""
        return ("value", *("d" + name for name in self.parameters))

    def code(self, dtype: Any) -> Code:
        """The scalar code for operands of that type."""
        return self.in_doubles if self.in_doubles is not None and dtype is np.float32 else self

    def for_dtype(self, dtype: Any) -> Definition:
        """This definition, or the one whose code it has for operands of that type: kernels are made of either."""
        return self if self.general is None or dtype is np.float32 else self.general

    @functools.cached_property
    def in_words(self) -> Definition:
        """This definition without doubles inside of float32 code."""
        if self.general is not None:
            return self.general.in_words
        return self if self.in_doubles is None else replace(self, name=f"{self.name}_in_words", in_doubles=None)


known: dict[str, Definition] = {}  # by name


def _check(definition: Definition) -> None:
    """Refuse a definition that the loops could not run, in words for whoever writes one."""
    name = definition.name
    before = known.get(name)
    if before is not None and before.module != definition.module:
        raise ValueError(f"{definition.module} defines {name!r}, and so does {before.module}: choose another name")
    if not name.isidentifier():
        raise ValueError(f"the name of a definition must be a word, got {name!r}")
    if not definition.data or len(set(definition.operands)) != len(definition.operands):
        raise ValueError(f"{name} needs data, and operands with different names; got {definition.operands}")
    if sorted(definition.found) != sorted(definition.outputs):
        raise ValueError(
            f"the stages of {name} give {', '.join(definition.found)}; it needs each of {', '.join(definition.outputs)}"
        )
    if any(stage.carries is None or stage.outputs for stage in definition.prepares):
        raise ValueError(f"a stage of {name} that prepares must carry numbers and have no outputs")
    if definition.in_doubles is not None and sorted(definition.in_doubles.found) != sorted(definition.found):
        raise ValueError(f"the code in doubles of {name} does not give {', '.join(definition.found)}")
    for what in (definition.domains, definition.bounds):
        if unknown := what.keys() - {*definition.operands, *definition.outputs}:
            raise ValueError(f"{name} has neither an operand nor an output {', '.join(sorted(unknown))}")


@functools.cache
def prepare(code: Code) -> Scalar:
    """prepare(parameters): what is prepared of a tuple of them; all stages in a row."""
    kind = code.prepared

    def prepared(parameters: Any) -> Any:
        """Each stage gets what those before it returned; without any, the parameters get their names."""
        if not code.prepares:
            return kind(*parameters) if parameters else ()
        arguments = tuple(parameters)
        for stage in code.prepares:
            arguments += (stage.function(*arguments),)
        return arguments[-1]

    return scalar(prepared)


@functools.cache
def element(code: Code) -> Scalar:
    """element(data, prepared, extreme, close): the outputs in the order of ``found``, all stages in a row.

    ``data`` is a tuple; the flags are for definitions with cases, see `cases`.
    """

    def outputs(data: Any, prepared: Any, extreme: Any, close: Any) -> Any:
        """Each stage gets what those before it carried."""
        arguments, flags = (*data, prepared), () if code.cases is None else (extreme, close)
        found: tuple[Any, ...] = ()
        for stage in code.stages:
            results, carried = stage.function(*arguments, *flags)
            found += tuple(results)
            arguments += () if stage.carries is None else (carried,)
        return found

    return scalar(outputs)


@functools.cache
def cases(code: Code) -> Cases:
    """The cases as functions, the second of a tuple of data; where there are none, all elements are ordinary."""
    written = code.cases
    if written is None:
        return Cases(
            scalar(lambda prepared: (True, True)), scalar(lambda data, limit: False), scalar(lambda prepared: False), ()
        )
    outside = written.outside
    return written._replace(outside=scalar(lambda data, limit: outside(*data, limit)))
