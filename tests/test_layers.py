"""The rooms and the arrows between them, what an import costs, and what the documents promise.

Arrows run one way: benchmarks, tests -> fastrobust -> kernels -> numba, llvmlite, numpy. The checks read the sources;
each has a test of its own that plants a violation.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rooms
from rooms import Import, circles, imports, sources

import fastrobust as fr
from fastrobust import _dispatch
from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, KERNELS = ROOT / "fastrobust", ROOT / "kernels"
PUBLIC = tuple(fr.__all__)
FUNCTIONS = tuple(name for name in PUBLIC if inspect.isfunction(getattr(fr, name)) and name != "define")  # of arrays
FRAMEWORKS = {*_dispatch._LIBRARIES, "tensorflow", "scipy", "sklearn", "pandas", "numba", "llvmlite"}

# --- what is there

OURS = sources(PACKAGE, "fastrobust")
MATHEMATICS = sources(KERNELS, "fastrobust.kernels")
SHIPPED = {**OURS, **{name: s for name, s in MATHEMATICS.items() if ".tools" not in name}}
EVERYTHING = {
    **OURS,
    **MATHEMATICS,
    **sources(ROOT / "tests", "tests"),
    **sources(ROOT / "benchmarks", "benchmarks"),
}


def listed(source: str) -> tuple[str, ...]:
    """The `__all__` of a source: what `fastrobust.optimize` offers, without importing SciPy for it."""
    assigned = [
        n for n in ast.parse(source).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    return tuple(ast.literal_eval(assigned[0].value))


LOOPS = listed(OURS["fastrobust.optimize"][0])

# --- the rules: the imports of a module that break them


def is_kernel(module: str) -> bool:
    return module.startswith("fastrobust.kernels") and ".tools" not in module


def beyond_the_kernels(module: str, found: Import) -> bool:
    """kernels/ imports itself, relatively, and numba, llvmlite, numpy and the standard library."""
    own = found.relative and found.name.startswith("fastrobust.kernels.")
    return is_kernel(module) and not own and found.top not in {*sys.stdlib_module_names, "numpy", "numba", "llvmlite"}


ROOMS = {  # of the kernels, and into which others each looks
    "arithmetic": (),
    "graph": ("arithmetic",),
    "losses": ("arithmetic", "graph"),
    "compilers": ("arithmetic",),
    "loops": ("arithmetic", "graph", "losses", "compilers"),
}


def a_room_above(module: str, found: Import) -> bool:
    """Arrows between the rooms of the kernels run down only."""
    room = module.removeprefix("fastrobust.kernels.").partition(".")[0]
    other = found.name.removeprefix("fastrobust.kernels.").partition(".")[0]
    return (
        is_kernel(module)
        and found.name.startswith("fastrobust.kernels.")
        and other != room
        and other not in ROOMS.get(room, ())
    )


def another_backend(module: str, found: Import) -> bool:
    """A backend stands on types, checks, kernels and its own parts, never on another backend, the API or the
    dispatcher."""
    own = ".".join(module.split(".")[:3]) + "."
    allowed = ("fastrobust._types.", "fastrobust._arguments.", "fastrobust._threads.", "fastrobust.kernels.", own)
    return (
        module.startswith("fastrobust._backends.")
        and found.top == "fastrobust"
        and not (found.name + ".").startswith(allowed)
    )


def a_framework_too_early(module: str, found: Import) -> bool:
    """What `import fastrobust` runs imports no array library, nor kernels: only names, and how one imports them."""
    early = ("_api", "_call", "_evaluate", "_dispatch", "_parts", "_shapes", "_types")
    if module not in ("fastrobust", *(f"fastrobust.{name}" for name in early)):
        return False
    if found.typing or found.name.startswith("fastrobust.kernels.compilers.alone."):
        return False
    heavy = ("fastrobust.kernels", "fastrobust._backends", "fastrobust.cli")
    return found.top in FRAMEWORKS or found.name.startswith(heavy)


def behind_the_public_functions(module: str, found: Import) -> bool:
    """The command line stands on the public functions and loops; `info` may ask where the cache is and which array
    libraries are known, it and the others how many threads; how to install what is missing is said in one place."""
    if not module.startswith("fastrobust.cli") or found.top != "fastrobust":
        return False
    if (module, found.name) in {
        ("fastrobust.cli.info", "fastrobust.kernels.compilers.cache"),
        ("fastrobust.cli.info", "fastrobust._dispatch"),
        ("fastrobust.cli.info", "fastrobust._threads"),
        ("fastrobust.cli.common", "fastrobust._threads"),
        ("fastrobust.cli.common", "fastrobust._dispatch.install"),
    }:
        return False
    public = {"fastrobust", *(f"fastrobust.{name}" for name in PUBLIC)}
    public |= {"fastrobust.optimize", *(f"fastrobust.optimize.{name}" for name in LOOPS)}
    return found.name not in public and not (found.name + ".").startswith("fastrobust.cli.")


def beside_the_public_functions(module: str, found: Import) -> bool:
    """The loops and the distribution stand on the public functions, a loss as an object and what kind it is, the
    density's integrals and the rule for them, what an array's library is, what annotations are made of, and loops."""
    if not module.startswith(("fastrobust.optimize", "fastrobust.stats")) or found.top != "fastrobust":
        return False
    public = {"fastrobust", *(f"fastrobust.{name}" for name in PUBLIC)}
    below = ("_density", "_truncated", "_dispatch", "_arguments", "_meaning", "_types", "optimize")
    below += ("_loss", "_traits")
    below += ("kernels.compilers.alone", "kernels.losses.truncation")
    return found.name not in public and not (found.name + ".").startswith(
        tuple(f"fastrobust.{name}." for name in below)
    )


def adapters_above_adapters(module: str, found: Import) -> bool:
    """Other packages' interfaces stand on the adapters and the public functions; adapters stand on no adapter."""
    if found.top != "fastrobust":
        return False
    if module.startswith("fastrobust.compat"):
        allowed = {"fastrobust", *(f"fastrobust.{name}" for name in PUBLIC)}
        below = ("fastrobust.compat.", "fastrobust.torch.", "fastrobust.transforms.")
        return found.name not in allowed and not found.name.startswith(below)
    adapters = ("fastrobust.compat", "fastrobust.torch", "fastrobust.jax")
    others = tuple(a for a in adapters if not module.startswith(a))
    return module.startswith("fastrobust") and found.name.startswith(others)


