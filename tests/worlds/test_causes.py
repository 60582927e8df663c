"""Each world is what its kind says: seen in the store itself, before any analysis has looked at it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from regulens.testing.worlds import make_world
from regulens.testing.worlds.kinds import KINDS
from regulens.testing.worlds.page import END, START, refreshed, worlds_table

SMALL = {"n_regulators": 30, "n_genes": 120, "n_edges": 250}


@cache
def world(kind: str, seed: int = 3, **sizes):
    return make_world(kind, seed=seed, **SMALL, **sizes)


def mean_attention(w, partitions=None, *, layer=None, direction=0) -> np.ndarray:
    """Log of mean attention over heads (and layers), NaN where a pair never met."""
    rows = slice(None) if partitions is None else partitions
    sums = np.asarray(w.summary.sums)[rows, slice(None) if layer is None else [layer], :, direction].mean(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(sums.sum(axis=0) / np.asarray(w.summary.counts)[rows].sum(axis=0))


def auroc(w, score: np.ndarray, positive=None, keep=None) -> float:
    keep = np.isfinite(score) & w.universe.candidate & (True if keep is None else keep)
    return roc_auc_score((w.universe.positive if positive is None else positive)[keep], score[keep])


def doubly_centred(score: np.ndarray) -> np.ndarray:
    """What an additive model of both genes leaves."""
    for _ in range(20):
        score = score - np.nanmean(score, axis=1, keepdims=True)
        score = score - np.nanmean(score, axis=0, keepdims=True)
    return score


@pytest.mark.parametrize("kind", KINDS)
def test_partitions_are_groups_of_cells_and_counts_are_their_copresence(kind):
    w = world(kind)
    table, place = w.summary.partitions, w.summary.cell_partition
    assert np.bincount(place, minlength=len(table)).tolist() == table["n_cells"].tolist()
    for role in ("cell_state", "donor"):
        assert (table[role].to_numpy()[place] == w.cells.obs[role].to_numpy()).all()
    token = w.cells.counts.toarray() > 0
    own = w.universe.regulator_columns()
    for p in (0, len(table) - 1):
        here = token[place == p].astype(int)
        assert np.array_equal(w.summary.counts[p], here[:, own].T @ here * w.universe.candidate)
        assert (np.asarray(w.summary.sums[p])[:, :, :, w.summary.counts[p] == 0] == 0).all()
    assert set(w.universes) == set(w.networks)
    assert w.universes[w.reference.name] is w.universe
    assert len(w.reference.edges) == int(w.universe.positive.sum())


def test_pairs_of_one_state_live_there_only():
    for kind, alive in (("state_specific", [0, 0, 1]), ("all_states", [1, 1, 1])):
        w = world(kind)
        state = w.summary.partitions["cell_state"].to_numpy()
        gap = []
        for s in range(3):
            score = mean_attention(w, np.flatnonzero(state == f"state{s}"))
            gap.append(np.nanmean(score[w.universe.positive]) - np.nanmean(score[~w.universe.positive]))
        assert np.round(np.array(gap) / 1.5).astype(int).tolist() == alive


def test_composition_makes_pairs_out_of_genes():
    w = world("composition", seed=0)
    state = w.summary.partitions["cell_state"].to_numpy()
    inside = [
        auroc(w, doubly_centred(mean_attention(w, np.flatnonzero(state == s)))) for s in sorted(set(state))
    ]  # fmt: skip
    assert max(inside) < 0.56
    assert auroc(w, doubly_centred(mean_attention(w))) > max(inside) + 0.03


def test_depth_is_late_or_has_no_trend():
    late = world("layer_late")
    profile = [auroc(late, mean_attention(late, layer=k)) for k in range(12)]
    assert spearmanr(profile, range(12)).statistic > 0.9
    assert profile[-1] > profile[0] + 0.15
    changes = []
    for seed in range(8):
        w = world("layer_flat", seed)
        changes.append(auroc(w, mean_attention(w, layer=11)) - auroc(w, mean_attention(w, layer=0)))
    assert abs(np.mean(changes)) < 2.5 * np.std(changes) / np.sqrt(8) + 0.01
    assert min(changes) < 0 < max(changes)


@pytest.mark.parametrize(("kind", "sign"), [("more_cells_help", 1), ("more_cells_hurt", -1), ("cells_flat", 0)])
def test_more_cells_help_hurt_or_do_nothing(kind, sign):
    gains = []
    for seed in range(3):
        w = world(kind, seed)
        seen = np.asarray(w.summary.counts)[:4].sum(axis=0) > 0
        gains.append(auroc(w, mean_attention(w), keep=seen) - auroc(w, mean_attention(w, np.arange(4)), keep=seen))
    assert min(gains) > 0.02 if sign > 0 else max(gains) < -0.005 if sign < 0 else np.abs(gains).max() < 0.003


def test_one_regulator_carries_everything():
    w = world("one_regulator")
    largest = int(np.argmax(w.universe.positive.sum(axis=1)))
    rest = np.arange(30)[:, None] != largest
    score = mean_attention(w)
    assert auroc(w, score, keep=~rest & np.ones((1, 120), dtype=bool)) > 0.9
    assert abs(auroc(w, score, keep=rest & np.ones((1, 120), dtype=bool)) - 0.5) < 0.06


def test_other_references_are_known_or_not():
    w = world("incomplete_reference")
    other = w.universes["the_other_half"].positive
    assert not (other & w.universe.positive).any()
    assert auroc(w, mean_attention(w), other) > 0.7
    w = world("reference_dependent")
    assert auroc(w, mean_attention(w)) > 0.75
    assert auroc(w, mean_attention(w), w.universes["second"].positive) < 0.6


def test_the_recipe_decides_and_transposing_exchanges_it():
    w = world("recipe_dependent")
    ahead, back = (auroc(w, mean_attention(w, direction=d)) for d in (0, 1))
    assert abs(ahead - 0.5) < 0.06
    assert back > 0.75
    assert auroc(w.transposed(), mean_attention(w.transposed(), direction=0)) == back


@pytest.mark.parametrize("kind", ["batch", "shared_upstream"])
def test_attention_follows_coexpression_and_the_reference_neither(kind):
    found, at = [], []
    for seed in range(4):
        w = world(kind, seed)
        score = mean_attention(w)
        rank = np.abs(spearmanr(w.cells.counts.toarray() / w.cells.total_counts[:, None]).statistic)
        rho = rank[w.universe.regulator_columns()]
        keep = np.isfinite(score) & w.universe.candidate & np.isfinite(rho)
        found.append(spearmanr(score[keep], rho[keep]).statistic)
        at.append((auroc(w, score) + auroc(w, np.where(keep, rho, np.nan))) / 2)
    assert np.mean(found) > 0.03
    assert abs(np.mean(at) - 0.5) < 0.05


def test_detection_is_more_than_level():
    w = world("detection")
    counts = w.cells.counts.toarray()
    level = np.array([c[c > 0].mean() for c in counts.T])
    assert spearmanr((counts > 0).mean(axis=0), level).statistic < 0.75


def test_relabelled_twins_keep_regulons_and_leaking_twins_keep_counts():
    w = world("planted_pairs")
    dealt = w.relabelled().universe.positive
    assert (dealt.sum(axis=1) == w.universe.positive.sum(axis=1)).all()
    assert not (dealt & ~w.universe.candidate).any()
    assert (dealt != w.universe.positive).any()
    assert auroc(w.leaking(), mean_attention(w.leaking())) > auroc(w, mean_attention(w))


def test_the_page_is_rewritten_between_its_marks():
    from regulens.testing.worlds.measure import Answer, summarise_answers

    table = summarise_answers(
        [Answer(analysis="degree_null", test="above_degree", setting="planted_pairs", seed=s, state="silent")
         for s in range(5)]
        + [Answer(analysis="claim", test="beyond_degree", setting="degree", seed=s, state="not supported")
           for s in range(5)]
    )  # fmt: skip
    page = refreshed(f"before\n{START}\nprevious\n{END}\nafter\n", table)
    assert page.startswith(f"before\n{START}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "previous" not in page
    assert worlds_table() in page
    assert "**planted_pairs 0.00**" in page
    assert "| `beyond_degree` | degree | not supported or inconclusive | 0 | 5 | 0 | yes |" in page
    assert "0.00 [0.00, 0.43] | not explained |" in page
    assert refreshed(page, table) == page
