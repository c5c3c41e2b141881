"""The ``fastrobust`` command: ``fit``, ``demo`` and ``info``. Built on the public functions only.

Each command imports what it needs when it runs, so that ``--help`` is immediate and ``info`` works without the extras.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

PICTURES = ("png", "pdf", "svg")
DESCRIPTION = "Barron's general and adaptive robust loss. Fits, shows what the fit does, tells what is installed."
EPILOG = """\
examples:
  fastrobust demo                                    two fits with pictures, and how fast this machine is
  fastrobust fit data.csv --target y                 every other column is a feature
  fastrobust fit data.csv --target y --plot fit.png
  fastrobust info
Each command has its own --help.
"""
FIT = """\
Linear regression (with an intercept) that outliers do not pull away. The residuals follow the density
exp(-loss(residual, alpha, scale)) / (scale Z(alpha)), and alpha and the scale are estimated together with the
coefficients, by maximum likelihood. alpha says how heavy the tails are: 2 is the normal distribution (least squares),
0 is Cauchy's. It is estimated over [0, 2]. The scale is the size of residual from which a row begins to count less.
Where a large share of the rows is far off, the most likely alpha may be 2 with a large scale: then fix alpha at 0, say.

FILE is CSV (with a header line; comma, semicolon or tab) or Parquet. Data rows are numbered from 1.
"""
FIT_EPILOG = """\
examples:
  fastrobust fit house.csv --target price --features area,rooms,age
  fastrobust fit house.parquet --target price --plot fit.png --json fit.json
  fastrobust fit house.csv --target price --alpha 1               pseudo-Huber tails, the scale estimated
  fastrobust fit house.csv --target price --alpha -2 --scale 3    far rows are ignored (Geman-McClure)
A column name with a comma goes in double quotes: --features '"area, m2",rooms'

