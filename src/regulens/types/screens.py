"""Which genes respond when a gene is perturbed? `Screen` (cells), `PerturbationEffects`, and labels with their rule.

A screen is cells with a perturbation each, or only the table of effects somebody made of them. Effects become
`ResponseLabels` under a `LabelRule`; labels become an `EdgeUniverse` whose regulators are the perturbed genes, so that
every score of gene pairs can be held against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from regulens.errors import AlignmentError, InputError, examples
from regulens.provenance import digest_array, digest_frame, digest_of, digest_strings
from regulens.types.cells import Cells
from regulens.types.edges import EdgeUniverse

#: What a perturbation does to its target: lowers it, raises it, or breaks the gene (its transcript may stay).
Modality = Literal["crispri", "crispra", "knockout"]

#: How a gene's expression in perturbed and control cells is compared.
Comparison = Literal["welch", "mann_whitney"]

#: Columns of ``Screen.obs``; the first two are always there.
SCREEN_COLUMNS = ("perturbation", "control", "guide", "replicate", "cell_line")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screen:
    """Single cells of a screen, one perturbation a cell.

    Parameters
    ----------
    cells
        Checked raw counts, in memory or backed; genes are those measured.
    obs
        One row per cell of `cells`: ``perturbation`` (approved symbol of the perturbed gene, ``""`` for a control
        cell), ``control`` (bool); and as far as named ``guide``, ``replicate`` (donor or batch), ``cell_line``.
    modality
        As declared; None when nobody said.
    dropped
        Cells that were left out, counted by reason (several genes perturbed, unknown symbol, no label, ...).
    notes
        What was recognised by convention, in words, for the report.
    """

    name: str
    cells: Cells
    obs: pd.DataFrame
    modality: Modality | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lost = [c for c in SCREEN_COLUMNS[:2] if c not in self.obs]
        if lost or len(self.obs) != self.cells.n_cells:
            message = (
                f"Expected {self.cells.n_cells} rows with {examples(SCREEN_COLUMNS[:2])} in a screen, got "
                f"{len(self.obs)} rows without {examples(lost) or 'none'}. Read screens with regulens.io.screens."
            )
            raise AlignmentError(message)
        if not self.obs["control"].any():
            message = f"Expected control cells in the screen '{self.name}', got none. Name the control label."
            raise InputError(message)

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Perturbed genes, sorted."""
        return tuple(sorted(set(self.obs.loc[~self.obs["control"], "perturbation"])))

    @property
    def digest(self) -> str:
        """Digest of counts and annotation."""
        return digest_of(self.cells.digest, digest_frame(self.obs.astype(str).reset_index(drop=True)), self.modality)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerturbationEffects:
    """What every perturbation did to every gene.

    Parameters
    ----------
    perturbations
        Perturbed genes (rows), unique approved symbols.
    genes
        Measured genes (columns), unique approved symbols.
    effect
        Float64, shape ``(perturbation, gene)``: mean log1p(CP10k) of perturbed minus control cells (natural log), or
        the effect of a ready table on the scale that `scale` names; NaN where not tested.
    p
        Two-sided raw p in [0, 1], same shape, NaN where not tested; None when a table has effects only. A p that
        underflowed is 0.
    se
        Standard error of `effect`, same shape; None when a table has none.
    n_cells
        Perturbed cells per perturbation, int64, shape ``(perturbation,)``; −1 where a table does not say.
    n_controls
        Control cells; −1 where a table does not say.
    test
        How p was made: ``welch``, ``mann_whitney``, or the words of a table.
    adjusted
        Whether `p` of a ready table is adjusted already; then nothing adjusts it again.
    """

    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    effect: np.ndarray
    p: np.ndarray | None
    se: np.ndarray | None
    n_cells: np.ndarray
    n_controls: int
    test: str
    scale: str = "difference of mean log1p(CP10k)"
    adjusted: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.perturbations), len(self.genes))
        if len(set(self.perturbations)) != shape[0] or len(set(self.genes)) != shape[1]:
            message = "Expected unique perturbations and genes in effects, got repeats. Collapse them first."
            raise AlignmentError(message)
        for label in ("effect", "p", "se"):
            array = getattr(self, label)
            if array is None:
                continue
            array = np.array(array, dtype=np.float64)
            if array.shape != shape:
                message = f"Expected {label} of shape {shape} (perturbation, gene), got {array.shape}."
                raise AlignmentError(message)
            array.flags.writeable = False
            object.__setattr__(self, label, array)

    @property
    def tested(self) -> np.ndarray:
        """Bool, shape ``(perturbation, gene)``; False where nothing was measured. Missing is not "no response"."""
        return np.isfinite(self.effect)

    @property
    def digest(self) -> str:
        """Digest of names and numbers."""
        arrays = [digest_array(a) for a in (self.effect, self.p, self.se, self.n_cells) if a is not None]
        return digest_of(
            digest_strings(self.perturbations), digest_strings(self.genes), arrays, self.n_controls, self.test,
            self.scale, self.adjusted,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """When a gene counts as a responder (F13).

    Parameters
    ----------
    alpha
        Level of the p adjusted by Benjamini-Hochberg over the tested genes of one perturbation. A table without p is
        labelled by effect alone, and says so.
    min_effect
        Smallest absolute effect, on the scale of the effects.
    min_cells
        A perturbation with fewer cells is left out (not applied where a table does not say).
    min_positives, min_negatives
        A perturbation with fewer, among the genes of the universe, is left out.
    """

    alpha: float = 0.05
    min_effect: float = 0.5
    min_cells: int = 30
    min_positives: int = 3
    min_negatives: int = 3

    def words(self, effects: PerturbationEffects) -> str:
        """The rule as printed."""
        adjusted = "adjusted p" if effects.adjusted else "p adjusted by Benjamini-Hochberg within the perturbation"
        p = f"{adjusted} < {self.alpha:g} ({effects.test}) and " if effects.p is not None else "no p in the table; "
        return f"{p}|effect| > {self.min_effect:g} ({effects.scale}); the perturbed gene itself excluded"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseLabels:
    """Which genes respond to which perturbation, under a rule.

    Parameters
    ----------
    positive, tested
        Bool, shape ``(perturbation, gene)``; False on the perturbed gene itself.
    q
        Adjusted p, same shape; None where effects have no p.
    """

    effects: PerturbationEffects
    rule: LabelRule
    positive: np.ndarray
    tested: np.ndarray
    q: np.ndarray | None

    @classmethod
    def build(cls, effects: PerturbationEffects, rule: LabelRule = LabelRule()) -> ResponseLabels:
        """Apply `rule` to `effects`; perturbations are left out later, when the universe is known (`universe`).

        Examples
        --------
        >>> effects = PerturbationEffects(perturbations=("A",), genes=("A", "B", "C"), n_cells=np.array([50]),
        ...     effect=np.array([[-2.0, 0.9, 0.1]]), p=np.array([[1e-9, 1e-4, 0.9]]), se=None, n_controls=99,
        ...     test="welch")
        >>> ResponseLabels.build(effects).positive.tolist()
        [[False, True, False]]
        """
        from regulens.stats.multiplicity import benjamini_hochberg

        tested = effects.tested
        if effects.p is not None:
            tested = tested & np.isfinite(effects.p)
        column = {g: j for j, g in enumerate(effects.genes)}
        own = np.zeros_like(tested)
        for i, name in enumerate(effects.perturbations):
            if name in column:
                own[i, column[name]] = True
        tested = tested & ~own  # the target of a perturbation is a check of it, not a response to it
        q = None
        positive = tested & (np.abs(np.where(tested, effects.effect, 0.0)) > rule.min_effect)
        if effects.p is not None:
            q = np.full(tested.shape, np.nan)
            for i in range(len(tested)):
                if tested[i].any():
                    p = effects.p[i, tested[i]]
                    q[i, tested[i]] = p if effects.adjusted else benjamini_hochberg(p)
            positive &= np.where(tested, q, 1.0) < rule.alpha
        for array in (positive, tested):
            array.flags.writeable = False
        return cls(effects=effects, rule=rule, positive=positive, tested=tested, q=q)

    def kept(self, genes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Perturbations that can be evaluated over `genes`, in order, and why each other one cannot."""
        there, position = set(genes), {g: j for j, g in enumerate(self.effects.genes)}
        columns = np.array([position[g] for g in genes if g in position], dtype=np.int64)
        rule, kept, lost = self.rule, [], {}
        for i, name in enumerate(self.effects.perturbations):
            n = int(self.effects.n_cells[i])
            n_pos = int(self.positive[i, columns].sum())
            n_neg = int(self.tested[i, columns].sum()) - n_pos
            if 0 <= n < rule.min_cells:
                lost[name] = f"{n} cells; at least {rule.min_cells} are needed"
            elif name not in there:
                lost[name] = "the perturbed gene is outside the universe, so no score of it exists"
            elif n_pos < rule.min_positives:
                lost[name] = f"{n_pos} responders; at least {rule.min_positives} are needed"
            elif n_neg < rule.min_negatives:
                lost[name] = f"{n_neg} genes without a response; at least {rule.min_negatives} are needed"
            else:
                kept.append(name)
        return tuple(kept), lost

    def universe(
        self, *, genes: tuple[str, ...], name: str, screen: str, restrictions: tuple[str, ...] = ()
    ) -> EdgeUniverse:
        """Perturbed genes × tested genes, positive where the gene responds.

        Parameters
        ----------
        genes
            Genes of the universe, in order; those that the screen did not measure stay and are no candidates.
        screen
            Name of the screen, in the place of a reference's.

        Raises
        ------
        InputError
            When no perturbation can be evaluated; the message counts the reasons.
        """
        kept, lost = self.kept(genes)
        if not kept:
            reasons = pd.Series(list(lost.values()), dtype=object)
            reasons = reasons.str.replace(
                r"^\d+ (.+); at least (\d+) are needed$", r"it has fewer than \2 \1", regex=True
            )
            counted = "; ".join(f"{n} because {why}" for why, n in reasons.value_counts().items()) or "none read"
            message = (
                f"Expected at least one perturbation of '{screen}' with responders inside the universe, got none of "
                f"{len(self.effects.perturbations)} ({counted}). Loosen the label rule (--set screens...), widen "
                "`universe.genes`, or check the gene ids."
            )
            raise InputError(message)
        row = {p: i for i, p in enumerate(self.effects.perturbations)}
        column = {g: j for j, g in enumerate(self.effects.genes)}
        i = np.array([row[p] for p in kept])
        j = np.array([column.get(g, -1) for g in genes])
        candidate = np.where(j >= 0, self.tested[i][:, j], False)
        positive = np.where(j >= 0, self.positive[i][:, j], False)
        counts = {
            "perturbations": len(self.effects.perturbations),
            "perturbations_evaluable": len(kept),
            "perturbations_lost": len(lost),
            "genes_tested": len(self.effects.genes),
            "genes": int((j >= 0).sum()),
            "candidates": int(candidate.sum()),
            "evaluable": int(positive.sum()),
        }
        return EdgeUniverse(
            genes=tuple(genes), regulators=kept, candidate=candidate, positive=positive, reference=screen,
            counts=counts, restrictions=tuple(restrictions), name=name,
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """Every responder: ``perturbation, gene, effect, p, q`` (NaN where effects have no p), strongest first."""
        i, j = np.nonzero(self.positive)
        missing = np.full(len(i), np.nan)
        frame = pd.DataFrame(
            {
                "perturbation": np.asarray(self.effects.perturbations, dtype=object)[i],
                "gene": np.asarray(self.effects.genes, dtype=object)[j],
                "effect": self.effects.effect[i, j],
                "p": missing if self.effects.p is None else self.effects.p[i, j],
                "q": missing if self.q is None else self.q[i, j],
            }
        )
        order = frame["effect"].abs().sort_values(ascending=False, kind="stable").index
        return frame.loc[order].sort_values("perturbation", kind="stable", ignore_index=True)

    @property
    def digest(self) -> str:
        """Digest of effects and rule."""
        return digest_of(self.effects.digest, repr(self.rule))
