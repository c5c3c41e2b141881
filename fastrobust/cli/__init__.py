"""The ``fastrobust`` command: ``fit``, ``demo`` and ``info``. Built on the public functions only.

Each command imports what it needs when it runs, so that ``--help`` is immediate and ``info`` works without the extras.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import outputs, streams
from .common import UserError, printable

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

FILE is Parquet, or CSV with a header line: separated by comma, semicolon, tab or |, in UTF-8 or as Excel's Unicode
text. It may be compressed (gzip, bzip2, zstd, lz4) and it may be a pipe; - is standard input. Data rows are numbered
from 1; lines, too, of which the header is the first. A value is missing where a cell is empty or holds NaN, NA, N/A,
NULL, None, \\N, ., .., ?, -, * or an error of Excel's, in capitals or not. Numbers may have decimal commas. A column
without a name, or one that names the rows (Unnamed: 0, rownames, an index of pandas), is no feature by itself.
"""
FIT_EPILOG = """\
examples:
  fastrobust fit house.csv --target price --features area,rooms,age
  fastrobust fit house.parquet --target price --plot fit.png --json fit.json
  fastrobust fit house.csv --target price --alpha 1               pseudo-Huber tails, the scale estimated
  fastrobust fit house.csv --target price --alpha -2 --scale 3    far rows are ignored (Geman-McClure)
  zcat house.csv.gz | fastrobust fit - --target price --json - | jq .robust.alpha
A column name with a comma goes in double quotes: --features '"area, m2",rooms'

alpha < 0: no density has such a loss (its mass is infinite), so the scale has to be given, the mean loss is minimized
instead of the likelihood, and there is no log-likelihood. alpha may be -inf (Welsch's loss).

standard errors: for the robust fit a jackknife, a Newton step of the likelihood without each row, in all that is
estimated; the classical ones for least squares. The intervals are of 95 %, by the t distribution.

JSON keys:
  fastrobust file target features rows rows_dropped, notes [what was special in the file]
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

Bad input ends with one line on stderr and exit status 2; no output file is left half written. With --json -, standard
output holds nothing but the JSON.
"""
DEMO = """\
Three things in a row: a fit of Brownlee's stack-loss data (21 days of a chemical plant, shipped with the package), a
fit of a line with a tenth of its points replaced by outliers, and the time that the loss with all its gradients takes
on ten million residuals, beside a copy of as many bytes. Writes fastrobust-stackloss.png and fastrobust-line.png.
"""
INFO = "Versions, machine, kernel cache, array libraries found and, for each that is missing, how to get it."


