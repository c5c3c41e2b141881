"""What the machine and Numba's settings may change: the speed on this processor, never PTX, bits or the cache.

Each case runs in a process of its own with a cold cache, since the settings are read once.
"""

from __future__ import annotations

import builtins
import os
import platform
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest
from marks import slow

import fastrobust as fr
from fastrobust.kernels.compilers import lowering, native
from fastrobust.kernels.loops import cuda, xla_frame
from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL

TREE = Path(fr.__file__).parent.parent
HOSTS = ("generic", "znver3", "skylake-avx512") if native.host_is_x86() else ("generic", "cortex-a72", "neoverse-n1")
GRADIENTS = ("value", "dx", "dalpha", "dscale")
# One that needed local memory if Numba had compiled for AVX2; one that differed by the order of a set of addresses.
TEXTS = [
    ("elementwise", "loss", GRADIENTS, "float32", "each"),
    ("elementwise", "log_partition", ("value", "dalpha"), "float32", "shared"),
]


def start(script: str, cache: Path, **settings: str) -> subprocess.Popen[str]:
    """A process over this package and that cache, without any setting of Numba's but those."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment |= {"PYTHONPATH": str(TREE), "FASTROBUST_CACHE_DIR": str(cache), **settings}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    return subprocess.Popen(
        command, env=environment, cwd=cache.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out


def on_every_host(script: str, folder: Path) -> list[str]:
    """What it prints where Numba compiles for one processor or another, and where strings have other hashes."""
    running = [
        start(script, folder / host, NUMBA_CPU_NAME=host, NUMBA_CPU_FEATURES="", PYTHONHASHSEED=str(seed))
        for seed, host in enumerate(HOSTS)
    ]
    return [ended(process) for process in running]


PTX = """
        from fastrobust.kernels.loops import compiled
        from fastrobust.kernels.losses.catalogue import named

        def ptx(kind, which, *what):
            return compiled.ptx(kind, named(which) if what else which, *what)
"""


def test_ptx_is_the_same_whatever_processor_compiles_it(tmp_path: Path) -> None:
    """And whatever was compiled before it: the order differs, too."""
    script = f"""
        {PTX}
        import os
        backwards = int(os.environ["PYTHONHASHSEED"]) % 2
        found = {{what: ptx(*what) for what in {TEXTS}[:: -1 if backwards else 1]}}
        print([found[what] for what in {TEXTS}])
    """
    first, *others = on_every_host(script, tmp_path)
    assert first.count(".entry kernel") == len(TEXTS)
    assert all(other == first for other in others)


def test_what_numba_would_compile_for_this_processor_is_refused() -> None:
    """Numba's `min` for one: its code would be this processor's own."""

    def kernel(words: Any) -> None:
        words[0] = builtins.min(words[0], words[1])

    with pytest.raises(Exception, match=r"kernel calls .*min.* compiles for this processor; write"):
        lowering.lower(kernel, cuda.SIGNATURE)


@pytest.mark.slow
def test_all_that_is_portable_is_the_same_whatever_processor_compiles_it(tmp_path: Path) -> None:
    """PTX of every kind, layout and dtype, if not of all together, and the program that JAX exports.

    To export it JAX runs the handler, which a processor without AVX-512 cannot where it is compiled for that.
    """
    storages = ("bfloat16", "float32", "float64")
    layouts = ("shared", "columns", "rows", "each", "strided")
    texts: list[Any] = [("elementwise", "nll", GRADIENTS, "float32", layout) for layout in layouts]
    texts += [("elementwise", "nll", GRADIENTS, s, layout) for s in storages[::2] for layout in layouts[::3]]
    texts += [("reduction", "nll", GRADIENTS, s, layout) for s in storages[1:] for layout in layouts[:2]]
    texts += [("elementwise", "log_partition", ("value", "dalpha", "d2alpha"), s, "shared") for s in storages[1:]]
    texts += [("elementwise", "loss", (o,), "float32", "shared") for o in ("value", "curvature")]
    texts += [("fold", "float32"), ("total", "float32"), ("total", "float64")]
    script = f"""
        {PTX}
        import hashlib
        for what in {texts}:
            print(what, hashlib.sha256(ptx(*what).encode()).hexdigest())
        import os
        import llvmlite.binding as llvm
        if "avx512" in os.environ["NUMBA_CPU_NAME"] and not llvm.get_host_cpu_features().get("avx512f"):
            raise SystemExit
        try:
            import jax.export, jax.numpy as jnp, fastrobust.jax as frj
        except ImportError:
            raise SystemExit
        checks = [jax.export.DisabledSafetyCheck.custom_call("fastrobust")]
        function = jax.jit(lambda x: (frj.nll(x, 0.5, 1.5), frj.loss(x, 0.5, 1.5, reduction="mean")))
        print(jax.export.export(function, disabled_checks=checks)(jnp.ones(8, jnp.float32)).mlir_module())
    """
    first, *others = on_every_host(script, tmp_path)
    assert all(len(one.splitlines()) >= len(texts) for one in (first, *others))
    assert all(first.startswith(other) for other in others)


def test_exported_programs_name_kernels_by_numbers_that_stay() -> None:
    """JAX keeps them in files: where a number changes its meaning, the handler needs another name."""
    loss, nll, log_z = (digest << 33 for digest in (0x1B6CF9A, 0x380E5807, 0x12DCCCA2))
    assert xla_frame.code_of(LOSS, ("value",)) == loss + (2 << 24) + 1
    assert xla_frame.code_of(NLL, ("dx", "dscale")) == nll + (2 << 24) + 2 + 8
    assert xla_frame.code_of(LOG_PARTITION, ("value", "dalpha", "d2alpha")) == log_z + 7
    assert xla_frame.code_of_sums(LOSS, ("x",), False, False) == loss + (1 << 28) + (2 << 24) + 1
    assert xla_frame.code_of_sums(NLL, ("alpha", "scale"), True, True) == nll + (7 << 28) + (2 << 24) + 2 + 4


# --- Numba's settings

KERNELS = """
    import numpy as np, fastrobust as fr
    from fastrobust.kernels.loops import compiled
    x = np.linspace(-5, 5, 7, dtype=np.float32)
    fr.weight(x, 0.5, 2.0), fr.log_partition(np.abs(x)), compiled.ptx("total", "float32")
