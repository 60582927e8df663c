"""Which of the cluster statistics should an analysis take? The names to import, gathered in one place.

`auroc_inference`, `auroc_difference` and `mean_inference` are the defaults (estimate, standard error, df, unit and
words in one value); `max_t_p` tests many scores at once; the bootstraps draw whole genes.
"""

from __future__ import annotations

from regulens.stats.cluster_robust import cluster_contributions, cluster_df, cluster_se, cluster_sums
from regulens.stats.inference import Inference, auroc_difference, auroc_inference, default_se, mean_inference
from regulens.stats.jackknife import auroc_deviations, effective_df, jackknife_variance, mean_deviations
from regulens.stats.resample import bootstrap_auroc, twoway_bootstrap_auroc
from regulens.stats.simultaneous import max_t, max_t_p

__all__ = [
    "Inference", "auroc_deviations", "auroc_difference", "auroc_inference", "bootstrap_auroc", "cluster_contributions",
    "cluster_df", "cluster_se", "cluster_sums", "default_se", "effective_df", "jackknife_variance", "max_t", "max_t_p",
    "mean_deviations", "mean_inference", "twoway_bootstrap_auroc",
]  # fmt: skip
