"""XLA's call frames, word by word, the codes of calls and the keys of kernels.  No Numba here.

The frames are those of ``xla/ffi/api/c_api.h``: structures of words of 8 bytes, of which the numbers below say the
place.  They are the same in versions 0.1 to 0.5 of that interface (jaxlib 0.6 to 0.12); what versions add comes last.

A call has one attribute, its code, which says the same in every process, since programs are exported and kept.  With
the dtype and the layout in it, and without what does not choose the kernel, it becomes the kernel's key:

=========  ==============================  ==================================
bits       of a code                       of a key
=========  ==============================  ==================================
0 to 19    a mask: elementwise of          the same
           ``definition.outputs``, of a
           sum's derivatives of
           ``definition.operands``
20 to 23   data operands, less 1           the same
24 to 27   operands, less 1                the same
28         whether it is a sum             the same
29         whether that is divided         0
30         whether weights come last       0
31         0                               whether numbers are doubles
32         0                               whether parameters vary
33 to 62   a digest of the definition      the same
=========  ==============================  ==================================
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence

from ..arithmetic.primitives import inlined
from ..losses.definition import Definition, known

__all__ = ["code_of", "code_of_sums", "data_of", "definition_of", "mask_of", "operands_of", "ordered", "place_of"]

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

# The table: what Python and the handler tell each other, then kernels, each with its key and its address.  If none of
# `PROBES` entries is free for one, Python is asked at every call.
VERSION, RESOLVE, TASK, MESSAGE = 0, 1, 2, 3
KERNELS, ENTRIES, PROBES = 16, 1024, 16
WORDS = KERNELS + 2 * ENTRIES
MESSAGES = (
    "fastrobust: this version of XLA's interface is not known",
    "fastrobust: operands must be all float32 or all float64",
    "fastrobust: operands must be of one rank, at most 32, and broadcast to the result",
    "fastrobust: a kernel could not be built; Python has printed why",
    "fastrobust: no memory for the sums",
)

# Codes and keys.
OPERANDS_MAX, OUTPUTS_MAX = 16, 20
AT_DATA, AT_OPERANDS, IS_SUM, IS_MEAN, HAS_WEIGHTS, IS_DOUBLE, VARIES, AT_DIGEST = 20, 24, 28, 29, 30, 31, 32, 33


@inlined
def mask_of(code):
    """The mask in a code or key: a bit for each output or derivative."""
    return code & ((1 << OUTPUTS_MAX) - 1)


@inlined
def data_of(code):
    """The number of data operands in a code or key."""
    return 1 + (code >> AT_DATA & 15)


@inlined
def operands_of(code):
    """The number of operands in a code or key."""
    return 1 + (code >> AT_OPERANDS & 15)


@inlined
def place_of(key, probe):
    """The place in the table where a key is looked for at first (probe 0), and then, one after the other."""
    mixed = key * 0x1E3779B97F4A7C15 & 0x7FFFFFFFFFFFFFFF
    return KERNELS + 2 * ((mixed >> 53) + probe & (ENTRIES - 1))


_coded: dict[int, Definition] = {}  # by digest, all that this process has made codes of


@functools.cache
def _digest_of(definition: Definition) -> int:
    """30 bits of what a code's other bits mean: the definition's name, edition, operands and outputs."""
    text = f"{definition.__name__}({', '.join(definition.data)}; {', '.join(definition.parameters)})"
    text = f"{text} -> {', '.join(definition.outputs)}"
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=4).digest(), "little") & (1 << 30) - 1


def definition_of(code: int) -> Definition:
    """The definition whose digest is in a code or key."""
    digest = code >> AT_DIGEST
    matching = {candidate for candidate in (*_coded.values(), *known.values()) if _digest_of(candidate) == digest}
    if len(matching) == 1:
        return matching.pop()
    raise LookupError(
        "a program calls kernels of a definition that is not known here: import the module that defines it before the "
        "program runs, and if that has changed since the program was exported, export it again"
    )


@functools.cache
def _base(definition: Definition) -> int:
    """The bits of the definition in all its codes."""
    operands, outputs = len(definition.operands), len(definition.outputs)
    if operands > OPERANDS_MAX or outputs > OUTPUTS_MAX:
        raise ValueError(
            f"{definition.title} has {operands} operands and {outputs} outputs; on CPUs, JAX can call kernels of up to "
            f"{OPERANDS_MAX} and {OUTPUTS_MAX}"
        )
    digest = _digest_of(definition)
    if _coded.setdefault(digest, definition) is not definition:
        raise ValueError(f"JAX's programs cannot tell {definition.name} from {_coded[digest].name}: rename one of them")
    return digest << AT_DIGEST | (len(definition.operands) - 1) << AT_OPERANDS | (len(definition.data) - 1) << AT_DATA


def _mask(of: tuple[str, ...], names: Iterable[str]) -> int:
    """A bit for each of the names, at its place in ``of``; another name is an error."""
    return sum(1 << of.index(name) for name in names)


def code_of_sums(definition: Definition, wrt: Sequence[str], mean: bool, weighted: bool) -> int:
    """The code of the reduction with the derivatives in these operands."""
    kind = 1 << IS_SUM | mean << IS_MEAN | weighted << HAS_WEIGHTS
    return _base(definition) | kind | _mask(definition.operands, wrt)


def code_of(definition: Definition, names: Sequence[str]) -> int:
    """The code of the kernel with these outputs."""
    return _base(definition) | _mask(definition.outputs, names)


def ordered(definition: Definition, names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order in which the handler returns them."""
    return tuple(name for name in definition.outputs if name in names)
