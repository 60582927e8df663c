"""Which tests and claims must answer in which world, and which must stay silent?

Declared before anything is measured. A world that is named for neither is one where both answers are right, for example
a test of plain recovery in a world of hubs. What is declared and does not come out stays declared: `measure` marks it.
"""

from __future__ import annotations

from typing import Any

from regulens.testing.worlds.expectation import CLAIM, Expectation
from regulens.testing.worlds.kinds import KINDS
from regulens.testing.worlds.screen_expectations import SCREEN_EXPECTATIONS, SCREEN_SETTINGS, SCREEN_SMALLER

#: Name of a setting → kind and sizes. Every kind as it is, and no-signal worlds of other shapes.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {kind: (kind, {}) for kind in KINDS} | {
    "no_signal, 12 layers": ("no_signal", {"n_layers": 12, "n_heads": 1}),
    "planted_pairs, 12 layers": ("planted_pairs", {"n_layers": 12, "n_heads": 1}),
    "no_signal, 600 cells": ("no_signal", {"n_layers": 2, "n_heads": 1, "n_cells": 600}),
    **SCREEN_SETTINGS,
}

#: Parameters that make an analysis affordable in hundreds of small worlds, by analysis.
SMALLER: dict[str, dict[str, Any]] = {
    "cssi": {"strata": ["expression"], "draws": 40, "null_negatives": 1000},
    "recipe_sensitivity": {"missing": ["exclude"]},
    "cross_fitted_residual": {"seeds": 3, "tree_seeds": 1},
    "reference_sensitivity": {"dropped": [0.5], "draws": 10},
    "cell_count_scaling": {"replicates": 6, "sizes": 5, "negatives": 4000},
    "composition_control": {"replicates": 6, "negatives": 4000},
    **SCREEN_SMALLER,
}

SPINE = ("reference_recovery", "gene_level_baselines", "expression_matched", "coexpression_dominance")
#: Reference pairs are attended as pairs, and many are known.
PLANTED = ("planted_pairs", "incomplete_reference")
#: Attention and reference share nothing; in the last two both hang together for reasons of their own.
NOTHING = ("no_signal", "batch", "shared_upstream")
#: What attention and reference share is said by one-gene statistics of expression.
EXPRESSED = ("expression_level", "detection")
#: What they share is a property of single genes that expression does not show in full.
PROMINENT = ("hubs_only", "degree")
#: What they share is co-expression, within states or from composition.
COEXPRESSED = ("coexpression_only", "composition")
#: Attention knows the reference by any measure of plain recovery.
RECOVERED = (*PLANTED, "hubs_only", "expression_level", "coexpression_only", "layer_late", "cells_flat")

#: Why strata answer in a world without regulation in any state.
SPREAD = (
    "Variants of spread (standard deviation, deviation) over states mark genes that differ between states, which is "
    "what this reference prefers; shuffled labels do not take that away. The claim needs gain_above_margins as well."
)

EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            analysis="reference_recovery", test=test, answers=RECOVERED,
            silent=(*NOTHING, "one_regulator", "recipe_dependent"),
        )
        for test in ("pooled_above_chance", "layer_nested_above_chance", "some_head_above_chance")
    ),
    *(
        Expectation(
            analysis="gene_level_baselines", test=test, answers=PLANTED, silent=(*NOTHING, *EXPRESSED, "composition")
        )
        for test in ("attention_above_best_baseline", "attention_above_gene_model")
    ),
    Expectation(
        analysis="gene_level_baselines", test="attention_above_marginal_product", answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED, *PROMINENT),
    ),
    Expectation(
        analysis="expression_matched", test="matched_above_chance", answers=PLANTED, silent=(*NOTHING, *EXPRESSED)
    ),
    Expectation(
        analysis="expression_matched", test="matched_above_marginal_product", answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED, *PROMINENT),
    ),
    Expectation(
        analysis="coexpression_dominance", test="attention_differs_from_coexpression", answers=PLANTED,
        silent=(*NOTHING, *COEXPRESSED),
    ),
    Expectation(
        analysis="coexpression_dominance", test="attention_coefficient", answers=PLANTED,
        silent=(*NOTHING, *COEXPRESSED, *EXPRESSED),
    ),
    *(
        Expectation(
            analysis="grn_method_baselines", test=f"{method}_differs_from_attention", answers=PLANTED,
            silent=NOTHING, upwards=False,
        )
        for method in (
            "spearman", "pearson", "mutual_information", "partial_correlation", "lasso", "grnboost2", "ensemble",
        )
    ),
    Expectation(
        analysis="degree_null", test="above_degree", answers=(*PLANTED, "coexpression_only"),
        silent=(*NOTHING, *EXPRESSED, *PROMINENT),
    ),
    Expectation(
        analysis="degree_null", test="above_degree_without_any_regulator", answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED, *PROMINENT, "one_regulator"),
    ),
    Expectation(
        analysis="cross_fitted_residual", test="residual_above_chance", answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED),
    ),
    Expectation(
        analysis="reference_sensitivity", test="lead_depends_on_reference", answers=("reference_dependent",),
        silent=("no_signal", "incomplete_reference"), upwards=False,
    ),
    Expectation(
        analysis="tf_resolution", test="regulators_differ", answers=("one_regulator",),
        silent=("no_signal", *PLANTED, *PROMINENT),
    ),
    *(
        Expectation(
            analysis="layer_hierarchy", test=test, answers=("layer_late",),
            silent=("no_signal, 12 layers", "planted_pairs, 12 layers", "layer_flat"), upwards=False,
        )
        for test in ("trend_over_depth", "trend_beyond_prominence")
    ),
    Expectation(
        analysis="layer_hierarchy", test="peak_above_others", answers=("layer_late",),
        silent=("no_signal, 12 layers", "planted_pairs, 12 layers"),
    ),
    *(
        Expectation(
            analysis="cssi", test=test, answers=("state_specific",),
            silent=("no_signal, 600 cells", "all_states", "composition"), why={"composition": SPREAD},
        )
        for test in ("gain_above_pooled", "gain_above_shuffled_labels")
    ),
    Expectation(  # in all_states attention knows pairs, pooled or not: what it has above margins there is no error
        analysis="cssi", test="gain_above_margins", answers=("state_specific",),
        silent=("no_signal, 600 cells", "composition"),
    ),
    Expectation(
        analysis="cell_count_scaling", test="slope_of_log_cells", answers=("more_cells_help", "more_cells_hurt"),
        silent=("no_signal, 600 cells", "cells_flat"), upwards=False,
    ),
    Expectation(
        analysis="cell_count_scaling", test="best_size_above_all_cells", answers=("more_cells_hurt",),
        silent=("no_signal, 600 cells", "cells_flat", "more_cells_help"),
    ),
    Expectation(
        analysis="composition_control", test="effect_of_cell_number", answers=("more_cells_help", "more_cells_hurt"),
        silent=("no_signal, 600 cells", "cells_flat"), upwards=False,
    ),
    Expectation(
        analysis="composition_control", test="effect_of_composition", answers=("composition",),
        silent=("no_signal, 600 cells", "cells_flat", "more_cells_help"), upwards=False,
    ),
    Expectation(  # no world is known in which it must answer: 600 cells leave it too little to be seen
        analysis="composition_control", test="interaction",
        silent=("no_signal, 600 cells", "cells_flat", "more_cells_help"), upwards=False,
    ),
    Expectation(
        analysis="recipe_sensitivity", test="some_recipe_above_chance", answers=(*PLANTED, "recipe_dependent"),
        silent=NOTHING,
    ),
    Expectation(
        analysis="recipe_sensitivity", test="some_recipe_above_strictest_null",
        answers=(*PLANTED, "recipe_dependent"), silent=(*NOTHING, *EXPRESSED, *PROMINENT),
    ),
    Expectation(
        analysis=CLAIM, test="strata_help", needs=(*SPINE, "cssi"), answers=("state_specific",),
        silent=("no_signal, 600 cells", "all_states", "composition"),
    ),
    Expectation(
        analysis=CLAIM, test="layers_specialise", needs=(*SPINE, "layer_hierarchy"), answers=("layer_late",),
        silent=("no_signal, 12 layers", "planted_pairs, 12 layers", "layer_flat"),
    ),
    Expectation(
        analysis=CLAIM, test="beyond_degree", needs=(*SPINE, "degree_null"), answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED, *PROMINENT, "one_regulator", "too_few_positives"),
    ),
    Expectation(
        analysis=CLAIM, test="beyond_prominence", needs=SPINE, answers=PLANTED,
        silent=(*NOTHING, *EXPRESSED, *PROMINENT, "composition", "too_few_positives", "one_regulator"),
    ),
    Expectation(
        analysis=CLAIM, test="beyond_coexpression", needs=SPINE, answers=PLANTED,
        silent=(*NOTHING, *COEXPRESSED, *EXPRESSED, *PROMINENT, "too_few_positives", "one_regulator"),
    ),
    *SCREEN_EXPECTATIONS,
)  # fmt: skip
