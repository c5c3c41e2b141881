"""The scalar functions over whole arrays, for libraries that trace programs and have compilers of their own: JAX.

The formulas are those of the definitions themselves: their sources are read and evaluated on arrays, with a select for
each conditional expression, and the primitives in the library's operations.  A product with its rounding error takes
seventeen of them instead of an fma, so this is slow beside compiled kernels; it is for where there are none.  It is
nearly as accurate: the emulated fma rounds twice, and subnormal numbers may be flushed to 0.

Such a library traces Python anew for each shape of arrays, some 50 us for each of thousands of operations.  So each
function is compiled by itself: an fma, of which a loss has hundreds, is traced once for operands of a type and then
only called; compilers inline it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ..arithmetic import primitives
from ..losses.definition import Definition

__all__ = ["Library", "evaluate"]


class Library(NamedTuple):
    """What is needed of a library that traces programs."""

    xp: Any  # jax.numpy
    lax: Any  # jax.lax
    jit: Callable[[Callable[..., Any]], Callable[..., Any]]
    take: Callable[..., Any]  # of a column of a table and an array of indices: the elements there


def evaluate(library: Library, definition: Definition, names: Sequence[str], *operands: Any) -> tuple[Any, ...]:
    """The named outputs; the operands are the library's arrays, of one type and broadcastable."""
    lifted = _lifter(library)
    leading = len(definition.data)
    data, parameters = operands[:leading], operands[leading:]
    carried: tuple[Any, ...] = ()
    for stage in definition.prepares:
        carried += (lifted(stage.function)(*parameters, *carried),)
    prepared: Any = carried[-1] if carried else definition.prepared(*parameters) if parameters else ()
    flags = () if definition.cases is None else (True, lifted(definition.cases.close)(prepared))
    by_name: dict[str, Any] = {}
    carried = ()
    for stage in definition.stages:
        outputs, left = lifted(stage.function)(*data, prepared, *carried, *flags)
        by_name |= zip(stage.outputs, outputs, strict=True)
        carried += () if stage.carries is None else (left,)
    common = library.xp.broadcast_shapes(*(operand.shape for operand in operands))
    return tuple(library.xp.broadcast_to(by_name[name], common) for name in names)


@functools.cache
def _parsed(function: FunctionType) -> ast.FunctionDef:
    """The source of a function, parsed."""
    (statement,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(statement, ast.FunctionDef)
    return statement


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.And: operator.and_, ast.Or: operator.or_, ast.USub: operator.neg,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Not: lambda test: not test if isinstance(test, bool) else ~test,
}  # fmt: skip


def _assign(names: dict[str, Any], target: Any, value: Any) -> None:
    """Give the target's name its value, or each name of a tuple its part."""
    if isinstance(target, ast.Name):
        names[target.id] = value
        return
    for part, of_part in zip(target.elts, value, strict=True):
        _assign(names, part, of_part)


def _are_arrays(values: Sequence[Any]) -> bool:
    """Tell whether these are arrays or tuples of arrays, and no constants of Python's, which a program depends on."""
    return all(_are_arrays(v) if isinstance(v, tuple) else hasattr(v, "dtype") for v in values)


