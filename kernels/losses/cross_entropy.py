"""Cross-entropy of logits, of the index of the right class or of a probability for each class.

With m the largest logit, T the temperature, d_k = (m - z_k)/T, e_k = exp(-d_k), S = sum e_k and p_k = e_k/S, without
options (T = 1) and for the right class t:

    L        = d_t + log S
    dL/dz_k  = p_k          dL/dz_t = -R/S,    R = S - e_t summed without the right class

and log S = log1p(R) where the right class is the likeliest: no 1 is added to what it would swallow, nor taken from what
is nearly 1, so that the loss of a right answer and its gradient keep their digits however small they are.  Smoothing
by eps gives each of K classes eps/K (Szegedy et al. 2016; PyTorch's convention), and the z-loss is lam lse^2 of
lse = m/T + log S (PaLM, 2022).
"""

from __future__ import annotations

from ..arithmetic import functions, short
from ..arithmetic.elementary import fast_two_sum, two_product, two_sum
from ..arithmetic.primitives import double, fma, scalar, where
from .definition import Scalar
from .rowwise import RowDefinition

__all__ = [
    "CROSS_ENTROPY",
    "LOG_SUM_EXP",
    "OF_PROBABILITIES",
    "OF_PROBABILITIES_OVER_FINITE",
    "OPTIONS",
    "OVER_FINITE",
    "WITH_OPTIONS",
]

OPTIONS = "temperature", "label_smoothing", "z_loss"


@scalar
def _gap(z, m):
    """m - z >= 0, of doubles in two words: of its difference exp would show each bit."""
    if z.itemsize == 4:
        return m - double(z), type(m)(0.0)
    high, low = two_sum(m, -z)
    return high, where(high < type(m)(float("inf")), low, type(m)(0.0))


@scalar
def _exponential(z, gap, low):
    """exp(-gap) of so many units."""
    if z.itemsize == 4:
        return short.exp_of_negative(-gap)
    e = functions.exp(-gap)
    return fma(-e, low, e)


@scalar
def _over(temperature, words, exactly):
    """The gap in two words over the temperature."""
    gap, low = words
    inverse = type(gap)(1.0) / temperature
    if not exactly:
        return gap * inverse, low
    rest = fma(-inverse, temperature, type(gap)(1.0)) * inverse
    high, more = two_product(gap, inverse)
    finite = gap < type(gap)(float("inf"))
    return high, where(finite, more + fma(gap, rest, low * inverse), low)


@scalar
def _inverse(total, low):
    """1/S of its two words."""
    inverse = type(total)(1.0) / total
    return fma(-(low * inverse), inverse, inverse)


@scalar
def _term(elements, m, numbers):
    """e_k, for the loss without options."""
    return (_exponential(elements[0], *_gap(elements[0], m)),)


@scalar
def _value(own, sums, m, numbers):
    """The loss without options, and what is needed for its derivatives."""
    (z,), (rest, rest_low) = own, sums
    zero = type(m)(0.0)
    used = short if z.itemsize == 4 else functions
    gap, gap_low = _gap(z, m)
    total, low = two_sum(rest, _exponential(z, gap, gap_low))
    total, low = fast_two_sum(total, low + rest_low)
    inverse = _inverse(total, low)
    best = used.log1p(rest) + rest_low * inverse
    other = gap + (used.log(total) + fma(low, inverse, gap_low))
    return where(gap == zero, best, other), (), (zero - (rest + rest_low) * inverse,), (inverse,)


@scalar
def _slope(elements, terms, m, numbers, kept):
    """The derivative in a logit that is not the right class's."""
    return (terms[0] * kept[0],)


CROSS_ENTROPY = RowDefinition(
    name="cross_entropy",
    module=__name__,
    data=("x",),
    apart=True,
    largest=0,
    kept=1,
    terms=_term,
    value=_value,
    slopes=_slope,
)


