"""Which tests and claims about screens must answer in which world of a screen, and which must stay silent?

Declared before anything is measured, as `regulens.testing.worlds.expectations`.
"""

from __future__ import annotations

from typing import Any

from regulens.testing.worlds.expectation import CLAIM, Expectation
from regulens.testing.worlds.screen_draft import EQUAL_POWER

#: Name of a setting → kind of screen and options of `make_screen_world`.
SCREEN_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "screen: no_signal": ("no_signal", {}),
    "screen: no_signal, equal power": ("no_signal", {"level": EQUAL_POWER}),
    "screen: planted_network": ("planted_network", {}),
    "screen: planted_network, strong": ("planted_network", {"effect": 2.0}),
    "screen: expression_only": ("expression_only", {}),
    "screen: shared_responders": ("shared_responders", {}),
    "screen: coexpression_only": ("coexpression_only", {}),
    "screen: replicate_confounded": ("replicate_confounded", {}),
    "screen: no_signal, 10 perturbations": ("no_signal", {"n_perturbations": 10}),
    "screen: planted_network, 10 perturbations": ("planted_network", {"n_perturbations": 10}),
    **{
        f"screen: {kind}, small": (kind, {"n_perturbations": 24, "n_genes": 150})
        for kind in ("no_signal", "planted_network", "expression_only", "replicate_confounded")
    },
    "two screens: no_signal": ("no_signal", {"second": "same"}),
    "two screens: no_signal, equal power": ("no_signal", {"second": "same", "level": EQUAL_POWER}),
    "two screens: planted_network": ("planted_network", {"second": "same"}),
    "two screens: planted_network in the other": ("planted_network", {"second": "known"}),
}

#: Parameters that make an analysis of screens affordable in many small worlds, by analysis.
SCREEN_SMALLER: dict[str, dict[str, Any]] = {
    # in worlds so small the planted control has to be larger to be found, or no claim is made
    "incremental_value": {"draws": 40, "tree_draws": 12, "planted_gain": 0.06},
    "calibration": {"methods": [], "repeats": 8},
    "design_sensitivity": {"controls": [200, 400], "genes": [150, 300], "min_effect": [0.25, 0.5]},
}

#: Attention knows pairs of the network that responses follow.
PLANTED = ("screen: planted_network", "screen: planted_network, 10 perturbations")
#: Responses follow what attention knows of single genes: their expression, or that they respond to anything.
PROMINENT = ("screen: expression_only", "screen: shared_responders")
#: Attention and responses share nothing; in the last the responses are an artefact.
NOTHING = (
    "screen: no_signal", "screen: no_signal, equal power", "screen: no_signal, 10 perturbations",
    "screen: replicate_confounded",
)  # fmt: skip

#: Why a claim that must be supported is left open in some worlds.
LITTLE_LEAD = (
    "The other worlds are inconclusive, not refuted: attention leads the best one-gene statistic by 0.04 AUROC there, "
    "and with 300 genes the interval reaches below the smallest difference of interest, 0.02."
)
#: Why genes of equal propensity are told apart by attention that knows no pair.
POPULAR = (
    "Some forty other perturbations measure with error how often a gene responds; attention that knows it better still "
    "tells responders from others at equal measured propensity (matched AUROC 0.54). Matching matches what is measured."
)
#: Why calibrated attention is not always seen to be better than the base rate.
FEW_PAIRS = "24 perturbations of 150 genes are too few to see a gain of 0.008 in Brier score every time."

