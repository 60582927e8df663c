"""How well does a score rank the genes that respond, perturbation by perturbation, and what does the mean say?

One AUROC per perturbation, averaged. Perturbations are *not* independent given the genes: the same genes are ranked in
every perturbation, and a gene that responds to everything makes all of their AUROCs high or low together. The error
of a mean is therefore the delete-one jackknife over perturbations and over genes (`over="both"`, the default);
"perturbations resampled, genes held fixed" (`over="perturbation"`) is beside it for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

from regulens.analyses.base import AnalysisInput
from regulens.analyses.common import TestDesign, counts_of, dropped_of, edges_of, regulators_with_positives, test_id
from regulens.analyses.inference import Effect, aurocs, effects_of
from regulens.errors import ParameterError, examples
from regulens.stats._kernels import over_scores
from regulens.stats.by_row import (
    RowMetrics,
    Rows,
    Sweep,
    deviations_of,
    mean_deviations_over_rows,
    row_metrics,
    sweep,
)
from regulens.stats.inference import Inference, default_se
from regulens.stats.jackknife import Deviations
from regulens.stats.rank_tests import RankTest, wilcoxon
from regulens.types.edges import EdgeScores
from regulens.types.estimates import Estimate, Undefined
from regulens.types.labelled import LabelledEdges
from regulens.types.ledger import TestRecord
from regulens.types.results import AnalysisOutcome, EvaluationResult

#: Below this many perturbations no mean is tested; verdicts ask for more.
MIN_PERTURBATIONS = 5

#: Lengths of the lists that recall is given at (methods: 10, 50, 100).
RECALL_AT = (10, 50, 100)

UNIT = "perturbation and target"
METHOD = "t from the delete-one jackknife over perturbations and over target genes, mean of one AUROC per perturbation"
#: Sweeps that are kept for the next contrast: each holds one number per pair.
_KEPT = 24

METRICS = ("auroc", "average_precision", *(f"recall_at_{k}" for k in RECALL_AT))


def clusters_of(perturbations: tuple[str, ...], complexes: Mapping[str, Sequence[str]] | None) -> np.ndarray | None:
    """Group of every perturbation: its complex, or itself; None without complexes.

    Parameters
    ----------
    complexes
        Name → perturbed genes whose products act together, so that their perturbations are no two observations.

    Raises
    ------
    ParameterError
        When a gene is in two complexes, or this is no mapping of lists.

    Examples
    --------
    >>> clusters_of(("A", "B", "C"), {"ab": ["A", "B", "X"]}).tolist()
    [0, 0, 2]
    """
    if not complexes:
        return None
    sound = isinstance(complexes, Mapping) and all(not isinstance(v, str) for v in complexes.values())
    genes = [g for members in complexes.values() for g in members] if sound else []
    twice = sorted({g for g in genes if genes.count(g) > 1})
    if not sound or twice:
        got = examples(twice) if twice else repr(complexes)[:60]
        message = f"Expected complexes as name: [genes], every gene in one of them, got {got}. Correct `complexes`."
        raise ParameterError(message)
    complex_of = {g: name for name, members in complexes.items() for g in members}
    first: dict[tuple[str, str], int] = {}
    keys = [("complex", complex_of[p]) if p in complex_of else ("alone", p) for p in perturbations]
    return np.array([first.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedContrast:
    """One score minus another, perturbation by perturbation.

    Parameters
    ----------
    effect
        Mean difference with the default error (perturbations and genes).
    within
        The same difference with perturbations as the only source of error, genes held fixed.
    bootstrap
        Percentile interval over perturbations (or clusters of them), genes held fixed.
    wilcoxon
        Signed-rank test over perturbations, genes held fixed: descriptive.
    wins
        Share of perturbations in which the first score is better, ties one half.
    p_equivalent
        TOST p of "within ± the smallest difference of interest", default error.
    """

    name: str
    other: str
    effect: Effect
    within: Effect
    bootstrap: Estimate | Undefined
    wilcoxon: RankTest | Undefined
    wins: float
    p_equivalent: float

    def row(self, *, level: float) -> dict[str, object]:
        """Row of a table."""
        low, high = self.effect.bounds(level)
        boot, rank = self.bootstrap, self.wilcoxon
        given, ranked = isinstance(boot, Estimate), isinstance(rank, RankTest)
        return {
            "score": self.name, "rival": self.other, "delta": self.effect.value, "delta_low": low,
            "delta_high": high, "se": self.effect.se, "p": self.effect.p_two_sided(), "tost_p": self.p_equivalent,
            "fixed_genes_low": boot.low if given else np.nan, "fixed_genes_high": boot.high if given else np.nan,
            "wilcoxon_p": rank.p if ranked else np.nan, "wins": self.wins, "note": self.effect.undefined,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerPerturbation:
    """Ranking metrics of several scores in every perturbation, on identical pairs.

    Parameters
    ----------
    edges
        Pairs sorted by perturbation; only perturbations with positives and negatives.
    rows
        The same pairs laid out perturbation by perturbation.
    row
        Row of each perturbation in the universe, shape ``(perturbation,)``.
    perturbations
        Their names.
    metrics
        Of every score and perturbation.
    n_left_out
        Perturbations of the universe without a positive or without a negative among the shared pairs.
    cluster
        Group of every perturbation (complex that is targeted), or None.
    """

    edges: LabelledEdges
    rows: Rows
    row: np.ndarray
    perturbations: tuple[str, ...]
    metrics: RowMetrics
    n_left_out: int
    cluster: np.ndarray | None = None
    _swept: dict[int, Sweep] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls, inp: AnalysisInput, *scores: EdgeScores, keep: np.ndarray | None = None, cluster: np.ndarray | None = None
    ) -> PerPerturbation:
        """All of `scores` on the pairs that attention and co-expression both observed.

        Parameters
        ----------
        keep
            Bool ``(perturbation, gene)``: restrict the pairs further.
        cluster
            Group of every row of the universe, shape ``(perturbation,)``; such perturbations are left out together.
        """
        edges = edges_of(inp, *scores)
        if keep is not None:
            edges = edges.restrict(keep[edges.regulator, edges.target])
        return cls.of(edges, inp.universe.regulators, cluster=cluster)

    @classmethod
    def of(
        cls, edges: LabelledEdges, perturbations: tuple[str, ...], *, cluster: np.ndarray | None = None
    ) -> PerPerturbation:
        """From edges whose `regulator` is the index into `perturbations`.

        Examples
        --------
        >>> from regulens.types.endpoints import Endpoint
        >>> i, j = (a.ravel() for a in np.indices((6, 9)))
        >>> y = (i + j) % 3 == 0
        >>> edges = LabelledEdges(scores=np.stack([y + 0.1 * j, j]), names=("good", "gene"), label=y, regulator=i,
        ...     target=j, universe_digest="", endpoint=Endpoint.PERTURBATION_RESPONSE)
        >>> found = PerPerturbation.of(edges, tuple("ABCDEF"))
        >>> found.refusal, found.values("good").round(2).tolist()[:2]
        ('', [1.0, 1.0])
        """
        edges = edges.restrict(np.argsort(edges.regulator, kind="stable"))
        n = len(perturbations)
        pos = np.bincount(edges.regulator, weights=edges.label, minlength=n)
        good = (pos > 0) & (np.bincount(edges.regulator, minlength=n) > pos)
        if not good.all():
            edges = edges.restrict(good[edges.regulator])
        row = np.flatnonzero(good)
        rows = Rows.build(edges.label, edges.regulator, edges.target)
        return cls(
            edges=edges, rows=rows, row=row, perturbations=tuple(perturbations[i] for i in row),
            metrics=row_metrics(edges.scores, rows, k=RECALL_AT), n_left_out=int(n - len(row)),
            cluster=None if cluster is None else np.asarray(cluster)[row],
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Number of perturbations with an AUROC."""
        return len(self.row)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores."""
        return self.edges.names

    @property
    def n_pos(self) -> np.ndarray:
        """Responders of every perturbation."""
        return self.rows.n_pos

    @property
    def n_neg(self) -> np.ndarray:
        """Genes without a response, of every perturbation."""
        return self.rows.n_neg

    @property
    def prevalence(self) -> np.ndarray:
        """Chance value of the average precision, per perturbation."""
        return self.n_pos / np.maximum(self.n_pos + self.n_neg, 1)

    @property
    def refusal(self) -> str:
        """Why there are too few perturbations to say anything, or an empty string."""
        if self.n < MIN_PERTURBATIONS:
            have = f"{self.n} perturbations have responders and non-responders among the observed pairs"
            return f"{have}; at least {MIN_PERTURBATIONS} are needed"
        if self.cluster is not None and len(np.unique(self.cluster)) < MIN_PERTURBATIONS:
            return f"{len(np.unique(self.cluster))} groups of perturbations; at least {MIN_PERTURBATIONS} are needed"
        return ""

    def restrict(self, keep: np.ndarray) -> PerPerturbation:
        """Only the perturbations at `keep` (bool or index into them)."""
        index = np.arange(self.n)[keep]
        chosen = np.zeros(self.n, dtype=bool)
        chosen[index] = True
        edges = self.edges.restrict(chosen[self.rows.row()])
        m = self.metrics
        return replace(
            self, edges=edges, rows=Rows.build(edges.label, edges.regulator, edges.target), row=self.row[chosen],
            perturbations=tuple(p for p, c in zip(self.perturbations, chosen) if c),
            metrics=RowMetrics(
                auroc=m.auroc[:, chosen], average_precision=m.average_precision[:, chosen],
                recall=m.recall[:, chosen], recall_by_chance=m.recall_by_chance[chosen],
            ),
            cluster=None if self.cluster is None else self.cluster[chosen], _swept={},
        )  # fmt: skip

    def values(self, name: str, metric: str = "auroc") -> np.ndarray:
        """One metric of one score, shape ``(perturbation,)``."""
        s = self._index(name)
        if metric in ("auroc", "average_precision"):
            return getattr(self.metrics, metric)[s]
        if metric in METRICS:
            return self.metrics.recall[s, :, RECALL_AT.index(int(metric.rsplit("_", 1)[1]))]
        message = f"Expected one of {examples(METRICS)}, got metric '{metric}'. Choose one of them."
        raise ParameterError(message)

    def chance(self, metric: str = "auroc") -> np.ndarray:
        """What a score that knows nothing gets in every perturbation, shape ``(perturbation,)``."""
        if metric == "auroc":
            return np.full(self.n, 0.5)
        if metric == "average_precision":
            return self.prevalence
        return self.metrics.recall_by_chance[:, RECALL_AT.index(int(metric.rsplit("_", 1)[1]))]

    def _index(self, name: str) -> int:
        if name not in self.names:
            message = f"Expected one of {examples(self.names)}, got score '{name}'. Build with it."
            raise ParameterError(message)
        return self.names.index(name)

    def inference_of(self, d: Deviations, over: str = "both") -> Inference:
        """Standard error, df and words from delete-one deviations (`over`: both, or perturbations alone)."""
        if over not in ("both", "perturbation"):
            message = f"Expected over 'both' or 'perturbation', got {over!r}."
            raise ParameterError(message)
        if refusal := self.refusal:
            nan = np.full(len(d.estimate), np.nan)
            return Inference(
                estimate=d.estimate, se=nan, df=nan, unit="perturbation", n_units=self.n, method="",
                undefined=(refusal,) * len(nan), regulator=d.regulator, target=d.target,
            )  # fmt: skip
        found = default_se(d, clustering="regulator" if over == "perturbation" else "auto")
        two_way = found.target.shape[1] > 0
        groups = "" if self.cluster is None else f" in {d.n_regulators} groups"
        words = (
            f"two-way delete-one jackknife over {self.n} perturbations{groups} and {d.n_targets} target genes"
            if two_way
            else f"delete-one jackknife over {self.n} perturbations{groups}, genes held fixed"
        )
        reasons = tuple(u.replace("regulators", "perturbations").replace("regulator", "perturbation")
                        for u in found.undefined)  # fmt: skip
        return replace(
            found, unit=UNIT if two_way else "perturbation", n_units=self.n, method=f"{words}, t interval",
            undefined=reasons,
        )  # fmt: skip

    def _sweeps(self, chosen: list[int]) -> list[Sweep]:
        """Sweeps of some scores; each is made once, as long as they are not many."""
        if self.n == 0:
            return [Sweep(area=np.empty(0), moved=np.empty(0), psi=np.empty(0))] * len(chosen)
        wanted = [k for k in dict.fromkeys(chosen) if k not in self._swept]
        made = dict(zip(wanted, over_scores(lambda i: sweep(self.edges.scores[wanted[i]], self.rows), len(wanted))))
        if len(self._swept) + len(made) <= _KEPT:
            self._swept.update(made)
        return [made[k] if k in made else self._swept[k] for k in chosen]

    def mean(self, names: tuple[str, ...] | list[str] | None = None, *, over: str = "both") -> Inference:
        """Mean AUROC over perturbations of some scores (all by default)."""
        chosen = [self._index(n) for n in (self.names if names is None else names)]
        return self.inference_of(deviations_of(self._sweeps(chosen), self.rows, cluster=self.cluster), over)

    def differences(self, name: str, others: tuple[str, ...] | list[str], *, over: str = "both") -> Inference:
        """Mean AUROC of `name` minus that of each of `others`, paired within perturbations; one entry per other."""
        base, *rest = self._sweeps([self._index(n) for n in (name, *others)])
        d = deviations_of(rest, self.rows, baseline=base, cluster=self.cluster)
        turned = replace(d, estimate=-d.estimate, regulator=-d.regulator, target=-d.target)
        return self.inference_of(turned, over)

    def mean_of(self, values: np.ndarray) -> Inference:
        """Mean of any number per perturbation, shapes ``(perturbation,)`` or ``(score, perturbation)``.

        Perturbations (or clusters of them) are the only source of error, genes are held fixed.
        """
        mean, moved, spread = mean_deviations_over_rows(values, cluster=self.cluster)
        d = Deviations(estimate=mean, regulator=moved, target=moved[:, :0], edge_variance=spread)
        return self.inference_of(d, "perturbation")

    def above_chance(self, name: str, metric: str = "auroc", *, over: str = "both") -> Effect:
        """Mean of a metric minus its chance value; metrics other than the AUROC hold genes fixed."""
        if metric == "auroc":
            return effects_of(self.mean([name], over=over), null_value=0.5)[0]
        return effects_of(self.mean_of(self.values(name, metric) - self.chance(metric)))[0]

    def pooled(self, names: tuple[str, ...] | list[str] | None = None) -> Inference:
        """AUROC of all perturbations' pairs in one ranking: another question, given beside the mean."""
        return aurocs(self.edges, list(self.names if names is None else names))

    def bootstrap(
        self, values: np.ndarray, *, draws: int, level: float, rng: np.random.Generator
    ) -> Estimate | Undefined:
        """Percentile interval of a mean when perturbations (or clusters of them) are resampled, genes held fixed."""
        if refusal := self.refusal:
            return Undefined(reason=refusal)
        label = np.arange(self.n) if self.cluster is None else np.unique(self.cluster, return_inverse=True)[1]
        total, count = np.bincount(label, weights=values), np.bincount(label)
        drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), size=draws)
        means = (drawn @ total) / (drawn @ count)
        return Estimate.from_draws(
            float(values.mean()), means, level=level, n_units=len(count), unit="perturbation",
            method=f"bootstrap over perturbations, genes held fixed, percentile, B={draws}",
        )  # fmt: skip

    def contrast(
        self, name: str, other: str, *, delta: float, draws: int, level: float, rng: np.random.Generator
    ) -> PairedContrast:
        """`name` minus `other`, with the default error, the paired tests over perturbations, and TOST at ± `delta`."""
        gap = self.values(name) - self.values(other)
        effect = effects_of(self.differences(name, [other]))[0]
        ranked: RankTest | Undefined = Undefined(reason=self.refusal)
        if not self.refusal:
            ranked = wilcoxon(gap, level=level, unit="perturbation")
        return PairedContrast(
            name=name, other=other, effect=effect, within=effects_of(self.mean_of(gap))[0],
            bootstrap=self.bootstrap(gap, draws=draws, level=level, rng=rng), wilcoxon=ranked,
            wins=float(((gap > 0) + 0.5 * (gap == 0)).mean()) if self.n else float("nan"),
            p_equivalent=effect.p_equivalent(delta),
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """One row per perturbation and score: counts, AUROC, average precision beside the prevalence, recall at k."""
        n = len(self.names)
        frame = {
            "perturbation": np.tile(np.array(self.perturbations, dtype=object), n),
            "score": np.repeat(np.array(self.names, dtype=object), self.n),
            "n_pos": np.tile(self.n_pos, n), "n_neg": np.tile(self.n_neg, n), "auroc": self.metrics.auroc.ravel(),
            "auprc": self.metrics.average_precision.ravel(), "prevalence": np.tile(self.prevalence, n),
        }  # fmt: skip
        for i, k in enumerate(RECALL_AT):
            frame[f"recall_at_{k}"] = self.metrics.recall[:, :, i].ravel()
        return pd.DataFrame(frame)

    def null_se(self) -> float:
        """Standard error of the mean AUROC if scores knew nothing and all pairs were independent."""
        p, q = self.n_pos.astype(np.float64), self.n_neg.astype(np.float64)
        return float(np.sqrt(((p + q + 1) / (12 * p * q)).sum())) / max(self.n, 1)

    def counts(self) -> dict[str, int]:
        """Counts that verdict rules read."""
        return {**counts_of(self.edges), "n_perturbations": self.n}

    def dropped(self) -> dict[str, int]:
        """What left the universe before any number was made."""
        return dropped_of(self.edges) | {"perturbations without responders or without others": self.n_left_out}


def screen_result_of(
    inp: AnalysisInput, analysis: str, per: PerPerturbation, *, score: str, estimate: Estimate | Undefined,
    metric: str = "mean_perturbation_auroc", null_value: float = 0.5, step: str = "", strictest_null: str = "",
    stream: str = "",
) -> EvaluationResult:  # fmt: skip
    """A complete result over perturbations; `n_regulators` counts perturbations.

    For the mean AUROC the null standard error holds pairs independent, and the smallest effect that a two-sided test
    finds in four of five screens follows from the standard error of the estimate, where that is larger.
    """
    se0 = mde = None
    if metric == "mean_perturbation_auroc" and per.n:
        se0 = per.null_se()
        se = estimate.se if isinstance(estimate, Estimate) and estimate.se else se0
        mde = 0.5 + float(ndtri(1 - inp.request.settings.alpha / 2) + ndtri(0.8)) * max(se, se0)
    return EvaluationResult(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference, score=score, metric=metric,
        estimate=estimate, endpoint=per.edges.endpoint, universe_digest=per.edges.universe_digest,
        n_pos=per.edges.n_pos, n_neg=per.edges.n_neg, n_regulators=regulators_with_positives(per.edges),
        n_missing=per.edges.n_missing, null_value=null_value, se0=se0, mde=mde, strictest_null=strictest_null,
        protocol=inp.request.protocol, step=step, stream=stream,
    )  # fmt: skip


def screen_refused(
    inp: AnalysisInput, analysis: str, designs: tuple[TestDesign, ...], reason: str, *, per: PerPerturbation,
    tables: dict[str, list[str]], steps: tuple[str, ...] | Mapping[str, tuple[str, float]] = ("",),
) -> AnalysisOutcome:  # fmt: skip
    """Outcome of too few perturbations: every planned test is on record as undefined, every number has its reason.

    Parameters
    ----------
    steps
        Steps of the results, which are mean AUROCs unless a metric and its null value are given with each.
    """
    metrics = steps if isinstance(steps, Mapping) else dict.fromkeys(steps, ("mean_perturbation_auroc", 0.5))
    return AnalysisOutcome(
        analysis=analysis, model=inp.request.model, reference=inp.request.reference,
        results=tuple(
            screen_result_of(
                inp, analysis, per, score=inp.request.primary, estimate=Undefined(reason=reason), step=step,
                metric=metric, null_value=null_value,
            )
            for step, (metric, null_value) in metrics.items()
        ),
        tables={name: pd.DataFrame(columns=columns) for name, columns in tables.items()},
        records=tuple(
            TestRecord(id=test_id(analysis, inp.request, d.name), undefined=reason, n_units=per.n) for d in designs
        ),
        facts={**per.counts(), "refused": reason}, dropped=per.dropped(),
    )  # fmt: skip
