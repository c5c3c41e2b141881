"""A sum over one panel as the inner loop of NumPy's generalized ufuncs, in LLVM IR: no Python between NumPy and it.

For d data, p parameters and the derivatives that are wanted, the ufunc is ``(n),... ,(),... -> (),(n),... ,(),...``:
from the data, contiguous, and numbers as parameters to the value, the derivatives in the data and those in the
parameters.  The loop fills in what the kernel of `cpu.reduction` asks for, calls it, and scales what that has summed:
for a mean if the pointer that NumPy hands on with the loop is not null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .cpu import ALL_FLAGS

__all__ = ["written"]

_I32, _I64, _BYTE, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer(), ir.DoubleType()
_WORDS = _I64.as_pointer()


def written(name: str, kernel: str, stored: Sequence[bool], summed: Sequence[bool], dtype: type[Any]) -> str:
    """The loop of that name around the kernel of that name, which is for the same derivatives.

    ``stored`` tells for each of the data whether the derivative in it is wanted, and ``summed`` for each parameter.
    """
    module = ir.Module()
    signature = ir.FunctionType(ir.VoidType(), [_WORDS, _WORDS, _WORDS, _BYTE])
    _Loop(ir.Function(module, signature, name), ir.Function(module, signature, kernel), stored, summed, dtype)
    return str(module)


class _Loop:
    """The loop, while it is written."""

    def __init__(
        self, function: Any, kernel: Any, stored: Sequence[bool], summed: Sequence[bool], dtype: type[Any]
    ) -> None:
        self.stored, self.summed, self.kernel = stored, summed, kernel
        self.number = ir.DoubleType() if dtype is np.float64 else ir.FloatType()
        self.args, self.dims, self.steps, self.data = function.args
        self.leading, self.operands = len(stored), len(stored) + len(summed)
        builder = self.builder = ir.IRBuilder(function.append_basic_block("start"))
        self.words = self._memory(_I64, self.operands + self.leading + 3)
        self.strides = self._memory(_I64, self.operands + self.leading + 1)
        self.shape, self.numbers = self._memory(_I64, 3), self._memory(self.number, 4)
        self.sums = self._memory(_DOUBLE, 1 + len(summed))
        outer, n = self._word(self.dims, 0), self._word(self.dims, 1)
        last = self._scales(n)
        head, body, after = (function.append_basic_block(label) for label in ("head", "body", "after"))
        start = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        i = builder.phi(_I64)
        i.add_incoming(_I64(0), start)
        builder.cbranch(builder.icmp_unsigned("<", i, outer), body, after)
        builder.position_at_end(body)
        self._once(i, last)
        i.add_incoming(builder.add(i, _I64(1)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        # The kernel has forgotten its own; what is too large for a float has raised another.
        forget = ir.Function(function.module, ir.FunctionType(_I32, [_I32]), "feclearexcept")
        builder.call(forget, [_I32(ALL_FLAGS)])
        builder.ret_void()

    def _memory(self, kind: Any, count: int) -> Any:
        """Memory for so many numbers on the stack, all 0."""
        room = self.builder.alloca(kind, count)
        for k in range(count):
            self.builder.store(kind(0), self.builder.gep(room, [_I64(k)]))
        return room

    def _word(self, words: Any, place: int) -> Any:
        return self.builder.load(self.builder.gep(words, [_I64(place)]))

    def _put(self, value: Any, memory: Any, place: int) -> None:
        self.builder.store(value, self.builder.gep(memory, [_I64(place)]))

    def _scales(self, n: Any) -> Any:
        """What is the same for all panels put down, see `scaling`; the factor of what is summed returned."""
        builder = self.builder
        mean = builder.icmp_unsigned("!=", builder.ptrtoint(self.data, _I64), _I64(0))
        factor = builder.select(mean, builder.fdiv(_DOUBLE(1), builder.uitofp(n, _DOUBLE)), _DOUBLE(1))
        step: Any = _DOUBLE(1)
        if self.number == _DOUBLE:  # a power of two that is not below n
            zeros = builder.ctlz(builder.sub(n, _I64(1)), ir.IntType(1)(0))
            exponent = builder.add(zeros, _I64(1023 - 64))
            step = builder.bitcast(builder.shl(exponent, _I64(52)), _DOUBLE)
        for place, value in enumerate((factor, _DOUBLE(1), step)):
            self._put(self._narrowed(value), self.numbers, place)
        for place, word in enumerate((_I64(1), n, _I64(1))):
            self._put(word, self.shape, place)
        return builder.fdiv(factor, step)

    def _narrowed(self, value: Any) -> Any:
        return value if self.number == _DOUBLE else self.builder.fptrunc(value, self.number)

    def _once(self, i: Any, last: Any) -> None:
        """One panel: the i-th of those that NumPy asks for."""
        builder, results = self.builder, self.operands  # where the next result's address is

        def address(place: int) -> Any:
            return builder.add(self._word(self.args, place), builder.mul(i, self._word(self.steps, place)))

        def number_at(place: int) -> Any:
            return builder.inttoptr(address(place), self.number.as_pointer())

        for k in range(self.operands):
            self._put(address(k), self.words, k)
        value = number_at(results)
        results += 1
        for k, wanted in enumerate(self.stored):
            if wanted:
                self._put(address(results), self.words, self.operands + 1 + k)
                results += 1
        for place, memory in enumerate((self.numbers, self.sums), self.operands + 1 + self.leading):
            self._put(builder.ptrtoint(memory, _I64), self.words, place)
        for k in range(1 + len(self.summed)):
            self._put(_DOUBLE(0), self.sums, k)
        builder.call(self.kernel, [self.words, self.shape, self.strides, _BYTE(None)], attrs=("noinline",))
        builder.store(self._scaled(0, last), value)
        for k, wanted in enumerate(self.summed):
            if wanted:
                builder.store(self._scaled(1 + k, last), number_at(results))
                results += 1

    def _scaled(self, place: int, last: Any) -> Any:
        total = self.builder.load(self.builder.gep(self.sums, [_I64(place)]))
        return self._narrowed(self.builder.fmul(total, last))
