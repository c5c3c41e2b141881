"""The picture of a fit: data and fit, residuals, and the fitted loss beside the squared loss."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

import fastrobust as fr

from .common import printable
from .fit import Fit
from .report import number
from .tables import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Style: TypeAlias = dict[str, Any]  # options of Matplotlib's

FAR = 75.0  # scales; panels reach no further on a linear axis
POINTS = 20_000  # more cannot be told apart
# The points run from vermillion to blue, which every kind of colour vision tells apart, over a middle that shows on
# white. The lines have colours of their own, and differ in their dashes too.
ROBUST, SQUARED = "#1A1A1A", "#AA4499"
WEIGHTS = LinearSegmentedColormap.from_list("weight", ["#D55E00", "#E8B36B", "#7FB3D5", "#0072B2"])


def picture(fit: Fit, data: Data, title: str, form: str = "png") -> bytes:
    """The three panels as the bytes of a file: data and fit, residuals, losses. Needs no display."""
    figure = Figure(figsize=(14, 5), dpi=130)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    shown = _sample(fit)
    # Rows that count are drawn last: the others are far out, and seen anyway.
    shown = shown[np.argsort(fit.weights[shown], kind="stable")]
    size = 34.0 if len(shown) <= 200 else 14.0 if len(shown) <= 3000 else 4.0
    style: Style = {
        "c": np.clip(fit.weights[shown], 0, 1),
        "cmap": WEIGHTS,
        "vmin": 0.0,
        "vmax": 1.0,
        "s": size,
        "linewidths": 0.5 if size > 30 else 0.2 if size > 10 else 0.0,
        "edgecolors": "#333333",
        "rasterized": True,
    }
    fitted = data.y - fit.residuals
    if len(data.features) == 1:
        _line(left, fit, data, shown, style)
    else:
        _observed(left, fit, data, fitted, shown, style)
    points = _residuals(middle, fit, fitted, shown, style)
    middle.set_xlabel(f"fitted {_label(data.target)}")
    figure.colorbar(points, ax=middle, label="weight (1 counts fully)", pad=0.02)
    _losses(right, fit, data)
    of = f" ({len(shown):,} of {len(data.y):,} rows drawn)" if len(shown) < len(data.y) else ""
    figure.suptitle(_label(f"{title}{of}", 120), fontsize=13)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font has not: boxes in its place.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format=form)
    return buffer.getvalue()


def _sample(fit: Fit) -> Rows:
    """The positions of the rows to draw: all, or as many as can be told apart, always the same."""
    n = len(fit.weights)
    if n <= POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, POINTS, replace=False))


def _label(name: str, limit: int = 32) -> str:
    """The name as a label: cut to a length, and with dollar signs escaped, which would start a formula."""
    name = printable(name)
    name = name if len(name) <= limit else name[: limit - 1] + "…"
    return name.replace("$", r"\$")


def _line(axes: Axes, fit: Fit, data: Data, shown: Rows, style: Style) -> None:
    """Draw the rows and both fitted lines, of the one feature that there is."""
    x = data.X[shown, 0]
    axes.scatter(x, data.y[shown], **style)
    ends = np.array([x.min(), x.max()])
    for line, colour, dash, name in (
        (fit.coefficients, ROBUST, "-", "robust"),
        (fit.ols_coefficients, SQUARED, "--", "least squares"),
    ):
        label = f"{name}: {number(line[1], 3)} x {'+' if line[0] >= 0 else '-'} {number(abs(line[0]), 3)}"
        axes.plot(ends, line[0] + line[1] * ends, dash, color=colour, linewidth=2, label=label)
    axes.set(xlabel=_label(data.features[0]), ylabel=_label(data.target))
    _head(axes, "data and fit")


def _observed(axes: Axes, fit: Fit, data: Data, fitted: Array, shown: Rows, style: Style) -> None:
    """Draw observed against fitted values; of a few rows, those with the smallest weights have their numbers."""
    axes.scatter(fitted[shown], data.y[shown], **style)
    both = np.concatenate((fitted[shown], data.y[shown]))
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=ROBUST, linewidth=1.2, label="observed = fitted")
    axes.set(xlabel=f"fitted {_label(data.target)}", ylabel=f"observed {_label(data.target)}")
    _head(axes, "observed against fitted (robust)")
    if len(data.y) <= 200:
        for i in np.argsort(fit.weights, kind="stable")[:6]:
            if fit.weights[i] < 0.2:
                axes.annotate(
                    str(data.rows[i]), (fitted[i], data.y[i]), (5, -9), textcoords="offset points", fontsize=8
                )


def _residuals(axes: Axes, fit: Fit, fitted: Array, shown: Rows, style: Style) -> PathCollection:
    """Draw the residuals and the band of the scale; the points are returned, for the bar of colours."""
    axes.axhspan(
        -fit.scale, fit.scale, color="#0072B2", alpha=0.12, linewidth=0, label=f"± scale = {number(fit.scale, 3)}"
    )
    axes.axhline(0.0, color=ROBUST, linewidth=1.2)
    points = axes.scatter(fitted[shown], fit.residuals[shown], **style)
    axes.set_ylabel("residual (observed - fitted)")
    if float(np.abs(fit.residuals).max()) > FAR * fit.scale:
        # Linear where most rows are, logarithmic beyond, so that both can be seen.
        axes.set_yscale("symlog", linthresh=10.0 ** math.ceil(math.log10(2 * fit.scale)))
    _head(axes, "residuals and their weights")
    return points


def _losses(axes: Axes, fit: Fit, data: Data) -> None:
    """Draw the fitted loss and the squared one as far as the residuals reach, with a tick for each row."""
    size = np.abs(fit.residuals)
    reach = min(1.05 * float(size.max()), FAR * fit.scale)
    beyond = int(np.count_nonzero(size > reach))
    r = np.linspace(-reach, reach, 801)
    robust = np.asarray(fr.loss(r, fit.alpha, fit.scale))
    squared = np.asarray(fr.loss(r, 2.0, fit.scale))
    top = min(2.2 * float(robust[0]), float(max(robust[0], squared[0])))
    for curve, colour, dash, name in (
        (robust, ROBUST, "-", f"fitted (alpha = {number(fit.alpha, 3)})"),
        (squared, SQUARED, "--", "squared (alpha = 2)"),
    ):
        axes.plot(r, curve, dash, color=colour, linewidth=2, label=name)
    ticks = fit.residuals[_sample(fit)]
    axes.plot(ticks, np.full(len(ticks), -0.03 * top), "|", color="#333333", markersize=7, alpha=0.5, rasterized=True)
    axes.set(xlim=(-1.05 * reach, 1.05 * reach), ylim=(-0.06 * top, 1.03 * top), ylabel="loss")
    outside = f"; {beyond:,} beyond" if beyond else ""
    axes.set_xlabel(f"residual of {_label(data.target)} (ticks: the rows{outside})")
    _head(axes, "what a residual costs")


def _head(axes: Axes, title: str) -> None:
    """Put the title above the panel and the legend between them, where it never covers a point."""
    axes.set_title(title, pad=24)
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 0.99), ncols=2, borderpad=0.2)