class _Parser(argparse.ArgumentParser):
    """A parser whose messages are one line each, and whose help meets a full disk as all output does."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message in one line."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.splitlines())} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End with that status, after the message on standard error if there is one."""
        if message:
            streams.complain(message)
        sys.exit(status)

    def print_help(self, file: object = None) -> None:
        """Write the help to standard output, whatever the file."""
        streams.say(self.format_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    That is 0, 2 for what cannot be done, 130 when interrupted, and 141 when the reader of the output has left.
    """
    prefix = "fastrobust: "
    with streams.guarded():
        try:
            parser = _build()
            arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
            if arguments.command is None:
                parser.print_help()
                return 0
            prefix = f"fastrobust {arguments.command}: "
            streams.check_open()
            {"fit": _fit, "demo": _demo, "info": _info}[arguments.command](arguments)
        except UserError as error:
            streams.complain(f"{prefix}error: {' '.join(str(error).splitlines())}")
            return 2
        except MemoryError:
            streams.complain(f"{prefix}error: there is not enough memory for so much data")
            return 2
        except KeyboardInterrupt:
            streams.complain(f"{prefix}interrupted")
            return 130
        except streams.ReaderLeft:
            return 141
    return 0


def _build() -> _Parser:
    """The parser of the command line: what each command takes, in the words of its help."""

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
    fit.add_argument("file", metavar="FILE", help="CSV or Parquet; - is standard input")
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
    fit.add_argument("--drop-missing", action="store_true", help="leave out rows with missing values, and count them")
    fit.add_argument("--show", metavar="N", type=_count, default=8, help="down-weighted rows to list (default: 8)")
    fit.add_argument("--plot", metavar="OUT.png", help="draw the fit (.png, .pdf or .svg)")
    fit.add_argument(
        "--json",
        metavar="OUT.json",
        help="write the fit as JSON, keys below; - is standard output, then in place of the report",
    )

    demo = add("demo", "two fits with pictures, and the speed of this machine", DEMO)
    demo.add_argument("--outdir", metavar="DIR", default=".", help="where the pictures go (default: here)")
    demo.add_argument(
        "--size", metavar="N", type=_size, default=10_000_000, help="residuals to time (default: 10000000)"
    )

    info = add("info", "versions, backends and how to get the missing ones", INFO)
    info.add_argument("--clear-cache", action="store_true", help="remove the compiled kernels first")
    return parser


class _Version(argparse.Action):
    """The option ``--version``, which imports the package only where it is given."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        import fastrobust

        streams.say(f"fastrobust {fastrobust.__version__}\n")
        parser.exit(0)


def _joined(argv: Sequence[str]) -> list[str]:
    """The words with negative numbers tied to the option that they follow: argparse takes "-inf" for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--alpha", "--scale") and word.startswith("-") and not word.startswith("--"):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def _names(text: str) -> list[str]:
    """The names in a list of columns, read as a line of CSV, so that a name in quotes may have a comma."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    if not names or "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of columns such as A,B")
    return names


def _number(text: str) -> float:
    """The number that is given in place of auto, not NaN; infinity passes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number")
    return value


def _alpha(text: str) -> float | None:
    """The value of --alpha; None stands for auto."""
    return None if text == "auto" else _number(text)


def _scale(text: str) -> float | None:
    """The value of --scale, positive and finite; None stands for auto."""
    value = None if text == "auto" else _number(text)
    if value is not None and not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"the scale has to be positive and finite, not {text!r}")
    return value


def _integer(text: str, least: int) -> int:
    """The whole number, at least so large."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value


def _count(text: str) -> int:
    """The value of --show: 0 lists nothing."""
    return _integer(text, 0)


def _size(text: str) -> int:
    """The value of --size, of which there must be one at least to be timed."""
    return _integer(text, 1)


def _fit(arguments: argparse.Namespace) -> None:
    """``fastrobust fit``.

    What can be refused is refused before FILE is read.  Then come the fit, the files that were asked for and at last
    the report, so that it tells of no file that could not be written.
    """
    from .common import Progress, require, threads

    alpha, scale = arguments.alpha, arguments.scale
    if alpha is not None and alpha < 0 and scale is None:
        raise UserError(
            f"--alpha {alpha:g} needs --scale NUMBER: below 0 the density has no finite mass, so that no likelihood "
            "can choose the scale"
        )
    require("numpy", "scipy", "pyarrow", "rich", *(["matplotlib"] if arguments.plot is not None else []), "sklearn")
    threads()
    plot, json, form = arguments.plot, arguments.json, ""
    if plot is not None:
        form = os.path.splitext(plot)[1][1:].lower()
        if form not in PICTURES:
            raise UserError(f"--plot {plot!r}: the name has to end in .{', .'.join(PICTURES)}")
    if json is not None:
        json = outputs.destination(json)
    files = [name for name in (plot, json) if name not in (None, outputs.STDOUT)]
    taken = [arguments.file, *files]
    if any(outputs.same(name, other) for i, name in enumerate(taken) for other in taken[:i]):
        raise UserError("FILE, --plot and --json have to be different files")
    for name in (arguments.file, plot):
        if name is not None and os.path.isfile(name) and outputs.is_descriptor(name, 1):
            raise UserError(f"standard output goes to {name!r}, which the report would spoil: redirect it elsewhere")
    outputs.check_writable(files)

    from . import sources, tables

    with Progress() as progress:
        progress.tell(f"reading {arguments.file}")
        source = sources.Source(arguments.file)
        data = tables.read(source, arguments.target, arguments.features, arguments.drop_missing)
        from . import fit, report

        fitted = fit.fit(data.X, data.y, data.features, alpha, scale, progress.tell)
        contents: dict[str, bytes] = {}
        if plot is not None:
            from . import plots

            progress.tell("drawing")
            contents[plot] = plots.picture(fitted, data, f"{data.target} in {source.label}", form)
        if json is not None:
            contents[json] = report.as_json(fitted, data, arguments.file, arguments.show)
        told = contents.pop(outputs.STDOUT, None)
        outputs.write_files(contents)
    if told is not None:
        streams.say_bytes(told)
        return
    report.show(fitted, data, source.label, arguments.show)
    streams.say("".join(f"wrote {printable(name)}\n" for name in contents))


def _demo(arguments: argparse.Namespace) -> None:
    """``fastrobust demo``, once what it needs is there."""
    from .common import require, threads

    require("numpy", "scipy", "pyarrow", "rich", "matplotlib", "sklearn")
    from . import demo

    demo.run(arguments.outdir, arguments.size, threads())


def _info(arguments: argparse.Namespace) -> None:
    """``fastrobust info``, which needs none of the extras."""
    from . import info

    streams.say(info.text(arguments.clear_cache))
