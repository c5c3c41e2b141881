"""Lists and numbers give the adapter's own arrays: tensors in `fastrobust.torch`, JAX's arrays in `fastrobust.jax`."""

from __future__ import annotations

import doctest
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import fastrobust as fr

FUNCTIONS = [name for name in fr.__all__ if inspect.isfunction(getattr(fr, name)) and name != "define"]  # of arrays


@pytest.fixture
def frt() -> Any:
    pytest.importorskip("torch")
    import fastrobust.torch

    return fastrobust.torch


# --- PyTorch


@pytest.mark.filterwarnings("ignore:::torch")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_of_torch_are_the_public_ones(frt: Any, name: str) -> None:
    ours, public = getattr(frt, name), getattr(fr, name)
    assert inspect.signature(ours) == inspect.signature(public) and ours.__doc__ == public.__doc__
    assert pickle.loads(pickle.dumps(ours)) is ours
    args = ([1.0, 2.0],) if "partition" in name else ([1.0, 2.0], [1.0, 0.5], 1.5)
    found, expected = ours(*args), public(*(np.float32(a) if isinstance(a, list) else a for a in args))
    pairs = zip(found, expected, strict=True) if name.endswith("_and_grad") else [(found, expected)]
    for one, other in pairs:
        assert type(one).__name__ == "Tensor" and str(one.dtype) == "torch.float32"
        np.testing.assert_array_equal(one.numpy(), other)


@pytest.mark.filterwarnings("ignore:::torch")
def test_lists_and_numbers_become_tensors(frt: Any) -> None:
    import torch

    assert torch.equal(frt.loss([1.0, 2.0], 1.0, 1.0), fr.loss(torch.tensor([1.0, 2.0]), 1.0, 1.0))
    assert frt.loss(3, 0, 1).shape == () and frt.loss(3, 0, 1).dtype == torch.float32
    assert frt.loss(np.float64(3), 0, 1).dtype == torch.float32 and frt.loss(10**400, 1, 1).item() == np.inf
    x = torch.ones(3, dtype=torch.float64)
    exact = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    assert torch.equal(frt.loss(x, [0.1, 0.2, 0.3], 1.0), fr.loss(x, exact, 1.0))
    weighted = frt.loss(x=x, alpha=1.0, scale=(1.0, 2.0, 3.0), weights=[0, 1, 2], reduction="mean")
    expected = fr.loss(x, 1.0, torch.tensor([1.0, 2, 3]).double(), weights=torch.tensor([0, 1, 2]), reduction="mean")
    assert torch.equal(weighted, expected)
    assert frt.loss(2.0, torch.ones(2, device="meta"), 1.0).is_meta
    assert frt.nll([1.0], -1.0, 1.0, truncation=3.0).shape == (1,)


@pytest.mark.filterwarnings("ignore:::torch")
def test_arrays_of_numpy_stay_what_they_are(frt: Any) -> None:
    import torch

    for args in ((np.ones(2), [1.0, 2.0], 1.0), ([1.0, 2.0], np.ones(2), 1.0)):
        found = frt.loss(*args)
        assert isinstance(found, np.ndarray) and np.array_equal(found, fr.loss(*args))
    with pytest.raises(TypeError, match="convert one of them"):
        frt.loss(torch.ones(2), np.ones(2), 1.0)


@pytest.mark.filterwarnings("ignore:::torch")
def test_errors_of_lists(frt: Any) -> None:
    import torch

    x = torch.ones(2)
    for error, message, call in (
        (TypeError, "x: PyTorch makes no tensor of this list", lambda: frt.loss([[1], [1, 2]], 1.0, 1.0)),
        (TypeError, "x is a list of torch.Tensor: make it one array", lambda: frt.loss([x, x], 1.0, 1.0)),
        (TypeError, "alpha is a list: make it a tensor", lambda: frt.loss(x, [x[0], x[1]], 1.0)),
        (ValueError, "alpha must be >= 0", lambda: frt.log_partition(-1.0)),
        (ValueError, "scale must be positive", lambda: frt.loss([1.0], 1.0, 0.0)),
        (TypeError, "missing 2 required positional arguments", lambda: frt.loss([1.0])),
        (TypeError, "multiple values for argument 'x'", lambda: frt.loss([1.0], 1.0, 1.0, x=2)),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.filterwarnings("ignore:::torch")
def test_lists_under_the_compiler_and_transforms(frt: Any) -> None:
    import torch

    x = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64)
    for function in (
        lambda x: frt.loss(x, 1.0, 1.0),
        lambda x: frt.loss(x, 0.5, scale=[1.0, 2.0, 3.0], weights=[0.0, 1.0, 2.0], reduction="mean"),
        lambda x: frt.nll([1.0, 2.0, 3.0], abs(x), 1.0),
        lambda x: frt.log_partition(2.0) + x,
    ):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), function(x))
        torch._dynamo.reset()
    rows = torch.func.vmap(frt.loss, (0, None, None))(x, 1.0, 1.0)
    assert torch.equal(rows, frt.loss(x, 1.0, 1.0))
    slope = torch.func.grad(lambda a: frt.nll([1.0, 2.0], a, 1.0, reduction="mean"))(torch.tensor(1.0))
    expected = fr.nll_and_grad([1.0, 2.0], 1.0, 1.0, reduction="mean").dalpha
    assert slope.item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.filterwarnings("ignore:::torch")
def test_the_example_in_the_module(frt: Any) -> None:
    found = doctest.testmod(frt)
    assert found.attempted and not found.failed


# --- JAX


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lists_and_numbers_become_arrays_of_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    import fastrobust.jax as frj

    ours = getattr(frj, name)
    assert pickle.loads(pickle.dumps(ours)) is ours
    for first in ([1.0, 2.0], 1.5):
        found = ours(first) if "partition" in name else ours(first, [1.0, 0.5], 1.5)
        assert all(isinstance(part, jax.Array) for part in jax.tree.leaves(found))
