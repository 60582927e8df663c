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
        "spearman": "regulens.scorers.spearman:SPEC",
        "pearson": "regulens.scorers.pearson:SPEC",
        "mutual_information": "regulens.scorers.mutual_information:SPEC",
        "partial_correlation": "regulens.scorers.partial_correlation:SPEC",
        "lasso": "regulens.scorers.lasso:SPEC",
        "grnboost2": "regulens.scorers.grnboost2:SPEC",
        "genie3": "regulens.scorers.genie3:SPEC",
        "ensemble": "regulens.scorers.ensemble:SPEC",
        "imported": "regulens.scorers.imported:SPEC",
    },
    group="regulens.scorers",
)

__all__ = ["SCORERS", "ScorerSpec"]