"""
# What made Numba abort, fail or write other code.  Those that only print more are not for a test.
SETTINGS = {
    "NUMBA_DEBUGINFO": "1",
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_OPT": "0",
    "NUMBA_BOUNDSCHECK": "1",
    "NUMBA_DEBUG_JIT": "1",
    "NUMBA_SLP_VECTORIZE": "1",
    "NUMBA_LOOP_VECTORIZE": "0",
    "NUMBA_LLVM_REFPRUNE_PASS": "0",
    "NUMBA_ENABLE_AVX": "0",
    "NUMBA_ENABLE_CUDASIM": "1",
    "NUMBA_EXTEND_VARIABLE_LIFETIMES": "1",
    "NUMBA_FULL_TRACEBACKS": "1",
    "NUMBA_DEVELOPER_MODE": "1",
    "NUMBA_CAPTURED_ERRORS": "new_style",
}


def kept(cache: Path) -> dict[str, bytes]:
    """The kernels that are kept, without the loops that they were linked from: these are as Numba writes them."""
    files = {file.name: file.read_bytes() for file in cache.iterdir()}
    return {name: content for name, content in files.items() if b"retptr" not in content}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cache after `KERNELS` without any setting."""
    cache = tmp_path_factory.mktemp("plain") / "cache"
    ended(start(KERNELS, cache))
    found = kept(cache)
    assert len(found) == 3
    return found


def test_settings_of_numba_do_not_change_a_kernel(plain: dict[str, bytes], tmp_path: Path) -> None:
    """Under all of them at once: nothing of them is in the key, so what is kept must be the same to the byte."""
    ended(start(KERNELS, tmp_path / "cache", **SETTINGS))
    assert kept(tmp_path / "cache") == plain


@pytest.mark.slow  # all at once is tested above
@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_of_numba_alone_does_not_change_a_kernel(
    name: str, plain: dict[str, bytes], tmp_path: Path
) -> None:
    ended(start(KERNELS, tmp_path / "cache", **{name: SETTINGS[name]}))
    assert kept(tmp_path / "cache") == plain


# --- other processors

BITS = """
    import hashlib
    import numpy as np, fastrobust as fr
    x, alpha = np.linspace(-20, 20, 5001, dtype=np.float32), np.linspace(-3, 3, 5001, dtype=np.float32)
    with np.errstate(all="ignore"):
        found = [fr.weight(x, 0.5, 2.0), fr.log_partition(abs(alpha)), *MORE]
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in found)).hexdigest())
"""
LESS = "fr.loss(x, 0.5, 2.0, reduction='mean'),"
MORE = """*fr.nll_and_grad(x, alpha, 0.7), *fr.loss_and_grad(x.astype(float), 0.7, 1.2, reduction='mean')[:1],
    *fr.nll_and_grad(x[:5000].reshape(-1, 5), abs(alpha[:5]), 0.5, reduction='sum'),
    *fr.loss_and_grad(x.astype(float), alpha.astype(float), 1.2)"""


def processors() -> list[str]:
    """Of one vector width after another, as far as this one can run their code."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    features = llvm.get_host_cpu_features()
    wanted = {"nehalem": "sse4.2", "haswell": "avx2", "skylake-avx512": "avx512vl"}
    return [name for name, feature in wanted.items() if features.get(feature)]


@pytest.mark.parametrize("more", [LESS, *slow(MORE)], ids=["some", "more"])
def test_every_vector_width_gives_the_same_bits(more: str, tmp_path: Path) -> None:
    """Without AVX2 there is no fma either: then the C library's takes its place.  One cache keeps them apart."""
    script, cache = BITS.replace("MORE", f"({more})"), tmp_path / "cache"
    here = ended(start(script, cache))
    count = len(kept(cache))
    for n, name in enumerate(processors()):
        assert ended(start(script, cache, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="")) == here, name
        assert len(kept(cache)) == (n + 2) * count, name


@pytest.mark.parametrize(("name", "width"), [("haswell", 4), ("skylake-avx512", 8)])
def test_numba_cpu_name_chooses_the_vectors(name: str, width: int, tmp_path: Path) -> None:
    if not native.host_is_x86():
        pytest.skip("the names are those of x86 processors")
    script = """
        import numpy as np
        from fastrobust.kernels.compilers import native
        from fastrobust.kernels.loops import compiled, forms
        from fastrobust.kernels.losses.catalogue import LOSS
        lowered = forms.lowered("elementwise", LOSS, ("weight",), np.float32, "shared")
        print(native.optimized("k", lowered, compiled.LOOP))
    """
    ir = ended(start(script, tmp_path / "cache", NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=""))
    assert set(re.findall(r"call <(\d+) x double> @llvm\.fma", ir)) == {str(width)}
