"""Generate the tables of log Z(alpha) and (log Z)'(alpha), alpha in [0, inf], that the partition kernel evaluates.

Z(alpha) = int exp(-rho(x, alpha, 1)) dx is integrated with mpmath to some 28 digits, and interpolated at Chebyshev
nodes by one polynomial per piece. The derivative has its own quadrature and its own polynomials: nothing is
differenced. `partition_layout.py`, next to the tables, says which piece belongs to which alpha.

    python kernels/tools/partition_table.py              write both tables, measure their errors (about four minutes)
    python kernels/tools/partition_table.py --check      regenerate, compare bit for bit with the files
    python kernels/tools/partition_table.py --sample 10  the same for ten random pieces (seconds)
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp, mpf

LOSSES = Path(__file__).resolve().parents[1] / "losses"
FILES = {"float32": LOSSES / "partition_table_f4.npy", "float64": LOSSES / "partition_table_f8.npy"}


def _load_layout() -> Any:
    """`kernels` must never be imported under that name (it is another project's on PyPI), hence by path."""
    spec = importlib.util.spec_from_file_location("partition_layout", LOSSES / "partition_layout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LAYOUT


LAYOUT = _load_layout()

# Twenty digits of Z, obtained independently of this file (numerics.md; Z(4) = e^(1/4) K_(1/4)(1/4)).
KNOWN = {
    "0.25": "3.9124485762197320363",
    "0.5": "3.6389931308930457365",
    "1.5": "2.965924888712789472",
    "1.75": "2.7940520158545852927",
    "1.9": "2.6603731935531309621",
    "1.99": "2.5343540504691490114",
    "2.1": "2.372782055280686222",
    "3": "2.1532028570864028853",
    "8": "2.0545002219075327473",
    "100": "2.0263774807764370983",
    "inf": "2.024373468508486802705813",
}
SLOPE_AT_ZERO = "-0.85977286678236933349"


def limited(alpha: mpf) -> mpf:
    """alpha moved off 0 and inf, where the formulas below are 0/0; log Z and alpha^2 (log Z)' change by 1e-40."""
    return min(max(alpha, mpf("1e-40")), mpf("1e40"))


def log_z(alpha: mpf) -> tuple[mpf, mpf]:
    """log Z(alpha) and its derivative by quadrature, for alpha > 0, alpha != 2.

    With b = |alpha - 2|, x = sqrt(b) sinh(u) and L = log(cosh(u)), rho = (b/alpha) expm1(alpha L) is analytic around
    the whole real line and the integrand falls off like exp(-|u|) or faster: the trapezoidal rule converges
    geometrically. (log Z)' = -(1/Z) int (d rho / d alpha at fixed x) exp(-rho) dx, where the terms of d rho / d alpha
    cancel to a part alpha of themselves near 0 and to a part 1/alpha for large alpha; the extra digits pay for that.
    """
    with mp.workdps(45 + int(abs(mp.log10(alpha)))):
        alpha = mpf(alpha)
        b, sign = abs(2 - alpha), mp.sign(2 - alpha)
        # The integrand is bounded for |Im u| < pi/(2 alpha); for large alpha it is a function of u sqrt(alpha).
        step = mpf(1) / 4 / max(1, min(alpha, mpf(3) / 2 * mp.sqrt(alpha)))
        area = moment = mpf(0)
        previous: tuple[mpf, mpf] | None = None
        while True:
            i = 0 if previous is None else 1  # a refinement adds the odd nodes
            while True:
                sinh2 = mp.sinh(i * step) ** 2
                log_cosh = mp.log1p(sinh2) / 2
                power = mp.expm1(alpha * log_cosh)
                mass = mp.exp(-b / alpha * power) * mp.sqrt(1 + sinh2)
                if i == 0:
                    mass /= 2
                slope = (
                    -2 * sign / alpha**2 * power
                    + b / alpha * (power + 1) * log_cosh
                    + sign * (power + 1) * sinh2 / (1 + sinh2) / 2
                )
                area += mass
                moment += mass * slope
                if i > 5 and mass * (1 + abs(slope)) < 1e-34 * area:
                    break
                i += 1 if previous is None else 2
            value, ratio = mp.log(2 * mp.sqrt(b) * step * area), -moment / area
            # Halving the step squares the error, nearly: agreement to 1e-16 leaves about 1e-28.
            if previous and abs(value - previous[0]) < 1e-16 and abs(ratio / previous[1] - 1) < 1e-16:
                return value, ratio
            previous = value, ratio
            step /= 2


def truth(alpha: mpf, layout: Any) -> tuple[mpf, mpf]:
    """What the table stands for at alpha: log Z, and (log Z)' or, from `scaled` on, alpha^2 (log Z)'."""
    if alpha == 2:
        return mp.log(2 * mp.pi) / 2, log_z(2 - mpf(2) ** -layout.mantissa)[1]
    alpha = limited(alpha)
    value, slope = log_z(alpha)
    return value, slope * alpha**2 if alpha >= layout.scaled else slope


def locate(alpha: Any, dtype: Any) -> tuple[Any, Any, Any]:
    """Piece, local variable w, factor q: log Z = offset + P(w), (log Z)' = (Q(w) q) q, with P, Q the rows of the piece.

    This is the indexing for the kernels to port, operation by operation. Only 1/alpha, and w in the first and the last
    piece, are rounded, which costs nothing there. alpha - 2 is exact wherever its low bits are used, 1 <= alpha < far:
    by Sterbenz's lemma up to 4, and beyond because it is a multiple of ulp(alpha) and smaller than alpha.
    Every bit pattern of alpha gives a piece inside the table; for a NaN or a negative alpha the piece means nothing.
    """
    layout = LAYOUT[np.dtype(dtype).name]
    real = np.dtype(dtype).type
    word = np.dtype(f"u{np.dtype(dtype).itemsize}").type
    low, base = (tuple(map(word, t)) for t in (layout.low, layout.base))
    a = np.asarray(alpha, dtype)
    in_a, in_b = a < real(1), a < real(2)

    with np.errstate(invalid="ignore"):  # a signalling NaN
        y = np.abs(np.where(in_a, a, a - real(2)))
    bits = y.view(word)
    key = np.maximum(bits >> word(layout.shift), np.where(in_a, low[0], np.where(in_b, low[1], low[2])))
    piece = np.minimum(key, word(layout.high)) - np.where(in_a, base[0], np.where(in_b, base[1], base[2]))

    far = a >= real(layout.far)
    with np.errstate(all="ignore"):  # 1/0, and overflow or NaN for an alpha that has no log Z
        r = real(1) / a
        edge = np.where(far, r, a) * real(layout.stretch) - real(layout.half)
    w = ((bits & word(layout.fraction)) | word(layout.one)).view(dtype) - real(layout.middle)
    w = np.where((a < real(layout.near)) | far, edge, w)
    return piece, w, np.where(a >= real(layout.scaled), r, real(1))


def region(piece: int, layout: Any) -> int:
    """0, 1, 2 for A, B, C."""
    return sum(piece + layout.base[k] >= layout.low[k] for k in (1, 2))


def alpha_at(piece: int, w: mpf, layout: Any) -> mpf:
    """Inverse of `locate`, in exact arithmetic; 1 and 2 for any w on the pieces that are for one alpha only."""
    key = piece + layout.base[region(piece, layout)]
    if piece == 0:
        return (w + layout.half) / layout.stretch
    if region(piece, layout) == 1 and key == layout.key(0):
        return mpf(1)
    if key == layout.low[2]:
        return mpf(2)
    if key == layout.high:
        return layout.stretch / (w + layout.half) if w > -layout.half else mp.inf
    exponent, part = divmod(key, 1 << layout.split)
    y = mp.ldexp(1 + 2 * part * layout.half + layout.half + w, exponent - layout.bias)
    return (y, 2 - y, 2 + y)[region(piece, layout)]


def interpolate(nodes: list[mpf], values: list[mpf]) -> list[mpf]:
    """Coefficients of w^0, w^1, ... of the polynomial through the points (Newton's form, multiplied out)."""
    newton = list(values)
    for order in range(1, len(nodes)):
        for i in range(len(nodes) - 1, order - 1, -1):
            newton[i] = (newton[i] - newton[i - 1]) / (nodes[i] - nodes[i - order])
    result = [newton[-1]]
    for node, c in zip(reversed(nodes[:-1]), reversed(newton[:-1]), strict=True):
        result = [high - node * low for high, low in zip([mpf(0), *result], [*result, mpf(0)], strict=True)]
        result[0] += c
    return result


def rows(piece: int, dtype: str) -> Any:
    """The two rows of a piece, shape (2, degree + 1), each coefficient rounded once."""
    layout = LAYOUT[dtype]
    count = layout.degree + 1
    with mp.workdps(50):
        middle = alpha_at(piece, mpf(0), layout)
        if middle in (1, 2):
            columns = [[c, *[mpf(0)] * layout.degree] for c in truth(middle, layout)]
        else:
            nodes = [layout.half * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
            # `scaled` is an edge between two pieces, so no piece mixes both kinds of derivative.
            values = [truth(alpha_at(piece, w, layout), layout) for w in nodes]
            columns = [interpolate(nodes, list(v)) for v in zip(*values, strict=True)]
        columns[0][0] -= layout.offset[region(piece, layout)]
    with mp.workprec(layout.mantissa + 1):
        return np.array([[float(+c) for c in row] for row in columns], dtype)


def generate(pieces: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Any]:
    """Rows of the pieces, with a line of progress on a terminal."""
    todo = list(pieces)
    made = {}
    show = sys.stderr.isatty()
    for done, (dtype, piece) in enumerate(todo, 1):
        made[dtype, piece] = rows(piece, dtype)
        if show:
            end = "\n" if done == len(todo) else ""
            print(f"\r{done}/{len(todo)} pieces", end=end, file=sys.stderr, flush=True)
    return made


def horner(coefficients: Any, w: Any, layout: Any) -> mpf:
    """As the kernels do it: one rounding per fused multiply-add."""
    total = mpf(0)
    for c in reversed(coefficients):
        total = mp.fadd(mp.fmul(total, float(w), exact=True), float(c), prec=layout.mantissa + 1)
    return total


def errors(alpha: Any, table: Any, dtype: str) -> list[mpf]:
    """Errors in ulp at alpha: of the approximation to log Z and to its derivative (the stored coefficients in exact
    arithmetic), then of the same two evaluated in the dtype.

    log Z in ulp of max(1, |log Z|), which is always below 2; the derivative in ulp of the true one.
    """
    layout = LAYOUT[dtype]
    bits = layout.mantissa + 1
    piece, w, q = (t.item() for t in locate(alpha, dtype))
    offset = layout.offset[region(piece, layout)]
    with mp.workdps(50):
        value, slope = truth(mpf(float(alpha)), layout)
        exact = [mp.polyval([mpf(float(c)) for c in reversed(row)], w) for row in table[:, piece]]
        evaluated = [horner(row, w, layout) for row in table[:, piece]]
        evaluated[0] = mp.fadd(evaluated[0], offset, prec=bits)
        square = mpf(1)
        if 0 < q < 1:  # at infinity compare the finite alpha^2 (log Z)' instead
            square = mpf(float(alpha)) ** 2
            evaluated[1] = mp.fmul(mp.fmul(evaluated[1], q, prec=bits), q, prec=bits) * square
        ulp_value = mpf(2) ** -layout.mantissa
        ulp_slope = mp.ldexp(square, int(mp.floor(mp.log(abs(slope / square), 2))) - layout.mantissa)
        return [
            abs(exact[0] + offset - value) / ulp_value,
            abs(exact[1] - slope) / ulp_slope,
            abs(evaluated[0] - value) / ulp_value,
            abs(evaluated[1] - slope) / ulp_slope,
        ]


def points(dtype: str, each: int, rng: random.Random) -> list[Any]:
    """`each` random alphas of the dtype in every piece, and the special ones."""
    layout = LAYOUT[dtype]
    real = np.dtype(dtype).type
    chosen = [real(a) for a in (0, 1, 2, layout.scaled, layout.near, layout.far, np.inf)]
    chosen += [np.nextafter(a, real(d)) for a in chosen[:-1] for d in (0, np.inf)]
    decades = int(np.log10(np.finfo(dtype).max)) // 2 - 1  # alpha^-2 stays normal
    for piece in range(layout.pieces):
        for _ in range(each):
            w = mpf(rng.uniform(-layout.half, layout.half))
            if piece in (0, layout.pieces - 1) and rng.random() < 0.5:  # reach down to 0 and up to infinity
                w = (w + layout.half) * mpf(10) ** -rng.uniform(0, decades) - layout.half
            chosen.append(real(float(alpha_at(piece, w, layout))))
    return chosen


def report(dtype: str, table: Any, each: int, rng: random.Random) -> None:
    """Size of the table and its largest errors, with their witnesses."""
    layout = LAYOUT[dtype]
    print(f"{dtype}: {layout.pieces} pieces, {1 << layout.split} an octave, degree {layout.degree}, {table.nbytes} B")
    found = [(errors(a, table, dtype), a) for a in points(dtype, each, rng)]
    names = ["approximation, log Z", "approximation, derivative", "evaluated, log Z", "evaluated, derivative"]
    for k, name in enumerate(names):
        error, witness = max((e[k], a) for e, a in found)
        print(f"  {name:26s} {float(error):6.3f} ulp at alpha = {float(witness).hex()} ({witness})")
    print(f"  ({len(found)} points)")


def verify_quadrature() -> None:
    """Compare the quadrature with values known independently."""
    with mp.workdps(40):
        for alpha, z in KNOWN.items():
            off = abs(mp.exp(log_z(limited(mpf(alpha)))[0]) / mpf(z) - 1)
            if off > mpf("5e-19"):
                sys.exit(f"quadrature: Z({alpha}) is off by {mp.nstr(off, 3)} from {z}")
        closed = {1: 2 * mp.e * mp.besselk(1, 1), 4: mp.exp(0.25) * mp.besselk(0.25, 0.25), 0: mp.pi * mp.sqrt(2)}
        for a, z in closed.items():
            off = abs(mp.exp(log_z(limited(mpf(a)))[0]) / z - 1)
            if off > mpf("1e-26"):
                sys.exit(f"quadrature: Z({a}) is off by {mp.nstr(off, 3)} from its closed form")
        if abs(log_z(limited(mpf(0)))[1] - mpf(SLOPE_AT_ZERO)) > mpf("1e-20"):
            sys.exit("quadrature: the derivative at 0 is wrong")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    parser.add_argument("--sample", type=int, metavar="N", help="--check, only for N random pieces")
    parser.add_argument("--points", type=int, default=4, metavar="N", help="points per piece to measure (default 4)")
    parser.add_argument("--seed", type=int, help="of random pieces and points (default: new)")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    rng = random.Random(seed)
    print(f"seed {seed}")
    verify_quadrature()

    start = time.perf_counter()
    pieces = [(dtype, piece) for dtype, layout in LAYOUT.items() for piece in range(layout.pieces)]
    if options.sample is not None:
        pieces = rng.sample(pieces, min(options.sample, len(pieces)))
    made = generate(pieces)
    print(f"{len(pieces)} pieces in {time.perf_counter() - start:.0f} s")

    if options.check or options.sample is not None:
        stored = {dtype: np.load(path, allow_pickle=False) for dtype, path in FILES.items()}
        for dtype, layout in LAYOUT.items():
            expected = (2, layout.pieces, layout.degree + 1)
            if stored[dtype].shape != expected or stored[dtype].dtype != dtype or not stored[dtype].flags.c_contiguous:
                print(f"{FILES[dtype].name}: shape, dtype or order is not that of partition_layout.py")
                return 1
        different = [p for p in pieces if made[p].tobytes() != stored[p[0]][:, p[1]].tobytes()]
        for dtype, piece in different:
            print(f"{FILES[dtype].name}: piece {piece} differs")
        return 1 if different else 0

    for dtype, layout in LAYOUT.items():
        table = np.stack([made[dtype, piece] for piece in range(layout.pieces)], axis=1)
        np.save(FILES[dtype], np.ascontiguousarray(table), allow_pickle=False)
        report(dtype, table, options.points, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
