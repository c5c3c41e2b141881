"""Where the tables of log Z(alpha) and its derivative keep which alpha.

The one source of these constants for `tools/partition_table.py`, which writes `partition_table_f4.npy` and
`partition_table_f8.npy`, and for the kernel that reads them. A table has the shape (2, pieces, degree + 1): [0] log Z,
[1] the derivative; a row holds the coefficients of w^0, w^1, ... `locate` in the generator is the readable version of
the indexing. The rows, in order:

========  ==============  ========================================================================================
rows      alpha           a piece is
========  ==============  ========================================================================================
A, first  [0, near)       linear in alpha: log Z is smooth at 0 from the right only, so octaves until this suffices
A         [near, 1)       2^-split of an octave of y = alpha
B         (1, 2)          2^-split of an octave of y = 2 - alpha, from epsilon up
B, last   1               constant, because y = 1 begins an octave of which nothing else is used
C, first  2               constant: log Z(2), and the derivative at 2 - epsilon, because at 2 it is -inf
C         (2, far)        2^-split of an octave of y = alpha - 2
C, last   [far, inf]      linear in 1/alpha: Z(inf) is finite, the derivative goes like alpha^-2
========  ==============  ========================================================================================

"Linear in" is about the local variable w; the polynomials have the same degree everywhere.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Constants of the table for one dtype. Every integer below is of the unsigned type as wide as the dtype."""

    mantissa: int  # stored bits of the significand
    bias: int  # of the exponent
    split: int  # 2^split pieces an octave
    degree: int
    tail: int = 6  # the first and the last piece are alpha < 2^-tail and alpha - 2 >= 2^tail
    scaled: float = 4.0  # for alpha >= scaled the table holds alpha^2 (log Z)', which has a limit at infinity
    offset: tuple[float, float, float] = (1.25, 0.9375, 0.9375)
    # The table holds log Z - offset, by region. |log Z - offset| < 1/4, so rounding the first coefficient costs at most
    # 1/16 ulp of 1.

    def key(self, exponent: int) -> int:
        """Bits of 2^exponent, shifted: what numbers the pieces."""
        return (exponent + self.bias) << self.split

    @property
    def shift(self) -> int:
        """Right shift that leaves the exponent and the leading `split` bits of the significand: the key of y."""
        return self.mantissa - self.split

    @property
    def low(self) -> tuple[int, int, int]:
        """Smallest key by region; in A and C it stands for everything below the smallest octave."""
        return (self.key(-self.tail) - 1, self.key(-self.mantissa), self.key(1 - self.mantissa) - 1)

    @property
    def high(self) -> int:
        """Largest key, of the last piece; in A and B no alpha reaches it."""
        return self.key(self.tail)

    @property
    def base(self) -> tuple[int, int, int]:
        """The number to subtract from the key, by region, to get the row."""
        low_a, low_b, low_c = self.low
        rows_a = self.key(0) - low_a
        rows_b = self.key(0) - low_b + 1
        return (low_a, low_b - rows_a, low_c - rows_a - rows_b)

    @property
    def pieces(self) -> int:
        """Number of rows."""
        return self.high - self.base[2] + 1

    @property
    def fraction(self) -> int:
        """Mask of the bits below the key."""
        return (1 << self.shift) - 1

    @property
    def exponent(self) -> int:
        """Mask of the exponent."""
        return (2 * self.bias + 1) << self.mantissa

    @property
    def one(self) -> int:
        """Bits of 1.0."""
        return self.bias << self.mantissa

    @property
    def half(self) -> float:
        """Half the width of a piece: |w| <= half."""
        return 0.5 / (1 << self.split)

    @property
    def middle(self) -> float:
        """Subtract this from float(one | (bits & fraction)) to get w, exactly."""
        return 1 + self.half

    @property
    def near(self) -> float:
        """First alpha beyond the first piece."""
        return 2.0**-self.tail

    @property
    def far(self) -> float:
        """First alpha of the last piece."""
        return 2.0**self.tail + 2

    @property
    def stretch(self) -> float:
        """A power of two: on the first piece w = alpha * stretch - half, on the last w = (1/alpha) * stretch - half."""
        return 2.0 ** (self.tail - self.split)


LAYOUT = {
    "float32": Layout(mantissa=23, bias=127, split=2, degree=6),
    "float64": Layout(mantissa=52, bias=1023, split=1, degree=15),
}
