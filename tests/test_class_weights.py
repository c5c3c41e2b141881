"""Weights of classes by how often they occur, against mpmath, and what is refused."""

from __future__ import annotations

import doctest
from typing import Any

import mpmath
import numpy as np
import pytest

from fastrobust import _class_weights, losses

mp = mpmath.mp.clone()
mp.dps = 60
COUNTS = [1, 3, 10, 977, 10**6, 10**12]


def check(found: Any, true: list[Any], ulps: float) -> None:
    assert found.dtype == np.float64 and found.shape == (len(true),)
    for part, right in zip(found, true, strict=True):
        assert abs(mp.mpf(float(part)) - right) <= ulps * np.spacing(float(part)), (part, right)


def test_balanced_weights() -> None:
    total = mp.mpf(sum(COUNTS))
    check(losses.balanced_weights(COUNTS), [total / (len(COUNTS) * n) for n in COUNTS], 2)
    labels = np.array([2, 0, 2, 1, 2, 2])
    weights = losses.balanced_weights(np.bincount(labels))
    assert weights[labels].mean() == pytest.approx(1, rel=1e-15)
    assert [weights[labels][labels == k].sum() for k in range(3)] == pytest.approx([2, 2, 2], rel=1e-15)
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    theirs = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights, theirs, rtol=1e-15)


@pytest.mark.parametrize("beta", [1e-9, 0.5, 0.9, 0.9999, 1 - 1e-9, 1 - 2.0**-53, 2.0**-1060])
def test_effective_numbers(beta: float) -> None:
    """Also where 1 - beta^n is some 1e-16, of which 1.0 - beta**n has no digit."""
    b = mp.mpf(beta)
    inverse = [(1 - b) / (1 - b**n) for n in COUNTS]
    total = mp.fsum(inverse)
    check(losses.effective_number_weights(COUNTS, beta), [len(COUNTS) * part / total for part in inverse], 4)


def test_effective_numbers_at_the_ends() -> None:
    check(losses.effective_number_weights(COUNTS, 0), [mp.mpf(1)] * len(COUNTS), 0)
    total = mp.fsum(mp.mpf(1) / n for n in COUNTS)
    check(losses.effective_number_weights(np.array(COUNTS), 1), [len(COUNTS) / (n * total) for n in COUNTS], 4)


def test_examples() -> None:
    assert doctest.testmod(_class_weights) == (0, 7)


@pytest.mark.parametrize(
    ("counts", "beta", "told"),
    [
        ([3, 0, 1], 0.9, "got 0 for class 1: of labels take np.bincount"),
        ([3, -1], 0.9, "got -1 for class 1"),
        ([np.nan], 0.9, "got nan for class 0"),
        ([np.inf, 1], 0.9, "got inf for class 0"),
        ([], 0.9, r"got the shape \(0,\)"),
        ([[1, 2]], 0.9, r"got the shape \(1, 2\)"),
        (3, 0.9, r"got the shape \(\)"),
        ([1, 2], 1.5, "beta must be from 0 to 1, got 1.5"),
        ([1, 2], np.nan, "beta must be from 0 to 1, got nan"),
    ],
)
def test_what_makes_no_sense_is_refused(counts: Any, beta: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        losses.effective_number_weights(counts, beta)
    if "beta" not in told:
        with pytest.raises(ValueError, match=told):
            losses.balanced_weights(counts)
