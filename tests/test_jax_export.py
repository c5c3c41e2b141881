"""What `jax.export` wants to be told, and that it says where to read it."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.export  # noqa: E402, F811

import fastrobust as fr  # noqa: E402
import fastrobust.jax as frj  # noqa: E402
from fastrobust.jax import _autodiff  # noqa: E402


@pytest.mark.skipif(frj.backend() != "ffi", reason="by XLA's own operations nothing has to be allowed")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_the_refusal_says_where_to_read_how(reduction: str) -> None:
    function = jax.jit(lambda x: frj.loss(x, 0.5, 1.5, reduction=reduction))
    with pytest.raises(ValueError, match=r"how to export it says help\('fastrobust.jax'\)"):
        jax.export.export(function)(np.zeros(4, "f"))
    consent = jax.export.DisabledSafetyCheck.custom_call("fastrobust")
    x = np.linspace(-3, 3, 4, dtype="f")
    exported = jax.export.export(function, disabled_checks=[consent])(x)
    np.testing.assert_array_equal(exported.call(x), function(x))


@pytest.mark.skipif(frj.backend() != "ffi", reason="the example is of compiled calls")
def test_the_example_in_the_docstring_runs() -> None:
    results = doctest.testmod(frj)
    assert results.attempted >= 7 and not results.failed


def test_new_numbers_need_no_new_program() -> None:
    """Python numbers are traced: one program for all alphas and scales, but for alphas with a closed form."""
    x = np.linspace(-3, 3, 5, dtype="f")
    for alpha in (0.5, 0.0, 1.0):
        frj.loss(x, alpha, 1.0)
    frj.nll(x, 0.5, 1.0, reduction="mean")
    sizes = [cached._cache_size() for cached in (_autodiff._evaluated, _autodiff._summed)]
    for i in range(20):
        frj.loss(x, 0.1 * i, 1.0 + i)
        frj.nll(x, 0.1 * i, 1.0 + i, reduction="mean")
    assert [cached._cache_size() for cached in (_autodiff._evaluated, _autodiff._summed)] == sizes


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sums_are_exported_whatever_the_number_of_elements(reduction: str, platform: str) -> None:
    rows = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n"), np.float32)
    consent = jax.export.DisabledSafetyCheck.custom_call("fastrobust")
    function = jax.jit(lambda x, w: frj.loss(x, 0.5, 1.0, reduction=reduction, weights=w))
    program = jax.export.export(function, platforms=[platform], disabled_checks=[consent])(rows, rows)
    if platform == "cpu":
        x, w = np.arange(5, dtype=np.float32), np.array([1, 2, 0, 1, 3], np.float32)
        np.testing.assert_allclose(program.call(x, w), fr.loss(x, 0.5, 1.0, reduction=reduction, weights=w), rtol=1e-6)
