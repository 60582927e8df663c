"""Which statistics does an audit rest on? Functions on arrays; nothing here knows of models or files.

The names below are loaded when they are first used. What each procedure claims, where it comes from and how often it
is wrong is written in ``docs/statistics.md``. A name that is also a module's is not among them, since the module would
hide it: DeLong's single AUROC is ``regulens.stats.delong.delong``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regulens.stats.bootstrap_tests import interval, one_sided_p, test_greater, test_two_sided
    from regulens.stats.cell_blocks import CellBootstrap, cell_bootstrap
    from regulens.stats.cluster_permutation import ClusterCorrelation, spearman_by_cluster
    from regulens.stats.correlation import spearman
    from regulens.stats.curves import CurveFit, compare_curves, fit_curve, leave_one_size_out, monotone_trend
    from regulens.stats.delong import DeLong, UnitAurocs, delong_by_unit, delong_covariance, delong_difference
    from regulens.stats.equivalence import tost
    from regulens.stats.heterogeneity import RandomEffects, leave_one_out_means, random_effects
    from regulens.stats.hierarchical import Hierarchical, hierarchical_fdr, simes
    from regulens.stats.inference import Inference, auroc_difference, auroc_inference, mean_inference
    from regulens.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
    from regulens.stats.permutation import permutation_p
    from regulens.stats.permuted_labels import permuted_auroc
    from regulens.stats.power import (
        auroc_null_se,
        auroc_se_at,
        correlation_n,
        detectable_n,
        minimum_detectable_auroc,
    )
    from regulens.stats.rank_tests import RankTest, mann_whitney, sign_test, wilcoxon
    from regulens.stats.ranking import auroc, average_precision, early_precision, influence
    from regulens.stats.resample import bootstrap_auroc, bootstrap_edges, twoway_bootstrap_auroc
    from regulens.stats.simultaneous import max_t_p
    from regulens.stats.smooth_profiles import DepthTrend, depth_trend, surrogates
    from regulens.stats.splits import Split, split_by
    from regulens.stats.summary import RankingSummary, ranking_summary
    from regulens.stats.top_lists import TopK, partial_auroc, top_k
    from regulens.stats.top_overlap import Overlap, overlap

__all__ = [
    "CellBootstrap",
    "ClusterCorrelation",
    "CurveFit",
    "DeLong",
    "DepthTrend",
    "Hierarchical",
    "Inference",
    "Overlap",
    "RandomEffects",
    "RankTest",
    "RankingSummary",
    "Split",
    "TopK",
    "UnitAurocs",
    "auroc",
    "auroc_difference",
    "auroc_inference",
    "auroc_null_se",
    "auroc_se_at",
    "average_precision",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bootstrap_auroc",
    "bootstrap_edges",
    "cell_bootstrap",
    "compare_curves",
    "correlation_n",
    "delong_by_unit",
    "delong_covariance",
    "delong_difference",
    "depth_trend",
    "detectable_n",
    "early_precision",
    "fit_curve",
    "hierarchical_fdr",
    "holm",
    "influence",
    "interval",
    "leave_one_out_means",
    "leave_one_size_out",
    "mann_whitney",
    "max_t_p",
    "mean_inference",
    "minimum_detectable_auroc",
    "monotone_trend",
    "one_sided_p",
    "overlap",
    "partial_auroc",
    "permutation_p",
    "permuted_auroc",
    "random_effects",
    "ranking_summary",
    "sign_test",
    "simes",
    "spearman",
    "spearman_by_cluster",
    "split_by",
    "surrogates",
    "test_greater",
    "test_two_sided",
    "top_k",
    "tost",
    "twoway_bootstrap_auroc",
    "wilcoxon",
]

#: Public name to the module that has it.
_LAZY = {
    "CellBootstrap": "cell_blocks",
    "ClusterCorrelation": "cluster_permutation",
    "CurveFit": "curves",
    "DeLong": "delong",
    "DepthTrend": "smooth_profiles",
    "Hierarchical": "hierarchical",
    "Inference": "inference",
    "Overlap": "top_overlap",
    "RandomEffects": "heterogeneity",
    "RankTest": "rank_tests",
    "RankingSummary": "summary",
    "Split": "splits",
    "TopK": "top_lists",
    "UnitAurocs": "delong",
    "auroc": "ranking",
    "auroc_difference": "inference",
    "auroc_inference": "inference",
    "auroc_null_se": "power",
    "auroc_se_at": "power",
    "average_precision": "ranking",
    "benjamini_hochberg": "multiplicity",
    "benjamini_yekutieli": "multiplicity",
    "bootstrap_auroc": "resample",
    "bootstrap_edges": "resample",
    "cell_bootstrap": "cell_blocks",
    "compare_curves": "curves",
    "correlation_n": "power",
    "delong_by_unit": "delong",
    "delong_covariance": "delong",
    "delong_difference": "delong",
    "depth_trend": "smooth_profiles",
    "detectable_n": "power",
    "early_precision": "ranking",
    "fit_curve": "curves",
    "hierarchical_fdr": "hierarchical",
    "holm": "multiplicity",
    "influence": "ranking",
    "interval": "bootstrap_tests",
    "leave_one_out_means": "heterogeneity",
    "leave_one_size_out": "curves",
    "mann_whitney": "rank_tests",
    "max_t_p": "simultaneous",
    "mean_inference": "inference",
    "minimum_detectable_auroc": "power",
    "monotone_trend": "curves",
    "one_sided_p": "bootstrap_tests",
    "overlap": "top_overlap",
    "partial_auroc": "top_lists",
    "permutation_p": "permutation",
    "permuted_auroc": "permuted_labels",
    "random_effects": "heterogeneity",
    "ranking_summary": "summary",
    "sign_test": "rank_tests",
    "simes": "hierarchical",
    "spearman": "correlation",
    "spearman_by_cluster": "cluster_permutation",
    "split_by": "splits",
    "surrogates": "smooth_profiles",
    "test_greater": "bootstrap_tests",
    "test_two_sided": "bootstrap_tests",
    "top_k": "top_lists",
    "tost": "equivalence",
    "twoway_bootstrap_auroc": "resample",
    "wilcoxon": "rank_tests",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'regulens.stats' has no attribute '{name}'"
        raise AttributeError(message)
    from importlib import import_module

    value = getattr(import_module(f"regulens.stats.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
