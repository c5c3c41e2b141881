"""Robust linear regression as a scikit-learn estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from .._loss import Loss
from .._meaning import check_rows
from .._types import ArrayLike
from ._errors import CoefficientErrors, coefficient_errors
from ._linear_fit import LinearFit
from ._private_sklearn import sample_weights
from ._problem import Tell
from ._regression import fit_linear
from ._unit_loss import reweighted


class Table(Protocol):
    """A data frame of whatever library: what has named columns and a shape."""

    @property
    def columns(self) -> object:
        """The names of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""


class RobustRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear regression under the adaptive robust likelihood: coefficients, alpha and scale by maximum likelihood.

    Or under another loss, of `fastrobust.losses` or of your own.

    Parameters
    ----------
    alpha : "auto" or float
        Shape of the loss: 2 is least squares, 1 pseudo-Huber, 0 Cauchy, -inf Welsch. "auto" estimates it over [0, 2].
        Not used where another loss is given.
    scale : "auto" or float
        Size of residual from which a row begins to count less, in units of y. "auto" estimates it. For alpha < 0 it has
        to be a number: the density has no finite mass, so that no likelihood can choose the scale.
    fit_intercept : bool
        Whether the model has an intercept.
    loss : fastrobust.losses.Loss, in place of alpha, optional
        One of a residual alone, with defaults for all its parameters (see `Loss.with_defaults`) and finite weights, as
        `irls` takes it. The scale has to be a number then: no likelihood is known that could choose it.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    alpha_, scale_ : float
        Estimated or as given; with a loss there is no ``alpha_``.
    weights_ : ndarray of shape (n_samples,)
        What each row counts in the fit, relative to one with the residual 0 (of a loss: psi(z)/z over its value at 0,
        unless that is 0); without its sample weight.
    n_iter_ : int
        Iterations on all rows.
    result_ : LinearFit
        The same and more: residuals, the mean objective and its gradient, least squares for comparison.
    n_features_in_, feature_names_in_
        As in all estimators.

    Notes
    -----
    Minimizes the weighted mean of nll(y - X coef - intercept, alpha, scale), or of the loss for alpha < 0, or that of
    loss((y - X coef - intercept)/scale), from several starts: least squares, alpha = 1, and the three best of 500 exact
    fits of random rows (of all subsets, if there are no more), each improved by reweighting; a convex loss needs fewer.
    It is not convex for alpha < 1: the minimum is the lowest found, and may not be the lowest there is.

    The most likely line need not be the one through the bulk of the rows. Rows far out in X, on a line of their own,
    can make a fit of all rows with a large scale likelier than one that leaves them out: for the star cluster CYG OB1,
    with four giants among 47 stars, the most likely slope is -0.41, and that of the others 2.25. Where such groups are
    possible, look at the residuals over X, and fix alpha below 0 and the scale at the size of the noise.

    Where as many rows as there are coefficients carry half of the weight (fewer than twice as many rows), the
    likelihood has no maximum, and "auto" looks for alpha in [1, 2], where it has. Where half of the rows lie exactly on
    one fit the scale shrinks to nothing, ``scale_`` is a number of the size of rounding, and ``result_.exact_rows``
    counts those rows. Collinear columns share a coefficient, as in least squares of minimum norm with each column in
    units of its spread.

    Up to 4,000 rows (40 for each coefficient, if that is more) are sorted, so that their order makes no difference, nor
    a weight in place of a repetition; above, the starts are fits of a random sample of that many.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import RobustRegressor
    >>> random = np.random.default_rng(0)
    >>> X = random.normal(size=(200, 1))
    >>> y = 2 * X[:, 0] + 1 + 0.1 * random.normal(size=200)
    >>> y[:60] += 50
    >>> model = RobustRegressor().fit(X, y)
    >>> print(np.round(model.coef_, 1), round(model.intercept_, 1))
    [2.] 1.0
    >>> from fastrobust import losses
    >>> model = RobustRegressor(loss=losses.tukey, scale=0.2).fit(X, y)
    >>> print(np.round(model.coef_, 1), round(model.intercept_, 1))
    [2.] 1.0
    """

    def __init__(
        self,
        alpha: float | Literal["auto"] = "auto",
        scale: float | Literal["auto"] = "auto",
        fit_intercept: bool = True,
        loss: Loss | None = None,
    ) -> None:
        self.alpha = alpha
        self.scale = scale
        self.fit_intercept = fit_intercept
        self.loss = loss

    def fit(
        self,
        X: ArrayLike | Table,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: Callable[[OptimizeResult], object] | None = None,
    ) -> RobustRegressor:
        """Fit the model.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Left as it is. Computed in float64.
        y : array_like of shape (n_samples,)
        sample_weight : array_like of shape (n_samples,), optional
            Nonnegative, not all 0. A weight of 2 is a repetition; 0 excludes the row.
        callback : callable, optional
            Called as ``callback(intermediate_result)`` where a part of the work begins and after each iteration:
            ``message`` says in a line which, and in iterations ``nit`` and ``fun``, the mean objective of the rows at
            work, say how far it is. StopIteration ends the fit where it is.

        Raises
        ------
        TypeError, ValueError
            For parameters or data that are none of the above, NaN or infinite; and for a number so far from the others
            (2**40 times their spread in a column of X, 1e100 times in y) that little is left of them beside it.

        Warns
        -----
        ConvergenceWarning
            Where the optimizer stopped early, or was stopped. Rows that lie exactly on a fit do not count as that.
        """
        alpha = _number("alpha", self.alpha, "a number in [-inf, inf]")
        scale = _number("scale", self.scale, "a positive finite number")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f'scale must be "auto" or a positive finite number, got {self.scale!r}')
        if self.loss is None and alpha is not None and alpha < 0 and scale is None:
            raise ValueError(
                f"alpha={self.alpha!r} needs scale to be a number, the size of residual that is not yet an outlier: "
                'below 0 the density has no finite mass, so that no likelihood can choose it; got scale="auto"'
            )
        if self.loss is not None:
            reweighted("RobustRegressor", self.loss)
            if scale is None:
                raise ValueError(
                    "loss needs scale to be a number, the size of residual that is its unit: it is no density, so that "
                    'no likelihood is known that could choose the scale; got scale="auto"'
                )
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise TypeError(f"fit_intercept must be True or False, got {self.fit_intercept!r}")
        check_rows(X=X, y=y, sample_weight=sample_weight)
        rows, target = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        weights = None
        if sample_weight is not None:
            weights = sample_weights(sample_weight, rows)
            if not weights.any():
                raise ValueError("sample_weight must have a positive element, got only zeros")
            with np.errstate(over="ignore"):
                if not math.isfinite(float(weights.sum())):
                    raise ValueError(
                        "sample_weight sums to infinity: a weight counts repetitions, so divide the weights until they "
                        "sum to the number of observations"
                    )
        tell = Tell(callback)
        fit: LinearFit = fit_linear(
            rows, target, weights, alpha=alpha, scale=scale, loss=self.loss, fit_intercept=bool(self.fit_intercept),
            tell=tell,
        )  # fmt: skip
        if not (fit.converged or fit.exact_rows):
            why = "other alpha or scale, or columns without far outliers, may help"
            warnings.warn(
                f"the fit has not converged: the gradient is still {fit.gradient:.1e} after {fit.iterations} "
                f"iterations; {'the callback stopped it' if tell.stopped else why}",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.result_ = fit
        self.coef_, self.intercept_ = fit.coefficients, fit.intercept
        self.scale_, self.weights_, self.n_iter_ = fit.scale, fit.weights, fit.iterations
        if fit.loss is None:
            self.alpha_ = fit.alpha
        elif hasattr(self, "alpha_"):  # of a fit before
            del self.alpha_
        return self

    def standard_errors(
        self, X: ArrayLike | Table, sample_weight: ArrayLike | None = None, *, names: Sequence[str] | None = None
    ) -> CoefficientErrors:
        """Standard errors of the coefficients of this fit and of least squares, intercept first if there is one.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            The rows of the fit, in their order.
        sample_weight : array_like of shape (n_samples,), optional
            As in the fit. A weight is a number of repetitions: ten times the weights are ten times the rows, and errors
            smaller by sqrt(10).
        names : sequence of str, optional
            Of the columns, for ``doubts``; ``feature_names_in_`` or their indices without.

        Returns
        -------
        CoefficientErrors
            ``robust`` and ``ols``, the errors; ``margins(errors, confidence=0.95)``, half the widths of the intervals,
            by the t distribution with ``df`` degrees of freedom; ``condition``, the condition number of the columns,
            centred and of one length; ``doubts``, sentences about what makes the errors doubtful: dependent columns, a
            scale that was given in another unit. NaN where nothing can be said: undetermined coefficients, no more rows
            than coefficients, exact fits.

        Raises
        ------
        ValueError
            For other rows than those of the fit, weights that sum to fewer rows than there are coefficients, and a loss
            whose curvature at 0 is 0.

        Notes
        -----
        The robust ones are a jackknife: for each row a Newton step of the likelihood of all other rows, in the
        coefficients, alpha and the scale, as far as these are estimated. At alpha = 2 this is HC3 of least squares.
        Fits that ignore many rows get larger ones: by the quantiles of t with the sum of ``weights_`` in place of the
        number of rows. In simulations intervals of 95 % cover 94 to 97 % for 20 rows and more, with errors that are
        normal, t with three degrees of freedom, or contaminated; with alpha fixed at 0 they cover 87 to 94 % for 20
        rows. They do not cover the choice between several minima.

        Examples
        --------
        >>> import numpy as np
        >>> from fastrobust.optimize import RobustRegressor
        >>> random = np.random.default_rng(0)
        >>> X = random.normal(size=(200, 1))
        >>> y = 2 * X[:, 0] + 1 + 0.1 * random.normal(size=200)
        >>> y[:60] += 50
        >>> errors = RobustRegressor().fit(X, y).standard_errors(X)
        >>> print(errors.robust.round(3), errors.ols.round(3))
        [0.009 0.009] [1.627 1.693]
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if len(rows) != len(self.weights_):
            raise ValueError(f"X has {len(rows)} rows, and the fit {len(self.weights_)}: give the rows of the fit")
        weights = None if sample_weight is None else sample_weights(sample_weight, rows)
        if names is None:
            names = getattr(self, "feature_names_in_", [f"X[:, {j}]" for j in range(rows.shape[1])])
        return coefficient_errors(
            self.result_, rows, weights, alpha_estimated=self.alpha == "auto" and self.result_.loss is None,
            scale_estimated=self.scale == "auto",
            intercept=bool(self.fit_intercept), names=[str(name) for name in names],
        )  # fmt: skip

    def predict(self, X: ArrayLike | Table) -> NDArray[np.float64]:
        """X coef_ + intercept_, of shape (n_samples,).

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        check_rows(X=X)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        fitted: NDArray[np.float64] = rows @ self.coef_ + self.intercept_
        return fitted


def _number(name: str, value: object, what: str) -> float | None:
    """A parameter's number as a float; None for "auto"."""
    if isinstance(value, str) and value == "auto":
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f'{name} must be "auto" or {what}, got {value!r}')
    if math.isnan(value):
        raise ValueError(f'{name} must be "auto" or {what}, got {value!r}')
    return float(value)
