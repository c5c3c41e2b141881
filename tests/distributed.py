"""Two processes that train together, for test_tensors: DDP, FSDP2 and DTensor give what one process gives."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import fastrobust as fr
import fastrobust.torch as frt

PROCESSES = 2


class Whole(torch.nn.Module):
    """A model and its loss, with the same parameters in every process."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.model, self.criterion = torch.nn.Linear(3, 4), frt.AdaptiveLoss(4)

    def forward(self, x: Any) -> Any:
        return self.criterion(self.model(x))


def close(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def run(rank: int, folder: str) -> None:
    """One of the processes."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES
    )
    torch.manual_seed(0)
    x = torch.randn(8, 3)
    own = x.chunk(PROCESSES)[rank]
    expected = Whole()
    expected(x).backward()
    gradients = [p.grad for p in expected.parameters()]
    ddp = torch.nn.parallel.DistributedDataParallel(Whole())
    ddp(own).backward()
    close([p.grad for p in ddp.parameters()], gradients)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    sharded = fully_shard(Whole(), mesh=mesh)
    sharded(own).backward()
    close([p.grad.full_tensor() for p in sharded.parameters()], gradients)

    parts(mesh)
    sys.modules["torch.distributed.tensor.experimental"] = None  # type: ignore[assignment]  # as if it were gone
    parts(mesh)
    torch.distributed.destroy_process_group()


def parts(mesh: Any) -> None:
    """DTensors, cut and whole."""
    alpha, y = torch.linspace(0, 3, 4), torch.randn(8, 4)
    whole = fr.nll_and_grad(y, alpha, 0.7)
    for placement in (Shard(0), Shard(1), Replicate()):
        for own_placement in (Replicate(), Shard(0)):
            spread = distribute_tensor(y.clone(), mesh, [placement]).requires_grad_()
            a = distribute_tensor(alpha.clone(), mesh, [own_placement]).requires_grad_()
            value = fr.nll(spread, a, 0.7)
            close(
                [value.full_tensor(), fr.nll(spread, a, 0.7, reduction="mean").full_tensor()],
                [whole.value, whole.value.mean()],
            )
            found = torch.autograd.grad(value.sum(), (spread, a))
            close([g.full_tensor() for g in found], [whole.dx, whole.dalpha.sum(0)])
            close([fr.influence(spread, a, 0.7).full_tensor()], [whole.dx])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run, (folder,), nprocs=PROCESSES)
    print(f"{Path(sys.argv[0]).name}: fine")
