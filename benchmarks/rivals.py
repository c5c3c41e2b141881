"""The plain formula, as it is written today in NumPy, numexpr, PyTorch and JAX, and fastrobust beside it.

Every rival turns a `Problem` into a call without arguments, and a call's result into NumPy arrays that can be checked.
All of them get their inputs as arrays of their own library, made beforehand.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

import fastrobust as fr

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COLUMNS = 10
INF = math.inf
STATIC = 10**6  # elements from which on torch.compile gets the exact shape

Array = Any
Call = Callable[[], Any]


@dataclass(frozen=True)
class Problem:
    """One piece of work on one set of data."""

    work: str  # "loss" or "loss_and_grad"
    reduction: str  # "none" or "mean"
    dtype: str
    parameters: str  # "scalar", "columns" or "full"
    size: int
    x: Array
    alpha: Array  # a Python float if the parameters are scalar
    scale: Array

    @property
    def bytes(self) -> int:
        """What has to be moved at least: the inputs read once, the results written once."""
        arrays = 1 + 2 * (self.parameters == "full")
        if self.work == "loss":
            arrays += 1
        elif self.reduction == "none":
            arrays += 4
        else:
            arrays += 1 + 2 * (self.parameters == "full")
        return arrays * self.size * np.dtype(self.dtype).itemsize

    def parameter_arrays(self) -> tuple[Array, Array]:
        """alpha and scale as arrays of the problem's dtype, 0-d if they are scalar."""
        return np.asarray(self.alpha, self.dtype), np.asarray(self.scale, self.dtype)


