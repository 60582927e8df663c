"""How are names, notices and captions printed? All words of a report but those about claims (`report.claims`)."""

from __future__ import annotations

from typing import Any

from regulens.report.model import RunView
from regulens.report.numbers import count, fixed, is_missing, not_defined

#: The three states, in the order in which they are counted.
STATES = ("supported", "not supported", "inconclusive")

#: Sign printed beside a state, so that no reading depends on colour.
SIGNS = {"supported": "✓", "not supported": "✕", "inconclusive": "?"}

_STEP_LABELS = {
    "pooled": "attention, pooled", "layer": "attention, layer chosen on other regulators",
    "baseline": "strongest one-gene score", "gene_model": "gene-only model",
    "marginal": "marginal-attention product", "coexpression": "co-expression",
    "degree": "degrees of both genes", "residual": "attention, residual on both genes' expression",
    "matched": "attention, matched pairs", "matched_baseline": "marginal product, matched pairs",
    "response_propensity": "responses to other perturbations", "power_control": "attention − baseline, equal power",
}  # fmt: skip

_SCORES = {
    "pooled": "attention, pooled", "attention": "attention", "gene_model": "fitted gene-only model",
    "marginal_product": "marginal-attention product", "coexpression_abs": "co-expression |ρ|",
    "mean_closeness": "closeness of mean expression", "response_propensity": "responses to other perturbations",
    "coexpression_signed": "co-expression ρ (signed)", "random": "random score",
    "edge_weight": "|weight| in the table", "listed": "listed or not", "signed_weight": "weight with its sign",
}  # fmt: skip

_FEATURES = {
    "coexpression_abs": "co-expression |ρ|", "coexpression_abs squared": "co-expression |ρ|, squared",
    "rho_abs": "co-expression |ρ|", "out_degree": "out-degree",
    "detection": "detection rate", "mean": "mean", "variance": "variance",
}  # fmt: skip


def title() -> str:
    """Title of the report."""
    return "What does attention know about gene regulation?"


def step_label(step: str) -> str:
    """Name of a rung of the cascade."""
    return _STEP_LABELS.get(step, step.replace("_", " "))


def score_label(score: Any) -> str:
    """Name of a score as printed.

    >>> score_label("product_mean"), score_label("L03_H11"), score_label("L00_mean")
    ('product of means', 'layer 3, head 11', 'layer 0, mean of heads')
    """
    score = str(score)
    if score in _SCORES:
        return _SCORES[score]
    kind, _, rest = score.partition("_")
    if kind[:1] == "L" and kind[1:].isdigit():
        return f"layer {int(kind[1:])}, " + ("mean of heads" if rest == "mean" else f"head {int(rest[1:])}")
    plural = {"mean": "means", "variance": "variances", "detection": "detection rates"}
    if kind == "product":
        return f"product of {plural.get(rest, rest.replace('_', ' '))}"
    if kind in ("source", "target") and rest:
        return f"{'regulator' if kind == 'source' else 'target'}'s {feature_label(rest)}"
    return score.replace("_", " ")


def feature_label(feature: Any) -> str:
    """Name of a feature as printed."""
    feature = str(feature)
    if feature in _FEATURES:
        return _FEATURES[feature]
    kind, _, rest = feature.partition("_")
    if kind in ("source", "target") and rest:
        return f"{'regulator' if kind == 'source' else 'target'}'s {_FEATURES.get(rest, rest.replace('_', ' '))}"
    return feature.replace("_", " ")


def direction_label(direction: Any) -> str:
    """Which of the two genes is the query, in words."""
    known = {"regulator_attends": "regulator attends", "target_attends": "target attends", "max": "larger of both",
             "mean": "mean of both"}  # fmt: skip
    return known.get(str(direction), str(direction).replace("_", " "))


