"""What would the same analysis find if there were nothing to find? The table of nulls."""

from __future__ import annotations

from typing import Any

from regulens.registry import Registry

#: Built-in nulls, weakest first.
NULLS: Registry[Any] = Registry(
    "null",
    {
        "label_shuffle": "regulens.nulls.label_shuffle:SPEC",
        "expression_matched": "regulens.nulls.expression_matched:SPEC",
        "degree_preserving": "regulens.nulls.degree_preserving:SPEC",
        "gene_label_permutation": "regulens.nulls.gene_label_permutation:SPEC",
        "propensity_matched": "regulens.nulls.propensity_matched:SPEC",
        "coexpression_matched": "regulens.nulls.coexpression_matched:SPEC",
        "label_permuted_strata": "regulens.nulls.label_permuted_strata:SPEC",
    },
    group="regulens.nulls",
)