def a_top_level_kernels(module: str, found: Import) -> bool:
    """`kernels` belongs to another project."""
    return found.top == "kernels"


def back_to_front(module: str, found: Import) -> bool:
    """The package imports neither its tests nor its benchmarks."""
    return module.startswith("fastrobust") and found.top in (
        "tests",
        "benchmarks",
        "oracle",
        "points",
        "bounds",
        "attack",
    )


RULES: dict[Callable[[str, Import], bool], dict[str, tuple[str, ...]]] = {
    # rule -> violations of it, by the module in which they are planted
    beyond_the_kernels: {
        "fastrobust.kernels.losses.barron": (
            "import fastrobust",
            "from fastrobust.kernels.compilers import native",
            "from ... import _types",
            "from ..._types import LossGrad",
            "def f():\n    import scipy.special",
            "import importlib\nimportlib.import_module('torch')",
        ),
        "fastrobust.kernels": ("from .._api import loss",),
    },
    a_room_above: {
        "fastrobust.kernels.arithmetic.elementary": ("from ..compilers import cache", "from ..losses import barron"),
        "fastrobust.kernels.losses.barron": ("from ..loops import cpu", "def f():\n    from ..compilers import native"),
        "fastrobust.kernels.compilers.native": ("from ..loops import cpu", "from ..losses.catalogue import LOSS"),
        "fastrobust.kernels": ("from .losses import barron",),
    },
    another_backend: {
        "fastrobust._backends.cupy": (
            "from .. import numpy",
            "from ..numpy import evaluate",
            "from ..._backends.numpy import evaluate",
            "import fastrobust._backends.numpy",
            "def f():\n    from ..._dispatch import backend",
            "import fastrobust",
        ),
        "fastrobust._backends.numpy": ("from .. import cupy", "from ..cupy import evaluate"),
        "fastrobust._backends.numpy.sums": (
            "from .. import cupy",
            "from ..cupy import reduce",
            "from ... import _dispatch",
            "from ..._evaluate import value_of",
        ),
    },
    a_framework_too_early: {
        "fastrobust": ("import numpy as np", "from .kernels.compilers import native"),
        "fastrobust._api": ("import torch", "from ._backends import numpy"),
        "fastrobust._call": ("import numpy", "from .kernels.losses.barron import LOSS"),
        "fastrobust._evaluate": ("from .kernels.losses.catalogue import LOSS", "imported('fastrobust.kernels.losses')"),
        "fastrobust._dispatch": ("from jax import numpy", "import numpy", "__import__('cupy')"),
        "fastrobust._parts": ("import scipy", "from .kernels.loops import cpu"),
        "fastrobust._types": (
            "if not TYPE_CHECKING:\n    import numpy",
            "try:\n    import dask.array\nexcept ImportError:\n    pass",
            "import llvmlite.binding",
        ),
    },
    behind_the_public_functions: {
        "fastrobust.cli.fit": (
            "from fastrobust._api import loss",
            "from fastrobust._backends import numpy",
            "from .._types import LossGrad",
            "from .. import _api",
            "from fastrobust.kernels.compilers import cache",
            "import fastrobust.kernels",
            "from fastrobust.optimize import _regression",
            "from fastrobust.optimize._regression import fit_linear",
            "from ..optimize import _regressor",
        ),
        "fastrobust.cli.info": (
            "from fastrobust.kernels.compilers.cache import clear",
            "from fastrobust.kernels.compilers import native",
        ),
    },
    beside_the_public_functions: {
        "fastrobust.optimize._regression": (
            "from .._api import loss",
            "from .._backends import numpy",
            "from ..kernels.loops import compiled",
            "from ..torch import loss",
            "from ..cli.common import UserError",
            "def f():\n    import fastrobust.kernels",
        ),
        "fastrobust.optimize": ("from .._call import Backend", "from .. import cli"),
        "fastrobust.stats": ("from ._api import loss", "from .jax import nll"),
    },
    adapters_above_adapters: {
        "fastrobust.compat.robust_loss_pytorch.general": (
            "from ..._api import loss",
            "from ...kernels.losses import higher",
        ),
        "fastrobust._api": ("from .torch import loss",),
        "fastrobust.torch._modules": ("from ..compat.robust_loss_pytorch import util", "from ..jax import loss"),
        "fastrobust.jax._calls": ("from ..torch import _kernels",),
    },
    a_top_level_kernels: {
        "tests.test_kernels": (
            "import kernels",
            "from kernels.compilers import native",
            "from kernels.losses.barron import values",
        ),
        "fastrobust._api": ("def f():\n    import kernels.compilers.native as native",),
    },
    back_to_front: {
        "fastrobust._api": ("import tests.oracle", "from oracle import loss", "from benchmarks import cpu")
    },
}
PLANTED = [(rule, module, text) for rule, cases in RULES.items() for module, texts in cases.items() for text in texts]


