"""The examples of fastrobust.optimize run, find what they promise, and draw it. (The one in PyTorch: test_tensors.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = (
    *("irls", "least_squares_scipy", "registration_gnc", "shape_of_returns"),
    *("embeddings", "label_noise", "segmentation"),
)


def run(name: str, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module", params=NAMES)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    where = tmp_path_factory.mktemp(request.param)
    done = run(request.param, where)
    assert done.returncode == 0, done.stderr
    picture = where / f"{request.param}.png"
    assert [path.name for path in where.iterdir()] == [picture.name]
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    return request.param, done.stdout


def test_the_example_finds_what_it_promises(example: tuple[str, str]) -> None:
    name, told = example
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", told)]
    if name == "irls":
        hand, library = (re.findall(r"\[.*?\]", line)[0] for line in told.splitlines()[-3:-1])
        assert hand == library and "converged" in told
    elif name == "least_squares_scipy":
        heights, rates = numbers[0::2], numbers[1::2]
        assert abs(rates[1] - 0.8) > 0.2 and all(abs(rate - 0.8) < 0.06 for rate in rates[2:])
        assert all(abs(height - 3) < 0.06 for height in heights[2:])
    elif name == "registration_gnc":
        degrees = [float(n) for n in re.findall(r"([\d.]+) degrees", told)]
        assert degrees[0] > 10 and degrees[1] > 10 and degrees[2] < 0.5
    elif name == "embeddings":
        assert numbers[-1] > numbers[-2] + 0.08 and numbers[1] < 0.7 * numbers[0]
    elif name == "label_noise":
        by_entropy, robust = numbers[2:8:2], numbers[3:8:2]
        assert all(one + 0.03 < other for one, other in zip(by_entropy, robust, strict=True))
        assert numbers[8] > numbers[9]
    elif name == "segmentation":
        scores = [float(n) for n in re.findall(r"score ([\d.]+)", told)]
        assert scores[0] < 0.25 and min(scores[1:]) > 0.38
    else:
        values = [float(n) for n in re.findall(r"likelihood (-[\d.]+)", told)]
        assert "alpha = 0.622" in told and min(values) == values[2]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("irls", ["--alpha", "3"], "--alpha must be at most 2"),
        ("least_squares_scipy", ["--outliers", "1"], "--outliers must be"),
        ("registration_gnc", ["--count", "1"], "--count must be"),
        ("embeddings", ["--margin", "0"], "--margin must be"),
        ("label_noise", ["--most", "0.95"], "--most must be"),
        ("segmentation", ["--focal", "-1"], "--focal must not be"),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and not list(tmp_path.iterdir())
