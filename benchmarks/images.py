"""Transforms of images, and a step of the adaptive loss of images: ``python -m benchmarks.images``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import fastrobust as fr
from fastrobust.compat.robust_loss_pytorch import wavelet as by_filters
from fastrobust.transforms import DCT, YUV, Wavelet

from .measure import PACKAGES, RESULTS, agreeing, compared, copies, environment, write_csv
from .rivals import CORES

OURS = "fastrobust"
LEVELS = 5
COLUMNS = [
    *("work", "elements", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust"),
    *("ns_per_element", "bytes", "floor_s", "relative_error", "date", "cpu", "cores", "memory_gib", "os", "python"),
    *(*PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
CDF9/7 wavelets of 5 levels of 96 images of 64 by 64, float32: by our kernels, by products with a matrix for each level
and axis in NumPy and in PyTorch, and by convolutions in PyTorch, as the reference package has them; and a whole step,
forward and backward with the gradients of all parameters, of the adaptive loss of 32 colour images in them, YUV, a
shape and a scale for each coefficient: ours, and the plain formula over convolutions in PyTorch.  Beside each the time
that a copy takes of the bytes that must move.
"""
Call = Callable[[], Any]
Made = tuple[Call, Callable[[Any], list[Any]]]


def _matrices(size: int) -> list[tuple[Any, int]]:
    """The matrix of each level, and the length of its lines."""
    found, length = [], size
    for _ in range(LEVELS):
        found.append((Wavelet(levels=1, axes=(0,))(np.eye(length)).astype(np.float32), length))
        length = (length + 1) // 2
    return found


def _by_products(images: Any, matrices: list[tuple[Any, int]]) -> Any:
    """The transform in place of a copy, of arrays or tensors."""
    found = images.copy() if isinstance(images, np.ndarray) else images.clone()
    for matrix, length in matrices:
        found[:, :length, :length] = matrix @ found[:, :length, :length] @ matrix.T
    return found


def _flat_by_convolutions(images: Any) -> Any:
    """The transform by strided convolutions over reflected images, in the flat layout."""
    import torch

    filters = by_filters.generate_filters("CDF9/7")
    halves = [torch.tensor(f, dtype=images.dtype) for f in (filters.analysis_lo, filters.analysis_hi)]

    def split(x: Any, axis: int) -> tuple[Any, Any]:
        parts = []
        for shift, half in enumerate(halves):
            count = len(half) // 2
            shape = (1, 1, len(half), 1) if axis == 1 else (1, 1, 1, len(half))
            padded = by_filters.pad_reflecting(x, count, count, axis)
            rest = padded[:, shift:] if axis == 1 else padded[:, :, shift:]
            stride = (2, 1) if axis == 1 else (1, 2)
            parts.append(torch.nn.functional.conv2d(rest[:, None], half.reshape(shape), stride=stride)[:, 0])
        return parts[0], parts[1]

    def flat(x: Any, levels: int) -> Any:
        if not levels:
            return x
        low, high = split(x, 1)
        (low_low, low_high), (high_low, high_high) = split(low, 2), split(high, 2)
        top = torch.cat([flat(low_low, levels - 1), low_high], 2)
        return torch.cat([top, torch.cat([high_low, high_high], 2)], 1)

    return flat(images, LEVELS)


def transforms() -> tuple[dict[str, Callable[[], Made]], Any, int]:
    """Who transforms, the truth, and how many bytes must move."""
    import torch

    torch.set_num_threads(CORES)
    images = np.random.default_rng(0).standard_normal((96, 64, 64), np.float32)
    tensor, matrices, ours = torch.from_numpy(images), _matrices(64), Wavelet("CDF9/7", LEVELS)
    in_torch = [(torch.from_numpy(matrix), length) for matrix, length in matrices]
    arrays: Callable[[Any], list[Any]] = lambda result: [np.asarray(result)]  # noqa: E731
    makers: dict[str, Callable[[], Made]] = {
        OURS: lambda: (lambda: ours(images), arrays),
        "NumPy, matrices": lambda: (lambda: _by_products(images, matrices), arrays),
        "PyTorch, matrices": lambda: (lambda: _by_products(tensor, in_torch), arrays),
        "PyTorch, convolutions": lambda: (lambda: _flat_by_convolutions(tensor), arrays),
    }
    return makers, [ours(images.astype(np.float64))], 2 * images.nbytes


