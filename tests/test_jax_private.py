"""What JAX does not promise to keep: one test for each such thing, and that one module alone takes it.

If JAX has moved, the failure says what: look at `fastrobust/jax/_private.py`, then at JAX's range in pyproject.toml.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

import fastrobust.jax as frj  # noqa: E402
from fastrobust.jax import _calls, _private  # noqa: E402

ADAPTERS = Path(frj.__file__).resolve().parent
GUARDED = ADAPTERS / "_private.py"


@pytest.fixture(scope="module")
def mesh() -> Any:
    if len(jax.devices()) < 2:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=4, before JAX is imported")
    return jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))


# --- each interface, and what is done where it is gone


def test_custom_partitioning_asks_and_cuts(mesh: Any) -> None:
    """It calls with arrays' shapes and shardings, or with their MLIR types; each device computes its part."""
    asked: dict[str, Any] = {}

    def infer(mesh: Any, operands: Any, results: Any) -> Any:
        asked["infer"] = operands[0].shape
        return NamedSharding(mesh, PartitionSpec("i"))

    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        cut = NamedSharding(mesh, PartitionSpec("i"))
        asked["partition"] = operands[0].shape, _private.cuts_of(operands[0])
        return mesh, lambda x: x * jnp.float32(x.shape[0]), cut, (cut,)

    def rule(mesh: Any, operands: Any, results: Any) -> str:
        asked["rule"] = _private.lengths(operands[0]), _private.lengths(results[0])
        return "i -> i"

    call = _private.partitioned(lambda x: x * jnp.float32(x.shape[0]), infer, partition, rule)
    x = jax.device_put(jnp.ones(8, jnp.float32), NamedSharding(mesh, PartitionSpec("i")))
    found = jax.jit(call)(x)
    assert np.array_equal(found, np.full(8, 4.0)), "jax.experimental.custom_partitioning gives no device its part"
    assert asked.get("partition") == ((8,), ("i",)), "its partition is asked with other operands"
    assert asked.get("rule", ([8], [8])) == ([8], [8]), "its sharding_rule is asked with other types"
    assert "rule" in asked or asked.get("infer") == (8,), "it asks neither for sharding_rule nor for infer_sharding"


def test_what_is_not_cut_or_has_no_shape() -> None:
    assert _private.lengths(object()) == [] and _private.lengths(SimpleNamespace(shape=(2, 3))) == [2, 3]
    assert _private.cuts_of(SimpleNamespace(sharding=object())) == ()
    assert _private.cuts_of(SimpleNamespace(sharding=SimpleNamespace(spec=("i", None)))) == ("i", None)


def test_a_tangent_that_is_zero_is_seen() -> None:
    seen = []

    @jax.custom_jvp
    def product(x: Any, y: Any) -> Any:
        return x * y

    def rule(args: Any, tangents: Any) -> Any:
        seen.append([_private.is_zero(t) for t in tangents])
        return args[0] * args[1], args[1] * tangents[0]

    product.defjvp(rule, symbolic_zeros=True)
    jax.grad(product)(2.0, 3.0)
    assert seen == [[False, True]], "zeros in rules with symbolic_zeros=True are no jax.custom_derivatives.SymbolicZero"


def test_a_dtype_without_numbers_is_seen() -> None:
    assert _private.has_no_numbers(jax.random.key(0).dtype), "keys' dtypes are not below jax.dtypes.extended"
    assert not any(_private.has_no_numbers(jnp.dtype(d)) for d in ("float32", "bfloat16", "int8", "bool"))


def test_a_sharding_by_explicit_axes_is_seen(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(jax.sharding, "AxisType"):
        pytest.skip("this JAX has no explicit axes")
    explicit = jax.sharding.Mesh(mesh.devices, ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
    x = jax.device_put(jnp.zeros(8, jnp.int32), NamedSharding(explicit, PartitionSpec("i")))
    found = _private.explicit_sharding(x)
    assert found is not None and found.spec == PartitionSpec("i"), "jax.typeof(array).sharding has moved"
    assert _private.explicit_sharding(jnp.zeros(8)) is None
    monkeypatch.setattr(jax, "typeof", lambda array: SimpleNamespace())
    assert _private.explicit_sharding(x) is None


def shard_map(function: Any, mesh: Any, count: int) -> Any:
    """Each device on its part of as many arguments, of which the last is whole."""
    cut, whole = PartitionSpec("i"), PartitionSpec()
    specs = (*[cut] * (count - 1), whole)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=cut))


