"""The mean loss or negative log-likelihood of a linear model, and ways downhill from a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from .. import curvature, loss_and_grad, nll_and_grad
from .._arguments import ALPHA_RANGE
from .._types import LossGrad
from ._arrays import called
from ._unit_loss import UnitLoss
from ._whitened import blocks

Doubles = NDArray[np.float64]  # of NumPy, while the loops take others too

CLOSE = 1e-5  # where L-BFGS-B hands over to Newton: the projected gradient of the mean, in units of the scale
GRADIENT = 1e-9  # where it goes on after all
ROUNDING = 1e-12  # where Newton stops: another step changes nothing
NEWTON = 16  # steps at most: from CLOSE it takes two to six


class Design:
    """``[1 X] = Q [1 map^-1]``, or without the 1: ``Q' Q = n`` as far as X has the rank, and Q is never formed."""

    def __init__(self, X: Doubles, map: Doubles, intercept: bool) -> None:
        self.X, self.map, self.intercept = X, map, int(intercept)
        self.n, self.k = len(X), map.shape[1] + intercept

    def coefficients(self, gamma: Doubles) -> Doubles:
        """The coefficients of the columns of X, of those of Q, whose first may be the intercept's."""
        beta: Doubles = self.map @ gamma[self.intercept :]
        return beta

    def predict(self, gamma: Doubles, out: Doubles) -> Doubles:
        """The fitted values of all rows, Q gamma, written into ``out``."""
        np.matmul(self.X, self.coefficients(gamma), out=out)
        if self.intercept:
            out += gamma[0]
        return out

    def project(self, v: Doubles) -> Doubles:
        """The transpose of ``predict``."""
        return np.concatenate(([v.sum()] * self.intercept, self.map.T @ (self.X.T @ v)))

    def rows(self, part: slice) -> Doubles:
        """A block of whitened rows."""
        block = self.X[part] @ self.map
        return np.column_stack((np.ones(len(block)), block)) if self.intercept else block


@dataclass(frozen=True)
class Point:
    """Coefficients of Q, shape and scale, and what is known of the mean there."""

    gamma: Doubles
    alpha: float
    scale: float
    value: float = math.inf
    gradient: float = math.inf  # the largest element of the projected one, coefficients in units of the scale
    iterations: int = 0


class Stopped(Exception):
    """The callback has ended the fit, at the point that it was shown."""

    def __init__(self, point: Point) -> None:
        super().__init__("stopped by the callback")
        self.point = point


class Tell:
    """News of a fit for its callback, which may end the fit as SciPy's do, by StopIteration: after an iteration."""

    def __init__(self, callback: Callable[[OptimizeResult], object] | None) -> None:
        self._stops, self.stopped = called(callback), False
        self.offset = 0.0  # of the mean in the units of the data from that of the problem

    def __call__(self, what: str, point: Point | None = None) -> None:
        """Say what is done, and how far that is."""
        shown = OptimizeResult(message=what)
        if point is not None:
            fun = point.value + self.offset
            what = f"{what}: iteration {point.iterations}, mean {fun:.9g}"
            shown = OptimizeResult(message=what, nit=point.iterations, fun=fun)
        self.stopped = self.stopped or self._stops(lambda: shown)
        if self.stopped and point is not None:
            raise Stopped(point)


