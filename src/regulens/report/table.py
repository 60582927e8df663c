"""How does a table of the run become a table of the page? Headings, formats, order, and a limit on rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from regulens.report import numbers
from regulens.report.model import SIMULATION, RunView, records
from regulens.report.wording import (
    agreement_label,
    direction_label,
    effect_label,
    feature_label,
    form_label,
    intervention_label,
    layer_label,
    learner_label,
    method_label,
    metric_label,
    quantity_label,
    reading_label,
    recipe_value_label,
    responders_label,
    score_label,
    side_label,
    split_label,
    strata_label,
    variant_label,
)

LIMIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Heading, alignment and a sentence for the tooltip."""

    head: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Text as printed, the key by which the column sorts, and a second, quieter line."""

    text: str
    key: str
    sub: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table ready to print; `note` says what was cut and where the complete table is."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_open: bool = True


Format = Callable[[Any], str]

_AUROC = "area under the ROC curve; 0.5 is chance"


def _metrics(names: Any) -> str:
    """A list of metrics in words."""
    return ", ".join(metric_label(n) for n in str(names).split(", ")) if names else ""


#: Column of a run's table → (heading, format, hint). Columns not listed print as they are.
COLUMNS: dict[str, tuple[str, Format | None, str]] = {
    "score": ("score", score_label, ""), "baseline": ("baseline", score_label, ""),
    "direction": ("direction", direction_label, ""), "side": ("side", side_label, ""),
    "form": ("form", form_label, ""), "quantity": ("quantity", quantity_label, ""),
    "feature": ("feature", feature_label, ""), "auroc": ("AUROC", numbers.fixed, _AUROC),
    "n_pos": ("n⁺", numbers.count, "positive pairs"), "n_neg": ("n⁻", numbers.count, "other pairs"),
    "n_regulators": ("regulators", numbers.count, "units of resampling"),
    "se": ("SE", numbers.fixed, "cluster standard error"), "se0": ("SE₀", numbers.fixed, "null SE, independent pairs"),
    "auprc": ("AUPRC", numbers.short, "average precision"), "prevalence": ("prevalence", numbers.short, ""),
    "auprc_ratio": ("AUPRC / prevalence", lambda v: numbers.fixed(v, 2), "1 is chance"),
    "epr": ("EPR", lambda v: numbers.fixed(v, 2), "early precision ratio: precision at K = n⁺ over prevalence"),
    "p_maxt": ("p (max‑T)", numbers.p_value, "adjusted over all heads and layers"), "p": ("p", numbers.p_value, ""),
    "tost_p": ("p (equivalence)", numbers.p_value, "two one-sided tests within the smallest effect of interest"),
    "k": ("K", numbers.count, "pairs called"), "precision": ("precision", numbers.fixed, ""),
    "recall": ("recall", numbers.fixed, ""), "f1": ("F1", numbers.fixed, ""),
    "f1_ceiling": ("F1 ceiling", numbers.fixed, "the largest F1 that K allows"),
    "precision_chance": ("precision by chance", numbers.fixed, ""), "null": ("null", None, ""),
    "observed": ("observed", numbers.fixed, ""), "null_mean": ("null mean", numbers.fixed, ""),
    "null_sd": ("null SD", lambda v: numbers.fixed(v, 4), ""), "z": ("z", lambda v: numbers.fixed(v, 2), ""),
    "preserves": ("the null keeps", None, ""), "auroc_without": ("AUROC without it", numbers.fixed, _AUROC),
    "change": ("change", numbers.signed, ""), "delta": ("attention − baseline", numbers.signed, "paired"),
    "smd_before": ("SMD before", numbers.fixed, "standardised mean difference"),
    "smd_after": ("SMD after", numbers.fixed, "goal: under 0.1"), "coefficient": ("coefficient", numbers.signed, ""),
    "auroc_attention": ("AUROC attention", numbers.fixed, _AUROC),
    "auroc_coexpression": ("AUROC co-expression", numbers.fixed, _AUROC),
    "rho_low": ("|ρ| from", numbers.fixed, ""), "rho_high": ("|ρ| to", numbers.fixed, ""),
    "decile": ("decile", numbers.count, ""), "value": ("value", numbers.fixed, ""),
    "shrunk": ("shrunk", numbers.fixed, "own AUROC and the mean of all, weighed by their errors"),
    "mean_without": ("mean without it", numbers.fixed, "random-effects mean over the other regulators"),
    "evidence_strength": ("support of its edges", numbers.short, "sources per edge, or 5 for level A to 1 for E"),
    "p_draws": ("p (draws)", numbers.p_value, "rank among the draws; describes, because networks are not exchangeable"),
    "share_margin": ("from degrees", numbers.signed, "mean AUROC of networks with the same degrees, minus 0.5"),
    "share_pair": ("from pairs", numbers.signed, "observed AUROC minus that mean"),
    "pair_low": ("lower end", numbers.signed, "of the interval of the share from pairs"),
    "fit": ("fit", None, ""), "r2": ("R²", numbers.fixed, "share of the training pairs' variance"),
    "auroc_raw": ("AUROC raw", numbers.fixed, _AUROC), "auroc_residual": ("AUROC of residual", numbers.fixed, _AUROC),
    "retention": ("retention", lambda v: numbers.fixed(v, 2), "share of the raw AUROC above 0.5 that is left"),
    "seed_sd": ("SD over seeds", lambda v: numbers.fixed(v, 4), "of the residual AUROC, over deals of the folds"),
    "n_seeds": ("seeds", numbers.count, "deals of the folds"),
    "check": ("check", None, ""), "bar": ("bar", numbers.short, ""), "passed": ("passed", None, ""),
    "jaccard": ("Jaccard", numbers.fixed, "overlap of the draws with the reference"),
    "n_tf": ("regulators", numbers.count, "with an AUROC of their own"),
    "n_above_chance": ("regulators above 0.5", numbers.count, "lower end of their own interval above 0.5"),
    "mean_tf_auroc": ("mean over regulators", numbers.fixed, "unweighted mean of their AUROCs"),
    "covariate": ("goes with", quantity_label, ""), "rho": ("Spearman ρ", numbers.signed, ""),
    "q": ("q", numbers.p_value, "Benjamini-Hochberg within this table"),
    "strata": ("strata", strata_label, ""), "fold": ("turn", None, "which halves chose and which evaluated"),
    "beyond": ("strata − shuffled", numbers.signed, "gain in AUROC over shuffled state labels"),
    "auroc_margins": ("AUROC of margins", numbers.fixed, "gene prominence in each stratum, joined the same way"),
    "above_margins": ("strata − margins", numbers.signed, "gain in AUROC over the margins of the same strata"),
    "null_q95": ("null 95 %", numbers.fixed, "95th percentile"), "n_strata": ("strata", numbers.count, ""),
    "gain_chosen": ("gain where chosen", numbers.signed, "on the cells and regulators that chose"),
    "imputed": ("from pooled", numbers.fixed, "share of stratum and pair that met in too few cells"),
    "purity": ("purity", numbers.fixed, "share of cells that have the label of their block"),
    "n_blocks": ("blocks", numbers.count, "of cells"), "draws": ("draws", numbers.count, ""),
    "arrangements": ("arrangements", numbers.short, "different ways to deal the labels"),
    "n_used": ("strata used", numbers.short, "mean over the turns"),
    "auroc_sd": ("SD of draws", numbers.fixed, "no error: draws share cells"),
    "f1_100": ("F1 at 100", numbers.fixed, ""), "f1_n_pos": ("F1 at n⁺", numbers.fixed, "K = number of positives"),
    "f1_100_ceiling": ("its ceiling", numbers.fixed, "the largest F1 at 100"), "family": ("curve", None, ""),
    "aicc": ("AICc", lambda v: numbers.fixed(v, 1), "mean over draws; smaller is better"),
    "akaike_weight": ("Akaike weight", lambda v: numbers.fixed(v, 2), "mean over draws"),
    "replicates_best": ("best in draws", numbers.count, ""),
    "left_out_rmse": ("error at unseen sizes", lambda v: numbers.fixed(v, 4), "leave one size out"),
    "term": ("effect of", None, ""), "se_genes": ("SE of genes", numbers.fixed, ""),
    "se_draws": ("SE of draws", numbers.fixed, ""), "entropy": ("entropy", numbers.fixed, "of cell states, nats"),
    "n_states": ("states", numbers.count, ""),
    "variant": ("joined by", variant_label, "way of joining strata"), "labels": ("labels of states", None, ""),
    "label_accuracy": ("accuracy of labels", numbers.fixed, "adjusted Rand index; 0 is chance"),
    "gain": ("strata − pooled", numbers.signed, "gain in AUROC"), "n_worlds": ("worlds", numbers.count, "simulated"),
    "auroc_pooled": ("AUROC pooled", numbers.fixed, _AUROC), "auroc_strata": ("AUROC of strata", numbers.fixed, _AUROC),
    "auprc_pooled": ("AUPRC pooled", numbers.fixed, "average precision"),
    "auprc_strata": ("AUPRC of strata", numbers.fixed, "average precision"),
    "f1_pooled": ("F1 pooled", numbers.fixed, ""), "f1_strata": ("F1 of strata", numbers.fixed, ""),
    "n_true": ("true pairs", numbers.count, ""),
    "excess": ("beyond its margins", numbers.signed, "AUROC minus that of the layer's own marginal product"),
    "margin": ("its margins", numbers.fixed, "AUROC of the layer's own marginal product"),
    "band_low": ("band from", numbers.fixed, "holds for all layers at once"),
    "band_high": ("band to", numbers.fixed, "holds for all layers at once"),
    "beyond_coexpression": ("− co-expression", numbers.signed, "paired difference of AUROC"),
    "layers_above": ("layers above it", numbers.count, ""), "n_layers": ("layers", numbers.count, ""),
    "autocorrelation": ("autocorrelation", numbers.signed, "lag one, after a straight line"),
    "others": ("other layers", numbers.fixed, "mean AUROC of the layers not chosen"),
    "method": ("method", method_label, ""), "recipe": ("recipe", recipe_value_label, ""),
    "strictest_null": ("strictest null", score_label, ""),
    "difference": ("method − attention", numbers.signed, "paired difference of AUROC"),
    "rho_attention": ("ρ with attention", numbers.signed, "Spearman over pairs"),
    "n_listed": ("pairs listed", numbers.count, "in the imported table"),
    "layers": ("layers", None, "counted from zero"), "missing": ("missing pairs", None, ""),
    "pre_registered": ("of the plan", None, ""),
    "null_auroc": ("AUROC of the null", numbers.fixed, _AUROC),
    "p_recipes": ("p (chance)", numbers.p_value, "max-T, adjusted over all recipes"),
    "p_recipes_null": ("p (null)", numbers.p_value, "above the strictest null; max-T, adjusted over all recipes"),
    "n_recipes": ("recipes", numbers.count, ""), "auroc_mean": ("mean AUROC", numbers.fixed, ""),
    "auroc_min": ("smallest", numbers.fixed, ""), "auroc_max": ("largest", numbers.fixed, ""),
    "share_above_null": ("share above the null", lambda v: numbers.fixed(v, 2), "each alone, interval above zero"),
    "coexpression": ("co-expression", numbers.fixed, "AUROC of |ρ| on the same pairs"),
    "part": ("part", None, ""), "other": ("other reference", None, ""), "n_pairs": ("pairs", numbers.count, ""),
    "n_pos_other": ("n⁺ of the other", numbers.count, ""),
    "overlap": ("overlap", numbers.fixed, "Jaccard of the edges"),
    "interaction": ("difference of leads", numbers.signed, "lead here minus lead by the other reference"),
    "p_swap": ("p (rows swapped)", numbers.p_value, "descriptive: rejects too often where references have hubs"),
    "n_scores": ("scores", numbers.count, "whose order is compared"),
    "spearman": ("Spearman of their order", numbers.signed, ""),
    "kendall": ("Kendall of their order", numbers.signed, ""),
    "scheme": ("what is dropped", None, ""), "dropped": ("share dropped", lambda v: numbers.fixed(v, 1), ""),
    "same_sign": ("lead kept", lambda v: numbers.fixed(v, 2), "share of draws in which attention keeps its side"),
    "auroc_ceiling": ("AUROC ceiling", numbers.fixed, "a perfect score against a list with so many edges missing"),
    "auprc_ceiling": ("AUPRC ratio ceiling", numbers.short, "the same for AUPRC / prevalence"),
    "n_draws": ("draws", numbers.count, ""),
    "pairs": ("pairs", None, "listed pairs only: biased by what the table chose to list"),
    "n_agree": ("same sign", numbers.count, "in the table and in the reference"),
    "agreement": ("agreement", numbers.fixed, ""),
    "expected": ("expected", numbers.fixed, "from the shares of positive signs alone"),
    "contrast": ("attention −", effect_label, ""), "effect": ("effect", effect_label, ""),
    "n_designs": ("designs", numbers.count, ""),
    "share_leads": ("share of designs ahead", lambda v: numbers.fixed(v, 2), "of the designs with a number"),
    "lead_mean": ("mean lead", numbers.signed, "over the designs; error over perturbations and genes"),
    "lead_min": ("smallest lead", numbers.signed, ""), "lead_max": ("largest lead", numbers.signed, ""),
    "share_clearly_above": ("share clearly ahead", lambda v: numbers.fixed(v, 2), "interval above 0, each alone"),
    "share_clearly_below": ("share clearly behind", lambda v: numbers.fixed(v, 2), "interval below 0, each alone"),
    "p_share_alone": ("p (share alone)", numbers.p_value, "cannot be small where designs go together"),
    "p_genes_fixed": ("p (genes fixed)", numbers.p_value, "descriptive: signs of perturbations alone"),
    "n_common": ("common perturbations", numbers.count, "that every design keeps"),
    "share_common": ("share ahead, common", lambda v: numbers.fixed(v, 2), "over the common perturbations"),
    "lead_mean_common": ("mean lead, common", numbers.signed, "over the common perturbations"),
    "controls": ("controls", numbers.count, "control cells compared with"),
    "min_effect": ("|effect| over", numbers.short, "smallest absolute effect of a responder"),
    "genes": ("genes", numbers.count, "most variable genes that could respond"),
    "n_perturbations": ("perturbations", numbers.count, "units of resampling"),
    "lead_coexpression": ("− co-expression", numbers.signed, "paired difference of mean AUROC"),
    "lead_gene_level": ("− gene level", numbers.signed, "to the best gene-level statistic, paired"),
    "lead_coexpression_common": ("the same, common", numbers.signed, "over the common perturbations"),
    "lead_gene_level_common": ("the same, common", numbers.signed, "over the common perturbations"),
    "lead_coexpression_mean": ("− co-expression", numbers.signed, "mean over designs"),
    "lead_gene_level_mean": ("− gene level", numbers.signed, "mean over designs"),
    "share_leads_coexpression": ("share ahead of co-expression", lambda v: numbers.fixed(v, 2), ""),
    "share_leads_gene_level": ("share ahead of gene level", lambda v: numbers.fixed(v, 2), ""),
    "baseline_auroc": ("AUROC gene level", numbers.fixed, "best gene-level statistic of the design"),
    "first_as_chosen": ("where chosen", numbers.signed, "on the perturbations that chose"),
    "first_nested": ("where chosen, cross-fitted", numbers.signed, "each perturbation by the choices of others"),
    "frozen": ("here, unchanged", numbers.signed, ""),
    "apart": ("here, apart", numbers.signed, "by choices that saw neither the perturbation nor the gene; tested"),
    "retuned": ("here, chosen here", numbers.signed, "cross-fitted over perturbations"),
    "cost": ("chosen here − unchanged", numbers.signed, "what choosing again would gain"),
    "n_perturbations_first": ("perturbations there", numbers.count, "in the screens that chose"),
    "responders": ("responders", responders_label, ""), "wins": ("ahead in", numbers.fixed, "share of perturbations"),
    "above_half": ("share above 0.5", numbers.fixed, "of the perturbations"), "median": ("median", numbers.fixed, ""),
    "sd": ("SD", numbers.fixed, "over perturbations"),
    "fixed_genes_low": ("genes fixed, from", numbers.fixed, "perturbations alone vary: too narrow for other genes"),
    "fixed_genes_high": ("genes fixed, to", numbers.fixed, "perturbations alone vary: too narrow for other genes"),
    "wilcoxon_p": ("p (ranks)", numbers.p_value, "signed ranks of perturbations, genes fixed: descriptive"),
    "p_above": ("p (above attention)", numbers.p_value, "max-T, adjusted over the gene-level baselines"),
    "pooled_auroc": ("AUROC of all pairs", numbers.fixed, "all perturbations in one ranking"),
    **{f"recall_at_{k}": (f"recall at {k}", numbers.fixed, "share of the responders") for k in (10, 50, 100)},
    **{f"recall_at_{k}_chance": ("by chance", numbers.fixed, "") for k in (10, 50, 100)},
    "effect_on_target": ("own effect", numbers.signed, "of the perturbation on its own gene"),
    "p_on_target": ("own p", numbers.p_value, ""), "q_on_target": ("own q", numbers.p_value, ""),
    "direction_on_target": ("own direction", None, ""), "why_on_target": ("why not verified", None, ""),
    "metric": ("metric", metric_label, ""), "other_metric": ("and", metric_label, ""),
    "split": ("judged on", split_label, ""), "learner": ("learner", learner_label, ""),
    "base_features": ("added to", None, ""),
    "base": ("without", numbers.fixed, "gene features alone, by the metric of the row"),
    "plus_attention": ("with attention", numbers.fixed, ""),
    "plus_coexpression": ("with co-expression", numbers.fixed, ""),
    "delta_coexpression": ("gain by co-expression", numbers.signed, ""),
    "gain_of_interest": ("gain of interest", numbers.short, "bound of the equivalence tests, AUROC"),
    "known": ("known gain", numbers.signed, "AUROC, when the gene features are modelled rightly"),
    "reached": ("gain reached", numbers.signed, ""),
    "found": ("found", None, "lower end of the interval above 0"),
    "smd_overlap": ("SMD, overlap weights", numbers.fixed, ""),
    "gamma": ("Γ", numbers.short, "odds by which a hidden cause may favour one gene of a set"),
    "share_by_hidden_cause": ("AUROC by it", numbers.fixed, "the largest that such a cause alone would give"),
    "excess_by_attention": ("beyond it", numbers.signed, ""),
    "balanced": ("balanced", None, "all standardised mean differences under 0.1"),
    "calibration": ("read as", reading_label, ""), "rule": ("label rule", reading_label, ""),
    "ece": ("ECE", numbers.fixed, "expected calibration error, 10 bins of equal width; the base rate has about 0"),
    "ece_sd": ("SD over splits", numbers.fixed, "of the ECE; splits share data"),
    "ece_mass": ("ECE, adaptive", numbers.fixed, "15 bins of equal size"),
    "brier": ("Brier", lambda v: numbers.fixed(v, 4), "mean squared error of the probability"),
    "skill": ("skill", numbers.signed, "share of the base rate's Brier score that is taken away"),
    "reliability": ("reliability", lambda v: numbers.fixed(v, 4), "part of the Brier score; 0 is calibrated"),
    "resolution": ("resolution", lambda v: numbers.fixed(v, 4), "part of the Brier score; 0 says nothing"),
    "uncertainty": ("uncertainty", lambda v: numbers.fixed(v, 4), "part of the Brier score: that of the labels"),
    "within_bins": ("within bins", lambda v: numbers.signed(v, 4), "part of the Brier score that bins hide"),
    "log_loss": ("log loss", numbers.fixed, ""), "n_repeats": ("splits", numbers.count, ""),
    "prevalence_first": ("prevalence there", numbers.short, "in the screen that calibrated"),
    "n_shared": ("in both", numbers.count, "perturbations of both screens"),
    "alpha": ("α", numbers.short, "error rate allowed"), "promised": ("promised", numbers.fixed, "coverage"),
    "coverage": ("coverage", numbers.fixed, "share of pairs whose set holds the true label"),
    "coverage_low": ("coverage, lowest tenth", numbers.fixed, "of perturbations"),
    "coverage_no": ("of no response", numbers.fixed, "coverage of pairs without a response"),
    "coverage_yes": ("of responders", numbers.fixed, "coverage of responders"),
    "kept": ("perturbations kept", numbers.fixed, "share with the promised coverage of their own"),
    "size": ("labels per set", lambda v: numbers.fixed(v, 2), ""), "empty": ("empty", numbers.fixed, "share of sets"),
    "singleton": ("one label", numbers.fixed, "share of sets"), "both": ("both", numbers.fixed, "share of sets"),
    "called": ("called", numbers.fixed, "share of sets that hold the response alone"),
    "called_right": ("called rightly", numbers.fixed, "share of responders among the called"),
    "n_calibrating": ("calibrating", numbers.count, "perturbations"),
    "n_needed": ("needed", numbers.count, "calibrating perturbations below which every set holds both labels"),
    "guarantee": ("what is promised", None, "as often as promised, for whatever score"),
    "k_over_n_pos": ("K / n⁺", lambda v: numbers.fixed(v, 2), ""), "chance": ("chance", numbers.short, ""),
    "ceiling": ("ceiling", numbers.short, "the best that any score can reach"),
    "place": ("place", numbers.short, "1 is the best score by this metric"),
    "rival": ("rival", score_label, ""), "n_metrics": ("metrics", numbers.count, ""),
    "n_ahead": ("attention ahead", numbers.count, "by so many metrics"),
    "n_behind": ("behind", numbers.count, ""), "n_equal": ("equal", numbers.count, ""),
    "disagree": ("metrics disagree", None, ""),
    "ahead_by": ("ahead by", _metrics, ""), "behind_by": ("behind by", _metrics, ""),
    "layer": ("layer", layer_label, "counted from zero"), "n_cells": ("cells", numbers.count, ""),
    "intervention": ("held against it", intervention_label, ""), "measure": ("measure", agreement_label, ""),
    "null_low": ("null from", numbers.fixed, "middle 95 % of exchanged perturbations, genes kept"),
    "null_high": ("null to", numbers.fixed, "middle 95 % of exchanged perturbations, genes kept"),
    "boot_low": ("bootstrap from", numbers.fixed, "percentiles; too narrow for few perturbations"),
    "boot_high": ("bootstrap to", numbers.fixed, "percentiles; too narrow for few perturbations"),
    "signed": ("ρ", numbers.signed, "Spearman of effects with direction"),
    "absolute": ("ρ of sizes", numbers.signed, "Spearman of sizes of effects"),
    "sign_agreement": ("equal signs", numbers.fixed, "share, where neither is zero"),
    "share_zero_model": ("zero in silico", numbers.fixed, "share of in-silico effects that are exactly zero"),
    "share_zero_measured": ("zero measured", numbers.fixed, "share of measured effects that are exactly zero"),
    "share_tied_model": ("tied in silico", numbers.fixed, "share that another gene's effect equals"),
    "pairs_needed": ("pairs needed", numbers.count, "independent pairs, four in five screens, one-sided"),
    "detectable_rho": ("detectable ρ", numbers.fixed, "if all pairs were independent"),
    "detectable_above_null": ("detectable above the null", numbers.fixed, "from the spread of the null itself"),
}  # fmt: skip

#: Formats that take words; a word under any other heading is printed as it stands.
_WORDS = {_metrics, learner_label, split_label, reading_label, effect_label, metric_label,
          direction_label, feature_label, form_label, layer_label, method_label, quantity_label, recipe_value_label,
          responders_label, score_label, side_label, variant_label, agreement_label, intervention_label}  # fmt: skip

#: value → its limits, printed as one interval column after it.
_INTERVALS = {"auroc": ("low", "high"), "share_pair": ("pair_low", "pair_high"), "auroc_residual": ("low", "high"),
              "value": ("low", "high"), "coefficient": ("low", "high"),
              "excess": ("excess_low", "excess_high"),
              "beyond_coexpression": ("beyond_low", "beyond_high"),
              "change": ("change_low", "change_high"),
              "difference": ("difference_low", "difference_high"),
              "interaction": ("interaction_low", "interaction_high"),
              "delta": ("delta_low", "delta_high"), "gain": ("gain_low", "gain_high"),
              "beyond": ("beyond_low", "beyond_high"),
              "above_margins": ("above_margins_low", "above_margins_high"),
              "signed": ("signed_low", "signed_high"), "absolute": ("absolute_low", "absolute_high"),
              "lead_mean": ("lead_mean_low", "lead_mean_high"),
              "lead_coexpression": ("lead_coexpression_low", "lead_coexpression_high"),
              "lead_gene_level": ("lead_gene_level_low", "lead_gene_level_high"),
              "frozen": ("frozen_low", "frozen_high"), "apart": ("apart_low", "apart_high"),
              "retuned": ("retuned_low", "retuned_high"), "cost": ("cost_low", "cost_high"),
              "pooled_auroc": ("pooled_low", "pooled_high"),
              "base": ("base_low", "base_high"), "reached": ("reached_low", "reached_high"),
              "delta_coexpression": ("coexpression_low", "coexpression_high"),
              "shrunk": ("shrunk_low", "shrunk_high")}  # fmt: skip

#: (analysis, table) → title; the first of an analysis stands open, the others fold.
TITLES: dict[str, dict[str, str]] = {
    "reference_recovery": {
        "recovery": "Recovery per score", "directions": "Both directions", "recovery_nulls": "Nulls",
        "nested": "Layer chosen on one part, evaluated on the other",
        "recovery_at_k": "Precision and F1 among the strongest pairs", "leave_one_out": "Leaving out one regulator",
    },
    "gene_level_baselines": {"baselines": "Attention among its baselines"},
    "expression_matched": {
        "matched": "AUROC on matched pairs", "matched_balance": "Balance of the match",
        "matched_unmatched": "Positive pairs without a match",
    },
    "tf_resolution": {
        "per_tf": "Every regulator by itself", "tf_summary": "Over all regulators",
        "tf_covariates": "What a regulator's AUROC goes with", "tf_signs": "Edges of known sign only",
        "tf_rest": "Regulators with too few positives",
    },
    "cssi": {
        "cssi": "Gain of strata on held-out cells and regulators", "cssi_nulls": "Labels that mean nothing",
        "cssi_folds": "What each turn chose", "cssi_strata": "The strata", "cssi_kscan": "Number of strata",
        "cssi_grid": "Every layer and way of joining, nothing held out",
        "cssi_published": "Best of five variants on the same data",
    },
    "cell_count_scaling": {
        "scaling_summary": "Change with the number of cells", "scaling_mean": "Means over draws",
        "scaling_fits": "Curves", "scaling": "Every draw", "scaling_published": "Two draws per size, missing as zero",
        "scaling_published_fits": "Curves fitted to their means",
    },
    "composition_control": {
        "composition_model": "Effects of number and mixture", "composition_mean": "Means over draws",
        "composition": "Every draw",
    },
    "synthetic_cssi": {
        "synthetic_cssi": "What strata buy", "synthetic_published": "The published simulation",
        "synthetic_split_half": "The published split-half simulation",
    },
    "cross_fitted_residual": {"residual": "What both genes' expression leaves"},
    "degree_null": {
        "degree_null": "AUROC among networks with the same degrees", "degree_leave_one_out": "Without each regulator",
        "degree_checks": "Self-tests of the null",
    },
    "layer_hierarchy": {
        "layers": "Every layer", "layer_trend": "Change over depth", "layer_baselines": "What gene-level scores reach",
        "layer_peak": "Layer chosen on one part, evaluated on the other",
        "layer_peak_contrasts": "What the choice gains",
    },
    "grn_method_baselines": {"methods": "Attention among the methods", "methods_at_k": "The strongest pairs"},
    "recipe_sensitivity": {
        "recipe_summary": "Over all recipes", "recipes": "Every recipe", "recipe_factors": "By choice",
        "recipes_left_out": "What the grid does not hold",
    },
    "reference_sensitivity": {
        "reference_grid": "By part of the reference", "reference_pairs": "Against the other references",
        "reference_incompleteness": "As the list gets shorter",
    },
    "design_sensitivity": {
        "design_summary": "Over all designs", "design_factors": "By choice",
        "design_levels": "What the data could give", "design_grid": "Every design",
    },
    "dataset_generalisation": {
        "generalisation": "Choices of other screens in this one",
        "generalisation_screens": "What the plan fixed, screen by screen",
        "generalisation_left_out": "What could not be compared",
    },
    "perturbation_recovery": {
        "pert_summary": "Mean over perturbations", "pert_contrasts": "Attention against its rivals",
        "pert_layers": "Every layer, both directions",
        "pert_nested": "Layer chosen on some perturbations and genes, evaluated on others",
        "pert_fidelity": "Every perturbation of the screen, and its own gene", "pert_auroc": "Every perturbation",
        "published": "The published configurations",
    },
    "perturbation_baselines": {
        "pert_baselines": "Attention among gene-level baselines", "de_power": "Against other responders",
        "de_power_labels": "How those responders were told", "published": "Univariate rankings against co-expression",
    },
    "incremental_value": {
        "incremental": "What one more score adds to gene features", "incremental_control": "A planted score",
        "published": "The published increments",
    },
    "propensity_matched": {
        "matched_pert": "Against genes of equal propensity", "matched_pert_balance": "Balance of the match",
        "matched_pert_sensitivity": "What a hidden cause could explain",
        "matched_pert_perturbations": "Every perturbation", "published": "The published matching",
        "published_balance": "Its balance",
    },
    "calibration": {
        "calibration": "Scores read as probabilities", "calibration_rules": "Under other label rules",
        "calibration_transfer": "On the other screens",
    },
    "conformal": {
        "conformal": "Sets with guaranteed coverage", "conformal_transfer": "On the other screens, without guarantee",
    },
    "metric_dependence": {
        "metric_signs": "Attention against its rivals, by metric", "metric_concordance": "Agreement of all metrics",
        "metric_agreement": "Agreement of two metrics", "metric_grid": "Every score by every metric",
    },
    "list_truncation": {
        "list_parts": "All pairs, and listed pairs only", "list_shares": "What being listed says by itself",
        "list_signs": "Signs of listed reference edges",
    },
    "rank_consistency": {
        "rank_consistency": "In-silico against measured effects", "rank_by_perturbation": "Every perturbation",
        "rank_power": "What could be seen", "rank_null": "Perturbations exchanged",
        "published": "All pairs pooled, sources shuffled",
    },
    "coexpression_dominance": {
        "dominance": "Attention against co-expression", "dominance_coefficients": "Joint logistic model",
        "dominance_deciles": "Within deciles of co-expression",
    },
}  # fmt: skip

_UNPRINTED = {"calibration_curve", "dominance_hexbin", "degree_draws"}
_UNPRINTED_COLUMNS = {"kind", "layer", "head"}


def cell(value: Any, form: Format | None = None, *, sub: str = "") -> Cell:
    """A cell whose text is formatted and whose key keeps full precision."""
    if numbers.is_missing(value):
        return Cell(text=numbers.EMPTY, key="", sub=sub)
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no", key=str(int(value)), sub=sub)
    if form is None or (isinstance(value, str) and form not in _WORDS):
        form = str if isinstance(value, str) else numbers.short
    return Cell(text=form(value), key=value if isinstance(value, str) else repr(float(value)), sub=sub)


def analysis_tables(view: RunView, analysis: str) -> list[Table]:
    """Tables of one analysis, all models and references of a kind in one table, at most `LIMIT` rows shown."""
    kind = analysis.partition(".")[0]  # a reproduction is labelled "<analysis>.published"
    names = dict(TITLES.get(kind, {}))
    for owner, _, _, name in view.tables:
        if owner == analysis and name not in _UNPRINTED:
            names.setdefault(name, name.replace("_", " ").capitalize())
    out = []
    for name, title in names.items():
        parts = list(view.of(analysis, name))
        if parts:
            if all(model == SIMULATION for model, _, _ in parts):
                title = f"Simulated: {title}"
            out.append(_combine(view, analysis, name, title, parts, is_open=not out))
    return out


def _combine(
    view: RunView, analysis: str, name: str, title: str, parts: list[tuple[str, str, pd.DataFrame]], *, is_open: bool
) -> Table:
    each = max(4, LIMIT // len(parts))
    total = sum(len(t) for _, _, t in parts)
    limited = total > LIMIT
    lead = [k for k, names in (("model", view.models), ("reference", view.names)) if len(names) > 1]
    hidden = dict.fromkeys(_UNPRINTED_COLUMNS if name in ("recovery", "baselines") else ())
    constant = _constant([t for _, _, t in parts])
    columns: list[Column] = []
    rows: list[tuple[Cell, ...]] = []
    for model, reference, table in parts:
        part = _ordered(name, table)
        part = part.head(each) if limited else part
        names = [c for c in part.columns if c not in _limits_in(part) and c not in constant | hidden]
        if not columns:
            columns = [Column(head=k) for k in lead] + _columns(part, names)
        for row in records(part):
            known = {"model": cell(view.label(model)), "reference": cell(reference)}
            rows.append((*[known[k] for k in lead], *_cells(row, names)))
    same = ", ".join(
        f"{COLUMNS.get(k, (k,))[0]} {cell(v, COLUMNS.get(k, ('', None, ''))[1]).text}" for k, v in constant.items()
    )
    note = f"In every row: {same}. " if constant else ""
    if limited:
        files = sorted(view.files[(analysis, m, r, name)] for m, r, _ in parts)
        what = "the first" if name not in ("recovery", "leave_one_out") else "the strongest"
        note += f"{len(rows)} of {numbers.count(total)} rows, {what} of each model and reference. "
        note += f"Complete: {', '.join(files)}"
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), note=note.strip(), is_open=is_open)


def _ordered(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Pooled first, then by AUROC; regulators by the size of their influence; else as the analysis wrote it."""
    if name == "recovery":
        lead = (table["score"] != "pooled").astype(int)
        return table.assign(_lead=lead).sort_values(["_lead", "auroc"], ascending=[True, False], kind="stable").drop(
            columns=["_lead", *[c for c in ("layer", "head") if c in table]]
        )  # fmt: skip
    if name == "leave_one_out":
        return table.sort_values("change", key=lambda s: s.abs(), ascending=False, kind="stable")
    return table