alpha < 0: no density has such a loss (its mass is infinite), so the scale has to be given, the mean loss is minimized
instead of the likelihood, and there is no log-likelihood. alpha may be -inf (Welsch's loss).

standard errors: for the robust fit a jackknife, a Newton step of the likelihood without each row, in all that is
estimated; the classical ones for least squares. The intervals are of 95 %, by the t distribution.

JSON keys:
  fastrobust file target features rows rows_dropped
  robust: objective ("nll", or "loss" where alpha < 0), coefficients [{name, estimate, std_error,
    interval: [low, high] of 95 %}], alpha, alpha_estimated, alpha_at_bound (null, "lower", "upper"), scale,
    scale_estimated, mean_objective, log_likelihood, aic, std_error_from ("jackknife", or null where there are none),
    converged, gradient
  ols: coefficients, sigma, log_likelihood, aic
  degrees_of_freedom: of the intervals' t distribution
  condition_number: of the columns, centred and of one length
  warnings: sentences on what to take with care
  down_weighted: [{row, target, fitted, residual, weight}], smallest weight first; 1 counts fully
A number that is not defined is null; an infinite one is the text "inf" or "-inf".

Bad input ends with one line on stderr and exit status 2; no output file is left half written.
"""
DEMO = """\
Three things in a row: a fit of Brownlee's stack-loss data (21 days of a chemical plant, shipped with the package), a
fit of a line with a tenth of its points replaced by outliers, and the time that the loss with all its gradients takes
on ten million residuals, beside a copy of as many bytes. Writes fastrobust-stackloss.png and fastrobust-line.png.
"""
INFO = "Versions, machine, kernel cache, array libraries found and, for each that is missing, how to get it."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 when interrupted."""
    from .common import UserError

    parser = _build()
    arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if arguments.command is None:
        parser.print_help()
        return 0
    # Ended from outside, as by Ctrl-C: temporary files are removed on the way out.
    with contextlib.suppress(ValueError):  # only the main thread may set it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prefix = f"fastrobust {arguments.command}: "
    try:
        {"fit": _fit, "demo": _demo, "info": _info}[arguments.command](arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"{prefix}error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prefix}interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left. Nothing more is written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _build() -> _Parser:
    def add(name: str, summary: str, text: str, epilog: str = "") -> _Parser:
        return commands.add_parser(
            name, help=summary, description=text, epilog=epilog, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    parser = _Parser(
        prog="fastrobust", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    fit = add("fit", "robust linear regression of a CSV or Parquet file", FIT, FIT_EPILOG)
    fit.add_argument("file", metavar="FILE", type=Path)
    fit.add_argument("--target", metavar="COLUMN", required=True, help="the column to explain")
    fit.add_argument(
        "--features", metavar="A,B", type=_names, help="the columns to explain it by (default: all others)"
    )
    fit.add_argument(
        "--alpha", metavar="auto|NUMBER", type=_alpha, default=None, help="shape of the loss (default: auto)"
    )
    fit.add_argument(
        "--scale", metavar="auto|NUMBER", type=_scale, default=None, help="in target units (default: auto)"
    )
    fit.add_argument(
        "--drop-missing", action="store_true", help="leave out rows with empty or NaN values, and count them"
    )
    fit.add_argument("--show", metavar="N", type=_count, default=8, help="down-weighted rows to list (default: 8)")
    fit.add_argument("--plot", metavar="OUT.png", type=Path, help="draw the fit (.png, .pdf or .svg)")
    fit.add_argument("--json", metavar="OUT.json", type=Path, help="write the fit as JSON; keys below")

    demo = add("demo", "two fits with pictures, and the speed of this machine", DEMO)
    demo.add_argument(
        "--outdir", metavar="DIR", type=Path, default=Path(), help="where the pictures go (default: here)"
    )
    demo.add_argument(
        "--size", metavar="N", type=_size, default=10_000_000, help="residuals to time (default: 10000000)"
    )

    info = add("info", "versions, backends and how to get the missing ones", INFO)
    info.add_argument("--clear-cache", action="store_true", help="remove the compiled kernels first")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        import fastrobust

        print("fastrobust", fastrobust.__version__)
        parser.exit(0)


def _joined(argv: Sequence[str]) -> list[str]:
    # argparse takes "-inf" and "-1e-3" for options, so such a value is tied to the option it follows.
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--alpha", "--scale") and word.startswith("-") and not word.startswith("--"):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def _names(text: str) -> list[str]:
    names = next(csv.reader([text], skipinitialspace=True), [])
    if not names or "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of columns such as A,B")
    return names


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number")
    return value


def _alpha(text: str) -> float | None:
    return None if text == "auto" else _number(text)


def _scale(text: str) -> float | None:
    value = None if text == "auto" else _number(text)
    if value is not None and not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"the scale has to be positive and finite, not {text!r}")
    return value


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value


def _count(text: str) -> int:
    return _integer(text, 0)


def _size(text: str) -> int:
    return _integer(text, 1)


def _fit(arguments: argparse.Namespace) -> None:
    from .common import Progress, UserError, check_writable, require, write_files

    alpha, scale = arguments.alpha, arguments.scale
    if alpha is not None and alpha < 0 and scale is None:
        raise UserError(
            f"--alpha {alpha:g} needs --scale NUMBER: below 0 the density has no finite mass, so that no likelihood "
            "can choose the scale"
        )
    outputs = [path for path in (arguments.plot, arguments.json) if path is not None]
    taken = [path.resolve() for path in [arguments.file, *outputs]]
    if len(set(taken)) < len(taken):
        raise UserError("FILE, --plot and --json have to be different files")
    require("numpy", "scipy", "pyarrow", "rich", *(["matplotlib"] if arguments.plot else []), "sklearn")
    form = arguments.plot.suffix[1:].lower() if arguments.plot else ""
    if arguments.plot and form not in PICTURES:
        raise UserError(f"--plot {str(arguments.plot)!r}: the name has to end in .{', .'.join(PICTURES)}")
    check_writable(outputs)

    from . import tables

    with Progress() as progress:
        progress.tell(f"reading {arguments.file}")
        data = tables.read(arguments.file, arguments.target, arguments.features, arguments.drop_missing)
        from . import fit, report

        found = fit.fit(data.X, data.y, data.features, alpha, scale, progress.tell)
        contents: dict[Path, bytes] = {}
        if arguments.plot:
            from . import plots

            progress.tell("drawing")
            title = f"{data.target} in {arguments.file.name}"
            contents[arguments.plot] = plots.picture(found, data, title, form)
        if arguments.json:
            contents[arguments.json] = report.as_json(found, data, arguments.file, arguments.show)
        write_files(contents)
    report.show(found, data, arguments.file.name, arguments.show)
    for path in contents:
        print(f"wrote {path}")


def _demo(arguments: argparse.Namespace) -> None:
    from .common import require

    require("numpy", "scipy", "pyarrow", "rich", "matplotlib", "sklearn")
    from . import demo

    demo.run(arguments.outdir, arguments.size)


def _info(arguments: argparse.Namespace) -> None:
    from . import info

    info.show(arguments.clear_cache)