class Problem:
    """The mean loss or negative log-likelihood of some rows, as a function of what is to be estimated."""

    def __init__(
        self, design: Design, y: Doubles, weights: Doubles | None, alpha: float | None, scale: float | None,
        floor: float, low: float, own: UnitLoss | None = None,
    ) -> None:  # fmt: skip
        self.design, self.y, self.weights = design, y, weights
        self.alpha, self.scale, self.floor, self.low = alpha, scale, floor, low
        self.own = own  # in place of Barron's loss, in units of its weight at 0; alpha is NaN then
        self.evaluate: Callable[..., LossGrad] = loss_and_grad if alpha is not None and alpha < 0 else nll_and_grad
        if own is not None:
            self.evaluate = own.evaluate
        # Always the same gradients, also where only the value is wanted: each choice is a kernel to compile.
        self.wrt = ("x", *(["alpha"] if alpha is None else []), *(["scale"] if scale is None else []))
        self.r, self.dx = np.empty_like(y), np.empty_like(y)
        low_high = [(-np.inf, np.inf)] * design.k + [(low, ALPHA_RANGE[1])] * (alpha is None)
        high = 1e6 * max(1.0, float(np.abs(y).max()))  # no fit is that bad, but a step of the line search may be
        low_high += [(math.log(floor), math.log(high))] * (scale is None)
        self.bounds = np.array(low_high).reshape(-1, 2)

    def part(self, rows: NDArray[np.intp] | slice, weights: Doubles | None) -> Problem:
        """A problem with the same mean over some of the rows, with weights of their own."""
        design = Design(np.asfortranarray(self.design.X[rows]), self.design.map, bool(self.design.intercept))
        return Problem(design, self.y[rows], weights, self.alpha, self.scale, self.floor, self.low, self.own)

    def residuals(self, gamma: Doubles) -> Doubles:
        """The residuals of all rows, in memory that the next call uses again."""
        self.design.predict(gamma, out=self.r)
        return np.subtract(self.y, self.r, out=self.r)

    def theta(self, point: Point) -> Doubles:
        """Coefficients, alpha and the logarithm of the scale, the estimated ones."""
        more = [point.alpha] * (self.alpha is None) + [math.log(point.scale)] * (self.scale is None)
        return np.concatenate((point.gamma, more))

    def unit(self, point: Point) -> Doubles:
        """Steps of ``theta`` that are alike: coefficients in units of the scale."""
        return np.concatenate((np.full(self.design.k, point.scale), np.ones(len(self.theta(point)) - self.design.k)))

    def point(self, theta: Doubles) -> Point:
        """The point at ``theta``, with what is fixed, and nothing known of the mean."""
        k = self.design.k
        alpha = float(theta[k]) if self.alpha is None else self.alpha
        return Point(theta[:k].copy(), alpha, math.exp(float(theta[-1])) if self.scale is None else self.scale)

    def slope(self, point: Point) -> tuple[float, Doubles]:
        """The mean and its gradient by ``theta``."""
        r = self.residuals(point.gamma)
        out = (None, self.dx, None, None)
        mean = self.evaluate(r, point.alpha, point.scale, reduction="mean", weights=self.weights, out=out, wrt=self.wrt)
        more = [float(mean.dalpha)] if self.alpha is None else []
        more += [point.scale * float(mean.dscale)] if self.scale is None else []
        return float(mean.value), np.concatenate((-self.design.project(self.dx), more))

    def measured(self, point: Point, iterations: int) -> tuple[Point, Doubles]:
        """The point with its value and its projected gradient, coefficients in units of the scale; and the gradient."""
        value, gradient = self.slope(point)
        gradient[: self.design.k] *= point.scale
        theta, (low, high) = self.theta(point), self.bounds.T
        size = np.abs(theta - np.clip(theta - gradient, low, high))[self.design.k :].max(initial=0.0)
        size = max(float(size), float(np.abs(gradient[: self.design.k]).max(initial=0.0)))
        return Point(point.gamma, point.alpha, point.scale, value, size, iterations), gradient

    def descend(self, start: Point, tell: Tell, what: str, stop: float = CLOSE) -> Point:
        """L-BFGS-B from a start. Coefficients move in units of the starting scale, and the scale by its logarithm."""
        k, origin, steps = self.design.k, self.theta(start), start.iterations
        if len(origin) == 0:
            return self.measured(start, 0)[0]
        unit = self.unit(start)
        origin[k:] = 0.0

        def function(x: Doubles) -> tuple[float, Doubles]:
            """The mean and its gradient for SciPy, in steps from the start that are alike."""
            value, gradient = self.slope(self.point(origin + unit * x))
            gradient *= unit
            if not (math.isfinite(value) and np.isfinite(gradient).all()):
                # alpha > 2 overflows far from the fit: a high plateau sends the line search back.
                return 1e10, np.zeros_like(x)
            return value, gradient

        def progress(intermediate_result: OptimizeResult) -> None:
            nonlocal steps
            steps += 1
            point = self.point(origin + unit * intermediate_result.x)
            tell(what, replace(point, value=float(intermediate_result.fun), iterations=steps))

        x0 = np.concatenate((np.zeros(k), self.theta(start)[k:]))
        options = {"maxcor": 20, "ftol": 0.0, "gtol": stop, "maxiter": 1000, "maxfun": 3000, "maxls": 40}
        result = minimize(
            function, x0, jac=True, method="L-BFGS-B", bounds=self.bounds, callback=progress, options=options
        )
        return self.measured(self.point(origin + unit * result.x), steps)[0]

    def newton(self, start: Point, tell: Tell, what: str, hessian: Doubles | None = None) -> Point:
        """Newton's method while it helps. alpha stays at an end of its range where the gradient points beyond.

        It begins with that Hessian, if one is given, and keeps each for as long as a step leaves a fifth: a new one
        takes as long as several steps.
        """
        low, high = self.bounds.T
        best, gradient = self.measured(start, start.iterations)
        fresh = False
        for _ in range(NEWTON):
            if best.gradient <= ROUNDING:
                break
            if hessian is None:
                hessian, fresh = self.hessian(best, gradient), True
            theta = self.theta(best)
            free = np.flatnonzero(~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))))
            unit = self.unit(best)
            moved = theta.copy()
            try:
                H = hessian[np.ix_(free, free)]
                np.linalg.cholesky(H)
                moved[free] -= unit[free] * np.linalg.solve(H, gradient[free])
            except np.linalg.LinAlgError:
                helped = False
            else:
                moved = np.clip(moved, low, high)
                next_, next_gradient = self.measured(self.point(moved), best.iterations + 1)
                no_worse = next_.value <= best.value + 1e-9 * (1 + abs(best.value))
                helped = next_.gradient < 0.5 * best.gradient and no_worse
            if helped:
                slow = next_.gradient > 0.2 * best.gradient
                best, gradient = next_, next_gradient
                tell(what, best)
            elif fresh:
                break
            fresh = False
            if not helped or slow:
                hessian = None
        return best

    def hessian(self, point: Point, gradient: Doubles) -> Doubles:
        """The second derivatives: of the coefficients exactly; for alpha and the scale by differences of gradients."""
        k, theta, unit = self.design.k, self.theta(point), self.unit(point)
        H = np.zeros((len(theta), len(theta)))
        for j in range(k, len(theta)):
            moved = theta.copy()
            moved[j] += 1e-6 if theta[j] + 1e-6 < self.bounds[j, 1] else -1e-6
            H[:, j] = H[j, :] = (self.slope(self.point(moved))[1] * unit - gradient) / (moved[j] - theta[j])
        slope: Doubles = self.residuals(point.gamma) / point.scale
        if self.own is None:
            curvature(slope, point.alpha, 1.0, out=slope)
        else:
            slope = np.asarray(self.own.curvature(slope)) / self.own.top
        slope /= len(slope) if self.weights is None else self.weights.sum()
        if self.weights is not None:
            slope *= self.weights
        for part in blocks(np, self.design.n):
            Q = self.design.rows(part)
            H[:k, :k] += (Q.T * slope[part]) @ Q
        return H

    def polish(self, start: Point, tell: Tell, what: str) -> Point:
        """Descend to rounding, as far as that goes."""
        point = start
        for stop in (CLOSE, GRADIENT):
            if point.gradient > GRADIENT:
                point = self.descend(point, tell, what, stop)
            if point.gradient > ROUNDING:
                point = self.newton(point, tell, what)
        return point
