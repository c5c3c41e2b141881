"""Numba's interior: one test for each thing that fastrobust takes from it, and that one module alone takes it.

If Numba has moved, the failure says what: look at `kernels/arithmetic/numba_private.py`, then at the range of Numba in
pyproject.toml.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding as llvm
import numba
import pytest
from llvmlite import ir
from numba import intp, types
from numba.extending import intrinsic

import fastrobust
from fastrobust.kernels.arithmetic import numba_private as private
from fastrobust.kernels.arithmetic import primitives
from fastrobust.kernels.compilers import native
from fastrobust.kernels.compilers.lowering import lower
from fastrobust.kernels.loops import compiled, cpu

KERNELS = Path(fastrobust.__file__).parent / "kernels"
GUARDED = KERNELS / "arithmetic" / "numba_private.py"
WORDS = types.CPointer(intp)


@primitives.inlined
def twice(x: Any) -> Any:
    return x + x


def seven_times(words: Any) -> Any:
    words[1] = twice(words[0]) + twice(words[0])
    return words[1] + twice(words[0]) + words[0]


@pytest.fixture(scope="module")
def found() -> private.Lowered:
    return lower(seven_times, intp(WORDS))  # which tells Numba of `twice`


# --- each interface


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("numba.core.compiler", "compile_extra Flags"),
        ("numba.core.codegen", "CPUCodeLibrary"),
        ("numba.core.compiler_lock", "global_compiler_lock"),
        ("numba.core.registry", "cpu_target"),
        ("numba.core.runtime", "rtsys"),
        ("numba.core.typing.templates", "AbstractTemplate infer_global"),
    ],
)
def test_a_name_is_where_it_was(module: str, names: str) -> None:
    for name in names.split():
        assert hasattr(importlib.import_module(module), name), f"{module}.{name} has moved"


def test_compile_extra_takes_what_it_took() -> None:
    taken = list(inspect.signature(private.compiler.compile_extra).parameters)[:8]
    assert taken == ["typingctx", "targetctx", "func", "args", "return_type", "flags", "locals", "library"], (
        "the arguments of numba.core.compiler.compile_extra have moved"
    )


@pytest.mark.parametrize("name", ["no_compile", "no_cpython_wrapper", "no_cfunc_wrapper", "error_model", "nrt"])
def test_a_flag_is_one(name: str) -> None:
    assert name in private.compiler.Flags.options, f"numba.core.compiler.Flags.{name} has moved"


def test_the_context_is_one_of_our_own_and_prints_nothing() -> None:
    own, theirs = private._context(), private.cpu_target.target_context
    assert own is not theirs and type(own) is type(theirs), "cpu_target.target_context.subtarget copies no more"
    assert own.debug_print(None, "text") is None, "subtarget(debug_print=) sets it no more"
    assert hasattr(private.cpu_target, "typing_context"), "cpu_target.typing_context has moved"


def test_a_library_is_given_what_numba_writes(found: private.Lowered) -> None:
    """As it is written: a loop's counter in memory, and nothing inlined."""
    assert f'@"{found.name}"' in found.modules[0], "Numba hands no text to CPUCodeLibrary.add_ir_module"
    assert re.search(rf'^define .*@"{re.escape(found.name)}"\(.*alwaysinline', found.modules[0], re.M), (
        "functions of llvmlite.ir.Module.functions take no attributes"
    )
    assert "alloca" in found.modules[0], "Numba optimizes before CPUCodeLibrary.add_ir_module"


def test_what_numba_links_is_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(private._Library, "add_linking_library", lambda self, library: given.append(library))
    private.lowered(seven_times, intp(WORDS))
    assert all(library is private.rtsys.library for library in given), (
        f"Numba links {given}, and not numba.core.runtime.rtsys.library alone, or has moved that"
    )


def test_a_helper_is_typed_by_lowering_it() -> None:
    """By `infer_global` and `AbstractTemplate.generic`: for literals, too."""
    kernel = private._lower(lambda x: twice(x) + twice(2), (types.float32,), None)
    assert kernel.signature.return_type == types.float64, "helpers are not typed by AbstractTemplate.generic"


