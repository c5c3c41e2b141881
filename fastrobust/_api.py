"""The public functions: what they promise, argument checks, dispatch by array type.

Conventions for all of them. ``x`` are residuals, ``alpha`` the shape in [-inf, inf], ``scale`` = c > 0 in the units of
x; they broadcast. rho is dimensionless and has curvature 1/c^2 at 0: other libraries' kernels with unit curvature are
c^2 rho. Source of all formulas: J. T. Barron, A General and Adaptive Robust Loss Function, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

from . import _call, _evaluate
from ._types import ArrayLike, LossGrad, PartitionGrad, Shaped
from .kernels.compilers.alone import imported

Reduction = Literal["none", "sum", "mean"]
Out = Shaped | tuple[Shaped | None, ...] | None  # memory for a result, as a ufunc takes it


def loss(
    x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, *, reduction: Reduction = "none",
    weights: ArrayLike | None = None, out: Out = None, **options: Any,
) -> Any:  # fmt: skip
    """General robust loss rho(x, alpha, c).

    Parameters
    ----------
    x : array_like, any shape
        Residuals.
    alpha : array_like or float, broadcast with x
        A Python number (or a NumPy float64 scalar, which is one) or an integer array takes x's precision.
        Shape: 2 squared error / 2, 1 Charbonnier (pseudo-Huber), 0 Cauchy, -2 Geman-McClure, -inf Welsch.
    scale : array_like or float, broadcast with x
        c > 0, the residual at which the loss begins to bend, in the units of x. A number <= 0, of Python's or a scalar
        of NumPy's, is an error; in an array, with axes or without, such elements give NaN.
    reduction : {"none", "sum", "mean"}
        "mean" divides by the sum of the weights.
    weights : array_like, broadcast to x, optional
        Factor for each element. A weight of 0 excludes the element, whatever its value, NaN included; the element's
        part in the derivative in that weight is then 0, too.
    out : array, of the result's shape and x's library, or a tuple of it, optional
        Memory for the result, which is returned. Arrays of JAX cannot be written to, so these take none.
    **options
        On NumPy arrays with reduction="none" the others of a ufunc: ``where``, ``dtype``, ...

    Returns
    -------
    array
        Of x's library and the promoted dtype (float16, bfloat16, float32, float64; integers become float64), of the
        broadcast shape, or 0-d if reduced. Elements with NaN, or c <= 0, are NaN.

    Raises
    ------
    TypeError
        For arrays of an unknown library, of mixed libraries, of complex or object dtype, with units; in sums and with
        weights also for masked arrays, and for those that Dask has not computed.
    ValueError
        For shapes or labels that do not fit, an unknown reduction, a number ``scale <= 0``.

    Notes
    -----
    Series of pandas and arrays of xarray are aligned by their labels as in these libraries' own arithmetic; in sums and
    with weights the labels must be the same, in any order. Masked arrays keep their masks.

    rho = (b/alpha) ((z^2/b + 1)^(alpha/2) - 1) with z = x/c, b = |alpha - 2|, and its limits at alpha = 0, 2, +-inf
    (eq. 8). At most 4 ulp from the true value for c in [1e-6, 1e6], where representable; float32 on CPUs, and on
    GPUs fast in double, which is computed in doubles, at most 1.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> fr.loss(np.array([0.0, 1.0, 10.0]), 1.0, 1.0)
    array([0.        , 0.41421356, 9.04987562])
    >>> round(float(fr.loss(3.0, 0.0, 1.0)), 6)
    1.704748
    """
    if out is not None:
        options["out"] = out
    return _evaluate.value_of("loss", (x, alpha, scale), reduction, weights, options)


def influence(x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, *, out: Out = None, **options: Any) -> Any:
    """Influence psi(x, alpha, c) = d rho/dx.

    Parameters, returns and errors as in `loss`, ``out`` among them, without reduction and weights; ``options`` are the
    others of a ufunc.

    Notes
    -----
    psi = (x/c^2) (z^2/b + 1)^(alpha/2 - 1). At most 4 ulp from the true value; float32 on CPUs, and on GPUs fast in
    double, at most 1.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> fr.influence(np.array([-1.0, 0.0, 10.0]), 1.0, 1.0)
    array([-0.70710678,  0.        ,  0.99503719])
    """
    if out is not None:
        options["out"] = out
    return _evaluate.output_of("influence", "loss", "dx", (x, alpha, scale), options)


def weight(x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, *, out: Out = None, **options: Any) -> Any:
    """Weight psi(x, alpha, c)/x of iteratively reweighted least squares; 1/c^2 at x = 0.

    Parameters, returns and errors as in `loss`, ``out`` among them, without reduction and weights; ``options`` are the
    others of a ufunc.

    Notes
    -----
    (1/c^2) (z^2/b + 1)^(alpha/2 - 1). At most 4 ulp from the true value; float32 on CPUs, and on GPUs fast in
    double, at most 1.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> fr.weight(np.array([0.0, 1.0, 10.0]), 0.0, 2.0)
    array([0.25      , 0.22222222, 0.01851852])
    """
    if out is not None:
        options["out"] = out
    return _evaluate.output_of("weight", "loss", "weight", (x, alpha, scale), options)


def curvature(x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, *, out: Out = None, **options: Any) -> Any:
    """Curvature d^2 rho/dx^2; negative in the tails for alpha < 1.

    Parameters, returns and errors as in `loss`, ``out`` among them, without reduction and weights; ``options`` are the
    others of a ufunc.

    Notes
    -----
    weight (1 + (alpha - 2) u/(1 + u)), u = z^2/b. At most 8 ulp of the larger of weight and |curvature|; float32 on
    CPUs at most 1.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> fr.curvature(np.array([0.0, 1.0, 10.0]), 0.0, 1.0)
    array([ 1.        ,  0.22222222, -0.01883891])
    """
    if out is not None:
        options["out"] = out
    return _evaluate.output_of("curvature", "loss", "curvature", (x, alpha, scale), options)


def nll(
    x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, *, reduction: Reduction = "none",
    weights: ArrayLike | None = None, truncation: float | None = None, out: Out = None, **options: Any,
) -> Any:  # fmt: skip
    """Negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha).

    Parameters, returns and errors as in `loss`, ``out`` among them, but ``alpha >= 0``: below, the density is not
    normalizable, so elements of an array give inf and a number raises ValueError. It is the negative logarithm of a
    density, and so negative where the density exceeds 1.

    With ``truncation`` = tau > 0 the density is cut off at abs(x) = tau c, and so exists for every alpha, below 0 too:
    log Z is that of `log_partition` with the same tau. Residuals beyond lie outside of the density: inf. It takes no
    ``out`` and no other options then, and cannot be compiled by `torch.compile`.

    Notes
    -----
    Barron 2019, eq. 16 and 17. Minimized over alpha and c it makes the loss adaptive; rho alone would not be, since
    rho falls as alpha falls or c grows.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> round(float(fr.nll(np.array([0.0, 1.0, -2.0]), 2.0, 1.0, reduction="mean") - 5 / 6), 8)  # log(2 pi)/2
    0.91893853
    """
    if out is not None:
        options["out"] = out
    if truncation is not None:
        _call.check_options(
            "nll", options, frozenset(("reduction", "weights", "truncation")), " together with truncation"
        )
        _call.check_reduction(reduction)
        return _truncated().nll(x, alpha, scale, reduction, weights, truncation)
    return _evaluate.value_of("nll", (x, alpha, scale), reduction, weights, options)


def _truncated() -> ModuleType:
    """The module of the truncated density, imported where it is needed, since it needs NumPy."""
    return imported("fastrobust._truncated")


def log_partition(alpha: ArrayLike, *, truncation: float | None = None, out: Out = None, **options: Any) -> Any:
    """Log partition function log Z(alpha), Z(alpha) = int exp(-rho(x, alpha, 1)) dx, for alpha in [0, inf].

    Parameters
    ----------
    alpha : array_like or float
        Elements below 0 give inf, where the integral diverges; a number below 0 raises ValueError.
    truncation : float, optional
        tau > 0: the integral from -tau to tau instead, finite for every alpha in [-inf, inf].
    out : array, of alpha's shape and library, or a tuple of it, optional
        Memory for the result, which is returned; not together with a truncation, and not for arrays of JAX.
    **options
        On NumPy arrays the others of a ufunc: ``where``, ``dtype``, ...

    Returns
    -------
    array
        Of alpha's library, shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As in `loss`.

    Notes
    -----
    Piecewise polynomials fitted to quadrature in 30 digits: at most 2 ulp of max(1, log Z) in float32, 4 in float64.
    With a truncation, by quadrature: within 1e-14 of max(1, abs(log Z)) in float64, about 2 us an element (Chebrolu et
    al., arXiv 2004.14938).

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> np.exp(fr.log_partition(np.array([0.0, 2.0, np.inf])))
    array([4.44288294, 2.50662827, 2.02437347])
    >>> round(float(np.exp(fr.log_partition(-2.0, truncation=3.0))), 8)
    3.3374978
    """
    if out is not None:
        options["out"] = out
    if truncation is not None:
        _call.check_options("log_partition", options, frozenset(("truncation",)), " together with truncation")
        return _truncated().log_partition(alpha, truncation)
    return _evaluate.value_of("log_partition", (alpha,), "none", None, options)


def log_partition_and_grad(alpha: ArrayLike, *, truncation: float | None = None) -> PartitionGrad:
    """log Z(alpha) and its derivative, as `PartitionGrad`.

    Parameters as in `log_partition`, without options. The derivative has a logarithmic pole at 2; there it is that at
    2 - epsilon, and for alpha < 0 it is NaN unless truncated. At most 8 ulp from the true value in float32, 32 in
    float64.

    Examples
    --------
    >>> import fastrobust as fr
    >>> [round(float(v), 8) for v in fr.log_partition_and_grad(1.0)]
    [1.18549523, -0.19287002]
    """
    if truncation is not None:
        return _truncated().log_partition_and_grad(alpha, truncation)
    return PartitionGrad(*_evaluate.value_and_grad("log_partition", (alpha,), "none", None, ("alpha",), None))


def loss_and_grad(
    x: ArrayLike,
    alpha: ArrayLike,
    scale: ArrayLike,
    *,
    reduction: Reduction = "none",
    weights: ArrayLike | None = None,
    wrt: Sequence[str] = _call.WRT,
    out: Sequence[Shaped | None] | None = None,
) -> LossGrad:
    """Loss rho and its partial derivatives in x, alpha and c, in one pass.

    Parameters
    ----------
    x, alpha, scale, reduction, weights
        As in `loss`.
    wrt : tuple out of ("x", "alpha", "scale")
        What to differentiate by; other gradients are not computed and come back as None.
    out : LossGrad or tuple of four, entries arrays or None
        Memory for the results. On 10^7 elements the page faults of fresh arrays cost as much as the arithmetic.

    Returns
    -------
    LossGrad
        ``value, dx, dalpha, dscale``. With reduction="none" each has the broadcast shape. With "sum" or "mean", value
        is 0-d, dx has the broadcast shape, and **dalpha and dscale have the shapes of alpha and scale**: the
        vector-Jacobian product. The sums are the same bits whatever the number of threads.

    Raises
    ------
    TypeError, ValueError
        As in `loss`.

    Notes
    -----
    d rho/dalpha is nonnegative everywhere. At alpha = 2, where it diverges logarithmically, it is that at 2 - epsilon:
    finite, so that an optimizer can leave. d rho/dalpha within 8 ulp, the others within 4; float32 on CPUs, and
    on GPUs fast in double, within 1.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> g = fr.loss_and_grad(np.array([0.1, 3.0]), 1.0, np.array(1.0), reduction="mean")
    >>> g.dx, g.dscale.shape
    (array([0.04975186, 0.47434165]), ())
    >>> round(float(fr.loss_and_grad(3.0, 0.0, 1.0).dalpha), 8)
    0.28325838
    """
    return LossGrad(*_evaluate.value_and_grad("loss", (x, alpha, scale), reduction, weights, wrt, out))


def nll_and_grad(
    x: ArrayLike,
    alpha: ArrayLike,
    scale: ArrayLike,
    *,
    reduction: Reduction = "none",
    weights: ArrayLike | None = None,
    truncation: float | None = None,
    wrt: Sequence[str] = _call.WRT,
    out: Sequence[Shaped | None] | None = None,
) -> LossGrad:
    """Negative log-likelihood and its partial derivatives in x, alpha and c, in one pass.

    Parameters, returns and errors as in `loss_and_grad`, with alpha and truncation as in `nll`. With a truncation, for
    arrays of NumPy and CuPy, without ``out``, and in several passes; derivatives of what lies outside are 0.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> x = np.array([-0.3, 0.1, 0.2, 8.0])
    >>> g = fr.nll_and_grad(x, 0.5, 0.3, reduction="mean")
    >>> [round(float(v), 6) for v in (g.value, g.dalpha, g.dscale)]
    [3.005169, 3.789669, -3.450918]
    """
    if truncation is not None:
        if out is not None:
            raise TypeError("nll_and_grad does not take out together with truncation: leave one of them out")
        _call.check_reduction(reduction)
        return _truncated().nll_and_grad(x, alpha, scale, reduction, weights, wrt, truncation)
    return LossGrad(*_evaluate.value_and_grad("nll", (x, alpha, scale), reduction, weights, wrt, out))
