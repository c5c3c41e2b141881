"""Weighted least squares with one design and many weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from .._meaning import check_rows
from .._types import Array, ArrayLike, Namespace
from ._arrays import double, exponents, floats, library, lowest, powers, system, weights_for

_ROWS = 4096  # at a time: from cache, and below what BLAS starts threads for, all is several times as fast
_LOPSIDED = 1e-8  # the least ratio of eigenvalues at which normal equations keep half of their digits
_FAR = 1e150  # of whitened rows without a weight, beyond which their size does not matter
_LEVERAGE = 0.5  # of a row that determines its own fitted value more than all others together
_ROUNDS = 10  # of looking for such rows behind those that are found
_INDEPENDENT = 1e-4  # the least eigenvalue of the correlations of columns that are far from depending on each other

Matrix = TypeVar("Matrix", bound=Array)  # of the library of the arrays given


def blocks(xp: Namespace, n: int, rows: int = _ROWS) -> Iterator[slice]:
    """All rows, a few at a time on the CPU."""
    rows = rows if xp is np else max(n, 1)
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def triangle(xp: Namespace, X: Matrix, root: Array | None = None, size: Array | None = None) -> Matrix:
    """R of the QR factors of X, shape (k, k); of its columns over their sizes, its rows times the roots of weights."""
    n, k = X.shape

    def rows(part: slice) -> Array:
        block = X[part] if root is None else X[part] * root[part, None]
        return block if size is None else block / size

    gram = xp.zeros((k, k), dtype=X.dtype)
    for part in blocks(xp, n):
        block = rows(part)
        gram += block.T @ block
    length = xp.sqrt(xp.diag(gram))
    length = xp.where((length > 0) & xp.isfinite(length), length, xp.ones_like(length))
    gram = gram / length / length[:, None]
    # Cholesky's factor is right to eps times the condition number; a QR takes five times as long.
    if bool(xp.isfinite(gram).all()) and float(xp.linalg.eigvalsh(gram)[0]) > _INDEPENDENT:
        return xp.linalg.cholesky(gram).T * length
    R = xp.zeros((0, k), dtype=X.dtype)
    for part in blocks(xp, n, max(512, 4 * k)):
        R = xp.linalg.qr(xp.concatenate((R, rows(part))), mode="r")
    return xp.concatenate((R, xp.zeros((max(0, k - R.shape[0]), k), dtype=X.dtype)))


def whitening(xp: Namespace, R: Matrix, least: float) -> Matrix:
    """``map`` with ``map' R' R map = 1``, a column for each singular value of R above that part of the largest."""
    _, values, directions = xp.linalg.svd(R)
    rank = int((values > least * values[:1].sum()).sum())
    return directions[:rank].T / values[:rank]


class LinearModel:
    """X = Q R with Q'Q = 1, and weighted least squares in coefficients gamma of Q.

    Q'WQ is as well conditioned as the weights, whatever X is; where rows of leverage have lost their weight and it no
    longer is, X is whitened again, with the weights. Where columns of X depend on each other, solutions are those of
    the least norm, in units of the columns' sizes. Rows with a weight of 0 are left out. All is in float64 and in units
    that are powers of two, of the target and of each column, so that nothing over- or underflows.
    """

    def __init__(self, X: ArrayLike, y: ArrayLike, weights: ArrayLike | None, scale: float) -> None:
        check_rows(X=X, y=y, weights=weights)
        self.xp = xp = library("X", X)
        self.X, self.y, self.dtype = system(xp, X, y)
        self.weights = weights_for(xp, weights, self.y)
        used, target, share = self.X, self.y, xp.ones_like(self.y)
        if self.weights is not None:
            share = self.weights / powers(xp, exponents(xp, self.weights.max()))
            used, target = xp.where(share[:, None] > 0, used, 0), xp.where(share > 0, target, 0)
        self.share: Array = share
        # Column by column, which finds NaN, too, and takes no memory.
        largest = xp.stack([abs(used[part]).max(axis=0) for part in blocks(xp, len(used))]).max(axis=0)
        far = float(abs(target).max())
        if not (bool(xp.isfinite(largest).all()) and math.isfinite(far)):
            raise ValueError("X or y holds NaN or infinity: leave such rows out, or give them a weight of 0")
        # Of the scale, if targets are neither infinite nor subnormal in that unit.
        mantissa, exponent = math.frexp(scale)
        middle = math.frexp(far)[1] if far else exponent
        self.exponent = min(max(exponent - 1, middle - 900), middle + 100)
        unit = math.ldexp(1.0, self.exponent)
        self.scale = math.ldexp(mantissa, min(exponent - self.exponent, 1000))
        self.target, self.far = target / unit, far / unit
        self.used = used
        self.Q, self.map, self.columns = self._whitened(None)
        if self.map.shape[1] < used.shape[1] and bool((largest > 0).all()):
            # Far cells make columns look alike that are not: whatever the rows' sizes, the rank is the same.
            whitened = self._whitened(self._equalizing())
            if whitened[1].shape[1] > self.map.shape[1]:
                self.Q, self.map, self.columns = whitened
        self.determined = True  # by the rows that had a weight in the last step

    def _equalizing(self) -> Array:
        """Factors that make rows alike, in units of the columns' medians."""
        xp, X = self.xp, self.used
        size = xp.stack([xp.median(column[column > 0]) for column in (abs(X[:, j]) for j in range(X.shape[1]))])
        with np.errstate(over="ignore"):
            length = (abs(X) / powers(xp, exponents(xp, size))).max(axis=1)
        return 1 / xp.where(length > 0, xp.minimum(length, 1e300), 1)

    def _whitened(self, root: Array | None) -> tuple[Array, Array, Array]:
        """Q; the map of its coefficients to those of X in units of the columns; the exponents of these.

        With those roots of weights, Q'WQ = 1.
        """
        xp, X = self.xp, self.used
        n, k = X.shape
        parts = (X[part] if root is None else X[part] * root[part, None] for part in blocks(xp, n))
        columns = exponents(xp, xp.stack([abs(part).max(axis=0) for part in parts]).max(axis=0))
        size = powers(xp, columns)
        map = whitening(xp, triangle(xp, X, root, size), np.finfo(X.dtype).eps * max(n, k))
        Q = xp.empty((n, map.shape[1]), dtype=X.dtype, order="F")  # columns in one piece: products are faster
        for part in blocks(xp, n):
            if root is None:
                xp.matmul(X[part] / size, map, out=Q[part])
            else:
                with np.errstate(over="ignore"):
                    Q[part] = xp.clip(xp.clip(X[part] / size, -_FAR, _FAR) @ map, -_FAR, _FAR)
        return Q, map, columns

    def rounding(self, relative: Array) -> float:
        """The part of changes of fitted values that rounding leaves, in their unit, where rows have those weights."""
        weight = relative * self.share
        return 8 * float(np.finfo(np.float64).eps) * float((weight * abs(self.target)).max()) / float(weight.mean())

    def gamma(self, beta: ArrayLike) -> Array:
        """The whitened coordinates of coefficients of X."""
        given = floats(self.xp, "x0", beta)
        if given.shape != self.X.shape[1:]:
            raise ValueError(f"x0 must have shape {self.X.shape[1:]}, one entry a column of X, got {given.shape}")
        with np.errstate(over="ignore"):
            scaled = self.xp.ldexp(double(given), self.columns - self.exponent)
        if not bool(self.xp.isfinite(scaled).all()):
            raise ValueError(f"x0 must be finite, and so must X times it, got {beta!r}")
        return self._of(scaled)

    def _of(self, scaled: Array) -> Array:
        """The whitened coordinates of coefficients of X in units of the columns."""
        return self.xp.linalg.lstsq(self.map, scaled, rcond=None)[0]

    def coefficients(self, gamma: Array) -> Array:
        """The coefficients of X at these coordinates."""
        with np.errstate(over="ignore", under="ignore"):
            beta = self.xp.ldexp(self.map @ gamma, self.exponent - self.columns).astype(self.dtype)
        if not bool(self.xp.isfinite(beta).all()):
            raise ValueError(f"coefficients lie outside of the range of {self.dtype}: change the units of X or y")
        return beta

    def residuals(self, gamma: Array) -> Array:
        """The residuals in their unit; 0 for left-out rows."""
        return self.target - self.Q @ gamma

    def z(self, residuals: Array) -> Array:
        """The residuals in units of the scale."""
        with np.errstate(over="ignore"):
            return self.xp.clip(residuals / self.scale, -_FAR, _FAR)

    def all_residuals(self, gamma: Array) -> Array:
        """The residuals in the unit and dtype of the target, with those of left-out rows, too."""
        xp, residuals = self.xp, self.residuals(gamma)
        unit = math.ldexp(1.0, self.exponent)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # left-out rows may hold anything
            if self.weights is not None:
                fitted, size = self.map @ gamma, powers(xp, self.columns)
                residuals = xp.where(self.share > 0, residuals, self.y / unit - (self.X / size) @ fitted)
            return (residuals * unit).astype(self.dtype)

    def counted(self, relative: Array) -> Array:
        """The weights of all rows, 0 for left-out ones."""
        return relative if self.weights is None else self.xp.where(self.share > 0, relative, 0)

    def sums(self, weights: Array, pull: Array) -> tuple[Array, Array]:
        """Q'WQ and Q'p, with those weights and pulls times the rows' own weights."""
        if self.weights is not None:
            weights, pull = weights * self.share, pull * self.share
        rank = self.Q.shape[1]
        gram, target = self.xp.zeros((rank, rank)), self.xp.zeros(rank)
        for part in blocks(self.xp, len(self.Q)):
            block = self.Q[part].T
            gram += (block * weights[part]) @ self.Q[part]
            target += block @ pull[part]
        return gram, target

    def saddle(self, bend: Array) -> float:
        """The value of `lowest` for curvatures of the rows: negative where the sum has no minimum."""
        if not self.map.shape[1]:
            return 0.0
        return lowest(self.xp, self.sums(abs(bend), bend)[0], self.sums(bend, bend)[0])[0]

    def step(self, gamma: Array, relative: Array, pull: Array) -> tuple[Array, Array, float]:
        """Gamma, what to add to it, and the root mean square by which that changes the fitted values.

        The step makes the sum of squares least with those weights times the rows' own, which count in the mean, too;
        ``pull`` are the weights times residuals. Gamma is another one where X had to be whitened again.
        """
        gram, target = self.sums(relative, pull)
        if not len(gram):  # all columns are 0
            return gamma, target, 0.0
        values = self.xp.linalg.eigvalsh(gram)
        self.determined = True
        if not float(values[0]) > _LOPSIDED * float(values[-1]):
            weight = self.counted(relative) * self.share
            whitened = self._whitened(self.xp.sqrt(weight / weight.max()))
            self.determined = whitened[1].shape[1] == self.map.shape[1]
            if self.determined:
                scaled = self.xp.ldexp(self.map @ gamma, whitened[2] - self.columns)
                self.Q, self.map, self.columns = whitened
                gamma = self._of(scaled)
                gram, target = self.sums(relative, pull)
        step = self.xp.linalg.lstsq(gram, target, rcond=None)[0]
        total = float((relative if self.weights is None else relative * self.share).sum())
        size = float(abs(step).max()) or 1.0
        return gamma, step, size * math.sqrt(max(float(step / size @ gram @ (step / size)), 0.0) / total)

    def without_leverage(self, kept: Array | None) -> Array | None:
        """1 for rows, 0 for those of leverage that are not kept; None where there are none, or nothing is left."""
        xp, Q, factors = self.xp, self.Q, None
        counts = self.share > 0
        for _ in range(_ROUNDS):
            leverage = xp.zeros(len(Q))
            for j in range(Q.shape[1]):
                leverage += Q[:, j] * Q[:, j]
            far = counts & (leverage > _LEVERAGE)
            if kept is not None:
                far &= ~kept
            if not bool(far.any()):
                break
            counts = counts & ~far
            Q, map, _ = self._whitened(counts.astype(np.float64))
            if map.shape[1] < self.map.shape[1]:
                break
            factors = counts.astype(np.float64)
        return factors

    def solve(self, relative: Array | None) -> Array:
        """The gamma of the least sum of squares, with those weights times the rows' own, or None for these alone."""
        if relative is None:
            relative = self.xp.ones_like(self.target)
        return self.step(self.xp.zeros(self.Q.shape[1]), relative, relative * self.target)[1]
