"""The Kullback-Leibler divergence of two rows of logits.

With p = softmax(t), q = softmax(x), d_k = x_k - t_k and their mean m = sum p_k d_k, KL(p, q) = log sum p_k exp(d_k) - m
is lse(x) - lse(t) - m, which cancels where p is nearly q.  There it is log1p(sum p_k (expm1(u_k) - u_k)) of
u_k = d_k - m: all terms are positive, and an error of m counts by its square.
"""

from __future__ import annotations

from ..arithmetic.functions import exp, expm1, expm1mx, log1p
from ..arithmetic.primitives import double, scalar, where
from .rowwise import RowDefinition

__all__ = ["DIVERGENCE", "MEAN_DIFFERENCE", "NEAR"]

NEAR = 64.0  # up to which a divergence is made of the terms: then no logarithm of a sum of exponentials shows in it


@scalar
def _weighted_difference(elements, m, numbers):
    """exp(t_k - m), and its product with d_k, 0 for what has no probability, whatever d_k is."""
    t, x = map(double, elements)
    e = exp(t - m)
    zero = type(e)(0.0)
    return e, where(e == zero, zero, e * (x - t))


@scalar
def _mean(own, sums, m, numbers):
    total, weighted, low, weighted_low = sums
    first = where(abs(weighted) < type(weighted)(float("inf")), weighted + weighted_low, weighted)
    return first / (total + low), (), (), ()


@scalar
def _no_slopes(elements, terms, m, numbers, kept):
    return (terms[0],)


MEAN_DIFFERENCE = RowDefinition(
    name="mean_difference_of_logits",
    module=__name__,
    data=("target", "x"),
    largest=0,
    summed=2,
    terms=_weighted_difference,
    value=_mean,
    slopes=_no_slopes,
)


@scalar
def _parts(elements, numbers):
    """The logarithm of p_k, p_k itself, and u_k."""
    x, t = map(double, elements)
    log_p = t - numbers[1]
    return log_p, exp(log_p), (x - t) - numbers[2]


@scalar
def _term(elements, m, numbers):
    log_p, p, u = _parts(elements, numbers)
    zero, one = type(p)(0.0), type(p)(1.0)
    # A large one is that of a small p, of which neither factor may be in range.
    large = exp(log_p + u) - p * (one + u)
    return (where(p == zero, zero, where(u > one, large, p * expm1mx(u))),)


@scalar
def _value(own, sums, m, numbers):
    of_x, of_target, mean = numbers
    zero = type(mean)(0.0)
    far = (of_x - of_target) - mean
    found = where(far < type(far)(NEAR), log1p(sums[0] + sums[1]), far)
    return found, (zero, zero, zero), (), (found,)


@scalar
def _slopes(elements, terms, m, numbers, kept):
    """q - p, by p where they are nearly equal, and -p u."""
    log_p, p, u = _parts(elements, numbers)
    zero, one = type(p)(0.0), type(p)(1.0)
    ratio = u - kept[0]  # the logarithm of q/p
    q = exp(double(elements[0]) - numbers[0])
    return where(abs(ratio) < one, p * expm1(ratio), q - p), where(p == zero, zero, -(p * u))


DIVERGENCE = RowDefinition(
    name="divergence_of_logits",
    module=__name__,
    data=("x", "target"),
    numbers=("of_x", "of_target", "mean"),
    kept=1,
    derived=2,
    terms=_term,
    value=_value,
    slopes=_slopes,
)