def layer_label(layer: Any) -> str:
    """A layer by number or by the name of its score.

    >>> layer_label(3), layer_label("L11_mean")
    ('3', '11')
    """
    layer = str(layer)
    return str(int(layer[1:3])) if layer[:1] == "L" and layer[1:3].isdigit() else layer.removesuffix(".0")


def form_label(form: Any) -> str:
    """How matched pairs were combined; "together" is not the pooling over heads."""
    return {"pooled": "together"}.get(str(form), str(form))


def intervention_label(intervention: Any) -> str:
    """What is held against the measured effects of a perturbation."""
    known = {"ablate": "gene taken away", "swap": "values swapped (control)", "coexpression": "co-expression, no model"}
    return known.get(str(intervention), str(intervention))


def agreement_label(measure: Any) -> str:
    """Which agreement of in-silico and measured effects."""
    known = {
        "signed": "ρ", "absolute": "ρ of sizes", "signed_controlled": "ρ, expression and composition taken out",
        "absolute_controlled": "ρ of sizes, expression and composition taken out", "sign_agreement": "equal signs",
    }  # fmt: skip
    return known.get(str(measure), str(measure).replace("_", " "))


def quantity_label(quantity: Any) -> str:
    """Name of a quantity of the co-expression analysis."""
    known = {
        "spearman_abs": "Spearman of attention and |ρ|",
        "spearman_signed": "Spearman of attention and signed ρ",
        "spearman_within_regulator": "Spearman within regulators",
        "label_correlation": "correlation with the label",
        "label_partial_correlation": "partial correlation with the label",
        "auroc_attention": "AUROC of attention",
        "auroc_coexpression": "AUROC of co-expression",
        "auroc_difference": "difference of AUROC",
        "attention_coefficient": "coefficient of attention",
        "slope_per_ln_cells": "change of AUROC per e-fold of cells",
        "se_of_genes": "its error from genes",
        "se_of_cells": "its error from cells",
        "slope_min_replicate": "smallest slope of a draw",
        "slope_max_replicate": "largest slope of a draw",
        "isotonic_r2": "share explained by a rising curve",
        "isotonic_p": "permutation p of a rising curve",
        "best_minus_all": "best size minus all cells",
        "recipes": "recipes",
        "auroc_smallest": "smallest AUROC",
        "auroc_median": "median AUROC",
        "auroc_largest": "largest AUROC",
        "auroc_pre_registered": "AUROC of the plan's recipe",
        "rank_pre_registered": "rank of the plan's recipe",
        "share_above_chance": "share with an interval above 0.5",
        "share_above_null": "share above the strictest null, each alone",
        "share_above_null_adjusted": "share above it, adjusted over recipes",
        "pooled_all_pairs": "all pairs in one ranking",
        "pooled_without_one": "all pairs, without one regulator",
        "mean_of_regulators": "mean over regulators",
        "mean_resampled": "mean over regulators, resampled",
        "mean_random_effects": "mean over regulators, random effects",
        "new_regulator": "range of another regulator",
        "sd_between_regulators": "SD between regulators",
        "share_beyond_error": "share of the spread beyond error (I²)",
        "regulon_size": "number of targets",
        "evidence": "support of its edges",
        "peak_minus_others": "best layer − other layers",
        "peak_minus_coexpression": "best layer − co-expression",
        "peak_minus_gene_level": "best layer − best gene-level score",
        "kendall_w": "Kendall's W over metrics",
        "share_listed": "share of pairs listed",
        "positives_listed": "share of positives listed",
        "negatives_listed": "share of other pairs listed",
        "auroc_of_listing": "AUROC of being listed",
        "added_by_order": "what the order of listed pairs adds to it",
        "best_auroc_of_such_a_list": "best AUROC of a list so long",
        "smallest_tau": "smallest Kendall τ of two metrics",
    }
    return known.get(str(quantity), str(quantity).replace("_", " "))