def cosines() -> tuple[dict[str, Callable[[], Made]], Any, int]:
    """The same of the cosine transform."""
    import scipy.fft

    images = np.random.default_rng(0).standard_normal((96, 64, 64), np.float32)
    arrays: Callable[[Any], list[Any]] = lambda result: [np.asarray(result)]  # noqa: E731
    makers: dict[str, Callable[[], Made]] = {
        OURS: lambda: (lambda: DCT()(images), arrays),
        "SciPy, dctn": lambda: (lambda: scipy.fft.dctn(images, axes=(1, 2), norm="ortho", workers=CORES), arrays),
    }
    return makers, [DCT()(images.astype(np.float64))], 2 * images.nbytes


def step() -> tuple[dict[str, Callable[[], Made]], Any, int]:
    """The same of a step of the loss: value, and the derivatives in images, shapes and scales."""
    import torch

    import fastrobust.torch as frt

    torch.set_num_threads(CORES)
    images = 0.3 * np.random.default_rng(1).standard_normal((32, 3, 64, 64), np.float32)
    colours = torch.from_numpy(YUV()(np.eye(3)).astype(np.float32))

    def plain(x: Any, latent_alpha: Any, latent_scale: Any) -> Any:
        """The likelihood as it is written today, without its normalization, which is interpolated there."""
        y = torch.einsum("nchw,cd->ndhw", x, colours)
        y = _flat_by_convolutions(y.reshape(96, 64, 64)).reshape(y.shape)
        alpha = 2 * torch.sigmoid(latent_alpha)
        scale = 1e-5 + (1 - 1e-5) * torch.nn.functional.softplus(latent_scale + np.log(np.e - 1))
        log_z = fr.log_partition(alpha)
        b = (alpha - 2).abs()
        value = b / alpha * (((y / scale) ** 2 / b + 1) ** (alpha / 2) - 1)
        return (value + torch.log(scale) + log_z).mean()

    def of(function: Callable[..., Any], parameters: list[Any]) -> Made:
        leaf = torch.from_numpy(images).requires_grad_()

        def call() -> Any:
            value = function()(leaf)
            return value, *torch.autograd.grad(value, [leaf, *parameters])

        return call, lambda result: [part.detach().numpy() for part in result]

    def ours() -> Made:
        criterion = frt.AdaptiveImageLoss((64, 64), levels=LEVELS)
        return of(lambda: criterion, list(criterion.parameters()))

    def by_hand() -> Made:
        latent = [torch.zeros(3, 64, 64, requires_grad=True) for _ in range(2)]
        return of(lambda: lambda x: plain(x, *latent), latent)

    wide = frt.AdaptiveImageLoss((64, 64), levels=LEVELS, dtype=torch.float64)
    leaf = torch.from_numpy(images).double().requires_grad_()
    value = wide(leaf)
    truth = [part.detach().numpy() for part in (value, *torch.autograd.grad(value, [leaf, *wide.parameters()]))]
    return {OURS: ours, "PyTorch, convolutions": by_hand}, truth, 2 * images.nbytes


WORKS: dict[str, Callable[[], tuple[dict[str, Callable[[], Made]], Any, int]]] = {
    "CDF9/7, 96 of 64 x 64": transforms,
    "DCT, 96 of 64 x 64": cosines,
    "step, 32 of 64 x 64 x 3": step,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.images", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=15, help="of each time, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / "images.csv", metavar="FILE", help="where rows go")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # one library's idle threads take no core from the next
    console, rows = Console(width=110), []
    for name, make in track(WORKS.items(), description="measuring", console=console):
        makers, truth, traffic = make()
        calls, errors = agreeing(makers, truth, name)
        for who, columns in compared(calls, copies(traffic), OURS, chosen.samples).items():
            time, elements = float(columns["median_s"]), traffic // 8
            beside = f"{columns['times_fastrobust']:>5} of ours, {time / float(columns['floor_s']):6.2f} of a copy"
            console.print(f"{name:24} {who:22} {time * 1e3:8.2f} ms, {beside}")
            row = {"work": name, "elements": elements, "who": who, **columns, "bytes": traffic}
            rows.append(row | {"ns_per_element": f"{time / elements * 1e9:.3g}", "relative_error": errors[who]})
    same = environment()
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