def test_a_call_is_made_and_noted(found: private.Lowered) -> None:
    """By `call_internal`, and in `active_code_library`: the callee's text comes with the caller's, once."""
    assert len(found.modules) == 2, "context.active_code_library is not the library that is being filled"
    (callee,) = re.findall(r'^define .*@"([^"]*twice[^"]*)"', found.modules[1], re.M)
    assert f'call i32 @"{callee}"' in found.modules[0], "context.call_internal calls no function of that name"


def test_the_compiler_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    original, held = private._lower, []

    def watched(*args: Any) -> Any:
        held.append(private.global_compiler_lock.is_locked())
        return original(*args)

    monkeypatch.setattr(private, "_lower", watched)
    private.lowered(lambda words: None, types.void(WORDS))
    assert held == [True], "global_compiler_lock locks nothing"


def test_a_signature_has_its_types() -> None:
    signature = intp(WORDS)
    assert (signature.args, signature.return_type) == ((WORDS,), intp), "a type called is no signature any more"


# --- the calling convention

ENTRY = """
declare i32 @"INNER"(ptr, ptr, ptr)
define i64 @"NAME"(ptr %words) {
  %result = alloca i64
  %error = alloca ptr
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %words)
  %found = load i64, ptr %result
  %wide = sext i32 %status to i64
  %place = getelementptr i64, ptr %words, i64 2
  store i64 %wide, ptr %place
  ret i64 %found
}
"""
_names = (f"private_test_{i}" for i in itertools.count())


def run(function: Any, *words: int) -> tuple[int, list[int]]:
    """What a function returns of words that it may change; the status that Numba gives goes into the third."""
    name, memory = next(_names), (ctypes.c_int64 * len(words))(*words)
    code = native.compiled(name, lower(function, intp(WORDS)), ENTRY)
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
    library = builder.link(native._linker(), name)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library[name])
    return call(ctypes.addressof(memory)), list(memory)


def test_numba_calls_as_it_did(found: private.Lowered) -> None:
    assert found.kind == [("i32", ""), ("ptr", "retptr"), ("ptr", "excinfo"), ("ptr", "arg.words")], (
        "Numba's calling convention for CPUs has moved: numba.core.callconv.CPUCallConv"
    )
    assert run(seven_times, 6, 0, -1) == (42, [6, 24, 0]), "the result is not where it was, or the status not 0"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ([("i32", ""), ("ptr", "excinfo"), ("ptr", "retptr"), ("ptr", "arg.words")], "i32 (ptr excinfo, ptr retptr, "),
        ([("i64", ""), ("ptr", "retptr"), ("ptr", "arg.words")], "i64 (ptr retptr, ptr arg.words)"),
        ([("void", "")], "void ()"),
    ],
)
def test_another_convention_is_refused_in_a_line(kind: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(RuntimeError, match=r"^Numba [\d.]+\S*'s calling convention has moved: i32 ") as error:
        private.Lowered([], "f", kind).called_by(ENTRY)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(ptr, ptr, ptr)", "(ptr, ptr)"),
        ("(ptr, ptr, ptr)", "(ptr, ptr, i64)"),
        ("declare i32", "declare void"),
        ("call i32", "call i64"),
        ("ptr %error, ptr %words", "ptr %words"),
        ("ptr %words)\n  %found", "ptr %words, i64 1)\n  %found"),
    ],
)
def test_a_text_that_calls_otherwise_is_refused(found: private.Lowered, old: str, new: str) -> None:
    assert found.called_by(ENTRY).count(found.name) == 2
    assert old in ENTRY
    with pytest.raises(RuntimeError, match=r"the text calls .* and its types are"):
        found.called_by(ENTRY.replace(old, new))


def test_a_text_that_calls_nothing_is_refused(found: private.Lowered) -> None:
    with pytest.raises(RuntimeError, match="does not declare and call INNER"):
        found.called_by(ENTRY.replace("call i32", "tail call fastcc i32"))


