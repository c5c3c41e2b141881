"""The inverse of rho at scale 1, and rho where x itself leaves the range, in operations that array libraries share.

With w = sqrt(2 rho(x, alpha, 1)), r = w^2/2 and q = log1p(alpha r/b) it is 1 + x^2/b = exp(2 q/alpha).  ``xp`` is the
array library; what it differentiates, it differentiates here.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Inverse", "loss_at_log", "where_loss_is"]


class Inverse:
    """The residual x as a function of w = sqrt(2 rho(x, alpha, 1)), and dx/dw = w/psi, for alpha >= 0.

    The formulas have their limits at 0, 2 and infinity within what ``least``, ``most`` and ``gap`` leave out: alpha is
    held between the first two, and away from 2 by the third.
    """

    def __init__(self, xp: Any, alpha: Any, least: float, most: float, gap: float) -> None:
        self.xp = xp
        self.a = xp.clip(alpha, least, most)
        self.b = xp.clip(abs(self.a - 2), gap, None)
        self.low = self.a < 3
        self.linear = xp.where(self.low, self.a, 0.0)

    def _at(self, w: Any) -> tuple[Any, Any]:
        """The square psi^2 exp(2 e) and e, the exponent in dx/dw = w/psi = w exp(e)/sqrt(square)."""
        # Below 3, x^2 is formed from d = (2/a - 1) q as exp(d) (a r - b expm1(-d)): near alpha = 2, exp(2 q/a) is large
        # and multiplied by b.  Above 3 this cancels.
        xp, r = self.xp, 0.5 * w * w
        q = xp.log1p(r * (self.a / self.b))
        d = (2 - self.a) / self.a * q
        m = self.b * xp.expm1(xp.where(self.low, -d, 2 / self.a * q))
        return xp.where(self.low, self.linear * r - m, m), xp.where(self.low, 0.5 * d, d)

    def x(self, w: Any) -> Any:
        """The x >= 0 of that w."""
        square, exponent = self._at(w)
        return self.xp.sqrt(square) * self.xp.exp(self.xp.where(self.low, exponent, 0.0))

    def log_x(self, w: Any) -> Any:
        """The logarithm of x, where x may leave the range."""
        square, exponent = self._at(w)
        return 0.5 * self.xp.log(square) + self.xp.where(self.low, exponent, 0.0)

    def log_slope(self, w: Any) -> Any:
        """The logarithm of dx/dw for w > 0."""
        square, exponent = self._at(w)
        return self.xp.log(w) - 0.5 * self.xp.log(square) + exponent

    def exponent(self, w: Any) -> Any:
        """The exponent in dx/dw, which alone may overflow."""
        return self._at(w)[1]

    def slope(self, w: Any, exponent: Any = 0.0) -> Any:
        """The derivative dx/dw for w > 0, times exp(exponent)."""
        square, e = self._at(w)
        return w / self.xp.sqrt(square) * self.xp.exp(e + exponent)


def loss_at_log(xp: Any, log_x: Any, alpha: Any) -> Any:
    """The loss at exp(log_x) for 0 < alpha <= 1, so far out that x^2/b + 1 is x^2/b; x itself may leave the range."""
    b = 2 - alpha
    return b / alpha * xp.expm1(alpha * (log_x - 0.5 * xp.log(b)))


def where_loss_is(xp: Any, alpha: Any, rho: float) -> Any:
    """The x where the loss is about that, for any alpha; for alpha < 0, which may not come to it, a large number."""
    a = xp.where(alpha < 1e-6, 1e-6, xp.where(alpha > 1e6, 1e6, alpha))
    b = abs(a - 2) + 1e-9
    log = xp.log1p(rho * a / b) * 2 / a
    log = xp.where(log < 1400, log, 1400.0)
    return xp.sqrt(-b * xp.expm1(-log)) * xp.exp(0.5 * log)
