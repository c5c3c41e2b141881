"""Where to look for errors: arguments (x, alpha, scale) of a given dtype, structured, aimed and random.

All arrays hold values of the domain: finite x, scale in [1e-6, 1e6], alpha in [-inf, inf].  Everything is reproducible
from the seed.  Works for float16, bfloat16 (ml_dtypes), float32 and float64 through their bit patterns alone.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Triple = tuple[Array, Array, Array]

SCALE_MIN, SCALE_MAX = 1e-6, 1e6
WORST_CASES = Path(__file__).with_name("worst_cases.csv")

# (alpha, scale) at which the estimator of location has 95 % efficiency for normal errors, to nine digits.
EFFICIENT = (
    (1.0, 1.287099224),
    (0.5, 1.551690892),
    (0.0, 1.686412281),
    (-1.0, 1.82376241),
    (-2.0, 1.89370938),
    (-4.0, 1.964688914),
    (-np.inf, 2.110457187),
)

# The share of each generator in points().
SHARES = {"structured": 0.2, "ordinary": 0.2, "wide": 0.2, "aimed": 0.25, "bits": 0.15}


class WorstCase(NamedTuple):
    """A row of worst_cases.csv; the partition functions have x = 0 and scale = 1."""

    function: str
    dtype: str
    x: float
    alpha: float
    scale: float
    ulp: float


def worst_cases(function: str | None = None, dtype: str | None = None, path: Path = WORST_CASES) -> list[WorstCase]:
    """The recorded witnesses of large errors, optionally of one function or dtype only."""
    rows = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            x, alpha, scale = (float.fromhex(row[k]) for k in ("x", "alpha", "scale"))
            rows.append(WorstCase(row["function"], row["dtype"], x, alpha, scale, float(row["ulp"])))
    return [row for row in rows if function in (None, row.function) and dtype in (None, row.dtype)]


# ---------------------------------------------------------------------------------------------------------------------
# Number formats by their bit patterns


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _pattern(value: float, dtype: np.dtype) -> int:
    return int(np.array([value]).astype(dtype).view(_unsigned(dtype))[0])


def _from_pattern(pattern: Any, dtype: np.dtype) -> Array:
    return np.atleast_1d(np.asarray(pattern, _unsigned(dtype))).view(dtype)


def largest(dtype: Any) -> float:
    """The largest finite number."""
    dtype = np.dtype(dtype)
    return float(_from_pattern(_pattern(np.inf, dtype) - 1, dtype)[0])


def smallest(dtype: Any) -> float:
    """The smallest subnormal number."""
    return float(_from_pattern(1, np.dtype(dtype))[0])


def neighbours(values: Any, steps: Any, dtype: Any) -> Array:
    """values (rounded to dtype) moved by so many representable numbers, through zero, up to +-inf."""
    dtype = np.dtype(dtype)
    bits = 8 * dtype.itemsize
    pattern = _cast(values, dtype).view(_unsigned(dtype)).astype(np.int64)
    magnitude = pattern & ((1 << (bits - 1)) - 1)
    negative = pattern < 0 if bits == 64 else pattern >> (bits - 1) == 1
    top = _pattern(np.inf, dtype)
    order = np.clip(np.where(negative, -magnitude, magnitude) + steps, -top, top)
    out = _from_pattern(np.abs(order).astype(_unsigned(dtype)), dtype).reshape(order.shape)
    return np.where(order < 0, -out, out)


def _cast(values: Any, dtype: np.dtype) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(values, np.float64).astype(dtype)


def _finite(x: Any, dtype: np.dtype) -> Array:
    """x in dtype, what is too large brought back to the largest finite number."""
    top = largest(dtype)
    return _cast(np.clip(np.nan_to_num(np.asarray(x, np.float64), nan=0.0), -top, top), dtype)


def _exponents(dtype: np.dtype) -> tuple[float, float]:
    """log2 of the smallest subnormal and of the largest finite number, for exp2."""
    return float(np.log2(smallest(dtype))), float(np.log2(largest(dtype))) - 1e-9


def _in_range(scale: Any, dtype: np.dtype) -> Array:
    """scale in dtype and in [1e-6, 1e6] after the rounding."""
    c = _cast(np.clip(scale, SCALE_MIN, min(SCALE_MAX, largest(dtype))), dtype)
    c = np.where(c.astype(np.float64) < SCALE_MIN, neighbours(c, 1, dtype), c)
    return np.where(c.astype(np.float64) > SCALE_MAX, neighbours(c, -1, dtype), c)


# ---------------------------------------------------------------------------------------------------------------------
# Fixed sets


def alphas(dtype: Any) -> Array:
    """Special values of alpha, their neighbours, powers of two and some ordinary values, sorted."""
    dtype = np.dtype(dtype)
    low, high = _exponents(dtype)
    powers = [s * p for p in (4, 8, 12, 24, 40, 60, 120, 300, 1000) for s in (-1, 1) if low <= s * p <= high]
    plain = [-8, -4, -3, -2, -1, -0.5, -0.1, 0.1, 0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 1.75, 1.9, 1.99, 2.01, 2.1, 2.5]
    plain += [3, 4, 5, 8, 10, 100]
    around = np.array([-100, -5, -2, -1, 0, 1, 2, 5, 100])
    near = [neighbours(np.full(around.shape, v), around, dtype) for v in (0.0, 1.0, 2.0)]
    tiny = _cast([2.0**p for p in powers if p < 0] + [2.0**low * 2**12], dtype)
    edges = neighbours([np.inf, np.inf, np.inf], [0, -1, -2], dtype)
    bases = [tiny, -tiny, edges, -edges, _cast(plain, dtype), *near]
    bases += [_cast([s * 2.0**p for p in powers if p > 0 for s in (1, -1)], dtype)]
    bases += [_finite([v + s * 2.0**p for v in (1.0, 2.0) for p in (-16, -8, -4) for s in (1, -1)], dtype)]
    return np.unique(np.concatenate(bases))


def scales(dtype: Any) -> Array:
    """Powers of two and the ends of the range."""
    return np.unique(_in_range([SCALE_MIN, 2.0**-10, 0.1, 1.0, 3.0, 2.0**10, SCALE_MAX], np.dtype(dtype)))


def structured(dtype: Any) -> Triple:
    """Every special alpha with a grid of z = x/c of both signs at c = 1, and a thinner grid at the other scales."""
    dtype = np.dtype(dtype)
    low, high = _exponents(dtype)
    grid = [0.0, smallest(dtype), 2.0**low * 2**12, 0.1, 0.5, 1.0, np.sqrt(2), 3.0, 10.0, 30.0, largest(dtype)]
    grid += [2.0**p for p in np.linspace(low * 0.98, high * 0.98, 16).round()]
    grid += [2.0**p for p in (-12, -8, -4, -2, 2, 4, 6, 8, 12)]
    grid += [2.0**p for p in (low / 2, low / 3, high / 2, high / 2 + 0.01)]  # where z^2 and z^3 leave the range
    a, c = (v.astype(np.float64) for v in (alphas(dtype), scales(dtype)))
    first = np.meshgrid(np.array(grid + [-v for v in grid[:8]]), a, np.ones(1), indexing="ij")
    thin = np.meshgrid(np.array(grid[::5]), a, c[c != 1], indexing="ij")
    z, alpha, scale = (np.concatenate([f.ravel(), t.ravel()]) for f, t in zip(first, thin, strict=True))
    with np.errstate(over="ignore", under="ignore"):
        return _finite(z * scale, dtype), _cast(alpha, dtype), _cast(scale, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Random generators: each returns n points


def _signs(rng: np.random.Generator, n: int) -> Array:
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)


def _scale(rng: np.random.Generator, n: int, dtype: np.dtype) -> Array:
    """1, a power of two or log-uniform, a third each."""
    log = rng.uniform(np.log2(SCALE_MIN), np.log2(SCALE_MAX), n)
    return _in_range(np.choose(rng.integers(0, 3, n), [np.ones(n), np.exp2(log.round()), np.exp2(log)]), dtype)


def _alpha(rng: np.random.Generator, n: int, dtype: np.dtype) -> Array:
    """Uniform in [-10, 10] or [0, 2.5], log-uniform, log-uniformly close to 0, 1 or 2, or special; a fifth each."""
    log = _signs(rng, n) * np.exp2(rng.uniform(*_exponents(dtype), n))
    near = rng.integers(0, 3, n) + _signs(rng, n) * np.exp2(rng.uniform(np.log2(_epsilon(dtype)), 0, n))
    special = rng.choice(alphas(dtype).astype(np.float64), n)
    kinds = [rng.uniform(-10, 10, n), rng.uniform(0, 2.5, n), log, near, special]
    return _cast(np.choose(rng.integers(0, len(kinds), n), kinds), dtype)


def _epsilon(dtype: np.dtype) -> float:
    return float(neighbours([1.0], 1, dtype)[0]) - 1.0


def ordinary(rng: np.random.Generator, n: int, dtype: Any) -> Triple:
    """What users have: residuals within a few decades of c, alpha in [-4, 4]."""
    dtype = np.dtype(dtype)
    c = _scale(rng, n, dtype)
    x = rng.standard_normal(n) * np.exp2(rng.uniform(-10, 10, n)) * c.astype(np.float64)
    return _finite(x, dtype), _cast(rng.uniform(-4, 4, n), dtype), c


def wide(rng: np.random.Generator, n: int, dtype: Any) -> Triple:
    """Magnitudes of x over the whole range of exponents, powers of two among them."""
    dtype = np.dtype(dtype)
    log = rng.uniform(*_exponents(dtype), n)
    log = np.where(rng.random(n) < 0.2, np.trunc(log), log)
    return _finite(_signs(rng, n) * np.exp2(log), dtype), _alpha(rng, n, dtype), _scale(rng, n, dtype)


def aimed(rng: np.random.Generator, n: int, dtype: Any) -> Triple:
    """x such that t = log1p(s/b), k t or s/b lies within a few ulp of where an implementation may change its mind."""
    dtype = np.dtype(dtype)
    alpha, c = _alpha(rng, n, dtype), _scale(rng, n, dtype)
    a = alpha.astype(np.float64)
    low, high = _exponents(dtype)
    ln2 = np.log(2.0)
    signs = _signs(rng, n)
    t_target = rng.choice([0.25, ln2 / 2, 0.5, ln2, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0], n)
    # k t at branch points, at multiples of ln2/2 (the reduction of exp), and where e^(kt) leaves the range.
    kt_target = signs * np.choose(
        rng.integers(0, 3, n),
        [
            rng.choice([0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0], n),
            ln2 / 2 * rng.integers(1, int(2 * high), n),
            ln2 * np.abs(rng.choice([low, low - 1, low + 8, high, high + 1, -high, low / 2, high / 2], n))
            + rng.uniform(-1, 1, n),
        ],
    )
    root = np.sqrt(2.0)
    u_target = rng.choice([root - 1, 2 * root - 1, root / 2, 1.0, 0.5, 3.0, 2.0**-24, 2.0**-53, 2.0**24], n)
    with np.errstate(all="ignore"):
        b = np.abs(a - 2)
        u = np.choose(
            rng.integers(0, 4, n),
            [
                np.expm1(t_target),
                np.expm1(np.abs(kt_target / (a / 2))),
                u_target,
                1 / np.abs(1 - a),  # for alpha < 1 the zero of the curvature
            ],
        )
        # At alpha = 2 and +-inf there is no s/b: aim s/2 at the target instead.
        s = np.where((b == 0) | np.isinf(b), 2 * np.abs(kt_target), u * b)
        x = np.sqrt(s) * c.astype(np.float64)
    return neighbours(_finite(signs * x, dtype), rng.integers(-4, 5, n), dtype), alpha, c


def bits(rng: np.random.Generator, n: int, dtype: Any) -> Triple:
    """Random bit patterns within the domain."""
    dtype = np.dtype(dtype)

    def draw(inside: Any) -> Array:
        got = np.empty(0, dtype)
        while got.size < n:
            raw = _from_pattern(rng.integers(0, 1 << (8 * dtype.itemsize), 2 * n, _unsigned(dtype)), dtype)
            with np.errstate(invalid="ignore"):  # signalling NaN
                got = np.concatenate([got, raw[inside(raw.astype(np.float64))]])
        return got[:n]

    first, last = (_pattern(v, dtype) for v in _in_range([SCALE_MIN, SCALE_MAX], dtype).astype(np.float64))
    c = _from_pattern(rng.integers(first, last, n, _unsigned(dtype), endpoint=True), dtype)
    return draw(np.isfinite), draw(lambda v: ~np.isnan(v)), c


def points(dtype: Any, n: int, seed: int) -> Triple:
    """n points (x, alpha, scale), of all generators in the proportions of SHARES, in random order."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    counts = {name: int(n * share) for name, share in SHARES.items()}
    counts["ordinary"] += n - sum(counts.values())
    grid = structured(dtype)
    chosen = rng.integers(0, grid[0].size, counts["structured"])
    parts = [tuple(v[chosen] for v in grid)]
    parts += [f(rng, counts[f.__name__], dtype) for f in (ordinary, wide, aimed, bits)]
    order = rng.permutation(n)
    x, alpha, scale = (np.concatenate(column)[order] for column in zip(*parts, strict=True))
    # A step of a few ulp from the largest number may have arrived at inf.
    return _finite(x, dtype), alpha, scale


def partition_alphas(dtype: Any, n: int, seed: int) -> Array:
    """n values of alpha >= 0 for log Z: the special ones first, then uniform, log-uniform and near 0, 1 and 2."""
    dtype = np.dtype(dtype)
    special = alphas(dtype)
    special = special[special >= 0]
    rng = np.random.default_rng(seed)
    drawn = _alpha(rng, n, dtype)
    return np.concatenate([rng.permutation(special)[: n // 3], np.abs(drawn)])[:n]
