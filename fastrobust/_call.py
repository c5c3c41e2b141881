"""The contract that backends keep, and the checks of a call that are the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ._types import ArrayLike, LossGrad, Namespace, Options, Shaped

if TYPE_CHECKING:
    from .kernels.losses.definition import Definition

__all__ = ["WRT", "Backend", "check_options", "check_out", "check_reduction", "check_wrt"]


Outputs: TypeAlias = Shaped | tuple[Shaped, ...]  # an array of the library, or a tuple of them for several names


class Backend(Protocol):
    """A module, or any object, that computes with the arrays of one library, by these names.

    Operands come as the user gave them, arrays of the library and numbers, in the order of ``definition.operands``:
    first data, which broadcast against all others, then parameters.  The first one is an array of the library, unless
    the library is NumPy; of the others none is an array of another library.  Reduction, ``wrt`` and the number of
    entries in ``out`` of `reduce` are checked.  What is left to the backend: numbers outside of ``definition.domains``,
    dtypes, shapes, weights and memory for results, all of which `_arguments` has functions for, and the options of
    `evaluate`, of which it may refuse those that it has no use for.

    One with kernels of rows has ``row_kernels`` besides, the name of a module as `_backends.numpy.rows`.  One of a
    library that differentiates by itself may have ``cross_entropy``, a module with ``loss``, ``loss_and_grad``,
    ``transformed`` and ``by_class`` as in `torch._cross_entropy`, and ``row_losses``, with ``value_of`` and
    ``derivatives_of`` as in `torch._rows`; ``own_sums``, as `torch._sums`, for sums by which its own differentiation
    goes faster; ``lifted`` and ``constant``, as in `torch._transforms`, for transforms; and ``product``, of matrices,
    where the usual one is not exact enough.
    """

    @property
    def xp(self) -> Namespace:
        """The library's functions, by the names that they have in NumPy."""

    @property
    def closed_forms(self) -> bool:
        """Whether Barron's loss at a number alpha in `SHAPES` is to come as the definition of that name."""

    def evaluate(
        self, definition: Definition, names: tuple[str, ...], operands: Sequence[ArrayLike], options: Options, /
    ) -> Outputs:
        """Outputs for each element, of the broadcast shape: an array, or a tuple of them if there are several names.

        ``names`` are some of ``definition.outputs``.  ``options`` are those that a ufunc of NumPy's takes: ``out`` for
        one, an array or a tuple with an entry for each name, which may be None.
        """

    def weighted(
        self,
        definition: Definition,
        names: tuple[str, ...],
        operands: Sequence[ArrayLike],
        weights: ArrayLike,
        options: Options,
        /,
    ) -> Outputs:
        """`evaluate`, with each output multiplied by the weights, which broadcast to the shape of the result.

        A weight of 0 makes 0 of whatever the element's value is, NaN included.
        """

    def reduce(
        self,
        definition: Definition,
        wrt: tuple[str, ...],
        operands: Sequence[ArrayLike],
        reduction: str,
        weights: ArrayLike | None,
        out: tuple[Shaped | None, ...] | None,
        /,
    ) -> tuple[Shaped | None, ...]:
        """The sum of the value, or its mean by the weights, and gradients of that in all operands.

        Gradients in data have the broadcast shape, those in parameters the parameters' shapes; None stands for those in
        operands that are not in ``wrt``, which is in the order of the operands.  ``reduction`` is "sum" or "mean".
        ``weights`` may be None; one of 0 excludes an element, as above.  ``out`` is None, or has an array or None for
        each of what is returned.
        """


WRT = tuple(name.removeprefix("d") for name in LossGrad._fields[1:])
_OPTIONS = frozenset(("out", "where", "casting", "order", "dtype", "subok"))  # of a ufunc call
_OWN = {  # what functions with such options take besides
    "loss": frozenset(("reduction", "weights")),
    "nll": frozenset(("reduction", "weights", "truncation")),
    "log_partition": frozenset(("truncation",)),
}


def check_reduction(reduction: object) -> None:
    """Refuse what is no reduction."""
    if type(reduction) is not str or reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")


def check_options(name: str, options: Options, taken: frozenset[str] = _OPTIONS, why: str = "") -> None:
    """Refuse options that the function of that name does not take."""
    for option in options:  # sets of keys end PyTorch 2.11's compiler
        if option not in taken:
            raise TypeError(_refusal(name, options, taken, why))


def _refusal(name: str, options: Options, taken: frozenset[str], why: str) -> str:
    """The message for options that are not all taken."""
    from difflib import get_close_matches  # a millisecond that no other call needs

    unknown = [option for option in options if option not in taken]
    if not why:
        taken |= _OWN.get(name, frozenset())
    hints = [f" (did you mean {near[0]}?)" if (near := get_close_matches(n, taken, 1)) else "" for n in unknown]
    given = ", ".join(sorted(map("".join, zip(unknown, hints, strict=True))))
    return f"{name} does not take {given}{why}; it takes {', '.join(sorted(taken))}"


def check_wrt(wrt: object, operands: tuple[str, ...]) -> tuple[str, ...]:
    """The operands to differentiate by, in their order."""
    if isinstance(wrt, (tuple, list)) and all([type(name) is str for name in wrt]):  # noqa: C419 - in less time
        ordered = tuple([name for name in operands if name in wrt])
        if len(ordered) == len(wrt):  # no stranger among them, none twice
            return ordered
    raise ValueError(f"wrt must be a tuple of distinct names out of {operands}, got {wrt!r}")


_COUNTS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"


def check_out(out: object, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The entries of ``out``, one for each of these names; whether they are arrays is the backend's to say."""
    if not isinstance(out, (tuple, list)) or len(out) != len(names):
        raise ValueError(
            f"out must be a LossGrad or tuple of {_COUNTS[len(names)]}, ({', '.join(names)}), any of them None; got "
            f"{out!r}"
        )
    return tuple(out)
