"""Linear transforms of images and signals, with their inverses, adjoints and determinants, on arrays of any library.

Losses of images are taken of such coefficients, since errors of neighbouring pixels have much in common and those of
wavelet bands little.  A likelihood of coefficients is one of pixels by the determinant: see ``log_abs_det``.

>>> import numpy as np
>>> from fastrobust.transforms import Wavelet
>>> wavelet = Wavelet("LeGall5/3", levels=1, axes=(0,))
>>> wavelet(np.array([1.0, 2.0, 3.0, 4.0, 6.0])).round(4)
array([ 1.4142,  4.2426,  8.3085,  0.    , -0.3536])
>>> wavelet.inverse(wavelet(np.array([1.0, 2.0, 3.0, 4.0, 6.0]))).round(12)
array([1., 2., 3., 4., 6.])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _arguments as arguments
from ._lifting import by_kernels, by_matrices
from ._matrices import YUV_SCALE, along
from ._sums import narrowed, taken
from .kernels.losses.wavelets import WAVELETS

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["DCT", "YUV", "Wavelet"]

Slices = tuple[slice, ...]


def _as_tuple(axes: Any) -> tuple[int, ...]:
    """The axes, or one axis, as a tuple."""
    return (int(axes),) if isinstance(axes, int | np.integer) else tuple(axes)


def _counted(axes: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The axes, counted from the first."""
    found = tuple(arguments.axis_of(axis, len(shape), "the array", "each of axes") for axis in axes)
    if len(set(found)) < len(found) or not found:
        raise ValueError(f"axes must name at least one axis, each once, got {tuple(axes)!r}")
    return found