def method_label(method: Any) -> str:
    """Name of a network-inference method."""
    known = {
        "pooled": "attention, pooled",
        "spearman": "Spearman |ρ|",
        "pearson": "Pearson |r|",
        "mutual_information": "mutual information",
        "partial_correlation": "partial correlation",
        "lasso": "lasso",
        "genie3": "GENIE3",
        "grnboost2": "GRNBoost2",
        "ensemble": "ensemble of the methods",
        "one_per_perturbation": "one pair per perturbation",
        "all_pairs": "all pairs",
        "each_class": "each class",
        "each_expression_third": "each third by expression",
        "whole_perturbation": "whole perturbations",
    }
    return known.get(str(method), str(method))


_RECIPES = {
    ("recipe", "apc"): "product-corrected (APC)",
    ("recipe", "rank"): "ranks, row then column",
    ("recipe", "log_probability"): "log probability",
    ("recipe", "mean_cell"): "mean cell (map of means)",
    ("layers", "all"): "mean of all layers",
    ("direction", "mean"): "mean of both directions",
    ("direction", "max"): "larger of both directions",
    ("missing", "exclude"): "missing pairs left out",
    ("missing", "zero"): "missing pairs count as 0",
}


def recipe_label(factor: Any, choice: Any) -> str:
    """One choice of a recipe, in words."""
    factor, choice = str(factor), str(choice)
    if factor == "direction" and (factor, choice) not in _RECIPES:
        return direction_label(choice)
    return _RECIPES.get((factor, choice), choice.replace("_", " "))


def recipe_value_label(choice: Any) -> str:
    """What is read from a map of attention."""
    return recipe_label("recipe", choice)


def design_label(factor: Any, choice: Any) -> str:
    """One choice of a design of a screen, in words.

    >>> design_label("controls", 2000.0), design_label("min_effect", 0.25), design_label("test", "mann_whitney")
    ('2,000 controls', '|effect| > 0.25', 'Mann-Whitney')
    """
    factor, text = str(factor), str(choice)
    if factor == "test":
        return {"welch": "Welch", "mann_whitney": "Mann-Whitney"}.get(text, text)
    try:
        number = float(text)
    except ValueError:
        return text
    if number != number:
        return "not said"
    return {
        "controls": f"{number:,.0f} controls", "genes": f"{number:,.0f} genes", "min_effect": f"|effect| > {number:g}",
        "alpha": f"adjusted p < {number:g}",
    }.get(factor, f"{number:g}")  # fmt: skip


def effect_label(effect: Any) -> str:
    """What was chosen in one screen and looked at in another, in words."""
    known = {
        "score": "best head or layer", "layer": "best layer", "baseline": "best gene-level statistic",
        "over_coexpression": "attention − co-expression", "over_gene_level": "attention − gene-level statistic",
        "calls": "calls by the best threshold", "attention": "attention of the plan",
        "gene_level": "best gene-level statistic", "coexpression": "co-expression",
    }  # fmt: skip
    return known.get(str(effect), str(effect).replace("_", " "))


def reading_label(reading: Any) -> str:
    """How a score was read as a probability, or under which label rule, in words.

    >>> reading_label("frozen_new_base_rate"), reading_label("platt")
    ('frozen, new base rate', 'Platt')
    """
    known = {
        "raw": "ranks, raw", "platt": "Platt", "frozen_new_base_rate": "frozen, new base rate",
        "local": "calibrated there", "base_rate_frozen": "base rate, frozen", "base_rate_local": "base rate there",
        "of_the_study": "of the study", "half_the_effect": "half the smallest effect",
        "twice_the_effect": "twice the smallest effect", "any_effect": "adjusted p alone",
    }  # fmt: skip
    return known.get(str(reading), str(reading).replace("_", " "))


def metric_label(metric: Any) -> str:
    """Name of a metric as printed.

    >>> metric_label("auprc_ratio"), metric_label("precision_at_k 20")
    ('AUPRC / prevalence', 'precision at 20')
    """
    known = {"auroc": "AUROC", "partial_auroc": "partial AUROC", "auprc_ratio": "AUPRC / prevalence", "epr": "EPR",
             "precision_at_k": "precision at K", "f1_at_k": "F1 at K"}  # fmt: skip
    name, _, k = str(metric).partition(" ")
    return f"precision at {k}" if k and name == "precision_at_k" else known.get(name, name.replace("_", " "))


