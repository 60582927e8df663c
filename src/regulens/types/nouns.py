"""What are a model's scores called in sentences? Attention where it has any, else edge strength.

Every sentence of regulens is written with the word "attention". For a model without attention (an edge table, scores
from weights) the same sentence is said of its edge strength, which takes the same place in any grammar.
"""

from __future__ import annotations

import re

ATTENTION, STRENGTH = "attention", "edge strength"

_WORD = re.compile(r"(?<![\w/])(marginal-)?([Aa])ttention\b(?!/)")


def noun_of(n_layers: int) -> str:
    """Word for the scores of a model with so many attention layers.

    >>> noun_of(12), noun_of(0)
    ('attention', 'edge strength')
    """
    return ATTENTION if n_layers else STRENGTH


def in_terms_of(text: str, noun: str) -> str:
    """The same text, said of `noun` instead of attention; names in code (``attention_above_x``) stay.

    Examples
    --------
    >>> in_terms_of("Attention minus its own margins; the attention of m", STRENGTH)
    'Edge strength minus its own margins; the edge strength of m'
    >>> in_terms_of("marginal-attention product, attention_coefficient", STRENGTH)
    'marginal product, attention_coefficient'
    >>> in_terms_of("attention, pooled", STRENGTH)  # over layers and heads, of which there are none
    'edge strength'
    """
    if noun == ATTENTION:
        return text

    def said(found: re.Match[str]) -> str:
        margin, first = found.groups()
        if margin:
            return "marginal"
        return noun[0].upper() + noun[1:] if first == "A" else noun

    return _WORD.sub(said, text).replace(f"{noun}, pooled", noun)