def violations(rule: Callable[[str, Import], bool], modules: dict[str, tuple[str, bool]]) -> list[str]:
    return [
        f"{module}, line {found.line}: {found.name}"
        for module, (source, is_package) in modules.items()
        for found in imports(source, module, is_package)
        if rule(module, found)
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_imports_keep_the_rule(rule: Callable[[str, Import], bool]) -> None:
    assert len(SHIPPED) > 20
    assert not violations(rule, EVERYTHING), rule.__doc__


@pytest.mark.parametrize(("rule", "module", "text"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_import_breaks_the_rule(rule: Callable[[str, Import], bool], module: str, text: str) -> None:
    is_package = EVERYTHING.get(module, ("", False))[1]
    assert violations(rule, {module: (text, is_package)})


def test_permitted_imports_break_no_rule() -> None:
    permitted = {
        "fastrobust.kernels.loops.cpu": (
            "from ..losses import barron\nfrom ..arithmetic.primitives import scalar\nimport numba.extending",
            False,
        ),
        "fastrobust._backends.cupy": (
            "import cupy\nfrom ..._types import LossGrad\nfrom ...kernels.loops import launch\nfrom .device import on",
            True,
        ),
        "fastrobust._backends.numpy.sums": ("from . import pieces\nfrom .pieces import run\nimport numpy as np", False),
        "fastrobust": ("from ._api import loss as loss", True),
        "fastrobust.cli.plots": ("import fastrobust as fr\nfrom fastrobust import loss\nfrom .fit import Fit", False),
        "fastrobust.cli": ("from .common import UserError\nfrom . import fit", True),
        "fastrobust.cli.fit": ("from fastrobust.optimize import RobustRegressor\nimport fastrobust.optimize", False),
        "fastrobust.optimize._regression": (
            "from .. import loss\nfrom .._density import tail\nfrom . import _scipy\nimport fastrobust as fr",
            False,
        ),
    }
    for rule in RULES:
        assert not violations(rule, permitted)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(SHIPPED) == []


def test_a_planted_circle_is_seen() -> None:
    planted = {"p": ("", True), "p.a": ("from . import b", False), "p.b": ("def f():\n    from .c import x", False),
               "p.c": ("from .a import y", False), "p.d": ("from . import a", False)}  # fmt: skip
    assert circles(planted) == ["p.a", "p.b", "p.c"]


def test_the_diagram_in_contributing_is_what_the_sources_say() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert rooms.BLOCK.findall(text) == [f"```mermaid\n{rooms.diagram()}```\n"], "python tests/rooms.py --update"
    assert 'kernels_losses["kernels.losses"] --> kernels_graph["kernels.graph"]' in text


@pytest.mark.parametrize("room", ["kernels", "kernels.loops", "optimize", "cli"])
def test_a_room_can_be_drawn(room: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rooms.main([room]) == 0
    assert capsys.readouterr().out.count("-->") >= 2
    with pytest.raises(SystemExit, match=r"no room 'cellar': it is one of .*, kernels.loops"):
        rooms.main(["cellar"])


def private_attributes(source: str) -> list[str]:
    """What is used of fastrobust beyond its public names: ``fr._api`` and the like."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "fastrobust"
    }
    return [
        f"line {node.lineno}: {node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
        and node.attr not in (*PUBLIC, "__version__")
    ]


@pytest.mark.parametrize("module", [name for name in OURS if name.startswith("fastrobust.cli")])
def test_the_command_line_uses_no_private_attribute(module: str) -> None:
    assert not private_attributes(OURS[module][0])


def test_a_planted_private_attribute_is_seen() -> None:
    assert private_attributes("import fastrobust as fr\nfr._api.loss") == ["line 2: fr._api"]
    assert private_attributes("import fastrobust\nfastrobust.kernels") == ["line 2: fastrobust.kernels"]
    assert not private_attributes("import fastrobust as fr\nfr.loss(1, 2, 3), fr.__version__")


# --- what is PyTorch's own

GUARD = "fastrobust.torch._private"
TENSORS = {
    name: source for name, (source, _) in OURS.items() if name.startswith(("fastrobust.torch", "fastrobust.compat"))
}
LOOKING = ("getattr", "hasattr", "setattr", "delattr", "attrgetter", "imported", "import_module", "__import__")


def own_names(source: str) -> set[str]:
    """What a source defines, imports, or sets on ``self``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.level:
            found |= {alias.asname or alias.name for alias in node.names}
    return found


# Of these modules, and of those that they import, since other modules may have a name that PyTorch has, too.
OWN = {
    name
    for module in {*TENSORS, *(found.name for m, s in TENSORS.items() for found in imports(s, m) if found.relative)}
    if module in OURS and module != GUARD
    for name in own_names(OURS[module][0])
}
# What the guard names and stands nowhere in PyTorch's documentation, underscore or not.
UNDOCUMENTED = {
    "torch.distributed.tensor.experimental",
    *re.findall(r'_(?:offered|found)\(\s*"([\w.]+)"', TENSORS[GUARD]),
}


def of_pytorch_alone(source: str, module: str) -> list[str]:
    """The names of PyTorch's that begin with an underscore, or that the guard says are undocumented."""

    def hidden(path: str) -> bool:
        if path.startswith("fastrobust."):
            return False
        private = any(re.match(r"_[^_]", part) and part not in OWN | {"_fields"} for part in path.split("."))
        return private or any((path + ".").startswith(place + ".") for place in UNDOCUMENTED)

    tree = ast.parse(source)
    names = {"nn": "torch.nn", "Tensor": "torch.Tensor"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname: base + alias.name for alias in node.names if alias.asname}
            names |= {alias.name: base + alias.name for alias in node.names if not alias.asname}
    found = [
        f"line {one.line}: {one.name}"
        for one in imports(source, module)
        if not one.relative and one.top == "torch" and hidden(one.name)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            if hidden(f"{names.get(root, root)}.{rest}" if root.isidentifier() else node.attr):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in LOOKING:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            found += [f"line {node.lineno}: {text}" for text in texts if hidden(text)]
    return found


@pytest.mark.parametrize("module", [name for name in TENSORS if name != GUARD])
def test_one_module_alone_uses_what_pytorch_does_not_document(module: str) -> None:
    assert not of_pytorch_alone(TENSORS[module], module)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch._C._is_tracing()",
        "import torch\ntorch.Tensor._version",
        "import torch as t\nt.scalar_tensor(1.0)",
        "import torch._dynamo",
        "from torch import _dynamo",
        "from torch._inductor import config",
        "from torch import scalar_tensor",
        "from torch.autograd import forward_ad\nforward_ad._current_level",
        "from torch.distributed.tensor.experimental import local_map",
        "from torch.distributions.utils import broadcast_all",
        "imported('torch.distributed.tensor.experimental')",
        "import importlib\nimportlib.import_module('torch._functorch.pyfunctorch')",
        "def f(x):\n    return x._version",
        "def f(x):\n    return x.y[0]()._version",
        "def f(x):\n    return getattr(x, '_version', 0)",
        "def f(new):\n    new._validate_args = False",
    ],
)
def test_a_planted_private_name_of_pytorch_is_seen(text: str) -> None:
    assert of_pytorch_alone(text, "fastrobust.torch._rules")


def test_the_guard_is_full_of_such_names_and_what_is_ours_is_none() -> None:
    assert len(of_pytorch_alone(TENSORS[GUARD], GUARD)) > 5
    assert len(UNDOCUMENTED) > 10
    ours = "from . import _kernels\nimport torch\n_kernels._argument(torch.ones(3))\nLossGrad._fields, f.__name__"
    assert not of_pytorch_alone(ours, "fastrobust.torch._rules")


# --- what must not be in the sources


def forbidden(source: str) -> list[str]:
    """Code made from text, unpickling, and writing to module namespaces."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [
                f"line {node.lineno}: {m}" for m in modules if m in ("pickle", "marshal", "shelve", "dill", "joblib")
            ]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("exec", "eval", "compile", "globals", "locals", "vars", "builtins.exec", "builtins.eval"):
            found.append(f"line {node.lineno}: {name}()")
        elif name == "setattr" and "modules" in ast.unparse(node.args[0]):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif name in ("np.load", "numpy.load"):
            allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            if not (allowed and isinstance(allowed[0], ast.Constant) and allowed[0].value is False):
                found.append(f"line {node.lineno}: {name} that may unpickle")
    return found


@pytest.mark.parametrize("module", {**OURS, **MATHEMATICS})
def test_no_code_from_text_no_pickles_and_no_edited_namespaces(module: str) -> None:
    assert not forbidden({**OURS, **MATHEMATICS}[module][0])


@pytest.mark.parametrize(
    "text",
    [
        "exec('1')",
        "x = eval('1')",
        "compile('1', '', 'exec')",
        "import pickle",
        "from pickle import load",
        "globals()['f'] = 1",
        "vars(module)['f'] = 1",
        "import sys\nsetattr(sys.modules[__name__], 'f', 1)",
        "import numpy as np\nnp.load('file.npy')",
        "import numpy as np\nnp.load('file.npy', allow_pickle=True)",
    ],
)
def test_a_planted_offence_is_seen(text: str) -> None:
    assert forbidden(text)


# --- a fresh process

NOT_AT_IMPORT = {"numba", "llvmlite", "torch", "jax", "jaxlib", "cupy", "scipy", "pandas", "dask"}
REPORT = """
import json, sys, threading
from pathlib import Path
import numpy
def count():
    tasks = Path("/proc/self/task")
    return max(threading.active_count(), len(list(tasks.iterdir())) if tasks.is_dir() else 0)
modules, threads = set(sys.modules), count()
{program}
new = {{m.partition(".")[0] for m in sys.modules.keys() - modules}}
print(json.dumps({{"modules": sorted(new), "threads": count() - threads}}))
"""


def fresh(program: str, root: Path = ROOT, **environment: str) -> dict[str, Any]:
    """What a program adds to a process that has NumPy: top-level modules, and threads."""
    variables = {**os.environ, "PYTHONPATH": str(root), **environment}
    command = [sys.executable, "-c", REPORT.format(program=program)]
    done = subprocess.run(command, env=variables, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def assert_light(report: dict[str, Any]) -> None:
    assert "fastrobust" in report["modules"]
    assert not NOT_AT_IMPORT & set(report["modules"])
    assert report["threads"] == 0


def test_import_brings_no_framework_and_starts_no_thread() -> None:
    assert_light(fresh("import fastrobust"))
    # Nor does looking at what there is: the parts are imported when they are asked for.
    assert_light(fresh("import fastrobust\ndir(fastrobust)\nhasattr(fastrobust, 'nothing')"))


PARTS = {
    "activations": "numpy",
    "losses": "numpy",
    "math": "numpy",
    "transforms": "numpy",
    "optimize": "scipy",
    "stats": "scipy",
    "torch": "torch",
    "jax": "jax",
}
USES = {  # of each of them, and of the library that it needs
    "activations": "activations.elu(1.0, 1.0)",
    "losses": "losses.mse(1.0)",
    "math": "math.exp(1.0)",
    "transforms": "transforms.DCT()([[1.0, 2.0]])",
    "optimize": "optimize.efficiency_scale(0.0)",
    "stats": "stats.barron(1.0)",
    "torch": "torch.AdaptiveLoss()",
    "jax": "jax.AdaptiveLoss()",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_imported_when_it_is_first_asked_for(part: str) -> None:
    pytest.importorskip(PARTS[part])
    program = f"import fastrobust as fr\nassert {part!r} in dir(fr)\nassert fr.{USES[part]} is not None"
    found = {*fresh(program)["modules"], "numpy"}  # which `fresh` brings
    assert PARTS[part] in found
    assert not {"torch", "jax", "cupy", "sklearn"} & found - {PARTS[part]}, "and no other"
    assert PARTS[part] in {*fresh(f"from fastrobust import {part}")["modules"], "numpy"}


@pytest.mark.parametrize("part", [part for part, library in PARTS.items() if library != "numpy"])
def test_a_part_whose_library_is_missing_says_what_to_install(part: str) -> None:
    program = f"""
import sys
sys.modules[{PARTS[part]!r}] = None
import fastrobust as fr
try:
    fr.{part}
except ImportError as error:
    said = str(error)
extra = {{"scipy": "optimize"}}.get({PARTS[part]!r}, {part!r})
assert said.startswith("fastrobust.{part} needs ") and f'pip install ".[{{extra}}]"' in said, said
assert {part!r} not in dir(fr)
assert fr.loss(3.0, 0.0, 1.0) > 1.7"""
    fresh(program)


def test_another_error_of_a_part_is_not_said_to_be_a_missing_library(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", ".*", "tools")
    shutil.copytree(PACKAGE, tmp_path / "fastrobust", ignore=ignored)
    (tmp_path / "fastrobust" / "stats.py").write_text('"""Broken."""\n\nimport nothing_of_that_name\n')
    program = """
import fastrobust
try:
    fastrobust.stats
except ModuleNotFoundError as error:
    assert error.name == 'nothing_of_that_name' and 'needs' not in str(error)
else:
    raise AssertionError"""
    fresh(program, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["import llvmlite", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"],
    ids=["module", "thread"],
)
def test_the_import_check_sees_a_planted_violation(tmp_path: Path, text: str) -> None:
    ignored = shutil.ignore_patterns("__pycache__", ".*", "tools")
    shutil.copytree(PACKAGE, tmp_path / "fastrobust", ignore=ignored)
    with open(tmp_path / "fastrobust" / "_types.py", "a") as file:
        file.write(f"\n{text}\n")
    report = fresh("import fastrobust", tmp_path)
    with pytest.raises(AssertionError):
        assert_light(report)


def test_a_call_with_a_warm_cache_needs_llvmlite_and_not_numba(tmp_path: Path) -> None:
    program = "import fastrobust\nassert 1.18 < fastrobust.log_partition(numpy.float32(1)) < 1.19"
    cold = fresh(program, FASTROBUST_CACHE_DIR=str(tmp_path))
    warm = fresh(program, FASTROBUST_CACHE_DIR=str(tmp_path))
    assert {"numba", "llvmlite"} <= set(cold["modules"])
    assert "llvmlite" in warm["modules"]
    assert not (NOT_AT_IMPORT - {"llvmlite"}) & set(warm["modules"])
    assert warm["threads"] == 0, "a small call starts no threads"


# --- the public surface


def test_all_is_what_init_re_exports_under_its_own_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    aliases = [alias for alias in imported if not (alias.asname or alias.name).startswith("_")]
    assert [alias.asname for alias in aliases] == [alias.name for alias in aliases]
    assert sorted(alias.name for alias in aliases) == sorted(PUBLIC)
    assert list(PUBLIC) == sorted(set(PUBLIC))
    assert all(hasattr(fr, name) for name in PUBLIC)
    assert dir(fr) == sorted(dir(fr)) and set(PUBLIC) < set(dir(fr)) <= {*PUBLIC, *PARTS, "__version__"}
    with pytest.raises(AttributeError, match="module 'fastrobust' has no attribute 'nothing'"):
        fr.nothing  # noqa: B018
    visible = {name for name in vars(fr) if not name.startswith("_")}
    assert visible - set(PUBLIC) <= {
        "activations",
        "kernels",
        "cli",
        "compat",
        "jax",
        "losses",
        "math",
        "optimize",
        "stats",
        "torch",
        "transforms",
    }, "submodules that something imported, and no more"


def test_the_public_names_are_those_of_the_design() -> None:
    assert set(PUBLIC) == {
        *("loss", "influence", "weight", "curvature", "nll", "log_partition"),
        *("loss_and_grad", "nll_and_grad", "log_partition_and_grad", "LossGrad", "PartitionGrad"),
        "define",
    }
    assert fr.LossGrad._fields == ("value", *LOSS.gradients) == ("value", "dx", "dalpha", "dscale")
    assert fr.PartitionGrad._fields == ("value", *LOG_PARTITION.gradients) == ("value", "dalpha")
    assert LOSS.outputs == ("value", "dx", "dalpha", "dscale", "weight", "curvature")
    assert LOSS.sums == ("value", "dalpha", "dscale") and LOG_PARTITION.outputs == ("value", "dalpha", "d2alpha")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_come_in_one_order_under_one_name(name: str) -> None:
    parameters = inspect.signature(getattr(fr, name)).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == (["alpha"] if "partition" in name else ["x", "alpha", "scale"])
    keywords = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    reduces = name in ("loss", "nll", "loss_and_grad", "nll_and_grad")
    expected = {"reduction", "weights"} if reduces else set()
    expected |= {"wrt"} if reduces and name.endswith("_and_grad") else set()
    expected |= {"out"} if name != "log_partition_and_grad" else set()
    expected |= {"truncation"} if name.startswith(("nll", "log_partition")) else set()
    assert keywords == expected


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "log_partition_and_grad"])
def test_out_stands_in_the_signature_and_in_the_docstring(name: str) -> None:
    function = getattr(fr, name)
    assert inspect.signature(function).parameters["out"].default is None
    assert re.search(r"\bout\b", inspect.getdoc(function) or "")


def wrong_weights(function: Callable[..., Any]) -> bool:
    """Whether weights may be given by position: then a call with one argument too many is not seen."""
    found = inspect.signature(function).parameters.get("weights")
    return found is not None and found.kind is not found.KEYWORD_ONLY


def test_weights_have_one_name_and_are_given_by_it() -> None:
    functions = [getattr(fr, name) for name in FUNCTIONS]
    if importlib.util.find_spec("scipy"):
        optimize = importlib.import_module("fastrobust.optimize")
        functions += [getattr(optimize, name) for name in LOOPS if name != "RobustRegressor"]
    if importlib.util.find_spec("torch"):
        frt = importlib.import_module("fastrobust.torch")
        functions += [getattr(frt, name).forward for name in ("RobustLoss", "AdaptiveLoss", "StudentTLoss")]
    assert len(functions) >= len(FUNCTIONS)
    assert not [function.__qualname__ for function in functions if wrong_weights(function)]
    assert wrong_weights(lambda x, weights=None: x) and not wrong_weights(lambda x, *, weights=None: x)


# --- docstrings

SECTIONS = ("Parameters", "Returns", "Raises", "Notes", "Examples")


def sections(docstring: str) -> dict[str, str]:
    """numpydoc sections of a docstring by name."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.cleandoc(docstring), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(name: str) -> set[str]:
    """The sections that a function has itself, or by ``Parameters ... as in `other```."""
    text = inspect.getdoc(getattr(fr, name)) or ""
    referred = re.search(r"^Parameters\b[^.]*? as in\s+`(\w+)`", text, flags=re.M)
    return set(sections(text)) | (documented(referred[1]) if referred else set())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_has_what_numpydoc_asks_for(name: str) -> None:
    text = inspect.getdoc(getattr(fr, name)) or ""
    first, rest = text.split("\n", 1)
    assert first.endswith(".")
    assert not rest.split("\n", 1)[0], "an empty line follows the first"
    assert "Examples" in sections(text)
    assert set(SECTIONS) <= documented(name)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "Parameters" in sections(getattr(fr, n).__doc__ or "")])
def test_the_parameters_section_is_the_signature(name: str) -> None:
    heads = re.findall(r"^(\*?\*?\w[\w, ]*?)(?: :.*)?$", sections(getattr(fr, name).__doc__)["Parameters"], flags=re.M)
    listed = [word.strip("* ") for head in heads for word in head.split(",")]
    assert listed == list(inspect.signature(getattr(fr, name)).parameters)


def test_the_docstring_check_sees_a_missing_section() -> None:
    assert sections("A.\n\nParameters\n----------\nx : y\n\nNotes\n-----\nz\n").keys() == {"Parameters", "Notes"}
    assert not set(SECTIONS) <= set(sections("A.\n\nParameters\n----------\nx : y\n"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run_and_print_what_they_say(name: str) -> None:
    finder, told = doctest.DocTestFinder(recurse=False), []
    runner = doctest.DocTestRunner(verbose=False)
    for test in finder.find(getattr(fr, name), name, globs={}):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).attempted >= 2, "an import and a call at least"
    assert not runner.summarize(verbose=False).failed, "".join(told)


@pytest.mark.parametrize("module", SHIPPED)
def test_every_module_says_what_it_is(module: str) -> None:
    source, is_package = SHIPPED[module]
    assert ast.get_docstring(ast.parse(source)) or (is_package and not source.strip())


def test_no_file_is_too_long_to_be_of_one_subject() -> None:
    """Tests may be longer."""
    lines = {name: source.count("\n") for name, (source, _) in EVERYTHING.items() if not name.startswith("tests")}
    assert {name: count for name, count in lines.items() if count > 500} == {}


# --- packaging


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_package_says_that_it_is_typed(project: dict[str, Any]) -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["fastrobust"]


def test_the_version_stands_in_one_place(project: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", fr.__version__)
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fastrobust.__version__"}
    texts = {module: source for module, (source, _) in {**OURS, **MATHEMATICS}.items()}
    texts |= {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CITATION.cff", "README.md")
    }
    pattern = re.compile(rf"(?<![\d.]){re.escape(fr.__version__)}(?![\d.])")
    assert [name for name, text in texts.items() if pattern.search(text)] == ["fastrobust"]


def test_every_package_is_listed_since_an_unlisted_one_is_missing_from_the_wheel(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(name for name, (_, is_package) in {**OURS, **MATHEMATICS}.items() if is_package)
    assert project["tool"]["setuptools"]["package-dir"] == {"fastrobust.kernels": "kernels"}


def test_every_data_file_is_listed(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]
    rooms = {"fastrobust": PACKAGE, "fastrobust.cli": PACKAGE / "cli", "fastrobust.kernels.losses": KERNELS / "losses"}
    shipped = {file for package, room in rooms.items() for pattern in patterns[package] for file in room.glob(pattern)}
    data = {f for room in (PACKAGE, KERNELS) for kind in ("npy", "csv", "typed") for f in room.rglob(f"*.{kind}")}
    data |= {f for f in PACKAGE.rglob("data/*") if f.is_file()}
    assert {f.resolve() for f in data} == {f.resolve() for f in shipped}
    assert len(shipped) >= 4


def test_kernels_is_a_committed_relative_link() -> None:
    link = PACKAGE / "kernels"
    assert link.is_symlink()
    assert os.readlink(link) == "../kernels"
    assert (link / "README.md").samefile(KERNELS / "README.md")
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("whether it is committed can only be seen in a clone with git")
    command = [git, "-c", f"safe.directory={ROOT}", "ls-files", "--stage", "fastrobust/kernels"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert listed.startswith("120000 ")


# --- the README's two commands

AWK = "awk '/<!-- {0}-command -->/ {{getline; getline; print; exit}}' README.md"


def command_of_readme(kind: str) -> str:
    shell = shutil.which("sh")
    if shell is None or shutil.which("awk") is None:
        pytest.skip("the command is extracted by sh and awk")
    done = subprocess.run(
        [shell, "-c", AWK.format(kind)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["test", "demo"])
def test_ci_runs_the_commands_of_readme(name: str) -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    found = subprocess.run(
        ["bash", "-c", re.search(r"^command_of\(\).*$", ci, re.M)[0] + f"\ncommand_of {name}-command"],  # type: ignore[index]
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == command_of_readme(name)
    assert f"$(command_of {name}-command)" in ci and ci.count("eval ") == 2
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_test_command_takes_all_cores() -> None:
    assert command_of_readme("test") == 'pip install -e ".[test]" && pytest -n auto'


def test_the_demo_command_installs_and_runs_what_exists(project: dict[str, Any]) -> None:
    installs, runs = command_of_readme("demo").split(" && ")
    extras = re.fullmatch(r'pip install "\.\[([\w,]+)\]"', installs)
    assert extras
    assert set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])
    assert runs == "fastrobust demo"
    assert project["project"]["scripts"]["fastrobust"] == "fastrobust.cli:main"


@pytest.mark.parametrize("kind", ["demo", "test"])
def test_a_command_of_the_readme_is_one_line_in_a_block_of_its_own(kind: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"<!-- {kind}-command -->\n```sh\n[^\n]+\n```\n", text)) == 1
    assert text.count(f"<!-- {kind}-command -->") == 1
