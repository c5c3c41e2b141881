"""Triggs' correction: a robust problem as one of least squares, near a point."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import weight
from .._loss import Loss
from .._types import Array, ArrayLike, Namespace
from ._arrays import SADDLE, double, exponents, floats, library, lowest, powers
from ._unit_loss import UnitLoss, chosen

_SECOND = 1e-3  # of the first-order term: where less is left of the curvature, the first-order term alone is used
_FARTHEST = 1e300  # residuals in units of the scale
_SMALL = 1e-200  # sums of squares that may have lost digits
_FAR = 1e3  # residuals that matter: a corrected one beyond that many


def norm(xp: Namespace, v: Array) -> float:
    """The Euclidean length of a vector, infinite where the sum of squares overflows."""
    with np.errstate(over="ignore"):
        return float(xp.sqrt((v * v).sum()))


def _curvatures(xp: Namespace, z: Array, rho: UnitLoss) -> tuple[Array, Array, Array]:
    """psi/r, rho'', and which of the two is taken, at scale 1."""
    first, second = rho.weight(z), rho.curvature(z)
    return first, second, xp.where(second > _SECOND * first, second, first)


def triggs_factors(
    residuals: ArrayLike, alpha: float | None = None, scale: float | None = None, *, loss: Loss | None = None
) -> tuple[Any, Any]:
    """Factors that make a least-squares problem of a robust one, locally: for the residuals, and for rows of J.

    Parameters
    ----------
    residuals : array of NumPy or CuPy, any shape
    alpha, scale : float
        Shape in [-inf, inf], and c > 0 in the units of the residuals.
    loss : fastrobust.losses.Loss, in place of alpha
        As in `irls`; the scale is 1 then, unless it is given.

    Returns
    -------
    residual_factor, jacobian_factor : arrays of the residuals' shape
        With r~ = residual_factor r and J~ = jacobian_factor[:, None] J, the gradient J~' r~ is that of sum rho(r), and
        J~' J~ the Gauss-Newton approximation of its Hessian: rho'' J J' where rho'' is positive, and the first-order
        psi/r J J' elsewhere, so that no outlier makes it indefinite.

    Notes
    -----
    Triggs et al., Bundle Adjustment: A Modern Synthesis, 1999, section 4.3. Ceres Solver has the same corrector, and
    drops the second-order term wherever the loss bends down, for alpha < 2 everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import triggs_factors
    >>> of_residuals, of_rows = triggs_factors(np.array([0.0, 1.0, 10.0]), 0.0, 1.0)
    >>> print((of_residuals * of_rows).round(4), of_rows.round(4))
    [1.     0.6667 0.0196] [1.     0.4714 0.14  ]
    """
    xp = library("residuals", residuals)
    residuals = floats(xp, "residuals", residuals)
    rho, scale = chosen("triggs_factors", alpha, scale, loss)
    tiny, huge = float(np.finfo(residuals.dtype).tiny), float(np.finfo(residuals.dtype).max)
    if not tiny <= 1 / scale <= huge:
        raise ValueError(f"scale must have an inverse in {residuals.dtype}, got {scale:g}: change the residuals' units")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # No square of the scale, and no sum of float32: where psi/r of an outlier is below its range, its root is not.
        first, _, taken = _curvatures(xp, double(residuals) / scale, rho)
        rows = xp.sqrt(taken)
        usual = (taken > 0) & (taken < math.inf)
        factors = [xp.where(usual, first / xp.where(usual, rows, 1), first), rows]
        if rho.alpha is not None and rho.alpha > 2:
            alpha = rho.alpha
            # psi/r = (1 + z^2/b)^(b/2), b = alpha - 2, overflows before its root, which is that of z^2/2 and b/2; rho''
            # is larger by 1 + b u/(1 + u), u = z^2/b.
            z = xp.clip(abs(double(residuals) / scale), 1, _FARTHEST)
            root = weight(z * math.sqrt(0.5), 1 + alpha / 2, 1.0)
            ratio = xp.hypot(1, z if math.isinf(alpha) else xp.sqrt((alpha - 2) / (1 + (alpha - 2) / z / z)))
            far = root / ratio, root * ratio
            factors = [xp.where(taken < math.inf, *pair) for pair in zip(factors, far, strict=True)]
        left, right = ((factor / scale).astype(residuals.dtype) for factor in factors)
    return left, right


class Corrected(NamedTuple):
    """The problem near a point, in units of the scale and of the columns, in which nothing over- or underflows."""

    plain: Array  # the Jacobian
    z: Array
    target: Array  # corrected residuals
    rows: Array  # corrected Jacobian, columns of length 1, or 0
    bends: Array  # the correction of rows: how much each counts
    ratio: Array  # of the second derivative to what was taken for it
    scale: tuple[float, int]  # its mantissa and exponent
    exponents: Array  # of the columns
    norms: Array  # what else they were divided by
    height: float  # of whose square changes of the sum are multiples

    @classmethod
    def near(
        cls, xp: Namespace, plain: Array, residuals: Array, share: Array | None, rho: UnitLoss, scale: float
    ) -> Corrected:
        """The problem near a point with that Jacobian and these residuals; ``share`` are the roots of weights, or None.

        Rows with a weight of 0 become zeros. Columns are divided by powers of two, which is exact, and the rows by
        another one; only then are the columns brought to length 1, by norms whose squares are in range.
        """
        matrix, z = double(plain), double(residuals)
        if share is not None:
            matrix, z = xp.where(share[:, None] > 0, matrix, 0), xp.where(share > 0, z, 0)
        largest = abs(matrix).max(axis=0)  # NaN, if there is one
        if not bool(xp.isfinite(largest).all()):
            raise ValueError("jac(x) holds NaN or infinity where the weight is not 0")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # far out, where nothing counts
            z = xp.clip(z / scale, -_FARTHEST, _FARTHEST)
            first, second, taken = _curvatures(xp, z, rho)
            rho.finite(float(taken.max()), scale)
            root = xp.sqrt(taken)
            target = xp.where(taken > 0, first * z / xp.where(taken > 0, root, 1), 0)
            ratio = xp.where(taken > 0, second / xp.where(taken > 0, taken, 1), 0)
            if share is not None:
                root, target = root * share, target * share
            height = float(powers(xp, exponents(xp, root.max())))
            root, target = root / height, target / height
            columns = exponents(xp, largest)
            rows = matrix / powers(xp, columns)
            rows *= root[:, None]
            squares = (rows * rows).sum(axis=0)
            if not float(squares.min()) > _SMALL:
                # Those that count are small beside far ones that do not, and must not lose their digits to these.
                left = exponents(xp, abs(rows).max(axis=0))
                rows /= powers(xp, left)
                columns, squares = columns + left, (rows * rows).sum(axis=0)
            norms = xp.where(squares > 0, xp.sqrt(squares), 1)
            rows /= norms
        return cls(plain, z, target, rows, root, ratio, math.frexp(scale), columns, norms, height)

    def change(self, xp: Namespace, step: Array) -> Array:
        """The change of x for a step in units of the columns."""
        mantissa, exponent = self.scale
        with np.errstate(over="ignore", under="ignore"):
            return xp.ldexp(step / self.norms * mantissa, exponent - self.exponents)

    def in_columns(self, xp: Namespace, x: Array) -> Array:
        """x in units of the columns, infinite where the products overflow."""
        mantissa, exponent = self.scale
        with np.errstate(over="ignore", under="ignore"):
            return xp.ldexp(double(x) / mantissa, self.exponents - exponent) * self.norms

    def slope(self, xp: Namespace) -> Array:
        """The gradient of the sum by x, over the square of the weights' unit."""
        mantissa, exponent = self.scale
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            gradient = (self.rows.T @ self.target) * self.norms * self.height**2 / mantissa
            return xp.ldexp(gradient, self.exponents - exponent)

    def gradient(self, xp: Namespace, other: Corrected) -> float:
        """The largest cosine of the residuals with a column, times their length, in the units of another point."""
        columns = xp.ldexp(self.norms / other.norms, self.exponents - other.exponents)
        return float(abs((self.rows.T @ self.target) * columns).max()) * self.height * (self.height / other.height)

    def rounding(self, xp: Namespace, x: Array, eps: float) -> Array:
        """The effect of rounding on residuals and on what they are differences of, in units of the corrected ones."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            size = abs(self.rows) @ abs(self.in_columns(xp, x)) + self.bends * abs(self.z)
        return xp.where(self.bends > 0, eps * size, 0)

    def step(self, xp: Namespace, damping: float, usual: float) -> Array:
        """The damped step, in units of the columns; ``usual`` is the size of residuals that matter."""
        k = self.rows.shape[1]
        damped = xp.concatenate((self.rows, math.sqrt(damping) * xp.eye(k)))
        far = abs(self.target) > _FAR * usual
        # As a least-squares problem of its own, which squares no condition number.
        target = xp.concatenate((xp.where(far, 0, self.target), xp.zeros(k)))
        step = -xp.linalg.lstsq(damped, target, rcond=None)[0]
        if bool(far.any()):
            # Targets that large, of rows that hardly count, would cover the others by rounding; their pull does not.
            R = xp.linalg.qr(damped, mode="r")
            pull = self.rows.T @ xp.where(far, self.target, 0)
            step = step - xp.linalg.lstsq(R, xp.linalg.lstsq(R.T, pull, rcond=None)[0], rcond=None)[0]
        return step

    def downwards(self, xp: Namespace) -> tuple[Array, float] | None:
        """A step along which the sum bends down, of residuals by one scale at most, and its reduction; or None."""
        size, bend = ((self.rows.T * part) @ self.rows for part in (abs(self.ratio), self.ratio))
        least, along = lowest(xp, size, bend)
        if least >= SADDLE:
            return None
        moves = xp.where(self.bends > 0, self.rows @ along / xp.where(self.bends > 0, self.bends, 1), 0)
        along = along / float(abs(moves).max())
        return along, -0.5 * float(along @ bend @ along) * self.height**2
