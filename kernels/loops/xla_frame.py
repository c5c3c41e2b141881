"""XLA's call frames, word by word, and the numbers of the kernels.  No Numba here.

The frames are those of ``xla/ffi/api/c_api.h``: structures of words of 8 bytes, of which the numbers below say the
place.  They are the same in versions 0.1 to 0.5 of that interface (jaxlib 0.6 to 0.12); what versions add comes last.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..losses import signatures
from ..losses.signatures import LOSS, PARTITION

__all__ = ["FAMILIES", "OUTPUTS", "code_of", "code_of_sums", "ordered"]

API_MAJOR, API_MINOR = 0, 5  # of the interface, as known here
API_OLDEST = 1  # the minor version of those who ask without showing theirs

# XLA_FFI_CallFrame, into which the arguments, results and attributes are built: of those, the length and the pointers
FRAME_EXTENSION, FRAME_API, FRAME_CONTEXT = 1, 2, 3
FRAME_ARGS, FRAME_RETS = (7, 9), (12, 14)
FRAME_ATTRS = (17, 20)
# XLA_FFI_Buffer
BUFFER_TYPE, BUFFER_DATA, BUFFER_RANK, BUFFER_DIMS = 2, 3, 4, 5
FLOAT, DOUBLE = 11, 12  # types of buffers
SCALAR_VALUE = 1  # of XLA_FFI_Scalar
# XLA_FFI_Api and its functions
API_VERSION, API_ERROR_CREATE, API_ERROR_DESTROY, API_SCHEDULE, API_THREADS = 4, 6, 8, 17, 18
# XLA_FFI_Metadata_Extension, XLA_FFI_Metadata
METADATA, EXTENSION_METADATA, METADATA_VERSION, METADATA_TRAITS = 1, 3, 3, 4
# Bytes of the arguments of those functions, and what the frame and buffers have at least
ERROR_CREATE_SIZE, ERROR_DESTROY_SIZE, SCHEDULE_SIZE, THREADS_SIZE = 28, 24, 40, 32
FRAME_SIZE, BUFFER_SIZE = 168, 48
INVALID_ARGUMENT, NO_MEMORY, UNIMPLEMENTED = 3, 8, 12  # error codes

# The table: what Python and the handler tell each other, then addresses of kernels.
VERSION, RESOLVE, TASK, MESSAGE = 0, 1, 2, 3
KERNELS = 16
MESSAGES = (
    "fastrobust: this version of XLA's interface is not known",
    "fastrobust: operands must be all float32 or all float64",
    "fastrobust: operands must be of one rank, at most 32, and broadcast to the result",
    "fastrobust: a kernel could not be built; Python has printed why",
    "fastrobust: no memory for the sums",
)

FAMILIES, OUTPUTS = tuple(signatures.FAMILIES), LOSS.outputs
LAYOUTS = ("shared", "each")  # of what is elementwise; sums have "shared" and "columns"
PARTITIONS = len(FAMILIES) << len(OUTPUTS)  # the first number of log Z
SUMS = PARTITIONS + (1 << len(PARTITION))  # the first number of a reduction; there, the last bit says it is a mean
KINDS = SUMS + (len(FAMILIES) << 3)  # of kernels, each for two dtypes and two layouts
CODES = SUMS + (len(FAMILIES) << 4)
WORDS = KERNELS + KINDS * 4


def code_of_sums(family: str, wrt: Sequence[str], mean: bool) -> int:
    """The number of the reduction with these gradients, out of x, alpha and scale."""
    mask = sum(1 << LOSS.operands.index(name) for name in wrt)
    return SUMS + (((FAMILIES.index(family) << 3) + mask) << 1) + mean


def code_of(family: str, names: Sequence[str]) -> int:
    """The number of the kernels with these outputs; of "partition" if that is the family."""
    known = PARTITION if family == "partition" else OUTPUTS
    mask = sum(1 << known.index(name) for name in names)
    return mask + (PARTITIONS if family == "partition" else FAMILIES.index(family) << len(OUTPUTS))


def ordered(family: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order in which the handler returns them."""
    return tuple(name for name in (PARTITION if family == "partition" else OUTPUTS) if name in names)