def _constant(tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Columns with one value in all rows of all tables: said once below the table instead of in every row."""
    if sum(len(t) for t in tables) < 4:
        return {}
    found = {}
    for name in ("direction", "score", "n_pos", "n_neg", "n_regulators", "se0", "prevalence", "precision_chance"):
        values = {v for t in tables if name in t for v in t[name].dropna()}
        if len(values) == 1 and all(name in t and t[name].notna().all() for t in tables):
            found[name] = values.pop()
    return found


def _limits_in(part: pd.DataFrame) -> set[str]:
    found = set()
    for value, (low, high) in _INTERVALS.items():
        if {value, low, high} <= set(part.columns):
            found |= {low, high}
    return found


def _columns(part: pd.DataFrame, names: Sequence[str]) -> list[Column]:
    out = []
    for name in names:
        head, _, hint = COLUMNS.get(name, (name.replace("_", " "), None, ""))
        numeric = pd.api.types.is_numeric_dtype(part[name]) and not pd.api.types.is_bool_dtype(part[name])
        out.append(Column(head=head, numeric=numeric, hint=hint))
        if name in _INTERVALS and set(_INTERVALS[name]) <= set(part.columns):
            out.append(Column(head="interval", numeric=True))
    return out


def _cells(row: dict[str, Any], names: Sequence[str]) -> list[Cell]:
    out = []
    for name in names:
        out.append(cell(row[name], COLUMNS.get(name, ("", None, ""))[1]))
        if name in _INTERVALS and set(_INTERVALS[name]) <= set(row):
            low, high = (row[k] for k in _INTERVALS[name])
            signed = ("difference", "share_pair", "delta", "delta_coexpression", "reached", "coefficient", "gain")
            words = numbers.interval(low, high, sign=name in signed)
            out.append(Cell(text=words, key="" if numbers.is_missing(low) else repr(float(low))))
    return out
