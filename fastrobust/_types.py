"""What annotations are made of: arrays of whatever library, and what the public functions take and return.

Where an array's library is known, its own type is written: `torch.Tensor`, `jax.Array`.  What may be anything, and is
looked at only to refuse it or to name it, is an `object`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np


class Shaped(Protocol):
    """An array of any library: all of them have these."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """The library's name for the type of the elements."""


class Array(Shaped, Protocol):
    """An array of NumPy, CuPy or JAX: what these can do alike."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def size(self) -> int:
        """The number of elements."""

    @property
    def T(self) -> Array:
        """The array with its axes in the opposite order."""

    # Methods are attributes here, since each library has options of its own for them.

    @property
    def all(self) -> Callable[..., Array]: ...
    @property
    def any(self) -> Callable[..., Array]: ...
    @property
    def argmax(self) -> Callable[..., Array]: ...
    @property
    def astype(self) -> Callable[..., Array]: ...
    @property
    def copy(self) -> Callable[..., Array]: ...
    @property
    def max(self) -> Callable[..., Array]: ...
    @property
    def min(self) -> Callable[..., Array]: ...
    @property
    def mean(self) -> Callable[..., Array]: ...
    @property
    def ravel(self) -> Callable[..., Array]: ...
    @property
    def reshape(self) -> Callable[..., Array]: ...
    @property
    def sum(self) -> Callable[..., Array]: ...

    def __bool__(self) -> bool: ...
    def __float__(self) -> float: ...
    def __int__(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Array: ...
    def __abs__(self) -> Array: ...
    def __invert__(self) -> Array: ...
    def __neg__(self) -> Array: ...
    def __add__(self, other: Any, /) -> Array: ...
    def __radd__(self, other: Any, /) -> Array: ...
    def __sub__(self, other: Any, /) -> Array: ...
    def __rsub__(self, other: Any, /) -> Array: ...
    def __mul__(self, other: Any, /) -> Array: ...
    def __rmul__(self, other: Any, /) -> Array: ...
    def __truediv__(self, other: Any, /) -> Array: ...
    def __rtruediv__(self, other: Any, /) -> Array: ...
    def __pow__(self, other: Any, /) -> Array: ...
    def __rpow__(self, other: Any, /) -> Array: ...
    def __matmul__(self, other: Any, /) -> Array: ...
    def __and__(self, other: Any, /) -> Array: ...
    def __or__(self, other: Any, /) -> Array: ...
    def __eq__(self, other: object, /) -> Array: ...  # type: ignore[override]
    def __lt__(self, other: Any, /) -> Array: ...
    def __le__(self, other: Any, /) -> Array: ...
    def __gt__(self, other: Any, /) -> Array: ...
    def __ge__(self, other: Any, /) -> Array: ...


class Namespace(Protocol):
    """The functions of an array library, by the names that they have in NumPy: a module, or what stands for one."""

    def __getattr__(self, name: str, /) -> Any: ...


ArrayLike: TypeAlias = Shaped | float | Sequence[Any]  # what users give: arrays of any library, numbers, lists of these
DType: TypeAlias = "np.dtype[Any]"
NDArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Options: TypeAlias = dict[str, Any]  # arguments by keyword, each of a type of its own
Random: TypeAlias = "int | np.random.Generator | np.random.RandomState | None"  # what SciPy takes as random_state


# The results of public functions are of the type that the arrays given have, which no annotation says for all.


class LossGrad(NamedTuple):
    """A loss and its partial derivatives; a gradient that was not asked for is None."""

    value: Any
    dx: Any
    dalpha: Any
    dscale: Any


class PartitionGrad(NamedTuple):
    """log Z(alpha) and its derivative."""

    value: Any
    dalpha: Any


class RowResults(NamedTuple):
    """What rows come to, doubles, not weighted: the value, and its derivatives in the numbers of a row."""

    value: Any
    by_numbers: tuple[Any, ...]
