"""The command line, run as a person runs it: in a process of its own, in a directory of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason='the command line needs pip install ".[cli]"')
pytest.importorskip("rich", reason='the command line needs pip install ".[cli]"')
pytest.importorskip("matplotlib", reason='the pictures need pip install ".[plot]"')
integrate = pytest.importorskip("scipy.integrate", reason='the command line needs pip install ".[cli]"')

import pyarrow.parquet as pq  # noqa: E402

import fastrobust as fr  # noqa: E402
from fastrobust import _dispatch  # noqa: E402
from fastrobust.cli import common, main, outputs  # noqa: E402
from fastrobust.optimize import RobustRegressor  # noqa: E402

STACKLOSS = Path(common.__file__).parent / "data" / "stackloss.csv"
PNG = b"\x89PNG\r\n\x1a\n"


def run(where, *arguments):
    """The command in this process, since one of its own imports for a second; those are in test_cli_streams."""
    command, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    with contextlib.chdir(where), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command)
        except SystemExit as end:  # of --help and the like
            status = end.code
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def fit(where, file, target, *arguments):
    """A fit that has to succeed, as the content of its JSON, with the coefficients by name."""
    done = run(where, "fit", file, "--target", target, "--json", "fit.json", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = json.loads((where / "fit.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    for side in ("robust", "ols"):
        content[side]["by_name"] = {term["name"]: term for term in content[side]["coefficients"]}
    content["stdout"] = done.stdout
    return content


def estimates(side):
    return np.array([term["estimate"] for term in side["coefficients"]])


def write_csv(path, **columns):
    lines = [",".join(columns)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def regression(n=600, seed=7, noise="normal"):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=n), random.normal(50.0, 10.0, size=n)
    errors = random.standard_cauchy(n) if noise == "cauchy" else random.normal(size=n)
    return {"a": a, "b": b, "y": 3.0 + 2.0 * a - 0.5 * b + 0.1 * errors}


# Bad input


def good_rows():
    return {"x": list(range(10)), "z": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], "y": [1, 3, 2, 5, 4, 8, 6, 9, 7, 11]}


def changed(column, row, value):
    rows = good_rows()
    rows[column][row - 1] = value
    return rows


BAD = {
    "no such file": (None, ["nowhere.csv", "--target", "y"], ["nowhere.csv", "No such file"]),
    "a directory": (None, [".", "--target", "y"], ["directory"]),
    "an empty file": ("", ["t.csv", "--target", "y"], ["empty"]),
    "only a header": ("x,y\n", ["t.csv", "--target", "y"], ["no data rows"]),
    "not text at all": (b"\x89\xff\x00\x01", ["t.csv", "--target", "y"], ["neither Parquet nor CSV"]),
    "a broken Parquet file": (b"PAR1 and then nothing", ["t.csv", "--target", "y"], ["cannot read"]),
    "a short row": ("x,y\n1,2\n3\n4,5\n", ["t.csv", "--target", "y"], ["line 3 (data row 2)"]),
    "no such target": (good_rows(), ["t.csv", "--target", "why"], ["'why'", "'x', 'z', 'y'"]),
    "no such feature": (
        good_rows() | {"area": range(10)},
        ["t.csv", "--target", "y", "--features", "x,aera"],
        ["'aera'", "did you mean 'area'?"],
    ),
    "two columns of one name": ("x,x,y\n1,2,3\n", ["t.csv", "--target", "y"], ["2 columns", "'x'"]),
    "a feature twice": (good_rows(), ["t.csv", "--target", "y", "--features", "x,x"], ["'x'", "twice"]),
    "the target as a feature": (good_rows(), ["t.csv", "--target", "y", "--features", "x,y"], ["'y'", "feature"]),
    "no feature left": ("y\n1\n2\n3\n", ["t.csv", "--target", "y"], ["'y'", "nothing to fit"]),
    "text in a feature": (
        changed("z", 7, "seven"),
        ["t.csv", "--target", "y", "--features", "z"],
        ["'z'", "data row 7", "'seven'"],
    ),
    "text in the target": (changed("y", 1, "n/k"), ["t.csv", "--target", "y"], ["'y'", "data row 1", "'n/k'"]),
    "a text column not named": (changed("x", 2, "two"), ["t.csv", "--target", "y"], ["data row 2", "--features"]),
    "NaN": (changed("x", 3, "nan"), ["t.csv", "--target", "y"], ["1 of 10 rows", "data row 3", "--drop-missing"]),
    "an empty cell": (changed("y", 9, ""), ["t.csv", "--target", "y"], ["'y'", "data row 9", "--drop-missing"]),
    "an infinite value": (
        changed("x", 4, "-inf"),
        ["t.csv", "--target", "y", "--drop-missing"],
        ["'x'", "infinite", "data row 4"],
    ),
    "fewer rows than parameters": (
        {name: column[:4] for name, column in good_rows().items()},
        ["t.csv", "--target", "y"],
        ["4 rows", "5 parameters"],
    ),
    "no row left": (
        {name: column if name == "x" else [""] * 10 for name, column in good_rows().items()},
        ["t.csv", "--target", "y", "--drop-missing"],
        ["'y'", "no value in any row"],
    ),
    "a constant column": (good_rows() | {"one": [1] * 10}, ["t.csv", "--target", "y"], ["'one'", "constant"]),
    "a fill value in a column": (
        good_rows() | {"x": [*good_rows()["x"][:-1], 9.96921e36]},
        ["t.csv", "--target", "y"],
        ["column 'x' holds 9.96921e+36", "leave the row out"],
    ),
    "a fill value in the target": (
        good_rows() | {"y": [*good_rows()["y"][:-1], -1.7e301]},
        ["t.csv", "--target", "y"],
        ["the target holds -1.7e+301", "leave the row out"],
    ),
    "a constant target": (good_rows() | {"y": [4] * 10}, ["t.csv", "--target", "y"], ["the target is constant"]),
    "collinear columns": (
        good_rows() | {"sum": [x + 2 * z - 7 for x, z in zip(*list(good_rows().values())[:2], strict=True)]},
        ["t.csv", "--target", "y"],
        ["collinear", "'x'", "'z'", "'sum'"],
    ),
    "an exact fit": (good_rows() | {"y": [2 * x + 1 for x in range(10)]}, ["t.csv", "--target", "y"], ["exactly"]),
    "most rows exactly on a line": (
        {"x": range(10), "y": [0, 1, 2, 3, 4, 5, 6, 7, 100, -50]},
        ["t.csv", "--target", "y"],
        ["8 of 10 rows", "--scale"],
    ),
    "alpha not a number": (good_rows(), ["t.csv", "--target", "y", "--alpha", "one"], ["--alpha", "'one'"]),
    "alpha NaN": (good_rows(), ["t.csv", "--target", "y", "--alpha", "nan"], ["--alpha", "'nan'"]),
    "negative alpha, no scale": (good_rows(), ["t.csv", "--target", "y", "--alpha", "-1e0"], ["--scale NUMBER"]),
    "scale zero": (good_rows(), ["t.csv", "--target", "y", "--scale", "0"], ["--scale", "positive"]),
    "scale negative": (good_rows(), ["t.csv", "--target", "y", "--scale", "-2"], ["--scale", "positive"]),
    "no target": (good_rows(), ["t.csv"], ["--target"]),
    "an unknown option": (good_rows(), ["t.csv", "--target", "y", "--alfa", "1"], ["--alfa"]),
    "a picture of no known kind": (good_rows(), ["t.csv", "--target", "y", "--plot", "fit.txt"], ["fit.txt", ".png"]),
    "an output in no directory": (
        good_rows(),
        ["t.csv", "--target", "y", "--plot", "nowhere/fit.png"],
        ["nowhere/fit.png", "No such file or directory"],
    ),
    "an output below a file": (
        good_rows(),
        ["t.csv", "--target", "y", "--json", "t.csv/fit.json"],
        ["t.csv/fit.json", "Not a directory"],
    ),
    "an output that is a directory": (good_rows(), ["t.csv", "--target", "y", "--json", "."], ["directory"]),
    "the input as an output": (good_rows(), ["t.csv", "--target", "y", "--json", "t.csv"], ["different files"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_status_2_and_leaves_nothing_behind(tmp_path, case):
    content, arguments, words = BAD[case]
    if isinstance(content, dict):
        write_csv(tmp_path / "t.csv", **content)
    elif content is not None:
        (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outputs = [word for option in ("--plot", "--json") if option not in arguments
               for word in (option, "out.png" if option == "--plot" else "out.json")]  # fmt: skip
    done = run(tmp_path, "fit", *arguments, *outputs)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert all(word in done.stderr for word in words), done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_text_far_down_a_long_column_is_found_in_its_row(tmp_path):
    x = [str(i % 97) for i in range(5000)]
    x[4321] = "4-5"
    lines = ["x;y", *(f"{a};{i}" for i, a in enumerate(x))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    done = run(tmp_path, "fit", "t.csv", "--target", "y")
    assert done.returncode == 2
    assert "data row 4322 holds the text '4-5'" in done.stderr


def test_text_in_a_parquet_column_is_found_in_its_row(tmp_path):
    pq.write_table(pa.table({"x": ["1", "2", None, "three"], "y": [1.0, 2.0, 3.0, 4.0]}), tmp_path / "t.parquet")
    done = run(tmp_path, "fit", "t.parquet", "--target", "y")
    assert done.returncode == 2
    assert "data row 4 holds the text 'three'" in done.stderr


def test_a_failing_fit_leaves_an_older_output_as_it_was(tmp_path):
    write_csv(tmp_path / "t.csv", **changed("x", 3, "nan"))
    (tmp_path / "fit.json").write_text("older")
    assert run(tmp_path, "fit", "t.csv", "--target", "y", "--json", "fit.json").returncode == 2
    assert (tmp_path / "fit.json").read_text() == "older"


@pytest.mark.parametrize("accident", [KeyboardInterrupt, OSError("disk full")])
def test_an_accident_while_writing_leaves_no_file(tmp_path, monkeypatch, accident):
    def replace(*unused):
        raise accident

    monkeypatch.setattr(outputs.os, "replace", replace)
    with pytest.raises((KeyboardInterrupt, common.UserError)):
        outputs.write_files({str(tmp_path / "a.json"): b"{}", str(tmp_path / "b.png"): PNG})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["pyarrow", "rich", "scipy", "sklearn", "matplotlib"])
def test_a_missing_extra_is_named_with_its_remedy(tmp_path, package):
    program = f"import sys; sys.modules[{package!r}] = None; from fastrobust.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "fit", str(STACKLOSS), "--target", "stack_loss", "--plot", "fit.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert package in done.stderr
    extras = "cli,plot" if package == "matplotlib" else "cli"
    assert f'pip install ".[{extras}]" in a clone' in done.stderr
    assert len(done.stderr.splitlines()) == 1


# The stack-loss data


@pytest.fixture(scope="module")
def stackloss(tmp_path_factory):
    where = tmp_path_factory.mktemp("stackloss")
    return where, fit(where, STACKLOSS, "stack_loss", "--plot", "fit.png", "--show", "21")


def test_stackloss_least_squares_is_the_textbook_one(stackloss):
    ols = stackloss[1]["ols"]
    expected = {
        "(intercept)": (-39.9197, 11.8960),
        "air_flow": (0.7156, 0.1349),
        "water_temperature": (1.2953, 0.3680),
        "acid_concentration": (-0.1521, 0.1563),
    }
    for name, (estimate, error) in expected.items():
        assert ols["by_name"][name]["estimate"] == pytest.approx(estimate, abs=5e-5)
        assert ols["by_name"][name]["std_error"] == pytest.approx(error, abs=5e-5)
    assert ols["sigma"] == pytest.approx(3.2434, abs=5e-5)
    assert ols["log_likelihood"] == pytest.approx(-52.288, abs=5e-4)


def test_stackloss_weights_down_the_four_textbook_outliers_most(stackloss):
    rows = stackloss[1]["down_weighted"]
    assert {row["row"] for row in rows[:4]} == {1, 3, 4, 21}
    assert all(row["weight"] < 0.05 for row in rows[:4])
    assert all(row["weight"] > 0.1 for row in rows[4:])
    assert all(0 < row["weight"] <= 1 for row in rows)


def test_stackloss_prints_what_it_found_and_draws_it(stackloss):
    where, found = stackloss
    for word in (
        "air_flow",
        "std. error",
        "least squares",
        "alpha",
        "scale",
        "log-likelihood",
        "weight",
        "one row at a time",
    ):
        assert word in found["stdout"]
    picture = (where / "fit.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) > 20_000
    assert sorted(path.name for path in where.iterdir()) == ["fit.json", "fit.png"]


def table(path=STACKLOSS):
    columns = np.loadtxt(path, delimiter=",", skiprows=1)
    return np.column_stack((np.ones(len(columns)), columns[:, :-1])), columns[:, -1]


def test_the_log_likelihood_is_that_of_the_density_integrated_by_somebody_else(stackloss):
    robust = stackloss[1]["robust"]
    X, y = table()
    alpha, scale, b = robust["alpha"], robust["scale"], abs(robust["alpha"] - 2)

    def rho(z):
        return b / alpha * ((z * z / b + 1) ** (alpha / 2) - 1)

    mass = 2 * integrate.quad(lambda t: math.exp(-rho(math.tan(t))) / math.cos(t) ** 2, 0, math.pi / 2, epsabs=1e-12)[0]
    z = (y - X @ estimates(robust)) / scale
    assert robust["log_likelihood"] == pytest.approx(-np.sum(rho(z)) - len(y) * math.log(scale * mass), rel=1e-9)
    assert robust["aic"] == pytest.approx(2 * 6 - 2 * robust["log_likelihood"], rel=1e-12)
    assert robust["log_likelihood"] > stackloss[1]["ols"]["log_likelihood"]


def test_the_fit_is_a_minimum(stackloss):
    """Steps of a hundredth of the standard error (or of the parameter) in any direction raise the mean NLL."""
    robust = stackloss[1]["robust"]
    X, y = table()
    point = np.concatenate((estimates(robust), [robust["alpha"], robust["scale"]]))
    steps = 0.01 * np.array([*(term["std_error"] for term in robust["coefficients"]), robust["alpha"], robust["scale"]])

    def mean(theta):
        return float(fr.nll(y - X @ theta[:4], theta[4], theta[5], reduction="mean"))

    assert mean(point) == pytest.approx(robust["mean_objective"], rel=1e-12)
    random = np.random.default_rng(0)
    directions = [*np.eye(6), *random.normal(size=(50, 6))]
    assert all(mean(point + sign * steps * d) > mean(point) for d in directions for sign in (-1, 1))
    assert robust["converged"]


def test_standard_errors_are_those_of_the_regressor(stackloss):
    """Which tests/test_optimize_errors.py tries; the interval of 95 % is by the t distribution."""
    found = stackloss[1]
    X, y = table()
    model = RobustRegressor().fit(X[:, 1:], y)
    errors = model.standard_errors(X[:, 1:])
    for side, expected in (("robust", errors.robust), ("ols", errors.ols)):
        terms = found[side]["coefficients"]
        np.testing.assert_allclose([term["std_error"] for term in terms], expected, rtol=1e-8)
        low, high = np.transpose([term["interval"] for term in terms])
        np.testing.assert_allclose(high - low, 2 * 2.1098155778 * expected, rtol=1e-8)
        np.testing.assert_allclose((high + low) / 2, estimates(found[side]), rtol=1e-8)
    assert found["robust"]["std_error_from"] == "jackknife"
    assert found["degrees_of_freedom"] == 17
    assert found["condition_number"] == pytest.approx(errors.condition)
    assert found["warnings"] == []


def test_repeated_rows_count_in_the_standard_errors(tmp_path):
    repeated = np.repeat([[1, 2], [2, 3], [3, 5], [3, 4], [4, 6]], [4, 3, 2, 1, 2], axis=0)
    write_csv(tmp_path / "t.csv", x=repeated[:, 0], y=repeated[:, 1])
    found = fit(tmp_path, "t.csv", "y", "--alpha", "2")
    assert [term["std_error"] for term in found["ols"]["coefficients"]] == pytest.approx([0.200031, 0.080012], abs=1e-6)


@pytest.mark.parametrize(("scale", "words"), [("1e-6", "times smaller"), ("1e6", "times larger")])
def test_a_scale_in_the_wrong_unit_is_doubted_and_gives_no_tiny_errors(tmp_path, scale, words):
    write_csv(tmp_path / "t.csv", **regression(100))
    found = fit(tmp_path, "t.csv", "y", "--alpha", "1", "--scale", scale)
    assert words in found["warnings"][0] and "Take care: the scale" in found["stdout"]
    error = found["robust"]["by_name"]["a"]["std_error"]
    assert error is None if scale == "1e-6" else error == pytest.approx(0.1 * 1 / math.sqrt(100), rel=0.3)


def test_errors_in_odd_units_are_not_zero(tmp_path):
    columns = regression(100)
    write_csv(tmp_path / "t.csv", a=columns["a"] * 1e-150, b=columns["b"] * 1e150, y=columns["y"] * 1e140)
    found = fit(tmp_path, "t.csv", "y")
    write_csv(tmp_path / "u.csv", **columns)
    expected = fit(tmp_path, "u.csv", "y")
    for side in ("robust", "ols"):
        for name, unit in (("(intercept)", 1e140), ("a", 1e290), ("b", 1e-10)):
            ours, theirs = (one[side]["by_name"][name]["std_error"] for one in (found, expected))
            assert ours / unit == pytest.approx(theirs, rel=1e-5)


# Known truths


def test_cauchy_errors_are_recovered_where_least_squares_is_lost(tmp_path):
    write_csv(tmp_path / "t.csv", **regression(2000, noise="cauchy"))
    found = fit(tmp_path, "t.csv", "y")
    robust = found["robust"]
    assert robust["alpha"] < 0.15
    # At alpha = 0 the density is Cauchy's with half-width scale * sqrt(2).
    assert robust["scale"] == pytest.approx(0.1 / math.sqrt(2), rel=0.1)
    for name, truth in (("a", 2.0), ("b", -0.5)):
        term = robust["by_name"][name]
        assert abs(term["estimate"] - truth) < 4 * term["std_error"]
        assert term["std_error"] < 0.1 * found["ols"]["by_name"][name]["std_error"]


def test_normal_errors_give_nearly_least_squares(tmp_path):
    write_csv(tmp_path / "t.csv", **regression(2000))
    found = fit(tmp_path, "t.csv", "y")
    assert found["robust"]["alpha"] > 1.7
    assert found["robust"]["log_likelihood"] >= found["ols"]["log_likelihood"] - 1e-9
    for name, ols in found["ols"]["by_name"].items():
        robust = found["robust"]["by_name"][name]
        assert abs(robust["estimate"] - ols["estimate"]) < 0.3 * ols["std_error"]
        assert robust["std_error"] == pytest.approx(ols["std_error"], rel=0.1)


def test_alpha_2_is_least_squares(tmp_path):
    write_csv(tmp_path / "t.csv", **regression(300))
    found = fit(tmp_path, "t.csv", "y", "--alpha", "2")
    np.testing.assert_allclose(estimates(found["robust"]), estimates(found["ols"]), rtol=1e-7)
    assert found["robust"]["log_likelihood"] == pytest.approx(found["ols"]["log_likelihood"], rel=1e-12)
    assert found["robust"]["scale"] == pytest.approx(found["ols"]["sigma"] * math.sqrt(297 / 300), rel=1e-7)
    assert found["down_weighted"] == []
    assert "No row is weighted down" in found["stdout"]


def test_many_rows_go_through_a_sample_and_end_at_the_same_place(tmp_path):
    """20,000 rows are more than the starts use; far outliers sit where a sample or least squares could be misled."""
    columns = regression(20_000, noise="cauchy")
    columns["y"][:4000] += 50 + 20 * columns["a"][:4000]
    write_csv(tmp_path / "t.csv", **columns)
    robust = fit(tmp_path, "t.csv", "y")["robust"]
    assert robust["converged"]
    assert robust["by_name"]["a"]["estimate"] == pytest.approx(2.0, abs=0.02)
    assert robust["by_name"]["b"]["estimate"] == pytest.approx(-0.5, abs=0.002)


def test_units_do_not_matter(tmp_path):
    columns = regression(400, noise="cauchy")
    write_csv(tmp_path / "t.csv", **columns)
    one = fit(tmp_path, "t.csv", "y")["robust"]
    write_csv(tmp_path / "u.csv", a=columns["a"] * 1e-6, b=columns["b"] * 1e9, y=columns["y"] * 1e6)
    other = fit(tmp_path, "u.csv", "y")["robust"]
    assert other["alpha"] == pytest.approx(one["alpha"], abs=1e-5)
    assert other["scale"] == pytest.approx(one["scale"] * 1e6, rel=1e-5)
    np.testing.assert_allclose(estimates(other) / [1e6, 1e12, 1e-3], estimates(one), rtol=1e-5)


# Options


@pytest.mark.parametrize("alpha", ["-2", "-inf", "-1e-1"])
def test_negative_alpha_minimizes_the_mean_loss_and_has_no_likelihood(tmp_path, alpha):
    columns = regression(200)
    columns["y"][:40] += 30
    write_csv(tmp_path / "t.csv", **columns)
    found = fit(tmp_path, "t.csv", "y", "--alpha", alpha, "--scale", "0.2")
    robust = found["robust"]
    assert robust["objective"] == "loss"
    assert robust["log_likelihood"] is None
    assert robust["aic"] is None
    assert robust["alpha"] == ("-inf" if alpha == "-inf" else float(alpha))
    assert "no log-likelihood" in found["stdout"]
    assert robust["by_name"]["a"]["estimate"] == pytest.approx(2.0, abs=0.05)
    assert {row["row"] for row in found["down_weighted"]} <= set(range(1, 41))


def test_given_alpha_and_scale_are_kept(tmp_path):
    write_csv(tmp_path / "t.csv", **regression(200))
    robust = fit(tmp_path, "t.csv", "y", "--alpha", "1", "--scale", "0.3")["robust"]
    assert (robust["alpha"], robust["alpha_estimated"]) == (1.0, False)
    assert (robust["scale"], robust["scale_estimated"]) == (pytest.approx(0.3, rel=1e-15), False)
    assert fit(tmp_path, "t.csv", "y", "--scale", "0.3")["robust"]["alpha_estimated"]


@pytest.mark.parametrize("alpha", ["3", "inf"])
def test_alpha_above_2_works_and_says_that_nothing_is_weighted_down(tmp_path, alpha):
    write_csv(tmp_path / "t.csv", **regression(200))
    found = fit(tmp_path, "t.csv", "y", "--alpha", alpha)
    assert found["robust"]["converged"]
    assert found["robust"]["by_name"]["a"]["estimate"] == pytest.approx(2.0, abs=0.05)
    assert "far rows count more" in found["stdout"]


def test_features_choose_columns_and_text_beside_them_does_not_matter(tmp_path):
    columns = regression(100)
    write_csv(tmp_path / "t.csv", name=["somebody"] * 100, **columns)
    found = fit(tmp_path, "t.csv", "y", "--features", "b,a")
    assert found["features"] == ["b", "a"]
    assert list(found["robust"]["by_name"]) == ["(intercept)", "b", "a"]


def test_csv_and_parquet_give_the_same_fit(tmp_path):
    columns = regression(300, noise="cauchy")
    columns["flag"] = columns["a"] > 0.5
    columns["count"] = np.arange(300) % 7
    write_csv(tmp_path / "t.csv", **columns)
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    one, other = fit(tmp_path, "t.csv", "y"), fit(tmp_path, "t.parquet", "y")
    for key in ("robust", "ols", "down_weighted", "features", "rows"):
        assert one[key] == other[key]


def test_dropped_rows_are_counted_and_the_others_keep_their_numbers(tmp_path):
    columns = {name: list(column) for name, column in regression(100).items()}
    columns["y"][59] += 1000.0
    write_csv(tmp_path / "full.csv", **{name: column[:3] + column[6:] for name, column in columns.items()})
    columns["a"][3] = ""
    columns["b"][4] = columns["b"][3] = "NaN"
    columns["y"][5] = "NA"
    write_csv(tmp_path / "t.csv", **columns)
    found = fit(tmp_path, "t.csv", "y", "--drop-missing")
    assert (found["rows"], found["rows_dropped"]) == (97, 3)
    assert "97 rows, 3 rows with missing values left out" in found["stdout"]
    assert found["down_weighted"][0]["row"] == 60
    assert found["robust"] == fit(tmp_path, "full.csv", "y")["robust"]


def test_odd_column_names_come_through(tmp_path):
    names = ["[bold]a, m2[/bold]", "$x_1$ :smile:", "température", "y"]
    columns = regression(50)
    rows = zip(columns["a"], columns["b"], np.sin(np.arange(50)), columns["y"], strict=True)
    lines = [",".join(f'"{name}"' for name in names), *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    found = fit(tmp_path, "t.csv", "y", "--plot", "fit.png", "--features", '"[bold]a, m2[/bold]",$x_1$ :smile:')
    assert found["features"] == names[:2]
    assert all(name in found["stdout"] for name in names[:2])


def test_one_feature_is_drawn_as_a_line_and_other_formats_work(tmp_path):
    columns = regression(80)
    write_csv(tmp_path / "t.csv", a=columns["a"], y=columns["y"])
    fit(tmp_path, "t.csv", "y", "--plot", "fit.svg")
    assert "<svg" in (tmp_path / "fit.svg").read_text()


def test_few_rows_keep_alpha_from_1_and_say_so(tmp_path):
    write_csv(tmp_path / "t.csv", **regression(5))
    found = fit(tmp_path, "t.csv", "y")
    assert found["robust"]["alpha"] >= 1
    assert found["robust"]["converged"]
    assert "estimated over [1, 2] (below, the likelihood of so few rows has no maximum)" in found["stdout"]
    assert "5 rows are few" in found["stdout"]


def test_a_loss_that_is_infinite_is_an_error_in_one_line(tmp_path):
    done = run(tmp_path, "fit", str(STACKLOSS), "--target", "stack_loss", "--alpha", "inf", "--scale", "0.01")
    assert done.returncode == 2 and "the loss is infinite" in done.stderr and "Traceback" not in done.stderr


def test_standard_errors_do_not_depend_on_the_units(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=60)
    y = 2 * x + rng.normal(size=60)
    found = []
    for unit in (1.0, 1e-170, 1e170):
        write_csv(tmp_path / "t.csv", x=x, y=unit * y)
        terms = fit(tmp_path, "t.csv", "y")["robust"]["coefficients"]
        found.append([term["std_error"] / unit for term in terms])
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-6)


def test_show_0_lists_no_rows(tmp_path):
    found = fit(tmp_path, STACKLOSS, "stack_loss", "--show", "0")
    assert found["down_weighted"] == []
    assert "weighted down" not in found["stdout"]


# The other commands


def test_demo_tells_what_it_found_and_writes_two_pictures(tmp_path):
    done = run(tmp_path, "demo", "--size", "10000", "--outdir", "pictures")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name in ("fastrobust-stackloss.png", "fastrobust-line.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(PNG)
    for words in ("observations 1, 3, 4 and 21", "finds the same four", "ns per residual", "memory copy", "GB/s"):
        assert words in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


@pytest.mark.parametrize("command", [["demo"], ["fit", "t.csv", "--target", "y"]], ids=" ".join)
def test_no_number_of_threads_is_one_line_before_any_work(command, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTROBUST_NUM_THREADS", "many")
    done = run(tmp_path, *command)
    assert (done.returncode, done.stdout) == (2, "")
    problem = "FASTROBUST_NUM_THREADS must be a number of threads, got 'many': set it to 1, 2, ... or unset it"
    assert done.stderr == f"fastrobust {command[0]}: error: {problem}\n"
    assert not list(tmp_path.iterdir())


def test_demo_rejects_what_it_cannot_do(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (["--outdir", "file"], ["--outdir", "file/below"], ["--size", "0"], ["--size", "many"]):
        done = run(tmp_path, "demo", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_info_lists_versions_and_imports_no_framework(tmp_path):
    program = (
        "import sys; from fastrobust.cli import main; main(['info']); "
        "print(*(m for m in ('torch', 'jax', 'cupy', 'dask', 'numba', 'pyarrow', 'matplotlib', 'rich', 'scipy') "
        "if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert fr.__version__ in done.stdout
    assert np.__version__ in done.stdout
    for name in ("python", "numba", "llvmlite", "CPU", "cores", "kernel cache", "scipy", "scikit-learn", "pyarrow"):
        assert name in done.stdout


def test_info_tells_of_each_array_library_what_the_dispatcher_does_with_it(tmp_path):
    told = run(tmp_path, "info").stdout.partition("array libraries\n")[2].partition("\n\n")[0].splitlines()
    lines = {line.split()[0]: line for line in told}
    modules = _dispatch._LIBRARIES
    assert lines.keys() == modules.keys() - {"jaxlib"}
    for name, line in lines.items():
        assert ("not supported" in line) == (modules[name] is None)
        if importlib.util.find_spec(name) and modules[name]:
            assert line.endswith(", supported")


def test_help_teaches(tmp_path):
    for arguments in ([], ["--help"], ["fit", "--help"], ["demo", "--help"], ["info", "--help"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "usage: fastrobust" in done.stdout
    words = ("examples:", "[0, 2]", "JSON keys:", "--drop-missing", "auto|NUMBER")
    assert all(word in run(tmp_path, "fit", "--help").stdout for word in words)
    assert run(tmp_path, "--version").stdout == f"fastrobust {fr.__version__}\n"
    assert run(tmp_path, "fti").returncode == 2


def test_info_empties_the_cache_if_asked(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    (cache / f"{'0' * 32}.o").write_bytes(b"kernel")
    (cache / "mine.txt").write_text("stays")
    done = subprocess.run(
        [sys.executable, "-m", "fastrobust", "info", "--clear-cache"],
        capture_output=True, text=True, check=True, env={**os.environ, "FASTROBUST_CACHE_DIR": str(cache)},
    )  # fmt: skip
    assert "1 files removed" in done.stdout and "(0 files)" in done.stdout
    assert [file.name for file in cache.iterdir()] == ["mine.txt"]


def test_info_says_why_there_is_no_cache(tmp_path: Path) -> None:
    for directory, text in (
        ("", "FASTROBUST_CACHE_DIR is empty"),
        (str(tmp_path / "file" / "in"), "cannot be written"),
    ):
        (tmp_path / "file").write_text("")
        done = subprocess.run(
            [sys.executable, "-m", "fastrobust", "info"],
            capture_output=True, text=True, check=True, env={**os.environ, "FASTROBUST_CACHE_DIR": directory},
        )  # fmt: skip
        assert text in done.stdout
