"""How accurate a loss is: its compiled kernels against its formula in exact arithmetic."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _evaluate
from ._dispatch import install
from .kernels.graph.exact import evaluated
from .kernels.losses.formula import Formula

__all__ = ["Accuracy", "Row", "measured"]

_DIGITS = 60


class Row(NamedTuple):
    """The accuracy of one output in one dtype."""

    output: str
    dtype: str
    ulp: float  # the largest error found, in units in the last place
    worst: tuple[float, ...]  # the operands where it was found
    numbers: str  # those in which it is evaluated: "working", "half wide" or "wide"


class Accuracy(tuple[Row, ...]):
    """The rows of a table, which prints as one."""

    def __str__(self) -> str:
        head = ("output", "dtype", "max ulp", "numbers", "worst at")
        body = [(r.output, r.dtype, f"{r.ulp:.3g}", r.numbers, ", ".join(f"{w:.9g}" for w in r.worst)) for r in self]
        widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
        lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in (head, *body)]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def measured(formula: Formula, points: int, seed: int) -> Accuracy:
    """The largest error of each output at so many points."""
    try:
        import mpmath
    except ImportError as error:
        problem = f"accuracy() needs mpmath: pip install mpmath, or {install('test')}"
        raise ImportError(problem, name="mpmath") from error
    exact = mpmath.mp.clone()
    exact.dps = _DIGITS
    definition, order = formula.definition, formula.order((0,) * len(formula.operands))
    rows = []
    for dtype in (np.float32, np.float64):
        operands = _points(formula, dtype, points, seed)
        with np.errstate(all="ignore"):
            found = _evaluate.value_and_grad(definition, operands, "none", None, definition.operands, None)
        found = [np.broadcast_to(part, (points,)) for part in found]
        worst: list[tuple[float, int]] = [(0.0, 0)] * len(found)
        for i in range(points):
            true = evaluated(exact, order.roots, [float(operand[i]) for operand in operands])
            for k, value in enumerate(true):
                worst[k] = max(worst[k], (_ulp(exact, value, found[k][i]), i))
        forms = order.forms(dtype is np.float64)
        for output, (ulp, i), form in zip(definition.outputs, worst, forms, strict=True):
            where = tuple(float(operand[i]) for operand in operands)
            rows.append(Row(output, np.dtype(dtype).name, ulp, where, form.__name__.replace("_", " ")))
    return Accuracy(rows)


def _points(formula: Formula, dtype: Any, count: int, seed: int) -> tuple[Any, ...]:
    """Operands of many sizes: data of both signs, parameters and what has a domain above its least, or in a range."""
    random = np.random.default_rng(seed)
    operands = []
    for name in formula.operands:
        values = 10.0 ** random.uniform(-3, 3, count)
        domain = formula.domains.get(name)
        if name in formula.ranges:
            least, most = formula.ranges[name]
            values = random.choice([least, most, np.nan, np.nan], count)
            values = np.where(np.isnan(values), random.uniform(least, most, count), values)
        elif domain is not None:
            values += domain.least
        elif name not in formula.parameters:
            values *= random.choice([-1.0, 1.0], count)
        operands.append(values.astype(dtype))
    return tuple(operands)


def _ulp(exact: Any, true: Any, found: Any) -> float:
    """The error in units in the last place; 0 where the true value is not a number of the dtype's range."""
    limits = np.finfo(found.dtype)
    if exact.isnan(true) or abs(true) > float(limits.max):
        return 0.0
    if not np.isfinite(found):
        return float("inf")
    exponent = exact.frexp(abs(true))[1] if true != 0 else limits.minexp
    unit = exact.ldexp(1, max(exponent, limits.minexp + 1) - limits.nmant - 1)
    return float(abs(exact.mpf(float(found)) - true) / unit)
