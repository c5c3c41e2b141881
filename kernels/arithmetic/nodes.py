"""Scalar code as a graph: each operation a node, of which equal ones are one.

A scalar function that is called with nodes instead of numbers leaves the graph of what it computes, see `traced`.
Loops over constants, closures and functions that it calls are gone then; a choice is a ``where``, of which both sides
are computed.  What runs the graph (LLVM's builder in `lowerings`, arrays in `loops.traced`) goes through its nodes in
the order in which they were made, which is that of the program.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

__all__ = [
    "Double",
    "Graph",
    "Node",
    "Number",
    "Single",
    "Truth",
    "Word",
    "Word32",
    "Word64",
    "leaves",
    "rebuilt",
    "traced",
]

Content = Any  # what an operation is given besides its arguments, hashable


class Node:
    """The result of an operation, of one type: `Single`, `Double`, `Word32`, `Word64` or `Truth`."""

    __slots__ = "arguments", "content", "operation", "place"
    __array_ufunc__ = None  # so that NumPy's numbers leave an operation with a node to it
    __hash__ = object.__hash__

    operation: str
    arguments: tuple[Node, ...]
    content: Content
    place: int  # in its trace

    def __bool__(self) -> bool:
        raise TypeError("what a scalar function computes is not known yet: write where(condition, a, b) instead of if")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}: {self.operation}>"


def is_node(value: Any) -> bool:
    """Tell whether a value is a node, and not a number."""
    return isinstance(value, Node)


class _Trace:
    """The nodes of a function that is being traced, in the order in which they are made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.known: dict[Any, Node] = {}

    def node(self, kind: type[Node], operation: str, arguments: tuple[Any, ...], content: Content = None) -> Any:
        """The node of that operation on these arguments: the one there is, if there is one."""
        key = kind, operation, content, *(argument.place for argument in arguments)
        if key not in self.known:
            made = object.__new__(kind)
            made.operation, made.arguments, made.content = operation, arguments, content
            made.place = len(self.nodes)
            self.known[key] = made
            self.nodes.append(made)
        return self.known[key]


_current: contextvars.ContextVar[_Trace] = contextvars.ContextVar("fastrobust_trace")


def made(kind: type[Node], operation: str, *arguments: Any, content: Content = None) -> Any:
    """The result of an operation of that name and type, a node of the function that is being traced."""
    return _current.get().node(kind, operation, arguments, content)


class Truth(Node):
    """A condition: true or false."""

    def __new__(cls, value: Any) -> Truth:
        """The node of a constant, or the condition itself."""
        return value if isinstance(value, Truth) else made(cls, "constant", content=bool(value))

    def __and__(self, other: Any) -> Any:
        if isinstance(other, Truth):
            return made(Truth, "and", self, other)
        return self if other else other

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Truth):
            return made(Truth, "or", self, other)
        return other if other else self

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Truth:
        return made(Truth, "not", self)


