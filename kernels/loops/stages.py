"""What the CPU's loops call, in LLVM IR: the scalar code of a definition over a block of elements.

Two functions, by the names below, each of pointers and a number n of elements, a multiple of `LANES`::

    prepare(parameters..., kept..., n)            kept: what is prepared, a buffer for each of its numbers
    evaluate(data..., parameters..., kept..., out, n)    out: the outputs, one after the other, `BLOCK` elements each

Each stage (see `definition`) is a loop of its own, which LLVM's builder writes from the stage's graph; what a stage
leaves for later ones goes through buffers on the stack.  In the layout "shared" there is one number of each parameter,
and what is prepared of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from ..arithmetic.lowerings import LLVM, instructions
from ..arithmetic.nodes import Double, Single, leaves, rebuilt, traced
from ..arithmetic.numba_private import inline
from ..arithmetic.primitives import opposite
from ..losses.definition import Code, Stage, prepare
from .blocks import BLOCK

__all__ = ["EVALUATE", "PREPARE", "written"]

EVALUATE, PREPARE = "fastrobust.evaluate", "fastrobust.prepare"
_I32, _I64 = ir.IntType(32), ir.IntType(64)

Part = tuple[Any, list[Any]]  # the types of an argument's nodes, in tuples as they are given, and LLVM's values


def written(code: Code, data: int, outputs: tuple[str, ...], dtype: type[Any], layout: str) -> str:
    """Both functions, for the outputs of code with so many data; without stages that prepare, the second alone."""
    module, number = ir.Module(), Double if dtype is np.float64 else Single
    shared = layout == "shared" or not code.parameters
    if code.prepares:
        _write_prepare(module, code, number, shared)
    _Evaluate(module, code, data, outputs, number, shared)
    return str(module)


class _Function:
    """A function that is being written: of pointers to nodes of these types, and of the number of elements."""

    def __init__(self, module: Any, name: str, kinds: Sequence[Any]) -> None:
        pointers = [LLVM[kind].as_pointer() for kind in kinds]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, _I64]), name)
        inline(function)
        self.builder: Any = ir.IRBuilder(function.append_basic_block())
        *self.pointers, self.n = function.args
        for pointer in self.pointers:
            pointer.add_attribute("noalias")  # of what is written to nothing else is read

    @contextlib.contextmanager
    def each(self) -> Iterator[Any]:
        """The body of a loop over the elements, with the index of one."""
        builder, before = self.builder, self.builder.block
        head, body, after = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        i = builder.phi(_I64)
        i.add_incoming(_I64(0), before)
        builder.cbranch(builder.icmp_unsigned("<", i, self.n), body, after)
        builder.position_at_end(body)
        yield i
        i.add_incoming(builder.add(i, _I64(1)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    def load(self, pointers: Sequence[Any], i: Any) -> list[Any]:
        """Element i of each buffer."""
        return [self.builder.load(self.builder.gep(pointer, [i])) for pointer in pointers]

    def store(self, values: Sequence[Any], pointers: Sequence[Any], i: Any) -> None:
        """Element i of each buffer becomes the value."""
        for value, pointer in zip(values, pointers, strict=True):
            self.builder.store(value, self.builder.gep(pointer, [i]))

    def memory(self, kind: Any, count: int = BLOCK) -> Any:
        """Memory for so many numbers on the stack."""
        with self.builder.goto_entry_block():
            room = self.builder.alloca(ir.ArrayType(kind, count))
            room.align = 64
            return self.builder.bitcast(room, kind.as_pointer())

    def call(self, function: Callable[..., Any], parts: Sequence[Part]) -> tuple[Any, Any]:
        """What a scalar function returns for these arguments: the types, and LLVM's values in the same tuples."""
        graph = traced(function, [kinds for kinds, _ in parts])
        values = instructions(self.builder, graph, [value for _, values in parts for value in values])
        kinds = rebuilt(graph.results, iter([type(node) for node in leaves(graph.results)]))
        return kinds, rebuilt(graph.results, iter(values))


def _write_prepare(module: Any, code: Code, number: Any, shared: bool) -> None:
    """The function `PREPARE`: one element, or a loop for each stage."""
    count = len(code.parameters)
    function = _Function(module, PREPARE, [number] * count + [_kept(code, number)] * code.kept)
    parameters, kept = function.pointers[:count], function.pointers[count:]

    def at(i: Any) -> list[Part]:
        return [(number, [value]) for value in function.load(parameters, i)]

    if shared:
        once = prepare(code)
        _, values = function.call(lambda *given: once(given), at(_I64(0)))
        function.store(list(leaves(values)), kept, _I64(0))
    else:
        left: list[tuple[Any, list[Any]]] = []
        for stage in code.prepares:
            with function.each() as i:
                given = at(i) + [(kinds, function.load(buffers, i)) for kinds, buffers in left]
                kinds, values = function.call(_preparing(stage), given)
                values = list(leaves(values))
                buffers = kept if stage is code.prepares[-1] else [function.memory(value.type) for value in values]
                function.store(values, buffers, i)
            left.append((kinds, buffers))
    function.builder.ret_void()


def _kept(code: Code, number: Any) -> Any:
    """The type of what is prepared."""
    return number if code.carries is None else Double