@scalar
def _log_sum(own, sums, m, numbers):
    """m + log S; infinite as the largest element is."""
    total, low = fast_two_sum(*sums)
    inverse = _inverse(total, low)
    found = m + (functions.log(total) + low * inverse)
    return where(abs(m) < type(m)(float("inf")), found, m), (), (), (inverse,)


LOG_SUM_EXP = RowDefinition(
    name="log_sum_exp",
    module=__name__,
    data=("x",),
    largest=0,
    kept=1,
    terms=_term,
    value=_log_sum,
    slopes=_slope,
)


def _spread(finite: bool) -> Scalar:
    """The terms with options: e_k, their products with the gaps, the gaps, and what each counts in smoothing."""

    @scalar
    def terms(elements, m, numbers):
        z = elements[0]
        gap, low = _over(numbers[0], _gap(z, m), z.itemsize == 8)
        e = _exponential(z, gap, low)
        zero, one = type(e)(0.0), type(e)(1.0)
        inside = gap < type(e)(float("inf"))
        counts = (where(inside, gap, zero), where(inside, one, zero)) if finite else (gap, one)
        return e, where(e > zero, e * gap, zero), *counts

    return terms


@scalar
def _whole(high, low):
    """The sum of the words of a sum, of which the first may be infinite."""
    return where(high < type(high)(float("inf")), high + low, high)


@scalar
def _smoothed(smoothing, share):
    """The share of what is smoothed: nothing without smoothing, whatever that is the share of."""
    return where(smoothing == type(smoothing)(0.0), type(smoothing)(0.0), smoothing * share)


@scalar
def _value_with_options(own, sums, m, numbers):
    """The loss, its derivatives in the options, and what is needed for those in the logits."""
    (z,), (rest, weighted, gaps, count, rest_low, _, gaps_low, _) = own, sums
    temperature, smoothing, z_loss = numbers
    zero, one = type(m)(0.0), type(m)(1.0)
    used = short if z.itemsize == 4 else functions
    gap, gap_low = _over(temperature, _gap(z, m), z.itemsize == 8)
    e = _exponential(z, gap, gap_low)
    total, low = two_sum(rest, e)
    total, low = fast_two_sum(total, low + rest_low)
    inverse = _inverse(total, low)
    log_total = where(gap == zero, used.log1p(rest) + rest_low * inverse, used.log(total) + low * inverse)
    count = count + one
    mean_gap = (_whole(gaps, gaps_low) + gap) / count
    inverse_temperature = one / temperature
    scaled = m * inverse_temperature
    lse = scaled + log_total
    hard = where(smoothing == one, zero, (one - smoothing) * gap)
    loss = (hard + (log_total + gap_low)) + (_smoothed(smoothing, mean_gap) + (z_loss * lse) * lse)
    mean = where(e > zero, fma(e, gap, weighted), weighted) * inverse  # of the gaps, by the probabilities
    by_lse = (z_loss + z_loss) * lse
    each = smoothing / count
    slope = fma(by_lse, e * inverse, (smoothing - each) - (rest + rest_low) * inverse)
    by_temperature = (mean - (hard + _smoothed(smoothing, mean_gap))) - by_lse * (scaled - mean)
    others = by_temperature * inverse_temperature, mean_gap - gap, lse * lse
    kept = ((one + by_lse) * inverse) * inverse_temperature, each * inverse_temperature
    return loss, others, (slope * inverse_temperature,), kept


def _slope_with_options(finite: bool) -> Scalar:
    """The derivative in a logit that is not the right class's."""

    @scalar
    def slopes(elements, terms, m, numbers, kept):
        share = kept[1] * terms[3] if finite else kept[1]
        return (fma(terms[0], kept[0], -share),)

    return slopes


def _with_options(name: str, finite: bool) -> RowDefinition:
    """The loss with options, of which smoothing spreads over all classes or over those with a finite logit."""
    return RowDefinition(
        name=name,
        module=__name__,
        data=("x",),
        numbers=OPTIONS,
        apart=True,
        largest=0,
        summed=4,
        kept=2,
        terms=_spread(finite),
        value=_value_with_options,
        slopes=_slope_with_options(finite),
    )


