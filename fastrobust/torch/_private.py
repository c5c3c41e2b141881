"""PyTorch's private and undocumented interfaces, each in one function with what is done where it is gone.

No other module of this room, nor of `compat`, touches a name of PyTorch's that begins with an underscore or that its
documentation does not list; `tests/test_layers.py` holds that, and `tests/test_torch_private.py` has a test for each.

Most functions here are PyTorch's own where it has them, found once at the import, so that a call costs nothing more;
what is written below their names does without.  A PyTorch that has lost one is told by a warning at the import.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.distributions import Distribution

from ..kernels.compilers.alone import imported

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

    from .._types import Options
    from ._types import Operand

F = TypeVar("F", bound=Callable[..., object])


def _found(path: str) -> Any:
    """The thing that PyTorch has at that path, or None."""
    place: Any = torch
    for name in path.split(".")[1:]:
        place = getattr(place, name, None)
    return place


def _moved(path: str, consequence: str) -> RuntimeError:
    """The error where something is gone that nothing replaces."""
    return RuntimeError(f"PyTorch {torch.__version__} has no {path} any more, {consequence}: take an older PyTorch")


def _offered(path: str, use: Any = None) -> Callable[[F], F]:
    """A decorator: in place of the function, what PyTorch has at that path, or ``use`` of it, if it is there."""

    def chosen(otherwise: F) -> F:
        """PyTorch's own, or, after a warning, the function that was decorated."""
        offered = _found(path)
        if offered is None:
            warnings.warn(
                f"PyTorch {torch.__version__} has no {path} any more: fastrobust does without, which costs time or "
                "memory",
                RuntimeWarning,
                stacklevel=2,
            )
            return otherwise
        return offered if use is None else use

    return chosen


# --- what is active


@_offered("torch._C._functorch.get_interpreter_stack")
def _stack() -> Sequence[Any] | None:
    """The list that `interpreters` names.

    Gone: the same from the functions of `torch.func` in Python; without them an error, since without counting,
    derivatives might become 0.
    """
    instead = _found("torch._functorch.pyfunctorch.retrieve_all_functorch_interpreters")
    if instead is None:
        raise _moved("torch._C._functorch.get_interpreter_stack", "by which transforms of torch.func are counted")
    return instead()


def interpreters() -> list[str]:
    """The transforms of `torch.func` that are active, outermost first: "Grad", "Jvp", "Vmap" and others.

    PyTorch: `torch._C._functorch.get_interpreter_stack()`, None or a list of what has a `key()`.
    Gone: `torch._functorch.pyfunctorch.retrieve_all_functorch_interpreters()`; without that, too, an error.
    """
    return [level.key().name for level in _stack() or ()]


@_offered("torch._C._are_functorch_transforms_active")
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def transforms_active() -> bool:
    """Tell whether a transform of `torch.func` is active.

    PyTorch: `torch._C._are_functorch_transforms_active`, which its compiler knows.
    Gone: whether there are `interpreters`.
    """
    return bool(interpreters())


@_offered("torch.autograd.forward_ad._current_level", lambda: forward_ad._current_level >= 0)
def forward_mode() -> bool:
    """Tell whether `torch.autograd.forward_ad` is at work, outside of `torch.func`.

    PyTorch: `torch.autograd.forward_ad._current_level`, -1 if it is not.
    Gone: whether a dual tensor can be made.  The compiler would not look again, so it is an error there.
    """
    if torch.compiler.is_compiling():
        raise _moved("torch.autograd.forward_ad._current_level", "without which fastrobust cannot be compiled")
    zero = torch.zeros((), device="cpu")
    try:
        forward_ad.make_dual(zero, zero)
    except RuntimeError:
        return False
    return True


@_offered("torch._C._len_torch_dispatch_stack")
def modes() -> int:
    """The number of modes that see every operation, as those of FakeTensor and of make_fx do.

    PyTorch: `torch._C._len_torch_dispatch_stack`.
    Gone: there may be one, so that everything goes by operators and the general rules: slower, as right.
    """
    return 1


@_offered("torch._C._is_tracing")
def jit_tracing() -> bool:
    """Tell whether `torch.jit.trace` looks on.

    PyTorch: `torch._C._is_tracing`.
    Gone: the documented `torch.jit.is_tracing`, a call more.
    """
    return torch.jit.is_tracing()  # type: ignore[attr-defined]  # documented, though not in its __all__


@_offered("torch.is_autocast_enabled")
def autocast(device_type: str) -> bool:
    """Tell whether autocast is on for devices of that type.

    PyTorch: `torch.is_autocast_enabled`, which is not documented.
    Gone: whether a product of matrices comes in half precision, as is documented of autocast.
    """
    ones = torch.ones((1, 1), dtype=torch.float32, device=device_type)
    return torch.mm(ones, ones).dtype != torch.float32


# --- tensors


@_offered("torch._C._functorch.is_batchedtensor")
def batched(tensor: Tensor) -> bool:
    """Tell whether vmap maps over the tensor, which samples refuse.

    PyTorch: `torch._C._functorch.is_batchedtensor`.
    Gone: said of none; PyTorch itself then refuses what samples do with one, in its own words.
    """
    return False


@_offered("torch.Tensor._version", lambda tensor: tensor._version)
def version(tensor: Tensor) -> int | Tensor:
    """A mark of the tensor as it is now, for `changed`.

    PyTorch: `Tensor._version`, which counts changes in place.
    Gone: a copy.
    """
    return tensor.detach().clone()


