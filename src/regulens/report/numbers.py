"""How is a number printed? One rule per kind of quantity, used by the page, the tables and the figures."""

from __future__ import annotations

import math
from typing import Any

MINUS = "−"
EMPTY = "–"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def is_missing(value: Any) -> bool:
    """Whether a cell of a table holds no value: None, NaN or pandas' NA.

    >>> is_missing(None), is_missing(float("nan")), is_missing(0.0), is_missing("")
    (True, True, False, False)
    """
    if value is None:
        return True
    if isinstance(value, str):
        return False
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def fixed(value: Any, digits: int = 3) -> str:
    """Decimal number with a true minus sign, or a dash when missing.

    >>> fixed(0.56149), fixed(-0.02, 2), fixed(None)
    ('0.561', '−0.02', '–')
    """
    if is_missing(value):
        return EMPTY
    text = f"{float(value):.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def signed(value: Any, digits: int = 3) -> str:
    """Decimal number that always carries its sign.

    >>> signed(0.0214), signed(-0.5, 1)
    ('+0.021', '−0.5')
    """
    text = fixed(value, digits)
    return text if text == EMPTY or text.startswith(MINUS) else f"+{text}"


def p_value(value: Any) -> str:
    """Two significant digits; powers of ten below 0.0001.

    >>> p_value(0.0314), p_value(0.00042), p_value(3.2e-9), p_value(1.0)
    ('0.031', '0.00042', '3.2×10⁻⁹', '1')
    """
    if is_missing(value):
        return EMPTY
    value = float(value)
    if value >= 0.9995:
        return "1"
    if value >= 0.995:
        return "0.99"
    if value >= 1e-4:
        digits = 1 - math.floor(math.log10(float(f"{value:.1e}")))
        return f"{value:.{digits}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def count(value: Any) -> str:
    """Whole number with thousands separated by commas.

    >>> count(24898)
    '24,898'
    """
    return EMPTY if is_missing(value) else f"{round(float(value)):,}".replace("-", MINUS)


def short(value: Any) -> str:
    """Three significant digits, for quantities without a rule of their own.

    >>> short(0.016288), short(4.2e-08), short(1234567)
    ('0.0163', '4.2×10⁻⁸', '1,234,567')
    """
    if is_missing(value):
        return EMPTY
    value = float(value)
    if value == int(value) and abs(value) < 1e12:
        return count(value)
    if abs(value) < 1e-4:
        return (MINUS if value < 0 else "") + p_value(abs(value))
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return fixed(value, digits)


def interval(low: Any, high: Any, *, digits: int = 3, sign: bool = False) -> str:
    """Interval in brackets.

    >>> interval(0.53, 0.5951)
    '[0.530, 0.595]'
    """
    if is_missing(low) or is_missing(high):
        return EMPTY
    form = signed if sign else fixed
    return f"[{form(low, digits)}, {form(high, digits)}]"


def estimate(value: Any, low: Any, high: Any, *, undefined: Any = "", sign: bool = False) -> str:
    """Value with its interval, or the reason why there is none.

    >>> estimate(0.561, 0.53, 0.59)
    '0.561 [0.530, 0.590]'
    >>> estimate(None, None, None, undefined="no positives")
    'not defined: no positives'
    """
    if is_missing(value):
        return not_defined(undefined)
    form = signed if sign else fixed
    limits = interval(low, high, sign=sign)
    return form(value) if limits == EMPTY else f"{form(value)} {limits}"


def not_defined(reason: Any) -> str:
    """The words for a quantity without a value."""
    words = "" if is_missing(reason) else str(reason).strip().rstrip(".")
    return f"not defined: {words or 'no reason recorded'}"