def split_label(split: Any) -> str:
    """What a model was not fitted on, where it is judged."""
    known = {"perturbation": "unseen perturbations", "gene": "unseen genes", "joint": "both unseen"}
    return known.get(str(split), str(split).replace("_", " "))


def learner_label(learner: Any) -> str:
    """Name of a learner as printed."""
    return {"logistic": "logistic regression", "trees": "boosted trees"}.get(str(learner), str(learner))


def responders_label(kind: Any) -> str:
    """How responders were told from other genes."""
    known = {
        "called": "as called", "effect_size": "largest fold changes, shrunken",
        "placebo": "called between control cells", "planted": "equal changes, planted at random",
        "called_same_genes": "as called, well-measured genes", "power_matched": "every gene at equal power",
    }  # fmt: skip
    return known.get(str(kind), str(kind).replace("_", " "))


def side_label(side: Any) -> str:
    """Side of an edge in words: edges run regulator → target."""
    return {"source": "regulator", "target": "target"}.get(str(side), str(side))


def demonstration_notice(view: RunView) -> str:
    """Said once, prominently, when models of the run are demonstration models; else empty."""
    names = [view.label(m["name"]) for m in view.models if m.get("demonstration")]
    if not names:
        return ""
    subject = f"{names[0]} is a small model" if len(names) == 1 else f"{', '.join(names)} are small models"
    return (
        f"{subject} that regulens trains itself, so that the whole audit can be tried at once. Nothing on this page "
        "generalises from them to any other model: their numbers show how an audit "
        "reads, not what foundation models know."
    )


def synthetic_notice(view: RunView) -> str:
    """Watermark of an example run; else empty."""
    if not view.run.get("synthetic"):
        return ""
    return "Synthetic example: every number on this page was drawn at random. It shows the layout and no result."


def test_name(test_id: Any) -> str:
    """Last part of a test id, as words."""
    return str(test_id).rsplit("/", 1)[-1].replace("_", " ")


def outcome_words(row: dict[str, Any], alpha: float) -> str:
    """What a row of the ledger says, in at most a few words."""
    if row.get("undefined"):
        return not_defined(row["undefined"])
    if row.get("protocol", "corrected") != "corrected":
        return "reproduction, feeds no verdict"
    if not row.get("confirmatory", True):
        return "descriptive"
    q = row.get("q_value")
    if is_missing(q):
        return "not adjusted"
    return f"q < {alpha:g}" if float(q) < alpha else f"q ≥ {alpha:g}"


def ledger_counts(view: RunView) -> dict[str, int]:
    """Numbers of planned, recorded, undefined, confirmatory tests and families."""
    frame = view.tests
    if frame.empty:
        return {"planned": 0, "recorded": 0, "undefined": 0, "confirmatory": 0, "families": 0, "below": 0}
    undefined = frame["undefined"].fillna("").astype(str).str.len() > 0
    q = frame["q_value"].astype("Float64")
    return {
        "planned": len(frame),
        "recorded": int((frame["p_raw"].notna() | undefined).sum()),
        "undefined": int(undefined.sum()),
        "confirmatory": int(frame["confirmatory"].astype(bool).sum()),
        "families": int(frame.loc[q.notna(), "family"].nunique()),
        "below": int((q < view.alpha).fillna(value=False).sum()),
    }


def ledger_sentence(view: RunView) -> str:
    """How many tests there were and how they were adjusted."""
    n = ledger_counts(view)
    if not n["planned"]:
        return "No test was planned in this run."
    return (
        f"{n['planned']} tests were planned before any data was read; {n['recorded']} were recorded, {n['undefined']} "
        f"of them as not defined, with the reason. {n['confirmatory']} are confirmatory; those with a p-value were "
        f"adjusted in {n['families']} {'family' if n['families'] == 1 else 'families'} (Benjamini-Hochberg), and "
        f"{n['below']} have q < {view.alpha:g}."
    )