@dataclass(frozen=True)
class Wavelet:
    """A wavelet transform along some axes, of any lengths, in the flat layout.

    Called with an array it gives one of the same shape: of each axis the low band comes first, then the high one, and
    of the lows of all axes so does the next level, recursively.

    Parameters
    ----------
    kind : {"CDF9/7", "LeGall5/3"}
        The wavelet: that of lossy JPEG 2000, or that of lossless. Low bands have the gain sqrt 2 for each axis.
    levels : int, optional
        How often the low band is split; 0 leaves all as it is. Default: until one sample is left of the shortest axis.
    axes : int or sequence of int
        Along which axes. Default: the last two, height and width.

    Raises
    ------
    ValueError
        For an unknown wavelet, levels below 0 or more than there are samples for, axes that are not there.

    Notes
    -----
    By lifting, with reflection at both ends (Daubechies and Sweldens 1998). NumPy's arrays and plain tensors on the CPU
    by kernels of its own; CuPy's arrays, tensors on GPUs and arrays of JAX by a matrix product for each level and axis,
    whose matrices the kernels make. float32 and float64; halves are computed in float32, integers in float64. Errors
    are a few units in the last place of the line's largest sample. All are differentiable to any order: the derivative
    is the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.transforms import Wavelet
    >>> image = np.ones((4, 6))
    >>> Wavelet(levels=1)(image)[:2, :3].round(6)
    array([[2., 2., 2.],
           [2., 2., 2.]])
    """

    kind: str = "CDF9/7"
    levels: int | None = None
    axes: tuple[int, ...] = (-2, -1)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in WAVELETS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, WAVELETS))}, got {self.kind!r}")
        levels = self.levels
        if levels is not None:
            if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or levels < 0:
                raise ValueError(f"levels must be an integer of at least 0, or None, got {levels!r}")
            object.__setattr__(self, "levels", int(levels))
        object.__setattr__(self, "axes", _as_tuple(self.axes))

    def __call__(self, x: ArrayLike) -> Any:
        """The coefficients."""
        return self._applied(x, analysis=True, transposed=False)

    def inverse(self, y: ArrayLike) -> Any:
        """What has these coefficients."""
        return self._applied(y, analysis=False, transposed=False)

    def adjoint(self, y: ArrayLike) -> Any:
        """The transposed transform: the sum of ``adjoint(y) * x`` is that of ``y * self(x)``."""
        return self._applied(y, analysis=False, transposed=True)

    def log_abs_det(self, shape: Sequence[int]) -> float:
        """The logarithm of the absolute determinant of the transform of a whole array of that shape.

        0 where all lengths of all levels are even; else how much less dense coefficients lie than samples.
        """
        wavelet, lengths = WAVELETS[self.kind], [shape[axis] for axis in _counted(self.axes, shape)]
        total, others = 0.0, math.prod(shape) // max(1, math.prod(lengths))
        for _ in range(self._levels(lengths)):
            size = math.prod(lengths)
            total += sum(size // length * wavelet.log_abs_det(length) for length in lengths)
            lengths = [(length + 1) // 2 for length in lengths]
        return others * total

    def bands(self, shape: Sequence[int]) -> list[Slices]:
        """Where the bands lie along the transform's axes: the residual low band first, then from coarse to fine."""
        lengths = [shape[axis] for axis in _counted(self.axes, shape)]
        found: list[Slices] = []
        for _ in range(self._levels(lengths)):
            low = [(length + 1) // 2 for length in lengths]
            of_level = []
            for number in range(1, 2 ** len(lengths)):
                high = [number >> (len(lengths) - 1 - place) & 1 for place in range(len(lengths))]
                ranges = zip(high, low, lengths, strict=True)
                of_level.append(
                    tuple(slice(first, end) if is_high else slice(0, first) for is_high, first, end in ranges)
                )
            found = [*of_level, *found]
            lengths = low
        return [tuple(slice(0, length) for length in lengths), *found]

    def _levels(self, lengths: Sequence[int]) -> int:
        """How many levels there are for such lengths."""
        shortest = min(lengths)
        most = max(0, shortest - 1).bit_length()
        if self.levels is not None and self.levels > most:
            raise ValueError(f"levels must be at most {most} for the lengths {tuple(lengths)}, got {self.levels}")
        return most if self.levels is None else self.levels

    def _applied(self, x: ArrayLike, analysis: bool, transposed: bool) -> Any:
        """The transform or one of its kin, of arrays of any library."""
        target, half, given = taken(x, "transforms")
        axes = _counted(self.axes, given.shape)
        levels, wavelet = self._levels([given.shape[axis] for axis in axes]), WAVELETS[self.kind]
        given = (wavelet, given, levels, axes, analysis, transposed)
        if target.xp is np:
            return narrowed(by_kernels(*given), half)
        return narrowed(getattr(target, "lifted", by_matrices)(target, *given), half)


def _multiplied(x: ArrayLike, axes: Sequence[int], kind: str, option: str) -> Any:
    """The array multiplied by the matrices of that kind along some axes."""
    target, half, given = taken(x, "transforms")
    for axis in axes:
        given = along(target, given, axis, kind, given.shape[axis], option)
    return narrowed(given, half)


@dataclass(frozen=True)
class DCT:
    """The discrete cosine transform of type II along some axes, orthonormal: its inverse is its adjoint.

    Parameters
    ----------
    axes : sequence of int
        Along which axes. Default: the last two, height and width.

    Notes
    -----
    By a matrix product for each axis, in the precision of the array, whatever autocast says, as far as the library's
    products of float32 have it (`torch.set_float32_matmul_precision`); halves are computed in float32. It keeps
    volumes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.transforms import DCT
    >>> DCT()(np.ones((2, 3))).round(6)
    array([[2.44949, 0.     , 0.     ],
           [0.     , 0.     , 0.     ]])
    """

    axes: tuple[int, ...] = (-2, -1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", _as_tuple(self.axes))

    def __call__(self, x: ArrayLike) -> Any:
        """The coefficients."""
        return _multiplied(x, self._counted(x), "cosines", "plain")

    def inverse(self, y: ArrayLike) -> Any:
        """What has these coefficients."""
        return _multiplied(y, self._counted(y), "cosines", "inverse")

    adjoint = inverse

    def log_abs_det(self, shape: Sequence[int]) -> float:
        """The logarithm of the absolute determinant: 0."""
        return 0.0

    def _counted(self, x: Any) -> tuple[int, ...]:
        """The axes, counted from the first."""
        return _counted(self.axes, np.shape(x))


@dataclass(frozen=True)
class YUV:
    """RGB to brightness and two colours, PAL's YUV scaled so that it keeps volumes.

    Parameters
    ----------
    axis : int
        The axis of the three channels. Default: the last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.transforms import YUV
    >>> YUV()(np.array([1.0, 1.0, 1.0])).round(6)
    array([1.580228, 0.      , 0.      ])
    """

    SCALE: ClassVar[float] = YUV_SCALE  # of PAL's matrix, to a determinant of 1
    axis: int = -1

    def __call__(self, x: ArrayLike) -> Any:
        """Brightness and colours."""
        return self._multiplied(x, "plain")

    def inverse(self, y: ArrayLike) -> Any:
        """The RGB of it."""
        return self._multiplied(y, "inverse")

    def adjoint(self, y: ArrayLike) -> Any:
        """The transposed transform."""
        return self._multiplied(y, "adjoint")

    def log_abs_det(self, shape: Sequence[int]) -> float:
        """The logarithm of the absolute determinant: 0, to the digits that the scale is given with."""
        return 0.0

    def _multiplied(self, x: ArrayLike, way: str) -> Any:
        """The channels multiplied by a matrix."""
        shape = np.shape(x)
        axis = arguments.axis_of(self.axis, len(shape), "the array")
        if shape[axis] != 3:
            raise ValueError(f"axis {self.axis} must have the 3 channels of RGB, got shape {tuple(shape)}")
        return _multiplied(x, (axis,), "colours", way)