@_offered("torch.Tensor._version", lambda tensor, since: tensor._version != since)
def changed(tensor: Tensor, since: Any) -> bool:
    """Tell whether the tensor was changed in place since that `version`.

    PyTorch: `Tensor._version`.
    Gone: whether an element differs from the copy.
    """
    now = tensor.detach()
    same = now.shape == since.shape and bool(((now == since) | ((now != now) & (since != since))).all())
    return not same


@_offered("torch.scalar_tensor")
def scalar_tensor(value: float, dtype: torch.dtype, device: str) -> Tensor:
    """A tensor without axes.

    PyTorch: `torch.scalar_tensor`, which is not documented and quicker than what is.
    Gone: `torch.full`.
    """
    return torch.full((), value, dtype=dtype, device=device)


def local_map(
    function: Callable[..., tuple[Tensor, ...]],
    outputs: Sequence[Sequence[Placement]],
    inputs: Sequence[Sequence[Placement] | None],
    mesh: DeviceMesh,
) -> Callable[..., tuple[Tensor, ...]]:
    """``function``, on each process's part of DTensors placed as ``inputs`` say, with results placed as ``outputs``.

    PyTorch: `torch.distributed.tensor.experimental.local_map`, which is documented as subject to change.
    Gone: the same by `DTensor.redistribute`, `to_local` and `from_local`.
    """
    try:
        offered = imported("torch.distributed.tensor.experimental").local_map
    except (ImportError, AttributeError):
        return functools.partial(_on_parts, function, outputs, inputs, mesh)
    return offered(function, out_placements=outputs, in_placements=inputs, device_mesh=mesh, redistribute_inputs=True)


def _on_parts(
    function: Callable[..., tuple[Tensor, ...]],
    outputs: Sequence[Sequence[Placement]],
    inputs: Sequence[Sequence[Placement] | None],
    mesh: DeviceMesh,
    *tensors: Operand,
) -> tuple[Tensor, ...]:
    """`local_map` by documented means: DTensors placed and taken apart, and the results put together."""
    kind = imported("torch.distributed.tensor").DTensor
    parts = [
        tensor.redistribute(placements=placement).to_local() if isinstance(tensor, kind) else tensor
        for tensor, placement in zip(tensors, inputs, strict=True)
    ]
    placed = zip(function(*parts), outputs, strict=True)
    return tuple(kind.from_local(part, mesh, placement, run_check=False) for part, placement in placed)


# --- distributions


@_offered("torch.distributions.utils.broadcast_all")
def broadcast_all(*values: Operand) -> Sequence[Tensor]:
    """Tensors and numbers as tensors of one shape; numbers take dtype and device of the first tensor.

    PyTorch: `torch.distributions.utils.broadcast_all`, whose module is not documented.
    Gone: the same.
    """
    options: Options = next(({"dtype": v.dtype, "device": v.device} for v in values if isinstance(v, Tensor)), {})
    options = options or {"dtype": torch.get_default_dtype()}
    return torch.broadcast_tensors(*(v if isinstance(v, Tensor) else torch.tensor(v, **options) for v in values))


@_offered(
    "torch.distributions.Distribution._get_checked_instance",
    lambda distribution, kind, instance: distribution._get_checked_instance(kind, instance),
)
def new_instance(distribution: Distribution, kind: type[Distribution], instance: Distribution | None) -> Any:
    """The instance that `expand` of that kind of distribution fills: the one that it was given, or a new one.

    PyTorch: `Distribution._get_checked_instance`, which refuses subclasses with an ``__init__`` and no `expand`.
    Gone: the same, and the refusal in words of our own.
    """
    if instance is not None:
        return instance
    subclass = type(distribution)
    if subclass.__init__ is not kind.__init__:
        raise NotImplementedError(f"{subclass.__name__} has an __init__ of its own and needs an expand(), too")
    return subclass.__new__(subclass)


def validates(distribution: Distribution) -> bool:
    """Tell whether the distribution checks its arguments.

    PyTorch: `Distribution._validate_args`.
    Gone: it does.
    """
    return getattr(distribution, "_validate_args", True)


def validate_alike(distribution: Distribution, other: Distribution) -> None:
    """Let the distribution check its arguments if the other does.

    PyTorch: `Distribution._validate_args`.
    Gone: an attribute that only `validates` reads.
    """
    distribution._validate_args = validates(other)


@_offered(
    "torch.distributions.Distribution._validate_sample",
    lambda distribution, value: distribution._validate_sample(value),
)
def validate_sample(distribution: Distribution, value: object) -> None:
    """Refuse a value that the distribution cannot have.

    PyTorch: `Distribution._validate_sample`.
    Gone: what is no tensor, does not broadcast, or lies outside of the support is refused.
    """
    if not isinstance(value, Tensor):
        raise ValueError("The value argument to log_prob must be a Tensor")
    try:
        torch.broadcast_shapes(value.shape, distribution.batch_shape)
    except RuntimeError:
        raise ValueError(
            f"a value of shape {tuple(value.shape)} does not broadcast with {tuple(distribution.batch_shape)}"
        ) from None
    support: Any = distribution.support
    if not bool(support.check(value).all()):
        raise ValueError(f"a value lies outside of the support {support} of {distribution}")