@pytest.mark.parametrize("entry", [compiled.LOOP, compiled._HANDLER], ids=["loop", "handler"])
def test_all_calls_of_an_entry_are_checked(entry: str) -> None:
    count = entry.count('@"INNER"') - 2
    kind = [("i32", ""), *[("ptr", "retptr"), ("ptr", "excinfo")], *[("ptr", "")] * (3 if count == 0 else 2)]
    with_own = private.Lowered([], "f", kind).called_by(entry)
    assert with_own.count('@"f"') == count + 2 and "INNER" not in with_own


# --- what llvmlite does itself


def test_memory_is_taken_and_cleared_where_the_function_begins() -> None:
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "f")
    first, second = function.append_basic_block("first"), function.append_basic_block("second")
    ir.IRBuilder(first).branch(second)
    builder = ir.IRBuilder(second)
    memory = private.alloca_once(builder, ir.IntType(32))
    builder.ret_void()
    assert [i.opname for i in first.instructions] == ["alloca", "store", "br"], "goto_entry_block has moved"
    assert memory.type == ir.IntType(32).as_pointer() and [i.opname for i in second.instructions] == ["ret void"]
    llvm.parse_assembly(str(module)).verify()


def test_a_function_is_declared_once() -> None:
    module, kind = ir.Module(), ir.FunctionType(ir.IntType(32), [])
    one = private.get_or_insert_function(module, kind, "f")
    assert private.get_or_insert_function(module, kind, "f") is one and module.globals == {"f": one}


def test_text_that_is_not_ascii_reaches_llvm() -> None:
    def größe(words: Any) -> None:
        words[0] = 1

    private.lowered(größe, types.void(WORDS))
    assert "define" in str(native.optimized("k", lower(größe, cpu.SIGNATURE.return_type(WORDS)), VOID_ENTRY))


VOID_ENTRY = """
declare i32 @"INNER"(ptr, ptr, ptr)
define void @"NAME"(ptr %words) {
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %words)
  ret void
}
"""


def test_the_low_level_interface_of_extensions() -> None:
    """Its contexts' functions that primitives and loops use; Numba documents them by examples only."""
    used = []

    @intrinsic
    def probe(typing: Any, x: Any) -> Any:
        used.append(typing.unify_types(types.int64, types.int32) == types.int64)

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            used.append(isinstance(context.get_value_type(sig.args[0]), ir.IntType))
            used.append(context.cast(builder, args[0], types.int64, types.float64).type == ir.DoubleType())
            pair = context.make_tuple(builder, types.UniTuple(types.int64, 2), [args[0], args[0]])
            used.append(builder.extract_value(pair, 1).type == ir.IntType(64))
            return context.get_dummy_value()

        return types.void(x), lower

    private.lowered(lambda words: probe(words[0]), types.void(WORDS))
    assert len(used) >= 4 and all(used), "unify_types, get_value_type, cast, make_tuple or get_dummy_value has moved"


@pytest.mark.parametrize("name", ["cpu_target", "infer_global", "CPUCodeLibrary"])
def test_a_version_without_it_is_refused_with_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = getattr(private, name).__module__ if name != "cpu_target" else "numba.core.registry"
    emptied = ModuleType(home)
    emptied.__dict__.update({k: v for k, v in vars(sys.modules[home]).items() if k != name})
    monkeypatch.setitem(sys.modules, home, emptied)
    spec = importlib.util.spec_from_file_location("planted", GUARDED)
    assert spec is not None and spec.loader is not None
    with pytest.raises(
        ImportError, match=rf"^Numba {re.escape(numba.__version__)} has moved .*{name}.*another version"
    ):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# --- nothing else touches it

