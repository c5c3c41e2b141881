"""Weighted least squares with one design and many weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._meaning import check_rows
from ._arrays import floats, library, system, weights_for

_ROWS = 4096  # at a time: from cache, and below what BLAS starts threads for, all is several times as fast

_INDEPENDENT = 1e-4  # the least eigenvalue of the correlations of columns that are far from depending on each other


def blocks(xp: Any, n: int, rows: int = _ROWS) -> Iterator[slice]:
    """All rows, a few at a time on the CPU."""
    rows = rows if xp is np else max(n, 1)
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def triangle(xp: Any, X: Any, root: Any = None, size: Any = None) -> Any:
    """R of the QR factors of X, shape (k, k); of its columns over their sizes, its rows times the roots of weights."""
    n, k = X.shape

    def rows(part: slice) -> Any:
        block = X[part] if size is None else X[part] / size
        return block if root is None else block * root[part, None]

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


def whitening(xp: Any, R: Any, least: float) -> Any:
    """``map`` with ``map' R' R map = 1``, a column for each singular value of R above that part of the largest."""
    _, values, directions = xp.linalg.svd(R)
    rank = int((values > least * values[:1].sum()).sum())
    return directions[:rank].T / values[:rank]


class LinearModel:
    """X = Q R with Q'Q = 1, and weighted least squares in coefficients gamma of Q.

    Q'WQ is as well conditioned as the weights, whatever X is. Where columns of X depend on each other (after division
    by their largest elements), solutions are those of the least norm. Rows with a weight of 0 are left out.
    """

    def __init__(self, X: Any, y: Any, weights: Any) -> None:
        check_rows(X=X, y=y, weights=weights)
        self.xp = xp = library("X", X)
        self.X, self.y = X, y = system(xp, X, y)
        self.weights = weights_for(xp, weights, y)
        if self.weights is not None:
            used = self.weights > 0
            X, y = xp.where(used[:, None], X, 0), xp.where(used, y, 0)
        if not (bool(xp.isfinite(X).all()) and bool(xp.isfinite(y).all())):
            raise ValueError("X or y holds NaN or infinity: leave such rows out, or give them a weight of 0")
        self.target = y
        n, k = X.shape
        size = xp.stack([abs(X[part]).max(axis=0) for part in blocks(xp, n)]).max(axis=0)
        size = xp.where(size > 0, size, xp.ones_like(size))
        map = whitening(xp, triangle(xp, X, size=size), np.finfo(X.dtype).eps * max(n, k))
        self.map = map / size[:, None]
        self.Q = xp.empty((n, map.shape[1]), dtype=X.dtype, order="F")  # columns in one piece: products are faster
        for part in blocks(xp, n):
            xp.matmul(X[part] / size, map, out=self.Q[part])

    def rounding(self) -> float:
        """What rounding leaves of the residuals: no step, and no change of them, can be told below."""
        return float(np.finfo(self.Q.dtype).eps) * float(abs(self.target).max())

    def gamma(self, beta: Any) -> Any:
        """For coefficients of X."""
        beta = floats(self.xp, "start", beta)
        if beta.shape != self.X.shape[1:]:
            raise ValueError(f"start must have shape {self.X.shape[1:]}, one entry a column of X, got {beta.shape}")
        return self.xp.linalg.lstsq(self.map, beta.astype(self.X.dtype, copy=False), rcond=None)[0]

    def coefficients(self, gamma: Any) -> Any:
        """Of X."""
        return self.map @ gamma

    def residuals(self, gamma: Any) -> Any:
        return self.target - self.Q @ gamma

    def all_residuals(self, gamma: Any) -> Any:
        """Those of left-out rows, too."""
        return self.residuals(gamma) if self.weights is None else self.y - self.X @ self.coefficients(gamma)

    def step(self, relative: Any, residuals: Any) -> Any:
        """What to add to gamma for the least sum of squares, with those weights times the rows' own."""
        if relative is None:
            relative = self.xp.ones_like(self.target) if self.weights is None else self.weights
        elif self.weights is not None:
            relative = relative * self.weights
        rank = self.Q.shape[1]
        gram, target = self.xp.zeros((rank, rank), dtype=self.Q.dtype), self.xp.zeros(rank, dtype=self.Q.dtype)
        for part in blocks(self.xp, len(self.Q)):
            weighted = self.Q[part].T * relative[part]
            gram += weighted @ self.Q[part]
            target += weighted @ residuals[part]
        return self.xp.linalg.lstsq(gram, target, rcond=None)[0]

    def solve(self, relative: Any) -> Any:
        """The gamma of the least sum of squares."""
        return self.step(relative, self.target)