class _Evaluate:
    """The function `EVALUATE`, written: the stages that the outputs need, in the case that the block allows."""

    def __init__(self, module: Any, code: Code, data: int, outputs: tuple[str, ...], number: Any, shared: bool) -> None:
        self.code, self.outputs, self.number = code, outputs, number
        operands, kept = data + len(code.parameters), _kept(code, number)
        self.function = _Function(module, EVALUATE, [number] * operands + [kept] * code.kept + [number])
        *pointers, self.out = self.function.pointers
        self.data, self.source = pointers[:data], pointers[operands:] if code.prepares else pointers[data:operands]
        kind = kept if code.prepares else number
        self.kinds = code.prepared(*[kind] * len(self.source)) if self.source else ()
        self.common = (
            (self.kinds, self.function.load(self.source, _I64(0))) if shared else None
        )  # what all elements share
        if code.cases is None:
            self.stages(lambda prepared: ())
        else:
            self.in_cases(*code.cases)
        self.function.builder.ret_void()

    def data_at(self, i: Any) -> list[Part]:
        """The data of element i."""
        return [(self.number, [value]) for value in self.function.load(self.data, i)]

    def prepared_at(self, i: Any) -> Part:
        """What is prepared for element i."""
        return (self.kinds, self.function.load(self.source, i)) if self.common is None else self.common

    def stages(self, flags: Callable[[Any], tuple[Any, ...]]) -> None:
        """A loop for each of them; ``flags`` gives those of the case, of what is prepared."""
        function, outputs, stages = self.function, self.outputs, self.code.stages
        left: list[tuple[Any, list[Any]]] = []
        needed = max(k for k, stage in enumerate(stages) if set(stage.outputs) & set(outputs))
        for k, stage in enumerate(stages[: needed + 1]):
            wanted = [name for name in outputs if name in stage.outputs]
            keeps = stage.carries is not None and k < needed
            if not wanted and not keeps:
                continue
            with function.each() as i:
                carried = [(kinds, function.load(buffers, i)) for kinds, buffers in left]
                run = _running(stage, wanted, keeps, len(self.data), flags)
                (_, kinds), (values, rest) = function.call(run, [*self.data_at(i), self.prepared_at(i), *carried])
                places = [function.builder.gep(self.out, [_I64(outputs.index(name) * BLOCK)]) for name in wanted]
                function.store(values, places, i)
                rest = list(leaves(rest))
                buffers = [function.memory(value.type) for value in rest]
                function.store(rest, buffers, i)
            if keeps:
                left.append((kinds, buffers))

    def in_cases(self, ordinary: Any, outside: Any, close: Any, closes: tuple[str, ...]) -> None:
        """The stages three times: for blocks with an element that is not ordinary, near 2, and for the others."""
        function, builder, common = self.function, self.function.builder, self.common
        some = function.memory(_I32, 1)  # not 0 if an element is none of the quick case
        builder.store(_I32(0), some)
        if common is not None:
            (_, limit_kind), (quick, limit) = function.call(ordinary, [common])

        def beyond(*arguments: Any) -> Any:
            """Of an element with its own parameters; those near 2 count as extreme."""
            quick, limit = ordinary(arguments[-1])
            return opposite(quick & opposite(close(arguments[-1])) & opposite(outside(*arguments[:-1], limit)))

        with function.each() as i:
            if common is None:
                _, found = function.call(beyond, [*self.data_at(i), self.prepared_at(i)])
            else:
                _, found = function.call(outside, [*self.data_at(i), (limit_kind, [limit])])
            builder.store(builder.or_(builder.load(some), builder.zext(found, _I32)), some)
        extreme = builder.icmp_unsigned("!=", builder.load(some), _I32(0))
        if common is not None:
            extreme = builder.or_(extreme, builder.not_(quick))
        with builder.if_else(extreme) as (general, quickly):
            with general:
                self.stages(lambda prepared: (True, close(prepared)))
            with quickly:
                if common is None or not set(closes) & set(self.outputs):
                    self.stages(lambda prepared: (False, False))
                else:
                    _, near = function.call(close, [common])
                    with builder.if_else(near) as (nearby, far):
                        with nearby:
                            self.stages(lambda prepared: (False, True))
                        with far:
                            self.stages(lambda prepared: (False, False))


def _preparing(stage: Stage) -> Callable[..., Any]:
    """The function of a stage that prepares."""

    def run(*arguments: Any) -> Any:
        return _as_said(stage, stage.function(*arguments))

    return run


def _running(
    stage: Stage, wanted: list[str], keeps: bool, data: int, flags: Callable[[Any], tuple[Any, ...]]
) -> Callable[..., Any]:
    """The stage as a function that returns the wanted outputs, and what it carries if that is kept."""

    def run(*arguments: Any) -> Any:
        values, left = stage.function(*arguments, *flags(arguments[data]))
        return tuple(values[stage.outputs.index(name)] for name in wanted), _as_said(stage, left) if keeps else ()

    return run


def _as_said(stage: Stage, left: Any) -> Any:
    """What a stage leaves, which must be of the type that it says: fields could end in each other's buffers."""
    if type(left) is not stage.carries:
        raise TypeError(f"{stage.function.__name__} carries {stage.carries}, and leaves {type(left)}")
    return left
