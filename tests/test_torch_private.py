"""PyTorch's private and undocumented interfaces: what they mean today, and what is done where one is gone.

A failure says in one line which of them moved.  Where it is gone is played by a copy of the guard that looks for it
under another name.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad  # noqa: E402
from torch.distributions import Normal  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of what is gone, which the tests below name one by one
    import fastrobust as fr
    import fastrobust.torch as frt
    from fastrobust.torch import _private

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own

GUARD = Path(_private.__file__)
Without = Callable[..., ModuleType]


def means(path: str, meaning: str, fact: Any) -> None:
    """Fail in one line unless PyTorch has that, and it means that."""
    where = f"see fastrobust/torch/{GUARD.name}"
    if _private._found(path) is None:
        pytest.fail(f"PyTorch {torch.__version__} moved {path}: {where}", pytrace=False)
    try:
        holds = fact()
    except Exception as error:
        pytest.fail(f"{path} of PyTorch {torch.__version__} fails, {error!r}: {where}", pytrace=False)
    if not holds:
        pytest.fail(f"{path} of PyTorch {torch.__version__} is no longer {meaning}: {where}", pytrace=False)


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Without:
    """The guard as it is where PyTorch has none of those."""

    def copied(*paths: str) -> ModuleType:
        text = GUARD.read_text(encoding="utf-8")
        for path in paths:
            assert f'"{path}"' in text
            text = text.replace(f'"{path}"', f'"{path}_moved"')
        copy = tmp_path / GUARD.name
        copy.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("fastrobust.torch._private_copy", copy)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # where the compiler looks its globals up
        with pytest.warns(
            RuntimeWarning, match=rf"has no {re.escape(paths[0])}_moved any more: fastrobust does without"
        ):
            spec.loader.exec_module(module)
        return module

    return copied


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def in_transforms(look: Callable[[], Any]) -> list[Any]:
    """What is seen outside of transforms, in each, and in one within another."""
    seen = [look()]

    def f(x: Any) -> Any:
        seen.append(look())
        return x.sin()

    one = torch.ones(())
    torch.func.grad(f)(one)
    torch.func.jvp(f, (one,), (one,))
    torch.func.vmap(f)(torch.ones(2))
    torch.func.jacfwd(torch.func.grad(f))(one)
    return [*seen, look()]


def losses() -> list[Any]:
    """Values, gradients, second derivatives and sums, of tensors."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    total = fr.nll(x, alpha, 0.5, reduction="mean")
    first = torch.autograd.grad(total, (x, alpha), create_graph=True)
    each = torch.autograd.grad(fr.loss(x, alpha, 0.5).sum(), (x, alpha))
    again = torch.autograd.grad(first[0].square().sum(), (x, alpha))
    partition = torch.autograd.grad(fr.log_partition(alpha), alpha)
    plain = fr.loss_and_grad(x.detach(), alpha.detach(), 0.5, reduction="sum")
    return [total, *first, *each, *again, *partition, *plain, torch.func.grad(lambda a: fr.nll(0.7 * a, a, a))(alpha)]