def universe_words(view: RunView, reference: str) -> str:
    """Universe of a reference in one clause."""
    universe = view.universe(reference)
    if not universe:
        return reference
    counts = universe.get("counts", {})
    pairs = f", {count(counts['candidates'])} candidate pairs" if "candidates" in counts else ""
    what = "evaluable edges"
    if reference in view.screens:
        what = f"responses to {count(counts.get('perturbations_evaluable'))} perturbations"
    return f"{reference} (universe {universe['name']}, {count(counts.get('evaluable'))} {what}{pairs})"


#: End of the caption of a simulation.
SIMULATED = "Simulated cells: nothing of the study's cells, models or references was read."

#: Ways of joining strata; the formulas are in docs/analyses/cssi.md.
_VARIANTS = {
    "max": "maximum", "absmax": "maximum of |w|", "mean": "mean by cells", "mean_unweighted": "mean of strata",
    "range": "range", "std": "standard deviation", "deviation": "largest deviation",
    "wdeviation": "mean deviation by cells", "excess": "maximum above pooled", "lower": "maximum of lower bounds",
}  # fmt: skip


def variant_label(variant: Any) -> str:
    """Way of joining strata as printed.

    >>> variant_label("max"), variant_label("blend_range_30")
    ('maximum', '0.3 pooled + 0.7 range')
    """
    if str(variant).startswith("blend_"):
        _, what, share = str(variant).split("_")
        return f"{int(share) / 100:g} pooled + {1 - int(share) / 100:g} {_VARIANTS[what]}"
    return _VARIANTS.get(str(variant), str(variant).replace("_", " "))


def strata_label(kind: Any) -> str:
    """Where strata come from, as printed.

    >>> strata_label("expression")
    'states by expression'
    """
    known = {
        "annotation": "annotated states", "expression": "states by expression", "embedding": "states by cell embedding"
    }  # fmt: skip
    return known.get(str(kind), str(kind).replace("_", " "))


def universe_sentence(view: RunView, endpoint: str = "reference_recovery") -> str:
    """End of every caption: endpoint, universes and cells."""
    where = "; ".join(universe_words(view, r) for r in view.names_of(endpoint))
    cells = view.run.get("cells", {})
    read = f" {count(cells.get('n_cells'))} cells." if cells.get("n_cells") != 0 else ""
    return f"Endpoint: {endpoint.replace('_', ' ')}. {where}.{read}"


def interval_words(view: RunView, endpoint: str = "reference_recovery") -> str:
    """What the bars of a figure are, and by which units those of its endpoint are clustered."""
    metric = "mean_perturbation_auroc" if endpoint == "perturbation_response" else "auroc"
    own = view.results[(view.results["metric"] == metric) & (view.results["endpoint"] == endpoint)]
    units = sorted({str(u) for u in own["unit"] if not is_missing(u) and str(u)})
    clustered = f", clustered by {' or by '.join(units)}." if units else "."
    return f"Bars: {100 * (1 - view.alpha):g} % intervals{clustered}"


def with_pooled(view: RunView, what: str, endpoint: str = "reference_recovery") -> str:
    """Alternative text of a figure: what it shows, and the pooled AUROCs; the tables carry the other numbers."""
    pooled = []
    for model, reference in view.contexts_of(endpoint):
        row = view.step(model, reference, "pooled")
        if row is not None and not is_missing(row["value"]):
            pooled.append(f"{view.label(model)} on {reference} {fixed(row['value'])}")
    return f"{what}. Pooled AUROC: {'; '.join(pooled)}." if pooled else f"{what}."


def reproduce_command() -> str:
    """Command that repeats the run."""
    return "regulens audit plan.yaml"