class _Ordered(Node):
    """What can be compared and added: numbers and words."""

    itemsize: ClassVar[int]
    dtype: ClassVar[Any]  # NumPy's, in which constants are kept

    def __new__(cls, value: Any) -> Any:
        """The number or word as one of this type: a node of another type converted, or the node of a constant."""
        if type(value) is cls:
            return value
        if isinstance(value, Node):
            return made(cls, "converted", value)
        return made(cls, "constant", content=cls.dtype(value).tobytes())

    @property
    def constant(self) -> Any:
        """The number of a constant, which is kept by its bits: 0 is not -0, and NaN is NaN."""
        return np.frombuffer(self.content, self.dtype)[0]

    def _with(self, operation: str, other: Any) -> Any:
        """An operation on this and another, in this order."""
        kind = type(self)
        return made(kind, operation, self, kind(other)) if _goes_with(other, kind) else NotImplemented

    def _against(self, operation: str, other: Any) -> Any:
        """An operation on another and this, in this order."""
        kind = type(self)
        return made(kind, operation, kind(other), self) if _goes_with(other, kind) else NotImplemented

    def _compared(self, operation: str, other: Any) -> Any:
        kind = type(self)
        return made(Truth, operation, self, kind(other)) if _goes_with(other, kind) else NotImplemented

    def __add__(self, other: Any) -> Any:
        return self._with("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._against("add", other)

    def __sub__(self, other: Any) -> Any:
        return self._with("sub", other)

    def __rsub__(self, other: Any) -> Any:
        return self._against("sub", other)

    def __mul__(self, other: Any) -> Any:
        return self._with("mul", other)

    def __rmul__(self, other: Any) -> Any:
        return self._against("mul", other)

    def __lt__(self, other: Any) -> Any:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(">=", other)

    def __eq__(self, other: Any) -> Any:
        return self._compared("==", other)

    def __ne__(self, other: Any) -> Any:
        return self._compared("!=", other)

    __hash__ = object.__hash__


def _goes_with(value: Any, kind: type[Node]) -> bool:
    """Tell whether a value can be an operand beside one of that type: a node only if it is of the same."""
    return type(value) is kind or not isinstance(value, Node)


class Number(_Ordered):
    """A floating-point number."""

    word: ClassVar[type[Word]]  # the type of its bits

    def __truediv__(self, other: Any) -> Any:
        return self._with("div", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._against("div", other)

    def __neg__(self) -> Any:
        return made(type(self), "neg", self)

    def __abs__(self) -> Any:
        """That of the number without its sign, so that a function of |x| is one for x and -x."""
        unsigned = self.arguments[0] if self.operation == "neg" else self
        return made(type(self), "abs", unsigned)


class Word(_Ordered):
    """An unsigned integer, as wide as a number."""

    number: ClassVar[type[Number]]  # the type that its bits may be those of

    def __and__(self, other: Any) -> Any:
        return self._with("and", other)

    def __or__(self, other: Any) -> Any:
        return self._with("or", other)

    def __lshift__(self, other: Any) -> Any:
        return self._with("shl", other)

    def __rshift__(self, other: Any) -> Any:
        return self._with("shr", other)


class Single(Number):
    """A float32."""

    itemsize, dtype = 4, np.float32


class Double(Number):
    """A float64."""

    itemsize, dtype = 8, np.float64


class Word32(Word):
    """A uint32."""

    itemsize, dtype = 4, np.uint32


class Word64(Word):
    """A uint64."""

    itemsize, dtype = 8, np.uint64


Single.word, Word32.number, Double.word, Word64.number = Word32, Single, Word64, Double


def selected(condition: Truth, yes: Any, no: Any) -> Any:
    """What one of two is by a condition: nodes of one type or constants; tuples part by part."""
    if isinstance(yes, tuple):
        parts = [selected(condition, a, b) for a, b in zip(yes, no, strict=True)]
        return type(yes)(*parts) if hasattr(yes, "_fields") else tuple(parts)
    if yes is no:
        return yes
    kind: Any = next((type(part) for part in (yes, no) if isinstance(part, Node)), None)
    if kind is None:
        kind = Truth if isinstance(yes, bool | np.bool_) else Single if yes.itemsize == 4 else Double
    if not (_goes_with(yes, kind) and _goes_with(no, kind)):
        raise TypeError(f"both sides of where must be of one type, got {yes!r} and {no!r}")
    return made(kind, "select", condition, kind(yes), kind(no))


class Graph(NamedTuple):
    """What a function computes: its arguments, its results as it returns them, and the nodes that these need."""

    arguments: tuple[Node, ...]  # tuples taken apart
    results: Any
    nodes: tuple[Any, ...]  # in the order of the program, the arguments that are used among them


def leaves(structure: Any) -> Iterator[Any]:
    """The parts of nested tuples that are no tuples."""
    if isinstance(structure, tuple):
        for part in structure:
            yield from leaves(part)
    else:
        yield structure


def rebuilt(structure: Any, parts: Iterator[Any]) -> Any:
    """The nested tuples, named ones too, with other parts in the places of theirs."""
    if not isinstance(structure, tuple):
        return next(parts)
    again = [rebuilt(part, parts) for part in structure]
    return type(structure)(*again) if hasattr(structure, "_fields") else tuple(again)


def traced(function: Callable[..., Any], kinds: Sequence[Any]) -> Graph:
    """The graph of a scalar function for arguments of these types; one that is a tuple has a tuple of types."""
    trace = _Trace()
    token = _current.set(trace)
    try:
        flat = [made(kind, "argument", content=i) for i, kind in enumerate(leaves(tuple(kinds)))]
        given = rebuilt(tuple(kinds), iter(flat))
        results = function(*given)
        nodes = iter([leaf if isinstance(leaf, Node) else _constant(leaf) for leaf in leaves(results)])
        results = rebuilt(results, nodes)
    finally:
        _current.reset(token)
    needed, todo = set[int](), list(leaves(results))
    while todo:
        node = todo.pop()
        if node.place not in needed:
            needed.add(node.place)
            todo += node.arguments
    return Graph(tuple(flat), results, tuple(node for node in trace.nodes if node.place in needed))


def _constant(value: Any) -> Node:
    """The node of a result that is a constant."""
    if isinstance(value, bool | np.bool_):
        return Truth(value)
    kind = {np.float32: Single, np.float64: Double, float: Double}.get(type(value))
    if kind is None:
        raise TypeError(f"a scalar function returns numbers, conditions and tuples of them, got {value!r}")
    return kind(value)
