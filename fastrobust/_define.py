"""Losses of the user's own: `define`, which `import fastrobust` can have without NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from .kernels.compilers.alone import imported

if TYPE_CHECKING:
    from ._loss import Loss
    from .kernels.losses.formula import Precision

__all__ = ["define"]

Ranges: TypeAlias = Mapping[str, tuple[float, float]]


@overload
def define(
    function: Callable[..., Any],
    /,
    *,
    params: str | Sequence[str] = (),
    precision: Precision = "auto",
    ranges: Ranges | None = None,
    dx: Callable[..., Any] | None = None,
) -> Loss: ...
@overload
def define(
    *,
    params: str | Sequence[str] = (),
    precision: Precision = "auto",
    ranges: Ranges | None = None,
    dx: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Loss]: ...
def define(
    function: Callable[..., Any] | None = None,
    /,
    *,
    params: str | Sequence[str] = (),
    precision: Precision = "auto",
    ranges: Ranges | None = None,
    dx: Callable[..., Any] | None = None,
) -> Any:
    """Make a loss of a function of numbers: with all derivatives, on arrays of every library, in one pass.

    Parameters
    ----------
    function : callable
        Of the operands of one element, numbers, to a number: arithmetic, comparisons with `fastrobust.math.where`, and
        the functions of `fastrobust.math`. It may call functions, and loop over constants. It is called once, with
        numbers that have no value yet, so that an ``if`` on one of them is an error.
    params : str or sequence of str
        The names of arguments that are parameters, last in the function, as "c tau": gradients in them are of their
        shapes. All others are data.
    precision : {"auto", "working", "wide"}
        The numbers inside: "working", those of the arrays; "wide", twice that precision, rounded once at the end;
        "auto" takes wide ones for each output that loses more than 4 units in the last place at some of a thousand
        points. In float32 wide numbers are doubles, with quicker functions (36 bits) where no digit shows it.
    ranges : mapping of str to (float, float), optional
        Between which numbers an operand is, for those points and for `Loss.accuracy`; others are tried at many sizes.
    dx : callable, optional
        The derivative in the first operand by hand, where the automatic one loses digits: a function of the same
        operands. `Loss.derivative` gives one in any operand.

    Returns
    -------
    Loss
        A `SumsLoss`, one number for all elements or those along some axes, if there is a ``sum`` or ``mean`` of
        `fastrobust.math` in the function; a decorator, if no function is given.

    Raises
    ------
    TypeError
        If the function cannot be traced; the message says what to write instead.
    ValueError
        For parameters that are no arguments of the function, or not its last ones; if the derivative by hand is another
        function than the automatic one: the message shows where.

    Notes
    -----
    The function is traced to a graph, in which what would cancel is rewritten (``log(1 + u)``, ``exp(x) - 1``,
    ``sqrt(1 + w) - 1``, ...) before it is differentiated. The derivative of a choice is the choice of the derivatives,
    so that no NaN comes from the side that is not taken; at ties it is that of the side that the function takes.

    A function with sums has its data in these alone, such as ``sum(x * target) / sum(x)``, and no sums of sums.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> from fastrobust.math import sqrt, where
    >>> @fr.define(params="c tau")
    ... def asymmetric(x, c, tau=0.5):
    ...     z = x / c
    ...     return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)
    >>> asymmetric(np.array([-1.0, 2.0]), 1.0, 0.3)
    array([0.28994949, 0.37082039])
    >>> g = asymmetric.value_and_grad(np.array([-1.0, 2.0]), 1.0, 0.3, reduction="mean")
    >>> round(float(g.dtau), 6)
    0.410927
    """
    if function is None:
        return lambda given: define(given, params=params, precision=precision, ranges=ranges, dx=dx)
    if not callable(function):
        raise TypeError(f"define takes a function, got {function!r:.100}: write @define(params='c') above it")
    if not (dx is None or callable(dx)):
        raise TypeError(f"dx must be a function of the same operands, got {dx!r:.100}: the derivative by hand")
    if precision not in ("auto", "working", "wide"):
        raise ValueError(f"precision must be 'auto', 'working' or 'wide', got {precision!r}")
    names = params.replace(",", " ").split() if isinstance(params, str) else tuple(params)
    return imported("fastrobust._defined").defined(function, names, precision, ranges, dx)