class _Lifter:
    """A maker of functions over arrays, of one library, from scalar functions."""

    def __init__(self, library: Library) -> None:
        self.xp, self.lax, self.jit, self.take = library
        self.fma = self.once(self.rounded_twice)
        self.done: dict[Any, Any] = {primitives.fma: self.fma, primitives.bits: self.bits}
        self.done[primitives.from_bits] = self.bits  # the other way, by the type
        self.done |= {primitives.min: self.xp.minimum, primitives.max: self.xp.maximum}
        self.builtins = {"type": self.type, "abs": self.xp.abs}

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The scalar function as one over arrays, made once."""
        if function not in self.done:
            self.done[function] = self.lift(function)
        return self.done[function]

    def lift(self, function: Any) -> Callable[..., Any]:
        """The function over arrays, made anew: a primitive has a counterpart, all else is read."""
        if function.__module__ == primitives.__name__:
            return self.primitive(function)
        return self.once(functools.partial(self.run, function))

    def once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, traced once for arrays of each type."""
        compiled = self.jit(function)
        return lambda *args: (compiled if _are_arrays(args) else function)(*args)

    def run(self, function: FunctionType, *args: Any) -> Any:
        """The results of the function for these arguments, statement by statement."""
        definition = _parsed(function)
        names = dict(zip((a.arg for a in definition.args.args), args, strict=True))
        value = functools.partial(self.value, names, function.__globals__)
        for statement in definition.body:
            match statement:
                case ast.Return(value=ast.AST() as expression):
                    return value(expression)
                case ast.Assign(targets=[target]):
                    _assign(names, target, value(statement.value))
                case ast.AugAssign(target=ast.Name(id=name)):
                    names[name] = _OPERATORS[type(statement.op)](names[name], value(statement.value))
                case ast.Expr(value=ast.Constant()):  # its docstring
                    pass
                case _:
                    raise NotImplementedError(ast.unparse(statement))
        return None

    def value(self, names: dict[str, Any], known: dict[str, Any], node: Any) -> Any:
        """The value of an expression: ``names`` are those of the function, ``known`` those of its module.

        Only the kinds of expressions occur that scalar functions are written with; any other is an error.
        """
        value = functools.partial(self.value, names, known)

        def several(nodes: Sequence[Any]) -> list[Any]:
            parts = [value(e.value) if isinstance(e, ast.Starred) else (value(e),) for e in nodes]
            return [part for some in parts for part in some]

        match node:
            case ast.Constant():
                return node.value
            case ast.Name(id=name):
                return names[name] if name in names else self.named(self.builtins.get(name, known.get(name)))
            case ast.Attribute():
                return self.named(getattr(value(node.value), node.attr))
            case ast.Tuple():
                return tuple(several(node.elts))
            case ast.Subscript(slice=ast.Slice(lower=None, upper=upper, step=None)):
                return value(node.value)[: value(upper)]
            case ast.Subscript():
                return value(node.value)[value(node.slice)]
            case ast.BinOp():
                return _OPERATORS[type(node.op)](value(node.left), value(node.right))
            case ast.UnaryOp():
                return _OPERATORS[type(node.op)](value(node.operand))
            case ast.BoolOp():
                return functools.reduce(_OPERATORS[type(node.op)], map(value, node.values))
            case ast.Compare(ops=[test], comparators=[right]):
                return _OPERATORS[type(test)](value(node.left), value(right))
            case ast.IfExp():
                return self.select(value(node.test), value(node.body), value(node.orelse))
            case ast.Call(keywords=[]):
                return value(node.func)(*several(node.args))
        raise NotImplementedError(ast.unparse(node))

    def named(self, value: Any) -> Any:
        """The meaning of a name in a lifted function: functions are lifted."""
        return self(value) if isinstance(value, FunctionType) else value

    def primitive(self, function: Any) -> Callable[..., Any]:
        """A constant works on arrays as it is; polynomials get arithmetic of arrays."""
        series, tables = getattr(function, "series", None), getattr(function, "tables", None)
        if series is not None:
            evaluate, single, double = series

            def polynomial(*args: Any) -> Any:
                T = self.type(args[0])
                table = [T(float(c)) for c in (single if args[0].dtype.itemsize == 4 else double)]
                return evaluate(*args, table, self.fma, lambda a, b: a * b)

            return self.once(polynomial)
        if tables is not None:
            horner, single, double = tables

            def piecewise(w: Any, i: Any) -> Any:
                table = single if w.dtype.itemsize == 4 else double
                return horner(w, [self.take(column, i) for column in table.T], self.fma)

            return self.once(piecewise)
        return function

    def type(self, value: Any) -> Callable[[Any], Any]:
        """A cast to that array's dtype, of numbers and arrays: the ``type(x)`` of scalar functions."""
        dtype = np.dtype(value.dtype)
        return lambda v: dtype.type(v) if isinstance(v, (int, float)) else v.astype(dtype)

    def select(self, test: Any, yes: Any, no: Any) -> Any:
        """A conditional expression: by element, part by part for tuples, or at once if the test is a constant."""
        if isinstance(test, bool):
            return yes if test else no
        if isinstance(yes, tuple):
            return tuple(self.select(test, a, b) for a, b in zip(yes, no, strict=True))
        return self.xp.where(test, yes, no)

    def bits(self, value: Any) -> Any:
        """The bits of floating-point numbers as unsigned integers, or the other way round."""
        kind = {"float32": "uint32", "uint32": "float32", "float64": "uint64", "uint64": "float64"}[value.dtype.name]
        return self.lax.bitcast_convert_type(value, np.dtype(kind))

    def rounded_twice(self, a: Any, b: Any, c: Any) -> Any:
        """The sum a b + c, of which the product is exact (Dekker) and the sum rounded twice."""
        T = self.type(a)
        factor = T(4097.0 if a.dtype.itemsize == 4 else 134217729.0)
        a, b = self.xp.asarray(a), self.xp.asarray(b)
        plain = a * b
        (ah, al), (bh, bl) = self.split(a, factor), self.split(b, factor)
        error = ((ah * bh - plain) + ah * bl + al * bh) + al * bl
        total = plain + c
        back = total - plain
        rest = (plain - (total - back)) + (c - back)
        corrected = total + (rest + error)
        return self.xp.where(abs(corrected) < np.inf, corrected, total)

    def split(self, a: Any, factor: Any) -> tuple[Any, Any]:
        """The number as a sum of two with half as many digits (Veltkamp)."""
        big = factor * a
        high = big - (big - a)
        return high, a - high


_lifter = functools.cache(_Lifter)