PUBLIC = {  # packages, and what may be imported from them
    "numba": {"extending", "intp", "int64", "types"},
    "numba.extending": {"intrinsic", "lower_builtin", "type_callable"},
    "numba.types": None,
    "llvmlite": {"binding", "ir"},
    "llvmlite.binding": None,
    "llvmlite.ir": None,
}
INTERIOR = {
    *("active_code_library", "alwaysinline", "call_conv", "call_internal", "codegen", "compile_extra", "cpu_target"),
    *("fndesc", "get_function_type", "llvm_func_name", "subtarget", "target_context", "typing_context"),
}


def interior(source: str) -> list[str]:
    """What a source takes of Numba and llvmlite that is not public, or of the guarded module that is not offered."""
    return [f"line {line}: {what}" for line, what in _interior(ast.parse(source))]


def _interior(tree: ast.AST) -> Iterator[tuple[int, str]]:
    offered = {"numba_private": "numba_private"}  # the names that the guarded module goes by
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _foreign(alias.name) and alias.name not in PUBLIC:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                if node.level == 0 and _foreign(module):
                    allowed = PUBLIC.get(module, set())
                    if alias.name.startswith("_") or (allowed is not None and alias.name not in allowed):
                        yield node.lineno, f"{module}.{alias.name}"
                elif module.endswith("numba_private") and alias.name not in private.__all__:
                    yield node.lineno, f"{module}.{alias.name}"
                elif alias.name == "numba_private" and alias.asname:
                    offered[alias.asname] = alias.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in INTERIOR or (re.fullmatch(r"[\w.]+", node.value) and _hidden(node.value)):
                yield node.lineno, node.value
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if node.attr in INTERIOR or _hidden(dotted):
                yield node.lineno, dotted
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id in offered and node.attr not in private.__all__:
            yield node.lineno, ast.unparse(node)


def _foreign(module: str) -> bool:
    return module.partition(".")[0] in ("numba", "llvmlite")


def _hidden(dotted: str) -> bool:
    return re.match(r"numba\.core\b|numba\.\w+\._|llvmlite\.(?!ir\b|binding\b)", dotted) is not None


def kernels() -> dict[str, str]:
    root = KERNELS.resolve()
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*.py")}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items()}


def test_one_module_touches_the_interior() -> None:
    sources = kernels()
    assert len(sources) > 15
    assert len(interior(sources.pop("arithmetic/numba_private.py"))) > 10
    taken = {name: interior(source) for name, source in sources.items()}
    assert not {name: what for name, what in taken.items() if what}


@pytest.mark.parametrize(
    "text",
    [
        "from numba.core import cgutils",
        "from numba.core.compiler import compile_extra",
        "import numba.core.registry as registry",
        "import numba\nnumba.core.compiler.Flags()",
        "from numba import njit",
        "from numba import core",
        "from numba.extending import _private",
        "from llvmlite.binding import _ffi",
        "from llvmlite import opaque",
        "import llvmlite.binding.ffi",
        "def f():\n    from numba.core.compiler_lock import global_compiler_lock",
        "import importlib\nimportlib.import_module('numba.core.sigutils')",
        "def lower(context, builder, sig, args):\n    context.call_internal(builder, f, sig, args)",
        "context.active_code_library.callees[x] = None",
        "getattr(context, 'call_conv')",
        "function.attributes.add('alwaysinline')",
        "found.fndesc.llvm_func_name",
        "from ..arithmetic.numba_private import compiler",
        "from .numba_private import _lower",
        "from ..arithmetic import numba_private\nnumba_private.rtsys.library",
        "from ..arithmetic import numba_private as n\nn._context()",
    ],
)
def test_a_planted_use_is_seen(text: str) -> None:
    assert interior(text)


def test_what_is_public_is_free() -> None:
    assert not interior(
        "import numba.extending\nimport llvmlite.binding as llvm\nfrom llvmlite import ir\n"
        "from numba import intp, types\n"
        "from numba.extending import intrinsic, lower_builtin, type_callable\n"
        "from .numba_private import register_inlined\n"
        "from ..arithmetic import numba_private as n\nn.alloca_once(builder, ir.IntType(8))\n"
        "text = 'numba and llvmlite'\n"
    )