SCREEN_EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            analysis="perturbation_recovery", test=test, answers=(*PLANTED, *PROMINENT, "screen: coexpression_only"),
            silent=NOTHING,
        )
        for test in ("mean_above_chance", "layer_nested_above_chance")
    ),
    Expectation(  # elsewhere they do differ: co-expression is higher among genes that are seen to respond
        analysis="perturbation_recovery", test="attention_minus_coexpression",
        answers=(*PLANTED, "screen: coexpression_only"), silent=("screen: no_signal, equal power",), upwards=False,
    ),
    *(  # where the same genes always respond, attention that knows them is above statistics of expression, rightly
        Expectation(
            analysis="perturbation_baselines", test=test, answers=PLANTED, silent=(*NOTHING, "screen: expression_only"),
        )
        for test in ("attention_above_best_baseline", "attention_above_gene_model")
    ),
    *(
        Expectation(
            analysis="perturbation_baselines", test=test, answers=PLANTED, silent=(*NOTHING, *PROMINENT),
        )
        for test in (
            "attention_above_response_propensity", "attention_above_best_baseline_power_controlled",
        )
    ),
    Expectation(  # an attention that knows co-expression knows pairs
        analysis="perturbation_baselines", test="attention_above_marginal_product",
        answers=(*PLANTED, "screen: coexpression_only"), silent=(*NOTHING, *PROMINENT),
    ),
    Expectation(  # where power is unequal, the level of a gene predicts who is seen to respond
        analysis="perturbation_baselines", test="some_baseline_above_attention",
        answers=("screen: no_signal", "screen: expression_only", "screen: replicate_confounded"),
        silent=("screen: no_signal, equal power", *PLANTED),
    ),
    *(
        Expectation(
            analysis="incremental_value", test=f"{metric}_added_{split}_{learner}",
            answers=("screen: planted_network, small",),
            silent=(
                "screen: no_signal, small", "screen: expression_only, small", "screen: replicate_confounded, small"
            ),
        )
        for metric in ("auroc", "auprc")
        for split in ("perturbation", "gene", "joint")
        for learner in ("logistic", "trees")
    ),
    Expectation(
        analysis="propensity_matched", test="matched_above_chance", answers=(*PLANTED, "screen: coexpression_only"),
        silent=(*NOTHING, *PROMINENT), why={"screen: shared_responders": POPULAR},
    ),
    Expectation(
        analysis="propensity_matched", test="attention_minus_coexpression",
        answers=(*PLANTED, "screen: coexpression_only"), silent=("screen: no_signal, equal power",), upwards=False,
    ),
    Expectation(
        analysis="calibration", test="better_than_base_rate",
        answers=(
            "screen: planted_network, 10 perturbations", "screen: planted_network, small",
            "screen: expression_only", "screen: expression_only, small",
        ),
        silent=(
            "screen: no_signal", "screen: no_signal, 10 perturbations", "screen: no_signal, small",
            "screen: replicate_confounded, small",
        ),
        why={"screen: expression_only, small": FEW_PAIRS},
    ),
    Expectation(
        analysis="design_sensitivity", test="attention_leads_gene_level", answers=("screen: planted_network",),
        silent=(*NOTHING, "screen: expression_only"),
    ),
    Expectation(
        analysis="design_sensitivity", test="attention_leads_coexpression",
        answers=("screen: planted_network", *PROMINENT), silent=NOTHING,
    ),
    Expectation(
        analysis="dataset_generalisation", test="frozen_score_above_chance",
        answers=("two screens: planted_network",),
        silent=(
            "two screens: no_signal", "two screens: no_signal, equal power",
            "two screens: planted_network in the other",
        ),
    ),
    Expectation(
        analysis="dataset_generalisation", test="frozen_order_with_coexpression",
        answers=("two screens: planted_network",),
        silent=("two screens: no_signal, equal power", "two screens: planted_network in the other"),
    ),
    Expectation(  # where power is unequal, gene level leads in both screens, and the frozen order holds
        analysis="dataset_generalisation", test="frozen_order_with_gene_level",
        answers=("two screens: planted_network", "two screens: no_signal"),
        silent=("two screens: no_signal, equal power", "two screens: planted_network in the other"),
    ),
    Expectation(
        analysis=CLAIM, test="predicts_response", needs=("perturbation_recovery", "perturbation_baselines"),
        answers=("screen: planted_network", "screen: planted_network, strong"),
        silent=(*NOTHING, *PROMINENT, "screen: planted_network, 10 perturbations"),
        why={"screen: planted_network": LITTLE_LEAD},
    ),
    Expectation(
        analysis=CLAIM, test="adds_to_features", needs=("incremental_value",),
        answers=("screen: planted_network, small",),
        silent=("screen: no_signal, small", "screen: expression_only, small", "screen: replicate_confounded, small"),
    ),
)  # fmt: skip
