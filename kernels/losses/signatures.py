"""The names of what each function of this room takes and gives, once for kernels, adapters and public functions.

No Numba here.  A gradient is called d and the operand's name.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FAMILIES", "LOSS", "PARTITION", "Signature"]


class Signature(NamedTuple):
    """The operands of a loss, and what its kernels can write besides the value and the gradients."""

    data: tuple[str, ...]  # one number for each element
    parameters: tuple[str, ...]  # of any shape that broadcasts
    others: tuple[str, ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of data and parameters, in the order in which they are given."""
        return self.data + self.parameters

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of the derivatives in the operands."""
        return tuple("d" + name for name in self.operands)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all that kernels can write."""
        return ("value", *self.gradients, *self.others)

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of what a reduction sums up: the value, and the gradients in the parameters."""
        return ("value", *("d" + name for name in self.parameters))


LOSS = Signature(("x",), ("alpha", "scale"), ("weight", "curvature"))
FAMILIES = {"loss": LOSS, "nll": LOSS}
PARTITION = ("value", "dalpha", "d2alpha")  # log Z(alpha) and its derivatives