WITH_OPTIONS = _with_options("cross_entropy_with_options", finite=False)
OVER_FINITE = _with_options("cross_entropy_over_finite", finite=True)


# --- of a probability for each class


def _shares(finite: bool) -> Scalar:
    """The terms: e_k but of the likeliest classes, these, q_k, q_k d_k (0 for q_k = 0), the last three of `_spread`."""
    spread = _spread(finite)

    @scalar
    def terms(elements, m, numbers):
        z, q = elements
        q, gap = double(q), _over(numbers[0], _gap(z, m), z.itemsize == 8)[0]
        e, *others = spread((z,), m, numbers)
        zero, one = type(q)(0.0), type(q)(1.0)
        top = gap == zero
        return where(top, zero, e), where(top, one, zero), q, where(q == zero, zero, q * gap), *others

    return terms


@scalar
def _value_of_shares(own, sums, m, numbers):
    """The loss, its derivatives in the options, and what is needed for those in the logits."""
    rest, tops, shares, cost, weighted, gaps, count, rest_low, _, shares_low, cost_low, _, gaps_low, _ = sums
    temperature, smoothing, z_loss = numbers
    zero, one = type(m)(0.0), type(m)(1.0)
    total, low = two_sum(tops, rest)
    low += rest_low
    inverse = _inverse(total, low)
    log_total = where(tops == one, functions.log1p(rest) + rest_low * inverse, functions.log(total) + low * inverse)
    mean_gap = _whole(gaps, gaps_low) / count
    inverse_temperature = one / temperature
    scaled = m * inverse_temperature
    lse = scaled + log_total
    shares, cost = shares + shares_low, _whole(cost, cost_low)
    kept_share, kept_cost = (one - smoothing) * shares, where(smoothing == one, zero, (one - smoothing) * cost)
    whole = kept_share + smoothing
    loss = (kept_cost + whole * log_total) + (_smoothed(smoothing, mean_gap) + (z_loss * lse) * lse)
    mean = weighted * inverse
    by_lse = (z_loss + z_loss) * lse
    by_temperature = (whole * mean - (kept_cost + _smoothed(smoothing, mean_gap))) - by_lse * (scaled - mean)
    others = (
        by_temperature * inverse_temperature,
        fma(one - shares, log_total, mean_gap) - cost,
        lse * lse,
    )
    return loss, others, (), (inverse, (rest + rest_low) + (tops - one), whole, by_lse, smoothing / count)


def _slope_of_shares(finite: bool) -> Scalar:
    """The derivative in a logit, (Q - q) p - q (1 - p) without a difference of what is nearly equal."""

    @scalar
    def slopes(elements, terms, m, numbers, kept):
        e, top, q = terms[:3]
        inverse, rest, whole, by_lse, each = kept
        one = type(q)(1.0)
        q = fma(one - numbers[1], q, each * terms[6] if finite else each)
        p = (e + top) * inverse
        others = where(top == one, rest, (rest + one) - e) * inverse  # 1 - p
        return (fma((whole - q) + by_lse, p, -(q * others)) / numbers[0],)

    return slopes


def _of_probabilities(name: str, finite: bool) -> RowDefinition:
    """The loss of a probability for each class, with options."""
    return RowDefinition(
        name=name,
        module=__name__,
        data=("x", "target"),
        numbers=OPTIONS,
        largest=0,
        summed=7,
        kept=5,
        terms=_shares(finite),
        value=_value_of_shares,
        slopes=_slope_of_shares(finite),
    )


OF_PROBABILITIES = _of_probabilities("cross_entropy_of_probabilities", finite=False)
OF_PROBABILITIES_OVER_FINITE = _of_probabilities("cross_entropy_of_probabilities_over_finite", finite=True)
