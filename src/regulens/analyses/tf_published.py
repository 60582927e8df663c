"""What does the published resolution by regulator say? Every regulator counts, one target is enough, no error of each.

A reproduction: an AUROC on one positive is only a rank, pairs are taken as independent and missing ones as weak. It
feeds no verdict. The group of master regulators is the reader's, fixed in the plan; without one nothing is tested.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, spearmanr

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, refusal, refused, result_of, test_id
from regulens.analyses.per_regulator import evaluate_regulators
from regulens.analyses.recovery_published import zero_filled
from regulens.types.estimates import Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome

GROUPS_DIFFER = TestDesign(
    name="master_regulators_differ",
    hypothesis="Master regulators have a higher AUROC than the other regulators",
    side="two-sided",
    unit="regulator",
    method="Mann-Whitney, regulators taken as independent",
    confirmatory=False,
)

TABLES = {
    "published": ["regulator", "n_pos", "auroc", "group"],
    "published_groups": ["group", "n_tf", "mean", "sd"],
    "published_size": ["quantity", "n_tf", "rho", "p"],
}


def run_published(inp: AnalysisInput, name: str) -> AnalysisOutcome:
    """AUROC of every regulator with a positive, means and SDs by group, Spearman with the number of targets."""
    edges = LabelledEdges.build(zero_filled(inp, inp.primary), inp.universe)
    if reason := refusal(edges):
        return refused(inp, name, (GROUPS_DIFFER,), reason, edges=edges, tables=TABLES, steps=("",))
    each = evaluate_regulators(edges, 0, min_positives=1)
    names = np.array(inp.universe.regulators, dtype=object)[each.row]
    wanted = {str(x) for x in inp.parameters.get("master_regulators", [])}
    is_master = np.isin(names.astype(str), sorted(wanted))
    group = np.where(is_master, "master regulator", "other")
    rows = [
        (g, int((group == g).sum()), float(each.auroc[group == g].mean()),
         float(each.auroc[group == g].std(ddof=1)) if (group == g).sum() > 1 else np.nan)
        for g in ("master regulator", "other") if (group == g).any()
    ]  # fmt: skip
    one = test_id(name, inp.request, GROUPS_DIFFER.name)
    if is_master.sum() >= 2 and (~is_master).sum() >= 2:
        found = mannwhitneyu(each.auroc[is_master], each.auroc[~is_master], alternative="two-sided")
        effect = float(each.auroc[is_master].mean() - each.auroc[~is_master].mean())
        record = TestRecord(id=one, statistic=float(found.statistic), effect=effect, p_raw=float(found.pvalue),
                            n_units=len(names))  # fmt: skip
    else:
        reason = (
            f"{int(is_master.sum())} of the regulators are named as master regulators in the plan; two in each group "
            "are needed"
        )
        record = TestRecord(id=one, undefined=reason, n_units=len(names))
    sized = []
    if len(names) > 2 and np.ptp(each.n_pos) > 0 and np.ptp(each.auroc) > 0:
        size = spearmanr(each.n_pos, each.auroc)
        sized = [("regulon_size", len(names), float(size.statistic), float(size.pvalue))]
    spread = f"mean ± SD over {len(names)} regulators has no interval in this protocol"
    return AnalysisOutcome(
        analysis=name, model=inp.request.model, reference=inp.request.reference,
        results=(
            result_of(inp, name, score=f"{inp.request.primary}, mean over regulators", metric="mean_regulator_auroc",
                      estimate=Undefined(reason=spread), edges=edges, n_regulators=len(names)),
        ),
        tables={
            "published": pd.DataFrame(
                {"regulator": names, "n_pos": each.n_pos, "auroc": each.auroc, "group": group}
            ).sort_values("auroc", ascending=False, kind="stable", ignore_index=True),
            "published_groups": pd.DataFrame(rows, columns=TABLES["published_groups"]),
            "published_size": pd.DataFrame(sized, columns=TABLES["published_size"]),
        },
        records=(record,), facts=counts_of(edges),
    )  # fmt: skip
