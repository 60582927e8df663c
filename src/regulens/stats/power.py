"""How large must an effect or a sample be to be seen? Closed forms for AUROC, correlation and mean shifts."""

from __future__ import annotations

import math

from scipy.special import ndtri

from regulens.errors import ParameterError


def _open_unit(value: float, name: str) -> float:
    if not 0.0 < value < 1.0:
        message = f"Expected {name} in (0, 1), got {value}. Give it as a share, e.g. 0.05 or 0.8."
        raise ParameterError(message)
    return float(value)


def _z_sum(alpha: float, power: float, sides: int, n_tests: int = 1) -> float:
    """``z(1 - alpha / (sides * n_tests)) + z(power)``; sides is 1 or 2."""
    if sides not in (1, 2):
        message = f"Expected sides to be 1 or 2, got {sides}. Use 2 for a two-sided test."
        raise ParameterError(message)
    if n_tests < 1:
        message = f"Expected at least one test, got {n_tests}. Count the tests of the plan."
        raise ParameterError(message)
    # -ndtri(tail) keeps its digits where 1 - tail would round
    return float(-ndtri(_open_unit(alpha, "alpha") / (sides * n_tests)) + ndtri(_open_unit(power, "power")))


def auroc_null_se(n_pos: int, n_neg: int) -> float:
    """Standard error of an AUROC when scores know nothing and pairs are independent.

    ``sqrt((n_pos + n_neg + 1) / (12 n_pos n_neg))``, the null variance of the Mann-Whitney statistic (Hanley &
    McNeil 1982) without ties. Real pairs share genes, so this is a lower bound: multiply its square by a
    design effect.

    Raises
    ------
    ParameterError
        No positives or no negatives.

    Examples
    --------
    >>> round(auroc_null_se(27, 1304), 3)
    0.056
    """
    if n_pos < 1 or n_neg < 1:
        message = f"Expected at least one positive and one negative, got {n_pos} and {n_neg}. An AUROC needs both."
        raise ParameterError(message)
    return math.sqrt((n_pos + n_neg + 1) / (12.0 * n_pos * n_neg))


def auroc_se_at(auroc: float, n_pos: int, n_neg: int) -> float:
    """Standard error that an AUROC of this size has with so many independent positives and negatives.

    ``var = (A (1 - A) + (n_pos - 1)(Q1 - A^2) + (n_neg - 1)(Q2 - A^2)) / (n_pos n_neg)`` with ``Q1 = A / (2 - A)``
    and ``Q2 = 2 A^2 / (1 + A)`` (Hanley & McNeil 1982, from exponential scores). It does not depend on the observed
    scores, so units can be weighed by it without favouring those that came out extreme.

    Parameters
    ----------
    auroc
        In (0, 1); below 0.5 the two classes change places.

    Examples
    --------
    >>> round(auroc_se_at(0.5, 27, 1304), 3), round(auroc_se_at(0.8, 27, 1304), 3)
    (0.056, 0.052)
    """
    if n_pos < 1 or n_neg < 1:
        message = f"Expected at least one positive and one negative, got {n_pos} and {n_neg}. An AUROC needs both."
        raise ParameterError(message)
    a = _open_unit(auroc, "auroc")
    q1, q2 = a / (2.0 - a), 2.0 * a * a / (1.0 + a)
    variance = a * (1.0 - a) + (n_pos - 1) * (q1 - a * a) + (n_neg - 1) * (q2 - a * a)
    return math.sqrt(variance / (float(n_pos) * float(n_neg)))


def minimum_detectable_auroc(
    n_pos: int, n_neg: int, *, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0
) -> float:
    """Smallest AUROC that a two-sided test finds with probability `power`.

    ``0.5 + (z(1 - alpha/2) + z(power)) * SE0 * sqrt(design_effect)``; may exceed 1 where no AUROC can be detected.

    Parameters
    ----------
    design_effect
        Variance with clustering over variance without, > 0; e.g. ``(se / auroc_null_se(n_pos, n_neg)) ** 2``.

    Examples
    --------
    >>> round(minimum_detectable_auroc(27, 1304), 3)
    0.657
    """
    if not design_effect > 0:
        message = f"Expected a design effect above 0, got {design_effect}. Use 1 for independent pairs."
        raise ParameterError(message)
    return 0.5 + _z_sum(alpha, power, 2) * auroc_null_se(n_pos, n_neg) * math.sqrt(design_effect)


def detectable_n(
    noise_over_signal: float, *, alpha: float = 0.05, power: float = 0.8, n_tests: int = 1, inflation: float = 1.0
) -> float:
    """Number of units needed to see a mean of size 1 in noise of size `noise_over_signal`.

    ``((z(1 - alpha / (2 n_tests)) + z(power)) * inflation * sigma / |mu|) ** 2``: two-sided z-test with a
    Bonferroni correction. Not rounded; round up to get a number of units.

    Parameters
    ----------
    noise_over_signal
        ``sigma / |mu|``, > 0.
    inflation
        Ratio of the tails' quantiles to Gaussian ones (heavy tails > 1), > 0.

    Examples
    --------
    >>> round(detectable_n(10.0), 2), round(detectable_n(10.0, n_tests=1_000_000), 2)
    (784.89, 3960.1)
    """
    if not noise_over_signal > 0 or not inflation > 0:
        message = f"Expected noise_over_signal and inflation above 0, got {noise_over_signal} and {inflation}."
        raise ParameterError(message)
    return (_z_sum(alpha, power, 2, n_tests) * inflation * noise_over_signal) ** 2


def correlation_n(rho: float, *, alpha: float = 0.05, power: float = 0.8, sides: int = 2) -> float:
    """Number of independent units needed to see a correlation of size `rho` (Fisher's z).

    ``((z(1 - alpha/sides) + z(power)) / atanh(rho)) ** 2 + 3``. Not rounded.

    Examples
    --------
    >>> round(correlation_n(0.2, alpha=0.001), 1), round(correlation_n(0.2, alpha=0.001, sides=1), 1)
    (418.4, 379.1)
    """
    if not 0.0 < abs(rho) < 1.0:
        message = f"Expected a correlation in (-1, 1) other than 0, got {rho}. No sample size shows exactly 0."
        raise ParameterError(message)
    return (_z_sum(alpha, power, sides) / math.atanh(abs(rho))) ** 2 + 3.0