def test_what_shard_map_has_cut_is_seen(mesh: Any) -> None:
    seen = []

    def note(x: Any, whole: Any) -> Any:
        seen.append((_private.varying(x), _private.varying(whole)))
        return x

    shard_map(note, mesh, 2)(jnp.zeros(4), jnp.zeros(4))
    assert seen[0] == (frozenset("i"), frozenset()), "neither manual_axis_type nor vma of jax.typeof says what is cut"
    assert _private.varying(jnp.zeros(4)) == frozenset()


@pytest.mark.parametrize(
    ("aval", "axes"),
    [
        (SimpleNamespace(manual_axis_type=SimpleNamespace(varying={"i"}), vma={"j"}), {"i"}),
        (SimpleNamespace(vma=frozenset("j")), {"j"}),
        (SimpleNamespace(manual_axis_type=None, vma=frozenset("j")), {"j"}),
        (SimpleNamespace(), set()),
    ],
)
def test_old_and_new_names_of_what_is_cut(aval: Any, axes: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "typeof", lambda operand: aval)
    assert _private.varying(jnp.zeros(4)) == axes


def test_what_is_whole_is_cut_along(mesh: Any) -> None:
    seen = []

    def both(x: Any, whole: Any) -> Any:
        cut = _private.cut(whole, frozenset("i"))
        seen.append(_private.varying(cut))
        return x + cut

    found = shard_map(both, mesh, 2)(jnp.zeros(4), jnp.arange(2.0))
    assert seen[0] == frozenset("i"), "neither jax.lax.pcast nor jax.lax.pvary cuts"
    np.testing.assert_array_equal(found, [0, 1, 0, 1])


def test_old_and_new_names_of_cutting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "pcast", lambda x, axes, *, to: ("pcast", x, axes, to), raising=False)
    monkeypatch.setattr(jax.lax, "pvary", lambda x, axes: ("pvary", x, axes), raising=False)
    assert _private.cut(1, ["i"]) == ("pcast", 1, ("i",), "varying")
    monkeypatch.delattr(jax.lax, "pcast")
    assert _private.cut(1, ["i"]) == ("pvary", 1, ("i",))
    assert _private.cut(1, []) == 1


def test_buffer_callback_takes_what_it_took() -> None:
    found = _private.buffer_callback()
    if found is None:
        pytest.skip("this JAX has no jax.experimental.buffer_callback")
    taken = list(inspect.signature(found).parameters)
    assert taken[:2] == ["callback", "result_shape_dtypes"] and "command_buffer_compatible" in taken, (
        "the arguments of jax.experimental.buffer_callback.buffer_callback have moved"
    )
    context = sys.modules["jax.experimental.buffer_callback"].ExecutionContext
    assert hasattr(context, "stream"), "ExecutionContext.stream has moved"


