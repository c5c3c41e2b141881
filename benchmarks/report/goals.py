"""The goals that were set for the speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..rivals import BARE, FASTROBUST
from .speed import SMALL, WORKS, Speed
from .tables import PARAMETER_LABELS, power


class Goal(NamedTuple):
    """A ratio of design.md."""

    what: str
    value: float
    limit: float
    at_least: bool
    unit: str

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def goals(data: Speed) -> Iterator[Goal]:
    """The goals that were set for the speed, with what was measured."""
    n, at = data.large, f"float32, {power(data.large)} elements"
    grad, mean = ("loss_and_grad", "none"), ("loss_and_grad", "mean")
    own = data.seconds(grad, FASTROBUST, n)
    percent = float(data.row(grad, FASTROBUST, n).get("percent_of_floor", "nan"))
    yield Goal(f"loss_and_grad, {at}: speed of a memory copy", percent, 80, True, "%")
    yield Goal("  times torch.compile", data.seconds(grad, "torch.compile", n) / own, 5, True, "x")
    # The reference package is the plain formula in eager PyTorch, with a few more selects.
    eager = data.seconds(grad, "torch eager", n)
    yield Goal("  times eager torch (stands for the reference package)", eager / own, 25, True, "x")
    for parameters in PARAMETER_LABELS:
        seconds, name = data.fastest(mean, ("torch.compile", "jax.jit"), n, "float32", parameters)
        own = data.seconds(mean, FASTROBUST, n, "float32", parameters)
        yield Goal(f"mean and gradients, {at}, {parameters}: times {name}", seconds / own, 5, True, "x")
    for work in WORKS:
        for size in (size for size in SMALL if size in data.sizes):
            beyond = 1e6 * (data.seconds(work, FASTROBUST, size) - data.seconds(work, BARE, size))
            what = f"{' '.join(w for w in work if w != 'none')}, {size} elements: beyond a bare ufunc"
            yield Goal(what, beyond, 2, False, "us")
    for prefix, limit in (("import", 0.01), ("first call, warm", 0.7), ("first call, cold", 3.0)):
        yield Goal(
            f"{prefix}: slowest", 1e3 * max(data.startup(prefix), default=float("nan")), 1e3 * limit, False, "ms"
        )


def print_goals(data: Speed) -> None:
    """One line each."""
    for goal in goals(data):
        verdict = "not measured" if goal.value != goal.value else "reached" if goal.reached else "NOT REACHED"
        sign = ">=" if goal.at_least else "<="
        print(f"{verdict:12} {goal.value:9.3g} {goal.unit:2} {sign} {goal.limit:6g}   {goal.what}")
