"""Which ways of scoring an ordered pair of genes are there? `SCORERS` names them; one file each."""

from __future__ import annotations

from regulens.registry import Registry
from regulens.scorers.base import ScorerSpec

#: Built-in scorers.
SCORERS: Registry[ScorerSpec] = Registry(
    "scorer",
    {
        "attention": "regulens.scorers.attention:SPEC",
        "gene_level": "regulens.scorers.gene_level:SPEC",
        "marginal_product": "regulens.scorers.marginal_product:SPEC",
        "coexpression": "regulens.scorers.coexpression:SPEC",
        "random": "regulens.scorers.random:SPEC",
    },
    group="regulens.scorers",
)

__all__ = ["SCORERS", "ScorerSpec"]
