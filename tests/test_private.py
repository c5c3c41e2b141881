"""The private interfaces of NumPy, SciPy and scikit-learn: where they stand, what replaces them, and that they are all.

A failure says what moved.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_layers import ROOT, SHIPPED

from fastrobust._backends.numpy import c_api

# --- which there are

LIBRARIES = ("numpy", "scipy", "sklearn")
ALLOWED = {
    "fastrobust._backends.numpy.c_api": ["numpy._core._multiarray_umath._UFUNC_API"],
    "fastrobust.optimize._private_scipy": ["scipy.stats._distn_infrastructure._ShapeInfo"],
    "fastrobust.optimize._private_sklearn": ["sklearn.utils.validation._check_sample_weight"],
}
CALLED = {"_parse_args": "fastrobust.optimize._private_scipy"}  # methods that SciPy gives our distribution


def private_names(source: str) -> list[str]:
    """The underscored names of these libraries that a source imports, or reaches from a module that it imports."""
    tree, names, found = ast.parse(source), dict[str, str](), list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append(alias.name)
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found.append(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "imported", "__import__"):
                found.append(str(node.args[0].value))
    for node in ast.walk(tree):
        path, base = list[str](), node
        while isinstance(base, ast.Attribute):
            path.insert(0, base.attr)
            base = base.value
        if path and isinstance(base, ast.Name) and base.id in names:
            found.append(".".join([names[base.id], *path]))
    return sorted({name for name in found if name.partition(".")[0] in LIBRARIES and re.search(r"\._(?!_)", name)})


def test_nothing_else_is_private() -> None:
    found = {module: names for module, (source, _) in SHIPPED.items() if (names := private_names(source))}
    assert found == ALLOWED, "private names of NumPy, SciPy and scikit-learn belong into these modules only"


def test_no_other_module_calls_what_scipy_gives_a_distribution() -> None:
    for name, allowed in CALLED.items():
        assert [module for module, (source, _) in SHIPPED.items() if name in source] == [allowed]


@pytest.mark.parametrize(
    "text",
    [
        "from numpy._core import umath",
        "import numpy._core.umath",
        "import numpy as np\nnp._core.umath",
        "def f():\n    from scipy.stats import _fit",
        "from scipy import stats\nx = stats._fit.fit",
        "import scipy.stats\nscipy.stats._distn_infrastructure._ShapeInfo('a')",
        "from sklearn.utils.validation import check_array, _num_samples",
        "try:\n    from sklearn.utils._tags import get_tags\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('scipy._lib')",
    ],
)
def test_a_planted_private_name_is_seen(text: str) -> None:
    assert private_names(text)


def test_public_and_own_names_are_no_private_ones() -> None:
    assert not private_names(
        "import numpy as np\nimport scipy.stats\nfrom ._problem import _x\nfrom .. import _arguments as a\n"
        "np.__version__, scipy.stats.norm, a._shown, self._np\nfrom torch._C import x"
    )


def test_a_version_is_excluded_only_where_nothing_replaces_what_is_private() -> None:
    project = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(w for extra in project["optional-dependencies"].values() for w in extra)]
    capped = {name: "<" in next(w for w in wanted if re.match(rf"{name}\b", w)) for name in ("numpy", "scipy")}
    capped["scikit-learn"] = "<" in next(w for w in wanted if w.startswith("scikit-learn"))
    assert capped == {"numpy": True, "scipy": False, "scikit-learn": False}


# --- NumPy


def test_numpy_has_its_table_of_c_functions_where_it_was() -> None:
    header = (Path(np.get_include()) / "numpy" / "__ufunc_api.h").read_text(encoding="utf-8")
    name = "PyUFunc_FromFuncAndDataAndSignature"
    found = re.search(rf"#define {name} \\\n(.*)\\\n\s*PyUFunc_API\[(\d+)\]", header)
    assert found, f"NumPy's header no longer has {name}: see _backends/numpy/c_api.py"
    assert int(found[2]) == c_api.ENTRY, f"NumPy moved {name} to another entry of its table"
    types = re.sub(r"\bconst\b|\s", "", found[1])
    expected = "(*(PyObject*(*)(PyUFuncGenericFunction*,void**,char*,int,int,int,int,char*,char*,int,char*))"
    assert types == expected, f"NumPy's {name} takes other arguments than in _backends/numpy/c_api.py"
    from numpy._core import _multiarray_umath

    assert hasattr(_multiarray_umath, "_UFUNC_API"), "NumPy moved numpy._core._multiarray_umath._UFUNC_API"


def test_numpys_c_function_makes_a_ufunc_of_a_loop() -> None:
    words = ctypes.POINTER(ctypes.c_ssize_t)

    @ctypes.CFUNCTYPE(None, words, words, words, ctypes.c_void_p)
    def add(arrays: Any, count: Any, steps: Any, data: Any) -> None:
        for i in range(count[0]):
            x, y, out = (ctypes.c_double.from_address(arrays[k] + i * steps[k]) for k in range(3))
            out.value = x.value + y.value

    made = c_api.ufunc_over(ctypes.cast(add, ctypes.c_void_p).value or 0, "plus", [np.float64] * 2, [np.float64])
    assert isinstance(made, np.ufunc) and (made.nin, made.nout, made.types, made.__name__) == (2, 1, ["dd->d"], "plus")
    assert made(np.arange(3.0)[:, None], [10.0, 20.0]).tolist() == [[10, 20], [11, 21], [12, 22]]


def test_numpys_c_function_makes_a_generalized_ufunc_of_a_loop() -> None:
    """The loop gets the length of the axis and the strides along it, and what was to be handed on."""
    words = ctypes.POINTER(ctypes.c_ssize_t)

    @ctypes.CFUNCTYPE(None, words, words, words, ctypes.c_void_p)
    def total(arrays: Any, sizes: Any, steps: Any, data: Any) -> None:
        for i in range(sizes[0]):
            at = arrays[0] + i * steps[0]
            terms = [ctypes.c_double.from_address(at + k * steps[2]).value for k in range(sizes[1])]
            ctypes.c_double.from_address(arrays[1] + i * steps[1]).value = sum(terms) + data

    made = c_api.ufunc_over(
        ctypes.cast(total, ctypes.c_void_p).value or 0, "total", [np.float64], [np.float64], "(n)->()", data=5
    )
    assert made.signature == "(n)->()"
    assert made(np.arange(6.0).reshape(2, 3)).tolist() == [8, 17]


def test_a_numpy_without_the_table_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numpy._core._multiarray_umath._UFUNC_API", object())
    with pytest.raises(ImportError, match=r"^NumPy \S+ has no table .* in _UFUNC_API, .* install a NumPy [^\n]*$"):
        c_api.ufunc_over(0, "f", [np.float64], [np.float64])
    monkeypatch.delattr("numpy._core._multiarray_umath._UFUNC_API")
    with pytest.raises(ImportError, match=r"^NumPy \S+ has no numpy\._core\._multiarray_umath\._UFUNC_API, [^\n]*$"):
        c_api.ufunc_over(0, "f", [np.float64], [np.float64])


# --- SciPy and scikit-learn: what replaces them does the same


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType, str], None]]:
    """To import one of our modules anew, as if its library lacked that name."""
    anew: list[ModuleType] = []

    def lacks(module: ModuleType, name: str) -> None:
        with monkeypatch.context() as patch:
            patch.delattr(name)
            anew.append(importlib.reload(module))

    yield lacks
    for module in anew:
        importlib.reload(module)


def fitted() -> list[float]:
    stats, optimize = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.optimize")
    from fastrobust.stats import barron

    data, bounds = np.random.default_rng(0).normal(size=50), {"alpha": (0.1, 2), "loc": (-1, 1), "scale": (0.1, 3)}
    found = stats.fit(barron, data, bounds, optimizer=lambda f, bounds, **rest: optimize.minimize(f, [1, 0, 1]))
    with pytest.raises(ValueError, match="alpha"):
        stats.fit(barron, data, bounds | {"alpha": (-2, -1)})
    return list(found.params)


def test_scipy_has_its_class_for_shape_parameters() -> None:
    infrastructure = pytest.importorskip("scipy.stats._distn_infrastructure")
    from fastrobust.optimize import _private_scipy

    kind = getattr(infrastructure, "_ShapeInfo", None)
    assert kind, "SciPy moved scipy.stats._distn_infrastructure._ShapeInfo; _private_scipy has what replaces it"
    made = _private_scipy.shape_info("alpha", 0, np.inf)
    assert type(made) is kind, "SciPy's _ShapeInfo takes other arguments; _private_scipy has what replaces it"
    assert vars(made).keys() <= set(dir(_private_scipy._Shape("alpha", 0, 1))), "SciPy's _ShapeInfo has new attributes"


@pytest.mark.parametrize("how", ["gone", "other arguments"])
def test_a_scipy_without_it_fits_the_same(
    how: str, without: Callable[[ModuleType, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted()
    from fastrobust import stats
    from fastrobust.optimize import _private_scipy

    if how == "gone":
        without(_private_scipy, "scipy.stats._distn_infrastructure._ShapeInfo")
        assert _private_scipy._ShapeInfo is None
    else:
        monkeypatch.setattr(_private_scipy, "_ShapeInfo", lambda name: name)
    asked = []
    monkeypatch.setattr(stats, "shape_info", lambda *args: asked.append(args) or _private_scipy.shape_info(*args))
    assert type(_private_scipy.shape_info("alpha", 0, np.inf)) is _private_scipy._Shape
    assert fitted() == expected
    assert asked, "SciPy's fit no longer asks a distribution for _shape_info"


ARGUMENTS = [((1.0,), {}), ((1.0, 2.0, 3.0), {}), ((1.0, 2.0), {"scale": 3.0}), ((), {"scale": 3.0, "alpha": 1.0})]


@pytest.mark.parametrize(("args", "options"), ARGUMENTS)
def test_scipy_gives_a_distribution_its_method_for_arguments(args: Any, options: Any) -> None:
    pytest.importorskip("scipy.stats")
    from fastrobust.optimize import _private_scipy
    from fastrobust.stats import barron

    assert hasattr(barron, "_parse_args"), "SciPy's distributions lost _parse_args; _private_scipy has what replaces it"
    found = _private_scipy.parameters(barron, args, options)
    assert found == _private_scipy.parameters(object(), args, options), "_parse_args of SciPy's finds something else"


def test_a_scipy_without_it_has_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy.stats")
    from fastrobust.stats import barron

    expected = [barron.moment(2, *args, **options) for args, options in ARGUMENTS]
    monkeypatch.delattr(barron, "_parse_args")
    assert [barron.moment(2, *args, **options) for args, options in ARGUMENTS] == expected
    with pytest.raises(TypeError, match="alpha"):
        barron.moment(2)


WEIGHTS = {
    "numbers": np.arange(8.0),
    "single": np.arange(8, dtype=np.float32),
    "integers": list(range(8)),
    "one for all": 2,
    "negative": -np.ones(8),
    "NaN": np.array([np.nan, *range(7)]),
    "infinite": np.full(8, np.inf),
    "too few": np.ones(7),
    "two axes": np.ones((8, 1)),
    "text": ["a"] * 8,
    "complex": np.ones(8, complex),
    "none": np.zeros(8),
}


def outcome(weights: Any) -> tuple[Any, ...]:
    """What comes of them: the weights, or the error."""
    from fastrobust.optimize import _private_sklearn

    try:
        found = _private_sklearn.sample_weights(weights, np.ones((8, 2)))
    except Exception as error:
        return type(error), str(error)
    return found.dtype, found.shape, found.flags.c_contiguous, found.tolist()


def test_scikit_learn_has_its_check_of_sample_weights() -> None:
    validation = pytest.importorskip("sklearn.utils.validation")
    from fastrobust.optimize import _private_sklearn

    check = getattr(validation, "_check_sample_weight", None)
    assert check, "scikit-learn moved sklearn.utils.validation._check_sample_weight; _private_sklearn has another"
    options = {"dtype": np.float64, "ensure_non_negative": True}
    assert _private_sklearn._takes(check, 1, np.ones((2, 1)), **options), "_check_sample_weight takes other arguments"


@pytest.mark.parametrize("how", ["gone", "other arguments"])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_a_scikit_learn_without_it_checks_the_same(
    weights: Any, how: str, without: Callable[[ModuleType, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    from fastrobust.optimize import _private_sklearn

    expected = outcome(weights)
    if how == "gone":
        without(_private_sklearn, "sklearn.utils.validation._check_sample_weight")
        assert _private_sklearn._check_sample_weight is None
    else:
        monkeypatch.setattr(_private_sklearn, "_check_sample_weight", lambda weights: None)
    found = outcome(weights)
    if not np.any(weights if not isinstance(weights, list) else 1):
        assert found[0] is ValueError  # which scikit-learn leaves to the estimator before 1.9
    else:
        assert found == expected
