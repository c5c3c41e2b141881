"""Cross-entropy of logits and the index of the right class.

With m the largest logit, z_t that of the right class and R = sum over k != t of exp(z_k - m), S = R + exp(z_t - m):

    L        = log1p(R) where z_t = m, else (m - z_t) + log S
    dL/dz_k  = exp(z_k - m)/S           dL/dz_t = -R/S

so that no 1 is added to what it would swallow, nor taken from what is nearly 1: the loss of a right answer, and its
gradient, keep their digits however small they are.
"""

from __future__ import annotations

from ..arithmetic import functions, short
from ..arithmetic.elementary import fast_two_sum, two_sum
from ..arithmetic.primitives import double, fma, scalar, where
from .rowwise import RowDefinition

__all__ = ["CROSS_ENTROPY"]


@scalar
def _exponential(z, m):
    """exp(z - m) for z <= m: of doubles by the difference in two words, of which exp would show each bit."""
    if z.itemsize == 4:
        return short.exp_of_negative(double(z) - m)
    high, low = two_sum(z, -m)
    e = functions.exp(high)
    return where(high > type(z)(float("-inf")), fma(e, low, e), e)


@scalar
def _terms(elements, largest, numbers):
    """The term of R."""
    return (_exponential(elements[0], largest),)


@scalar
def _value(own, sums, m, numbers):
    """The loss, and what is needed for its derivatives."""
    (z,), ((rest, rest_low),) = own, sums
    zero, one = type(m)(0.0), type(m)(1.0)
    used = short if z.itemsize == 4 else functions
    total, low = two_sum(rest, _exponential(z, m))
    total, low = fast_two_sum(total, low + rest_low)
    inverse = one / total
    inverse = fma(-(low * inverse), inverse, inverse)
    gap, gap_low = two_sum(m, -double(z))
    best = used.log1p(rest) + rest_low * inverse
    other = gap + (used.log(total) + fma(low, inverse, gap_low))
    return where(gap == zero, best, other), (), (zero - (rest + rest_low) * inverse,), (inverse,)


@scalar
def _slopes(elements, terms, largest, numbers, kept):
    """The derivative in a logit that is not the right class's."""
    return (terms[0] * kept[0],)


CROSS_ENTROPY = RowDefinition(
    name="cross_entropy",
    data=("x",),
    apart=True,
    largest=0,
    terms=_terms,
    value=_value,
    slopes=_slopes,
    module=__name__,
)