def test_without_buffer_callback_gpus_run_the_operations_of_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax.experimental.buffer_callback", None)
    monkeypatch.setattr(_calls.importlib.util, "find_spec", lambda name: name)
    assert _private.buffer_callback() is None and not _calls._has_cuda_kernels.__wrapped__()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("jax.custom_derivatives", "SymbolicZero"),
        ("jax.experimental.custom_partitioning", "custom_partitioning"),
    ],
)
def test_a_version_without_it_is_refused_with_its_name(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = ModuleType(module)
    emptied.__dict__.update({k: v for k, v in vars(sys.modules[module]).items() if k not in (name, "__getattr__")})
    monkeypatch.setitem(sys.modules, module, emptied)
    spec = importlib.util.spec_from_file_location("fastrobust.jax._planted", GUARDED)
    assert spec is not None and spec.loader is not None
    version = re.escape(jax.__version__)
    with pytest.raises(ImportError, match=rf"^JAX {version} has moved .*{name}.*another version"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# --- nothing else touches it

# What JAX documents and the other modules use; a name that is wanted besides is looked up in its documentation first.
DOCUMENTED = {
    *("jax.Array", "jax.custom_jvp", "jax.default_device", "jax.ensure_compile_time_eval", "jax.jit", "jax.jvp"),
    *("jax.local_devices", "jax.named_scope", "jax.typeof", "jax.vmap", "jax.shard_map"),
    *("jax.custom_batching", "jax.custom_batching.custom_vmap", "jax.errors", "jax.errors.JaxRuntimeError"),
    *("jax.ffi", "jax.ffi.ffi_call", "jax.ffi.register_ffi_target", "jax.lax", "jax.nn", "jax.nn.sigmoid"),
    *(
        "jax.lax.bitcast_convert_type",
        "jax.lax.optimization_barrier",
        "jax.lax.platform_dependent",
        "jax.lax.pmax",
        "jax.lax.psum",
        "jax.lax.scan",
        "jax.lax.stop_gradient",
    ),
    *("jax.nn.softplus", "jax.numpy", "jax.sharding", "jax.sharding.NamedSharding", "jax.sharding.PartitionSpec"),
    *("jax.errors.TracerArrayConversionError", "jax.lax.fori_loop", "jax.lax.while_loop", "jax.random"),
    *("jax.random.fold_in", "jax.random.uniform", "jax.tree_util", "jax.tree_util.GetAttrKey"),
    *("jax.tree_util.register_pytree_with_keys_class", "jax.eval_shape", "jax.vjp"),
    *("jax.scipy.special", "jax.scipy.special.logsumexp"),
}
INTERIOR = {
    *("_src", "buffer_callback", "custom_partitioning", "def_partition", "extended", "interpreters"),
    *("manual_axis_type", "pcast", "pvary", "SymbolicZero", "vma"),
}


def interior(source: str) -> list[str]:
    """What a source takes of JAX that is not documented, or of the guarded module that is not offered."""
    return [f"line {line}: {what}" for line, what in _interior(ast.parse(source))]


def _interior(tree: ast.AST) -> Iterator[tuple[int, str]]:
    names = {"jax": "jax"}  # by which modules of JAX go
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in ("jax", "jaxlib"):
                    names[alias.asname or "jax"] = alias.name if alias.asname else "jax"
                    if alias.name != "jax" and alias.name not in DOCUMENTED:
                        yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if node.level == 0 and full.partition(".")[0] in ("jax", "jaxlib"):
                    names[alias.asname or alias.name] = full
                    if full not in DOCUMENTED:
                        yield node.lineno, full
                elif node.level and (node.module or "").endswith("_private") and alias.name not in _private.__all__:
                    yield node.lineno, full
        elif isinstance(node, ast.Constant):
            text = str(node.value)
            if text in INTERIOR or re.fullmatch(r"jax(lib)?(\.\w+)+", text):
                yield node.lineno, text
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        first, _, rest = ast.unparse(node).partition(".")
        if first == "_private" and rest in _private.__all__:
            continue
        dotted = f"{names.get(first, '')}.{rest}"
        if first == "_private" or node.attr in INTERIOR or (dotted.startswith("jax.") and not _documented(dotted)):
            yield node.lineno, ast.unparse(node)


def _documented(dotted: str) -> bool:
    """Also for all in `jax.numpy`, and for attributes of classes."""
    return dotted in DOCUMENTED or dotted.startswith(("jax.numpy.", *(f"{name}." for name in _CLASSES)))


_CLASSES = {name for name in DOCUMENTED if inspect.isclass(functools.reduce(getattr, name.split(".")[1:], jax))}


def test_one_module_touches_the_interior() -> None:
    sources = {file.name: file.read_text(encoding="utf-8") for file in ADAPTERS.glob("*.py")}
    assert len(sources) > 4
    assert len(interior(sources.pop("_private.py"))) > 5
    taken = {name: interior(source) for name, source in sources.items()}
    assert not {name: what for name, what in taken.items() if what}


@pytest.mark.parametrize(
    "text",
    [
        "from jax._src import core",
        "import jax._src.core as core",
        "import jax\njax._src.core.ShapedArray",
        "from jax.interpreters import mlir",
        "import jax\njax.interpreters.ad",
        "import jax.experimental.shard_map",
        "from jax.experimental import sparse",
        "from jax.experimental.custom_partitioning import custom_partitioning",
        "def f():\n    from jax.custom_derivatives import SymbolicZero",
        "import jaxlib.mlir.ir",
        "from jax import lax\nlax.pcast(x, 'i', to='varying')",
        "import jax\njax.lax.pvary(x, 'i')",
        "import jax\njax.dtypes.extended",
        "import jax\njax.core.Tracer",
        "import jax as j\nj.extend.core",
        "getattr(jax.typeof(x), 'vma', None)",
        "jax.typeof(x).manual_axis_type",
        "imported('jax.experimental.buffer_callback')",
        "call.def_partition(partition=p)",
        "from ._private import SymbolicZero",
        "from . import _private\n_private.custom_partitioning(f)",
    ],
)
def test_a_planted_use_is_seen(text: str) -> None:
    assert interior(text)


def test_what_is_documented_is_free() -> None:
    assert not interior(
        "import jax\nimport jax.numpy as jnp\nfrom jax.sharding import NamedSharding\nfrom . import _private\n"
        "jax.jit(f), jnp.linalg.norm(x), jax.lax.psum(x, 'i'), _private.cut(x, 'i'), x.at[0].get()\n"
        "text = 'by jax.export, of which help says more'\n"
    )
