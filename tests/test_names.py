"""A name that a function does not know is an error, wherever it comes in; it never takes another one's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust.kernels.loops import cuda, forms, launch, xla_frame
from fastrobust.kernels.losses import higher
from fastrobust.kernels.losses.catalogue import LOSS


class Library:
    """NumPy, for the rules of differentiation of the loss."""

    xp = np

    def __init__(self, operands: Any) -> None:
        self.have = {
            "dx": fr.influence(*operands),
            "weight": fr.weight(*operands),
            "curvature": fr.curvature(*operands),
        }

    def get(self, *names: str) -> list[Any]:
        return [self.have[name] for name in names]

    def fold(self, step: Any, total: Any, rows: Any) -> Any:
        for row in rows:
            total = step(total, *row)
        return total


def slopes(name: str) -> list[Any]:
    """Of an output at x = 1, alpha = 0, c = 1, for each argument."""
    operands = (np.array([1.0]), np.array([0.0]), np.array([1.0]))
    return higher.slopes(Library(operands), name, operands, (True, True, True))  # type: ignore[arg-type]


def test_every_output_has_the_rule_of_its_own() -> None:
    found = {name: slopes(name)[0].item() for name in ("dx", "dscale", "dalpha", "weight", "curvature")}
    phi = np.log1p(0.5) - 1 / 3  # u = 1/2: weight 2/3, curvature 2/9
    want = {"dx": 2 / 9, "dscale": -8 / 9, "dalpha": phi / 3, "weight": -4 / 9, "curvature": -20 / 27}
    assert found == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("name", ["value", "Dscale", "dc", "psi", ""])
def test_no_output_takes_the_rule_of_another(name: str) -> None:
    with pytest.raises(ValueError, match=f"no rule for the derivatives of {name!r}"):
        slopes(name)


@pytest.mark.parametrize("kind", ["elementwise", "reduction"])
def test_a_kernel_without_such_an_output_is_not_built(kind: str) -> None:
    layout = {"elementwise": "each", "reduction": "columns"}[kind]
    with pytest.raises(ValueError, match="not in tuple"):
        forms.lowered(kind, LOSS, ("value", "dc"), np.float32, layout)
    with pytest.raises(ValueError, match="layout must be"):
        forms.lowered(kind, LOSS, ("value",), np.float32, "column")


def test_cuda_has_no_storage_of_another_kind() -> None:
    with pytest.raises(KeyError, match="int32"):
        cuda.elementwise(LOSS, ("value",), "int32", "shared")
    one = launch.Array(0, (1,), (1,))
    device = launch.Device(1, True, lambda *_: None, lambda _: 0)
    given = launch.operands(device, [one], [1.0, 1.0])
    with pytest.raises(ValueError, match="no sum is called dc"):
        launch.reduction(device, LOSS, ("value",), "float32", given, 0, 0, 1.0, {"dc": 0})
    with pytest.raises(KeyError, match="int32"):
        launch.elementwise(device, LOSS, ("value",), "int32", given, [0])


def test_xla_has_no_number_for_another_sum() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        xla_frame.code_of_sums(LOSS, ("x", "c"), False, False)


def test_operators_and_modules_of_torch() -> None:
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    args = [torch.ones(3), torch.tensor(1.0), torch.tensor(1.0)]
    with pytest.raises(ValueError, match="not in tuple"):
        torch.ops.fastrobust.elementwise(args, "loss", ["dc"], torch.float32)
    with pytest.raises(ValueError, match="not in tuple"):
        torch.ops.fastrobust.reduction(args, None, "loss", ["c"], False, torch.float32)
    module = frt.AdaptiveLoss(1)
    module.reduction = "average"
    with pytest.raises(ValueError, match="reduction must be"):
        module(torch.ones(3, 1))