def same(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


# --- what is active

ACTIVE = "torch._C._are_functorch_transforms_active"
STACK = "torch._C._functorch.get_interpreter_stack"
INSTEAD = "torch._functorch.pyfunctorch.retrieve_all_functorch_interpreters"
LEVEL = "torch.autograd.forward_ad._current_level"
MODES = "torch._C._len_torch_dispatch_stack"
TRACING = "torch._C._is_tracing"
AUTOCAST = "torch.is_autocast_enabled"


def test_whether_a_transform_is_active(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [False, True, True, True, True, False]
    means(ACTIVE, "whether a transform is active", lambda: in_transforms(_private.transforms_active) == expected)
    copy, whole = without(ACTIVE), losses()
    assert in_transforms(copy.transforms_active) == expected
    monkeypatch.setattr(_private, "transforms_active", copy.transforms_active)
    same(losses(), whole)

    def slope(x: Any) -> Any:
        return torch.func.grad(lambda t: fr.loss(t, 1.0, 1.0).sum())(x)

    x = torch.linspace(-2, 2, 5)
    for f in (slope, lambda x: fr.loss(x, 1.0, 1.0)):
        torch.testing.assert_close(torch.compile(f, backend="eager", fullgraph=True)(x), f(x))


def test_which_transforms_are_active(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [[], ["Grad"], ["Jvp"], ["Vmap"], ["Vmap", "Jvp", "Grad"], []]
    means(STACK, "the list of transforms", lambda: in_transforms(_private.interpreters) == expected)
    copy = without(STACK)
    means(INSTEAD, "the list of transforms", lambda: in_transforms(copy.interpreters) == expected)
    monkeypatch.setattr(_private, "interpreters", copy.interpreters)
    one = torch.ones(())
    with pytest.raises(NotImplementedError, match="forward mode within forward mode"):
        torch.func.jacfwd(torch.func.jacfwd(lambda x: fr.loss(x, 1.0, 1.0)))(one)


def test_without_a_list_of_transforms_there_is_an_error_and_no_derivative_of_0(
    without: Without, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_private, "interpreters", without(STACK, INSTEAD).interpreters)
    assert fr.loss(torch.ones(3), 1.0, 1.0).shape == (3,)
    with pytest.raises(
        RuntimeError, match=rf"has no {re.escape(STACK)}_moved any more, by which .*: take an older PyTorch"
    ):
        torch.func.grad(lambda x: fr.loss(x, 1.0, 1.0))(torch.ones(()))


def test_whether_forward_mode_is_on(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(look: Callable[[], bool]) -> list[bool]:
        found = [look()]
        with forward_ad.dual_level():
            found.append(look())
            with torch.inference_mode():
                found.append(look())
        with torch.inference_mode(), torch.device("meta"):
            found.append(look())
        return [*found, look()]

    expected = [False, True, True, False, False]
    means(LEVEL, "-1 outside of forward mode", lambda: seen(_private.forward_mode) == expected)
    copy, whole = without(LEVEL), losses()
    assert seen(copy.forward_mode) == expected
    monkeypatch.setattr(_private, "forward_mode", copy.forward_mode)
    same(losses(), whole)
    x = torch.linspace(-2, 2, 5)
    with forward_ad.dual_level():
        value = fr.loss(forward_ad.make_dual(x, torch.ones_like(x)), 1.0, 1.0)
        torch.testing.assert_close(forward_ad.unpack_dual(value).tangent, fr.influence(x, 1.0, 1.0))
    compiled = torch.compile(lambda x: fr.loss(x, 1.0, 1.0), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="without which fastrobust cannot be compiled"):
        compiled(x)


def test_whether_a_mode_sees_every_operation(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._subclasses import FakeTensorMode

    def seen() -> bool:
        with FakeTensorMode():
            inside = _private.modes()
        return inside > 0 and _private.modes() == 0

    means(MODES, "the number of active modes", seen)
    copy, whole = without(MODES), losses()
    assert copy.modes() > 0, "there may be one"
    monkeypatch.setattr(_private, "modes", copy.modes)
    same(losses(), whole)
    x = torch.linspace(-2, 2, 5)
    compiled = torch.compile(lambda x: fr.loss(x, 1.0, 1.0), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), fr.loss(x, 1.0, 1.0))


def test_whether_torch_jit_trace_looks_on(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(look: Callable[[], bool]) -> list[bool]:
        found = [look()]

        def f(x: Any) -> Any:
            found.append(look())
            return x + 1

        torch.jit.trace(f, torch.ones(2), check_trace=False)
        return [*found, look()]

    expected = [False, True, False]
    means(TRACING, "whether torch.jit.trace records", lambda: seen(_private.jit_tracing) == expected)
    copy = without(TRACING)
    assert seen(copy.jit_tracing) == expected
    monkeypatch.setattr(_private, "jit_tracing", copy.jit_tracing)
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace would take"):
        torch.jit.trace(lambda x: fr.loss(x, 1.0, 1.0), torch.ones(2))


def test_whether_autocast_is_on(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(look: Callable[[str], bool]) -> list[bool]:
        found = [look("cpu")]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(look("cpu"))
            with torch.autocast("cpu", enabled=False):
                found.append(look("cpu"))
        return found

    expected = [False, True, False]
    means(AUTOCAST, "whether autocast is on", lambda: seen(_private.autocast) == expected)
    copy = without(AUTOCAST)
    assert seen(copy.autocast) == expected
    monkeypatch.setattr(_private, "autocast", copy.autocast)
    half = torch.ones(3, dtype=torch.bfloat16)
    assert fr.loss(half, 1.0, 1.0).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fr.loss(half, 1.0, 1.0).dtype == torch.float32


# --- tensors

BATCHED = "torch._C._functorch.is_batchedtensor"
VERSION = "torch.Tensor._version"
SCALAR = "torch.scalar_tensor"
LOCAL = "torch.distributed.tensor.experimental.local_map"


def test_whether_vmap_maps_over_a_tensor(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> bool:
        found: list[bool] = []
        torch.func.vmap(lambda x: found.append(_private.batched(x)) or x)(torch.ones(2))
        return found == [True] and not _private.batched(torch.ones(2))

    means(BATCHED, "whether vmap maps over a tensor", seen)
    monkeypatch.setattr(_private, "batched", without(BATCHED).batched)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda a: frt.Barron(0.0, a, 1.0, validate_args=False).sample(), randomness="different")(
            torch.ones(2)
        )


def test_whether_a_tensor_was_changed_in_place(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(guard: ModuleType) -> list[bool]:
        x = torch.tensor([1.0, torch.nan, torch.inf])
        since = guard.version(x)
        found = [guard.changed(x, since)]
        x[1:].mul_(2)
        found.append(guard.changed(x, since))
        x.zero_()
        return [*found, guard.changed(x, since)]

    means(VERSION, "a count of changes in place", lambda: seen(_private) == [False, True, True])
    copy, whole = without(VERSION), losses()
    assert seen(copy) == [False, False, True], "2 NaN is NaN and 2 inf is inf, so that nothing was changed"
    for name in ("version", "changed"):
        monkeypatch.setattr(_private, name, getattr(copy, name))
    same(losses(), whole)
    x, kept = torch.ones(3, requires_grad=True), torch.ones(3)
    moved = x * kept
    total = fr.loss(moved, 1.0, 1.0, reduction="sum")
    with torch.no_grad():
        moved.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(total, x, create_graph=True)


def test_a_tensor_of_a_number(without: Without) -> None:
    for guard in (_private, without(SCALAR)):
        for dtype in (torch.float32, torch.float64):
            with torch.device("meta"):
                made = guard.scalar_tensor(0.1, dtype=dtype, device="cpu")
            expected = torch.tensor(0.1, dtype=dtype)
            means(SCALAR, "a tensor", lambda: torch.equal(made, expected) and made.dtype == dtype)  # noqa: B023


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_functions_of_the_parts_of_dtensors() -> None:
    """What it does, and what is done without it, two processes show: tests/distributed.py."""
    import torch.distributed.tensor.experimental as experimental

    used = {"out_placements", "in_placements", "device_mesh", "redistribute_inputs"}
    means(LOCAL, f"a function of {used}", lambda: used <= {*inspect.signature(experimental.local_map).parameters})


# --- distributions

BROADCAST = "torch.distributions.utils.broadcast_all"
INSTANCE = "torch.distributions.Distribution._get_checked_instance"
VALIDATES = "torch.distributions.Distribution._validate_args"
SAMPLE = "torch.distributions.Distribution._validate_sample"


def barron(**options: Any) -> Any:
    return frt.Barron(torch.zeros(3), 1.0, 1.0, **options)


def test_tensors_and_numbers_of_one_shape(without: Without) -> None:
    wide = torch.ones(2, 1, dtype=torch.float64)

    def right(guard: ModuleType) -> bool:
        numbers, mixed = guard.broadcast_all(1.0, 2), guard.broadcast_all(1.5, wide, torch.zeros(3))
        return (
            [(t.dtype, t.shape) for t in numbers] == [(torch.float32, ())] * 2
            and [t.dtype for t in mixed] == [torch.float64, torch.float64, torch.float32]
            and all(t.shape == (2, 3) for t in mixed)
            and mixed[0][0, 0] == 1.5
        )

    means(BROADCAST, "tensors of one shape", lambda: right(_private))
    assert right(without(BROADCAST))


def test_an_instance_to_expand_into(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(frt.Barron):
        def __init__(self) -> None:
            super().__init__(0.0, 1.0, 1.0)

    def right() -> bool:
        wide, given = barron().expand((2, 3)), barron()
        assert given.expand((2, 3), _instance=given) is given
        with pytest.raises(NotImplementedError, match=r"Own.*expand"):
            Own().expand((2,))
        return type(wide) is frt.Barron and wide.loc.shape == (2, 3)

    means(INSTANCE, "a new instance", right)
    monkeypatch.setattr(_private, "new_instance", without(INSTANCE).new_instance)
    assert right()


def test_whether_a_distribution_checks_its_arguments() -> None:
    def right() -> bool:
        for checks in (True, False):
            own = barron(validate_args=checks)
            if _private.validates(own) is not checks or _private.validates(own.expand((2, 3))) is not checks:
                return False
        return _private.validates(barron()) is Normal(0.0, 1.0)._validate_args

    means(VALIDATES, "whether arguments are checked", right)

    class Bare:
        """A distribution of a PyTorch without the attribute."""

    old: Any = Bare()
    new: Any = Bare()
    assert _private.validates(old) is True
    _private.validate_alike(new, old)
    assert _private.validates(new) is True


def test_values_that_a_distribution_cannot_have_are_refused(without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
    def right() -> bool:
        own = barron(validate_args=True)
        for value in (1.0, torch.zeros(2), torch.tensor(torch.nan)):
            with pytest.raises(ValueError, match=r"must be a Tensor|broadcast|support"):
                own.log_prob(value)
        return own.log_prob(torch.zeros(2, 1)).shape == (2, 3)

    means(SAMPLE, "a check", right)
    monkeypatch.setattr(_private, "validate_sample", without(SAMPLE).validate_sample)
    assert right()


# --- the tests themselves


def test_every_interface_of_the_guard_has_a_test() -> None:
    text = GUARD.read_text(encoding="utf-8")
    named = set(re.findall(r'_(?:offered|found|moved)\(\s*"([\w.]+)"', text))
    tested = {value for name, value in globals().items() if name.isupper() and isinstance(value, str)}
    assert len(named) >= 12
    assert named <= tested
    functions = re.findall(r"^def ([a-z]\w*)", text, flags=re.M)
    assert len(functions) >= 14
    assert not [name for name in functions if f".{name}" not in Path(__file__).read_text(encoding="utf-8")]


def test_what_moved_is_named_in_one_line() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^PyTorch \S+ moved torch\._C\._no_such_thing: see [\w/.]+$"):
        means("torch._C._no_such_thing", "anything", lambda: True)
    with pytest.raises(pytest.fail.Exception, match=r"^torch\.sin of PyTorch \S+ is no longer a cosine: see [\w/.]+$"):
        means("torch.sin", "a cosine", lambda: torch.sin(torch.zeros(())) == 1)