def problem(work: str, reduction: str, dtype: str, parameters: str, size: int) -> Problem:
    """Data on which the plain formula is at its best: alpha not close to 0 or 2, residuals below 13 scales.

    Beyond those, exp(s/2) of the case that `where` does not choose overflows float32, and autodiff makes all NaN.
    """
    rng = np.random.default_rng(20190616)
    shape = (size // COLUMNS, COLUMNS) if parameters == "columns" else (size,)
    x = rng.standard_normal(size, np.float32).reshape(shape).astype(dtype)
    alpha: Array = 0.7
    scale: Array = 1.5
    if parameters == "columns":
        alpha = np.array([-2.1, -1.6, -1.1, -0.8, -0.4, 0.4, 0.8, 1.1, 1.4, 1.7], dtype)
        scale = np.linspace(0.5, 2, COLUMNS).astype(dtype)
    elif parameters == "full":
        alpha = rng.random(size, np.float32).astype(dtype)
        alpha *= 1.3
        alpha += 0.4
        alpha[::2] *= -1
        scale = rng.random(size, np.float32).astype(dtype)
        scale += 0.5
    return Problem(work, reduction, dtype, parameters, size, x, alpha, scale)


class Rival(NamedTuple):
    """Who computes."""

    name: str
    package: str  # what has to be installed
    build: Callable[[Problem], Call]
    arrays: Callable[[Any], tuple[Array, ...]]  # a call's result as (value, dx, dalpha, dscale) or (value,)
    memory: float  # peak memory beside the inputs, in arrays of the problem's size
    settle: float = 0.0  # seconds in which its threads still spin for more work after a call
    sizes: tuple[int, int] = (1, 10**12)

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


# --- fastrobust


def _outputs(p: Problem) -> tuple[Array, ...]:
    count = 1 if p.work == "loss" else 4
    return tuple(np.zeros_like(p.x) for _ in range(count))  # zeros_like writes: no page faults later


def _fastrobust(p: Problem) -> Call:
    if p.work == "loss":
        (out,) = _outputs(p)
        return lambda: fr.loss(p.x, p.alpha, p.scale, out=out)
    if p.reduction == "none":
        outs = _outputs(p)
        return lambda: fr.loss_and_grad(p.x, p.alpha, p.scale, out=outs)
    full = p.parameters == "full"
    out = (None, *(np.zeros_like(p.x) if name == "dx" or full else None for name in ("dx", "dalpha", "dscale")))
    return lambda: fr.loss_and_grad(p.x, p.alpha, p.scale, reduction="mean", out=out)


def _fastrobust_new(p: Problem) -> Call:
    if p.work == "loss":
        return lambda: fr.loss(p.x, p.alpha, p.scale)
    return lambda: fr.loss_and_grad(p.x, p.alpha, p.scale, reduction=p.reduction)


def _numpy_arrays(result: Any) -> tuple[Array, ...]:
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else (np.asarray(result),)


# --- the plain formula with autodiff's view of its special cases: PyTorch and JAX


def plain(xp: Any, x: Array, alpha: Array, scale: Array) -> Array:
    """rho from eq. 8 of Barron 2019, special cases by where.

    Where alpha is special the general case is evaluated at 1 instead, since 0 * NaN would spoil the gradients.
    """
    s = (x / scale) ** 2
    special = (alpha == 0) | (alpha == 2) | xp.isinf(alpha)
    a = xp.where(special, 1, alpha)
    b = abs(a - 2)
    rho = (b / a) * ((s / b + 1) ** (a / 2) - 1)
    rho = xp.where(alpha == INF, xp.exp(s / 2) - 1, rho)
    rho = xp.where(alpha == -INF, 1 - xp.exp(-s / 2), rho)
    rho = xp.where(alpha == 2, s / 2, rho)
    return xp.where(alpha == 0, xp.log(s / 2 + 1), rho)


# --- the plain formula with gradients by hand: NumPy and numexpr


def _numpy_general(x: Array, s: Array, a: Array, scale: Array, grad: bool) -> tuple[Array, ...]:
    b = abs(a - 2)
    base = s / b + 1
    power = base ** (a / 2)
    rho = b / a * (power - 1)
    if not grad:
        return (rho,)
    slope = np.sign(a - 2)
    dx = x / scale**2 * (power / base)
    dlog = np.log(base) / 2 - a * s * slope / (2 * b**2 * base)
    dalpha = (slope / a - b / a**2) * (power - 1) + b / a * power * dlog
    return rho, dx, dalpha


def numpy_plain(x: Array, alpha: Array, scale: Array, grad: bool = True) -> tuple[Array, ...]:
    """(rho, dx, dalpha, dscale), or (rho,); a number alpha is branched on, arrays are selected from.

    At the special values dalpha is 0: that is what differentiating their formulas gives.
    """
    dtype = x.dtype.type
    s = (x / scale) ** 2
    if isinstance(alpha, float) and alpha not in (0, 2, INF, -INF):
        found = _numpy_general(x, s, alpha, scale, grad)
    else:
        special = (alpha == 0) | (alpha == 2) | np.isinf(alpha)
        found = _numpy_general(x, s, np.where(special, dtype(1), alpha), scale, grad)
        rho = np.where(alpha == INF, np.exp(s / 2) - 1, found[0])
        rho = np.where(alpha == -INF, 1 - np.exp(-s / 2), rho)
        rho = np.where(alpha == 2, s / 2, rho)
        rho = np.where(alpha == 0, np.log(s / 2 + 1), rho)
        if grad:
            dx = np.where(alpha == INF, x / scale**2 * np.exp(s / 2), found[1])
            dx = np.where(alpha == -INF, x / scale**2 * np.exp(-s / 2), dx)
            dx = np.where(alpha == 2, x / scale**2, dx)
            dx = np.where(alpha == 0, x / scale**2 / (s / 2 + 1), dx)
            found = rho, dx, np.where(special, dtype(0), found[2])
        else:
            found = (rho,)
    return (*found, -found[1] * x / scale) if grad else found


def _reduced(p: Problem, results: tuple[Array, ...]) -> tuple[Array, ...]:
    """The mean, with the parameters' gradients in the parameters' shapes."""
    if p.reduction == "none":
        return results
    value, dx, dalpha, dscale = results
    if p.parameters != "full":
        axis = 0 if p.parameters == "columns" else None
        dalpha, dscale = (g.sum(axis=axis, dtype=np.float64) for g in (dalpha, dscale))
    return value.mean(dtype=np.float64), dx / p.size, dalpha / p.size, dscale / p.size


def _numpy(p: Problem) -> Call:
    grad = p.work != "loss"
    return lambda: _reduced(p, numpy_plain(p.x, p.alpha, p.scale, grad))


def _numexpr(p: Problem) -> Call:
    import numexpr

    numexpr.set_num_threads(CORES)
    alpha, scale = p.parameter_arrays()
    given = {"x": p.x, "t": alpha, "c": scale, "one": alpha.dtype.type(1), "inf": alpha.dtype.type(INF)}
    scalar = p.parameters == "scalar"
    # numexpr evaluates repeated subexpressions once.
    s = "((x/c)**2)"
    special = "((t==0)|(t==2)|(abs(t)==inf))"
    a = "t" if scalar else f"where({special},one,t)"
    b = f"abs({a}-2)"
    base = f"({s}/{b}+1)"

    def selected(general: str, at_zero: str, at_two: str, at_minus_inf: str, at_inf: str) -> str:
        if scalar:
            return general
        infinite = f"where(t==-inf,{at_minus_inf},where(t==inf,{at_inf},{general}))"
        return f"where(t==0,{at_zero},where(t==2,{at_two},{infinite}))"

    def rho(power: str) -> str:
        rest = f"log({s}/2+1)", f"{s}/2", f"1-exp(-{s}/2)", f"exp({s}/2)-1"
        return selected(f"{b}/{a}*({power}-1)", *rest)

    power = f"{base}**({a}/2)"
    dx = "x/c**2*" + selected(f"(p/{base})", f"(1/({s}/2+1))", "one", f"exp(-{s}/2)", f"exp({s}/2)")
    slope = f"where({a}>2,one,-one)"
    dalpha = f"({slope}/{a}-{b}/{a}**2)*(p-1)+{b}/{a}*p*(log({base})/2-{a}*{s}*{slope}/(2*{b}**2*{base}))"
    if not scalar:
        dalpha = f"where({special},0*one,{dalpha})"
    if p.work == "loss":
        return lambda: (numexpr.evaluate(rho(power), given),)

    def call() -> tuple[Array, ...]:
        have = {**given, "p": numexpr.evaluate(power, given)}
        have["dx"] = numexpr.evaluate(dx, have)
        results = (numexpr.evaluate(rho("p"), have), have["dx"], numexpr.evaluate(dalpha, have))
        return _reduced(p, (*results, numexpr.evaluate("-dx*x/c", have)))

    return call


# --- PyTorch


def _torch_function(p: Problem) -> Callable[..., Any]:
    import torch

    if p.work == "loss":
        return lambda x, alpha, scale: plain(torch, x, alpha, scale)
    if p.reduction == "mean":
        return lambda x, alpha, scale: plain(torch, x, alpha, scale).mean()

    def total_and_values(x: Any, alpha: Any, scale: Any) -> Any:
        # The sum inside, so that a compiler can fuse it; the values detached, so that no gradient flows through them.
        values = plain(torch, x, alpha, scale)
        return values.sum(), values.detach()

    return total_and_values


def _torch_call(p: Problem, function: Callable[..., Any]) -> Call:
    import torch

    torch.set_num_threads(CORES)
    inputs = [torch.from_numpy(a) for a in (p.x, *p.parameter_arrays())]
    if p.work == "loss":
        return lambda: (function(*inputs),)
    for tensor in inputs:
        tensor.requires_grad_()

    def call() -> tuple[Any, ...]:
        result = function(*inputs)
        total, value = result if p.reduction == "none" else (result, result)
        return value, *torch.autograd.grad(total, inputs)

    return call


def _torch_eager(p: Problem) -> Call:
    return _torch_call(p, _torch_function(p))


@functools.lru_cache(maxsize=1)
def _compiled(work: str, reduction: str, dtype: str, parameters: str, shape: tuple[int, ...] | None) -> dict[str, Any]:
    import torch

    torch._dynamo.reset()  # what was compiled before would be looked through at every call
    return {}


def _torch_compile(p: Problem) -> Call:
    import torch

    # Compiling takes seconds; for each of the small sizes, where calling costs more than computing, it takes too long.
    static = p.size >= STATIC
    kept = _compiled(p.work, p.reduction, p.dtype, p.parameters, p.x.shape if static else None)
    if not kept:
        kept["function"] = torch.compile(_torch_function(p), dynamic=not static)
    return _torch_call(p, kept["function"])


def _torch_arrays(result: Any) -> tuple[Array, ...]:
    return tuple(t.detach().numpy() for t in result)


# --- JAX


def _jax(p: Problem) -> Call:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    inputs = [jnp.asarray(a) for a in (p.x, *p.parameter_arrays())]

    def total_and_values(x: Any, alpha: Any, scale: Any) -> Any:
        values = plain(jnp, x, alpha, scale)
        return (values.sum(), values) if p.reduction == "none" else (values.mean(), 0.0)

    if p.work == "loss":
        function = jax.jit(lambda x, alpha, scale: plain(jnp, x, alpha, scale))
        return lambda: (jax.block_until_ready(function(*inputs)),)
    both = jax.jit(jax.value_and_grad(total_and_values, argnums=(0, 1, 2), has_aux=True))

    def call() -> tuple[Any, ...]:
        (total, values), grads = jax.block_until_ready(both(*inputs))
        return values if p.reduction == "none" else total, *grads

    return call


# --- the least that a NumPy call costs


def _bare_ufunc(p: Problem) -> Call:
    out = np.empty_like(p.x)
    return lambda: np.add(p.x, p.scale, out=out)


FASTROBUST, NEW = "fastrobust", "fastrobust new outputs"
BARE = "bare NumPy ufunc"

RIVALS = (
    Rival(FASTROBUST, "fastrobust", _fastrobust, _numpy_arrays, 4),
    Rival(NEW, "fastrobust", _fastrobust_new, _numpy_arrays, 4, sizes=(10**5, 10**8)),
    Rival("numpy", "numpy", _numpy, _numpy_arrays, 14),
    Rival("numexpr", "numexpr", _numexpr, _numpy_arrays, 6),
    Rival("torch eager", "torch", _torch_eager, _torch_arrays, 36, settle=0.005),
    Rival("torch.compile", "torch", _torch_compile, _torch_arrays, 12, settle=0.005),
    Rival("jax.jit", "jax", _jax, _numpy_arrays, 12, settle=0.005),
    # np.add computes something else: it shows what calling costs, and is not checked.
    Rival(BARE, "numpy", _bare_ufunc, lambda result: (), 1, sizes=(1, 1000)),
)
