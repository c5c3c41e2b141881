"""The functions of `fastrobust` for JAX, the losses with fixed and learned parameters, and the distribution.

Under jit, grad, vmap, jvp, shard_map, and whatever these compose to. The functions of `fastrobust` take arrays of JAX
and return such. Here NumPy arrays, lists and numbers are taken, too, and the results are always arrays of JAX.

The losses of `fastrobust.losses` and those that `fastrobust.define` makes need no counterpart here: they take arrays of
JAX under the same transformations. Their parameters are arguments, and learn as leaves of any pytree:

>>> import jax, jax.numpy as jnp
>>> from fastrobust import losses
>>> params = {"slope": jnp.array(0.5), "loss": {"delta": jnp.array(1.0)}}
>>> def objective(params, x, y):
...     return losses.huber(params["slope"] * x - y, **params["loss"], reduction="mean")
>>> slopes = jax.jit(jax.grad(objective))(params, jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0]))
>>> print(slopes["slope"], slopes["loss"]["delta"])
-0.75 1.0

`jax.export` asks for the consent to calls of compiled code, of which JAX cannot know that later versions will find the
same; on CPUs these functions make such calls, by the name "fastrobust". They are numbered alike in all processes with
one version of fastrobust. The process that runs the program imports it, and has the calls known to XLA by `backend`:

>>> import jax, jax.export, jax.numpy as jnp
>>> import fastrobust.jax as frj
>>> consent = jax.export.DisabledSafetyCheck.custom_call("fastrobust")
>>> function = jax.jit(lambda x: frj.loss(x, 0.0, 1.0, reduction="sum"))
>>> stored = jax.export.export(function, disabled_checks=[consent])(jnp.zeros(3)).serialize()
>>> frj.backend()  # in the other process
'ffi'
>>> print(f"{jax.export.deserialize(stored).call(jnp.array([1.0, -1.0, 0.0])):.5f}")
0.81093

Programs for TPUs, and for GPUs without CuPy, need neither: ``platforms=["tpu"]``. With CuPy, programs for GPUs cannot
be exported.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..kernels.compilers.alone import uninterrupted

# ruff: noqa: E402
# An exception out of a signal handler, as of Ctrl-C, would leave a half of a module, which cannot be imported again.
uninterrupted(lambda: importlib.import_module("._autodiff", __name__))

from .. import LossGrad, PartitionGrad, _api
from .. import _arguments as arguments
from ..kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL
from ..kernels.losses.definition import Definition
from ._adaptive import AdaptiveLoss
from ._arrays import array
from ._calls import backend
from ._distribution import Barron
from ._robust import RobustLoss
from ._student import StudentTLoss

_Function = TypeVar("_Function", bound=Callable[..., object])


def _for_jax(function: _Function, definition: Definition) -> _Function:
    """The function with its arrays made arrays of JAX, and its leading number, too."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def converted(*args: object, **options: object) -> object:
        """The function's result for these arguments, once numbers are checked and arrays are JAX's."""
        try:
            given = signature.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{function.__name__}(): {error}") from None
        # As numbers: once arrays of JAX, they are elements that give NaN.
        checked = definition if given.arguments.get("truncation") is None else LOSS
        arguments.check_numbers(checked, [given.arguments.get(name) for name in checked.operands])
        for name in (*definition.operands, "weights"):
            value: Any = given.arguments.get(name)
            if name == definition.operands[0] or (value is not None and not isinstance(value, arguments.NUMBERS)):
                given.arguments[name] = array(name, value)
        return function(*given.args, **given.kwargs)

    converted.__module__ = __name__  # where pickle finds it
    return cast(_Function, converted)


loss = _for_jax(_api.loss, LOSS)
influence = _for_jax(_api.influence, LOSS)
weight = _for_jax(_api.weight, LOSS)
curvature = _for_jax(_api.curvature, LOSS)
nll = _for_jax(_api.nll, NLL)
log_partition = _for_jax(_api.log_partition, LOG_PARTITION)
log_partition_and_grad = _for_jax(_api.log_partition_and_grad, LOG_PARTITION)
loss_and_grad = _for_jax(_api.loss_and_grad, LOSS)
nll_and_grad = _for_jax(_api.nll_and_grad, NLL)

__all__ = [
    "AdaptiveLoss",
    "Barron",
    "LossGrad",
    "PartitionGrad",
    "RobustLoss",
    "StudentTLoss",
    "backend",
    "curvature",
    "influence",
    "log_partition",
    "log_partition_and_grad",
    "loss",
    "loss_and_grad",
    "nll",
    "nll_and_grad",
    "weight",
]
