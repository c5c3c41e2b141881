"""PTX kernels on a CPU, for machines without a GPU: the text that the driver would get, translated to native code.

Each PTX operation is taken by its definition in the PTX manual.  One that this file does not know, or that a GPU would
be free to fuse or to flush (``mul`` without ``.rn``, ``.ftz``), is refused.  Threads run one after the other.  At a
shuffle, the lanes of a warp run again and again from the start, each time one shuffle further; so a kernel with
shuffles must not read what it writes.  This shows arithmetic, addresses and what is written where, neither races nor
timing.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm

# Registers hold bits; an operation says how it reads them.
_BITS = {"pred": "i1", **{f"{kind}{n}": f"i{n}" for kind in "bsuf" for n in (8, 16, 32, 64)}}
_FLOAT = {"f16": "half", "f32": "float", "f64": "double"}
_SPECIAL = ("tid.x", "ntid.x", "ctaid.x", "nctaid.x")
_SLOTS = (*_SPECIAL, "lane", "count", "known")  # a thread's own memory: count of its shuffles, how many all lanes made
_SHUFFLES = 1000  # a thread's, at most
_COMPARE = {
    "eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "num": "ord", "nan": "uno",
    "equ": "ueq", "neu": "une", "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge",
}  # fmt: skip
_UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}


class Unknown(ValueError):
    """An operation outside what is modelled here, or one whose result PTX leaves open."""


class _Translator:
    def __init__(self, text: str) -> None:
        entry = re.search(r"\.entry (\w+)\((.*?)\)(.*?)\n\{(.*)\n\}", text, re.S)
        assert entry is not None, "no kernel in the text"
        self.parameters = re.findall(r"\.param \.u64 (\w+)", entry[2])
        self.registers: dict[str, str] = {}
        self.code: list[str] = []
        self.count = 0
        self.tables = self._tables(text)
        for kind, stem, number in re.findall(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", entry[4]):
            self.registers |= {f"%{stem}{i}": _BITS[kind] for i in range(int(number))}
        body = re.sub(r"\{ \.reg \.b32 tmp; (.*?;) \}", lambda m: m[1].replace("tmp", "_"), entry[4])
        body = re.sub(r"//.*|^\s*\.reg .*|^\s*\.pragma .*", "", body, flags=re.M)
        for statement in re.findall(r"\$\w+:|[^;{}:]+(?:\{[^}]*\}[^;{}]*)*;", body):
            self._statement(" ".join(statement.strip().rstrip(";").split()))

    def _tables(self, text: str) -> dict[str, str]:
        found = {}
        for match in re.finditer(r"\.global \.align \d+ \.b8 ([\w.$]+)\[(\d+)\] = \{(.*?)\};", text, re.S):
            values = ", ".join(f"i8 {v.strip()}" for v in match[3].split(","))
            found[match[1]] = f"[{match[2]} x i8] [{values}]"
        return found

    def emit(self, operation: str) -> str:
        self.count += 1
        self.code.append(f"  %t{self.count} = {operation}")
        return f"%t{self.count}"

    def slot(self, register: str) -> str:
        return "%R" + register[1:]

    def read(self, operand: str, kind: str, wider: bool = False) -> str:
        """The operand as a value of that PTX type; integers are iN, floats are float types.

        ``ld``, ``st`` and ``cvt`` take the low part of a register that is wider than their type.
        """
        bits = _BITS[kind]
        if wider and (have := self.registers.get(operand, bits)) != bits and int(have[1:]) > int(bits[1:]):
            value = self.emit(f"trunc {have} {self.read(operand, f'b{have[1:]}')} to {bits}")
            return self.emit(f"bitcast {bits} {value} to {_FLOAT[kind]}") if kind in _FLOAT else value
        if operand.startswith("%") and operand[1:] in _SPECIAL:
            value = self.emit(f"load i32, ptr %S{_SPECIAL.index(operand[1:])}")
        elif operand.startswith("%"):
            if self.registers[operand] != bits:
                raise Unknown(f"{operand} read as {kind}")
            value = self.emit(f"load {bits}, ptr {self.slot(operand)}")
        elif operand[:2] in ("0f", "0d", "0F", "0D"):
            value = str(int(operand[2:], 16))
        elif operand in self.tables:
            value = self.emit(f"ptrtoint ptr @{operand} to i64")
        else:
            value = str(int(operand, 0) & 1) if kind == "pred" else str(int(operand, 0))
        return self.emit(f"bitcast {bits} {value} to {_FLOAT[kind]}") if kind in _FLOAT else value

    def write(self, register: str, kind: str, value: str) -> None:
        bits = _BITS[kind]
        if kind in _FLOAT:
            value = self.emit(f"bitcast {_FLOAT[kind]} {value} to {bits}")
        if self.registers[register] != bits:
            raise Unknown(f"{register} written as {kind}")
        self.code.append(f"  store {bits} {value}, ptr {self.slot(register)}")

    def label(self) -> str:
        self.count += 1
        return f"N{self.count}"

    def _statement(self, text: str) -> None:
        if text.endswith(":"):
            name = text[:-1].replace("$", "")
            self.code += [f"  br label %{name}", f"{name}:"]
        elif match := re.fullmatch(r"@(!?)(%\w+) bra(?:\.uni)? (\S+)", text):
            condition, after = self.read(match[2], "pred"), self.label()
            targets = [match[3].replace("$", ""), after]
            first, second = reversed(targets) if match[1] else targets
            self.code += [f"  br i1 {condition}, label %{first}, label %{second}", f"{after}:"]
        elif match := re.fullmatch(r"bra(?:\.uni)? (\S+)", text):
            self.code += [f"  br label %{match[1].replace('$', '')}", f"{self.label()}:"]
        elif text == "ret":
            self.code += ["  br label %EXIT", f"{self.label()}:"]
        else:
            name, _, rest = text.partition(" ")
            operands = [o.strip() for o in re.split(r",(?![^{]*\})", rest)]
            self._operation(text, name.split("."), operands)

    def _address(self, operand: str) -> str:
        base, _, offset = operand.strip("[]").partition("+")
        value = self.read(base.strip(), "b64")
        return self.emit(f"inttoptr i64 {self.emit(f'add i64 {value}, {int(offset or 0)}')} to ptr")

    def _operation(self, text: str, name: list[str], operands: list[str]) -> None:
        op, kind, modes = name[0], name[-1], set(name[1:-1])
        bits = _BITS.get(kind, "")
        if "ftz" in name or "approx" in name:
            raise Unknown(f"not exact: {text}")
        if op in ("add", "sub", "mul", "div", "fma", "rcp", "sqrt") and kind in _FLOAT:
            if modes != {"rn"}:
                raise Unknown(f"not exact: {text}")
            float_kind = _FLOAT[kind]
            values = [self.read(o, kind) for o in operands[1:]]
            if op == "rcp":
                result = self.emit(f"fdiv {float_kind} 1.0, {values[0]}")
            elif op in ("fma", "sqrt"):
                given = ", ".join(f"{float_kind} {v}" for v in values)
                result = self.emit(f"call {float_kind} @llvm.{op}.{kind}({given})")
            else:
                result = self.emit(f"f{op} {float_kind} {values[0]}, {values[1]}")
            self.write(operands[0], kind, result)
        elif op in ("neg", "abs") and kind in _FLOAT and not modes:
            value = self.read(operands[1], kind)
            how = (
                f"fneg {_FLOAT[kind]} {value}"
                if op == "neg"
                else f"call {_FLOAT[kind]} @llvm.fabs.{kind}({_FLOAT[kind]} {value})"
            )
            self.write(operands[0], kind, self.emit(how))
        elif op in ("add", "sub", "and", "or", "xor") and not modes and bits:
            a, b = (self.read(o, kind) for o in operands[1:])
            self.write(operands[0], kind, self.emit(f"{op} {bits} {a}, {b}"))
        elif op in ("min", "max") and kind[0] in "su" and not modes:
            a, b = (self.read(o, kind) for o in operands[1:])
            self.write(operands[0], kind, self.emit(f"call {bits} @llvm.{kind[0]}{op}.{bits}({bits} {a}, {bits} {b})"))
        elif op in ("min", "max") and kind in _FLOAT and not modes:
            self._least(op, kind, operands)
        elif op == "mul" and modes == {"lo"}:
            a, b = (self.read(o, kind) for o in operands[1:])
            self.write(operands[0], kind, self.emit(f"mul {bits} {a}, {b}"))
        elif op in ("mul", "mad") and modes == {"wide"}:
            half, wide = int(bits[1:]), f"i{2 * int(bits[1:])}"
            extend = "sext" if kind[0] == "s" else "zext"
            a, b = (self.emit(f"{extend} {bits} {self.read(o, kind)} to {wide}") for o in operands[1:3])
            value = self.emit(f"mul {wide} {a}, {b}")
            if op == "mad":
                value = self.emit(f"add {wide} {value}, {self.read(operands[3], f'b{2 * half}')}")
            self.write(operands[0], f"b{2 * half}", value)
        elif op == "mad" and modes == {"lo"}:
            a, b, c = (self.read(o, kind) for o in operands[1:])
            self.write(operands[0], kind, self.emit(f"add {bits} {self.emit(f'mul {bits} {a}, {b}')}, {c}"))
        elif op in ("div", "rem") and not modes and kind[0] in "su":
            a, b = (self.read(o, kind) for o in operands[1:])
            self.write(operands[0], kind, self.emit(f"{kind[0]}{op} {bits} {a}, {b}"))
        elif op == "not" and not modes:
            self.write(operands[0], kind, self.emit(f"xor {bits} {self.read(operands[1], kind)}, -1"))
        elif op == "neg" and kind[0] == "s":
            self.write(operands[0], kind, self.emit(f"sub {bits} 0, {self.read(operands[1], kind)}"))
        elif op in ("shl", "shr") and not modes:
            self._shift(op, kind, operands)
        elif op == "setp" and len(modes) == 1:
            a, b = (self.read(o, kind) for o in operands[1:])
            how = name[1]
            if kind in _FLOAT:
                compared = self.emit(f"fcmp {_COMPARE[how]} {_FLOAT[kind]} {a}, {b}")
            else:
                sign = "s" if kind[0] == "s" else "u"
                relation = _UNSIGNED.get(how) or (how if how in ("eq", "ne") else sign + how)
                compared = self.emit(f"icmp {relation} {bits} {a}, {b}")
            self.write(operands[0], "pred", compared)
        elif op == "selp" and not modes:
            condition = self.read(operands[3], "pred")
            a, b = (self.read(o, kind) for o in operands[1:3])
            typed = _FLOAT.get(kind, bits)
            self.write(operands[0], kind, self.emit(f"select i1 {condition}, {typed} {a}, {typed} {b}"))
        elif op == "bfe" and kind[0] == "u" and operands[2].isdigit() and operands[3].isdigit():
            moved = self.emit(f"lshr {bits} {self.read(operands[1], kind)}, {operands[2]}")
            self.write(operands[0], kind, self.emit(f"and {bits} {moved}, {(1 << int(operands[3])) - 1}"))
        elif name[:2] == ["shfl", "sync"] and name[2] in ("down", "bfly") and operands[3:] == ["31", "-1"]:
            self._shuffle(name[2], operands)
        elif op == "prmt" and kind == "b32" and not modes and operands[3].startswith(("0x", *"0123456789")):
            self._permute(operands)
        elif op == "cvt":
            self._convert(text, name, operands)
        elif op == "mov":
            self._move(kind, operands)
        elif op in ("cvta",):
            self.write(operands[0], "b64", self.read(operands[1], "b64"))
        elif op == "ld" and name[1] == "param":
            self.write(operands[0], "b64", f"%{operands[1].strip('[]')}")
        elif op in ("ld", "st") and name[1] in ("global", "b64", "b32"):
            self._memory(op, kind, operands, text)
        else:
            raise Unknown(text)

    def _least(self, op: str, kind: str, operands: list[str]) -> None:
        """The other number where one is missing, and a negative zero below a positive one."""
        bits, float_kind = _BITS[kind], _FLOAT[kind]
        a, b = (self.read(o, kind) for o in operands[1:])
        ahead = self.emit(f"fcmp {'olt' if op == 'min' else 'ogt'} {float_kind} {a}, {b}")
        missing = self.emit(f"fcmp uno {float_kind} {b}, {b}")
        first = self.emit(f"or i1 {ahead}, {missing}")
        chosen = self.emit(f"select i1 {first}, {float_kind} {a}, {float_kind} {b}")
        zeros = [self.emit(f"bitcast {float_kind} {v} to {bits}") for v in (a, b)]
        both = self.emit(f"{'or' if op == 'min' else 'and'} {bits} {zeros[0]}, {zeros[1]}")
        equal = self.emit(f"fcmp oeq {float_kind} {a}, {b}")
        same = self.emit(f"bitcast {bits} {both} to {float_kind}")
        result = self.emit(f"select i1 {equal}, {float_kind} {same}, {float_kind} {chosen}")
        self.write(operands[0], kind, result)

    def _shift(self, op: str, kind: str, operands: list[str]) -> None:
        """Counts of the width or more leave nothing but the sign."""
        bits = _BITS[kind]
        width = int(bits[1:])
        count = self.read(operands[2], "b32")
        inside = self.emit(f"icmp ult i32 {count}, {width}")
        clamped = self.emit(f"select i1 {inside}, i32 {count}, i32 {width - 1}")
        if width != 32:
            clamped = self.emit(f"{'zext' if width > 32 else 'trunc'} i32 {clamped} to {bits}")
        how = "shl" if op == "shl" else "ashr" if kind[0] == "s" else "lshr"
        value = self.emit(f"{how} {bits} {self.read(operands[1], kind)}, {clamped}")
        if how != "ashr":
            value = self.emit(f"select i1 {inside}, {bits} {value}, {bits} 0")
        self.write(operands[0], kind, value)

    def _shuffle(self, how: str, operands: list[str]) -> None:
        """Hands the value over and stops, unless all lanes are known to have come this far."""
        value, by = self.read(operands[1], "b32"), self.read(operands[2], "b32")
        lane, count, known = (self.emit(f"load i32, ptr %S{_SLOTS.index(n)}") for n in ("lane", "count", "known"))
        full, after = self.emit(f"icmp uge i32 {count}, {_SHUFFLES}"), self.label()
        self.code += [f"  br i1 {full}, label %TRAP, label %{after}", f"{after}:"]
        row = self.emit(f"mul i32 {count}, 32")
        place = self.emit(f"getelementptr i32, ptr %shuffled, i32 {self.emit(f'add i32 {row}, {lane}')}")
        self.code.append(f"  store i32 {value}, ptr {place}")
        fresh, after = self.emit(f"icmp uge i32 {count}, {known}"), self.label()
        self.code += [f"  br i1 {fresh}, label %STOP, label %{after}", f"{after}:"]
        self.code.append(f"  store i32 {self.emit(f'add i32 {count}, 1')}, ptr %S{_SLOTS.index('count')}")
        other = self.emit(f"{'add' if how == 'down' else 'xor'} i32 {lane}, {by}")
        source = self.emit(f"select i1 {self.emit(f'icmp ult i32 {other}, 32')}, i32 {other}, i32 {lane}")
        place = self.emit(f"getelementptr i32, ptr %shuffled, i32 {self.emit(f'add i32 {row}, {source}')}")
        self.write(operands[0].partition("|")[0], "b32", self.emit(f"load i32, ptr {place}"))

    def _permute(self, operands: list[str]) -> None:
        """Each digit of the selector names the byte, of both sources in a row, that comes to its place."""
        low, high = (self.emit(f"zext i32 {self.read(o, 'b32')} to i64") for o in operands[1:3])
        both = self.emit(f"or i64 {low}, {self.emit(f'shl i64 {high}, 32')}")
        whole = "0"
        for k in range(4):
            digit = int(operands[3].rstrip("U"), 0) >> 4 * k & 15
            if digit > 7:
                raise Unknown(f"prmt {operands}")
            byte = self.emit(f"trunc i64 {self.emit(f'lshr i64 {both}, {8 * digit}')} to i8")
            moved = self.emit(f"shl i32 {self.emit(f'zext i8 {byte} to i32')}, {8 * k}")
            whole = self.emit(f"or i32 {whole}, {moved}")
        self.write(operands[0], "b32", whole)

    def _convert(self, text: str, name: list[str], operands: list[str]) -> None:
        to, source, modes = name[-2], name[-1], name[1:-2]
        value = self.read(operands[1], source, wider=True)
        if to in _FLOAT and source in _FLOAT:
            narrower = int(to[1:]) < int(source[1:])
            if modes != (["rn"] if narrower else []):
                raise Unknown(f"not exact: {text}")
            result = self.emit(f"{'fptrunc' if narrower else 'fpext'} {_FLOAT[source]} {value} to {_FLOAT[to]}")
        elif to not in _FLOAT and source not in _FLOAT and not modes:
            a, b = _BITS[source], _BITS[to]
            how = "trunc" if int(b[1:]) < int(a[1:]) else "sext" if source[0] == "s" else "zext"
            result = value if a == b else self.emit(f"{how} {a} {value} to {b}")
        else:
            raise Unknown(text)
        self.write(operands[0], to, result)

    def _move(self, kind: str, operands: list[str]) -> None:
        """Also {a, b} packed into a wider register, and unpacked."""
        if operands[0].startswith("{"):
            parts = [p.strip() for p in operands[0].strip("{}").split(",")]
            width = int(_BITS[kind][1:]) // len(parts)
            whole = self.read(operands[1], f"b{_BITS[kind][1:]}")
            for k, part in enumerate(parts):
                moved = self.emit(f"lshr {_BITS[kind]} {whole}, {k * width}")
                if part != "_":
                    self.write(part, f"b{width}", self.emit(f"trunc {_BITS[kind]} {moved} to i{width}"))
        elif operands[1].startswith("{"):
            parts = [p.strip() for p in operands[1].strip("{}").split(",")]
            bits, width = _BITS[kind], int(_BITS[kind][1:]) // len(parts)
            whole = "0"
            for k, part in enumerate(parts):
                wide = self.emit(f"zext i{width} {self.read(part, f'b{width}')} to {bits}")
                whole = self.emit(f"or {bits} {whole}, {self.emit(f'shl {bits} {wide}, {k * width}')}")
            self.write(operands[0], f"b{bits[1:]}", whole)
        else:
            plain = "pred" if kind == "pred" else f"b{_BITS[kind][1:]}"
            self.write(operands[0], plain, self.read(operands[1], plain))

    def _memory(self, op: str, kind: str, operands: list[str], text: str) -> None:
        plain = f"b{_BITS[kind][1:]}"
        values, where = (operands[0], operands[1]) if op == "ld" else (operands[1], operands[0])
        registers = [r.strip() for r in values.strip("{}").split(",")]
        together = re.search(r"\.v(\d)", text)
        if len(registers) != int(together[1] if together else 1):
            raise Unknown(text)
        bits, size = _BITS[kind], int(_BITS[kind][1:]) // 8
        address = self._address(where)
        # A GPU faults on an access that is not aligned to its whole size.
        whole = self.emit(f"ptrtoint ptr {address} to i64")
        low = self.emit(f"and i64 {whole}, {size * len(registers) - 1}")
        wrong, here = self.emit(f"icmp ne i64 {low}, 0"), self.label()
        self.code += [f"  br i1 {wrong}, label %TRAP, label %{here}", f"{here}:"]
        for k, register in enumerate(registers):
            place = self.emit(f"getelementptr i8, ptr {address}, i64 {k * size}")
            if op == "ld":
                loaded = self.emit(f"load {bits}, ptr {place}, align {size}")
                wide = self.registers[register]
                if wide != bits:  # a register may be wider than what is loaded
                    extend = "sext" if kind[0] == "s" else "zext"
                    self.code.append(
                        f"  store {wide} {self.emit(f'{extend} {bits} {loaded} to {wide}')}, ptr {self.slot(register)}"
                    )
                else:
                    self.write(register, plain, loaded)
            else:
                self.code.append(f"  store {bits} {self.read(register, plain, wider=True)}, ptr {place}, align {size}")

    def module(self) -> str:
        words = ", ".join(f"i64 %{p}" for p in self.parameters)
        slots = "\n".join(f"  {self.slot(r)} = alloca {kind}" for r, kind in self.registers.items())
        own = "\n".join(f"  %S{k} = getelementptr i32, ptr %own, i64 {k}" for k in range(len(_SLOTS)))
        declared = [
            f"declare {f} @llvm.{n}.{k}({', '.join([f] * count)})"
            for k, f in _FLOAT.items()
            for n, count in (("fma", 3), ("sqrt", 1), ("fabs", 1))
        ]
        bounds = ("smin", "smax", "umin", "umax")
        declared += [f"declare i{n} @llvm.{k}.i{n}(i{n}, i{n})" for n in (32, 64) for k in bounds]
        tables = "\n".join(f"@{name} = internal constant {content}, align 16" for name, content in self.tables.items())
        code, declarations = "\n".join(self.code), "\n".join(declared)
        return f"""
{declarations}
{tables}
define internal i32 @one(ptr %own, ptr %shuffled, {words}) alwaysinline {{
{own}
{slots}
{code}
  br label %EXIT
EXIT:
  ret i32 0
TRAP:
  ret i32 1
STOP:
  ret i32 2
}}
define i1 @launch(i32 %blocks, i32 %threads, {words}) {{
entry:
  %own = alloca [{len(_SLOTS)} x i32]
  %shuffled = alloca [{32 * _SHUFFLES} x i32]
{own}
  store i32 %threads, ptr %S1
  store i32 %blocks, ptr %S3
  br label %block
block:
  %b = phi i32 [0, %entry], [%b1, %blockdone]
  store i32 %b, ptr %S2
  br label %warp
warp:
  %w = phi i32 [0, %block], [%w1, %warpdone]
  br label %round
round:
  %known = phi i32 [0, %warp], [%known1, %again]
  store i32 %known, ptr %S6
  br label %lane
lane:
  %l = phi i32 [0, %round], [%l1, %lanedone]
  %stopped = phi i1 [false, %round], [%stopped1, %lanedone]
  %t = add i32 %w, %l
  store i32 %t, ptr %S0
  store i32 %l, ptr %S4
  store i32 0, ptr %S5
  %code = call i32 @one(ptr %own, ptr %shuffled, {words})
  %trap = icmp eq i32 %code, 1
  br i1 %trap, label %bad, label %lanedone
lanedone:
  %stop = icmp eq i32 %code, 2
  %stopped1 = or i1 %stopped, %stop
  %l1 = add i32 %l, 1
  %t1 = add i32 %t, 1
  %inwarp = icmp ult i32 %l1, 32
  %inblock = icmp ult i32 %t1, %threads
  %more = and i1 %inwarp, %inblock
  br i1 %more, label %lane, label %rounddone
rounddone:
  br i1 %stopped1, label %again, label %warpdone
again:
  %known1 = add i32 %known, 1
  br label %round
warpdone:
  %w1 = add i32 %w, 32
  %morewarps = icmp ult i32 %w1, %threads
  br i1 %morewarps, label %warp, label %blockdone
blockdone:
  %b1 = add i32 %b, 1
  %moreblocks = icmp ult i32 %b1, %blocks
  br i1 %moreblocks, label %block, label %good
bad:
  ret i1 true
good:
  ret i1 false
}}
"""


_alive: list[Any] = []


def load(text: str) -> Callable[[int, int, Sequence[int]], None]:
    """launch(blocks, threads, words): the kernel in the PTX text, on this machine's memory."""
    translator = _Translator(text)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(translator.module())
    module.verify()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=2)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _alive.append((engine, machine))
    count = len(translator.parameters)
    kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint32, ctypes.c_uint32, *[ctypes.c_int64] * count)
    function = kind(engine.get_function_address("launch"))

    def launch(blocks: int, threads: int, words: Sequence[int]) -> None:
        if len(words) != count:
            raise ValueError(f"the kernel takes {count} words, got {len(words)}")
        if function(blocks, threads, *words):
            raise MemoryError("a misaligned access, at which a GPU would fault")

    return launch
