"""Differential expression: scipy's numbers, no bit from blocks or threads, degenerate groups said, level held."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from regulens.errors import AlignmentError, InputError, ParameterError
from regulens.io.cells import read_cells
from regulens.io.gene_ids import GeneMap
from regulens.rng import stream
from regulens.stats import differential, screen_effects
from regulens.stats.differential import group_moments, mann_whitney_p, welch
from regulens.stats.screen_effects import effects_of
from regulens.types.screens import Screen


def sparse_values(n_cells=400, n_genes=30, seed=1):
    """Counts over library sizes: many zeros, many ties."""
    rng = stream(seed, "test/differential")
    counts = rng.poisson(rng.gamma(0.5, 1.0, n_genes), (n_cells, n_genes))
    return counts / rng.integers(20, 24, n_cells)[:, None]


def whole(x):
    return lambda: [(0, sp.csr_matrix(x))]


def in_blocks(x, step):
    return lambda: [(i, sp.csr_matrix(x[i : i + step])) for i in range(0, len(x), step)]


def grouped(n_cells, sizes, seed=2):
    """Group of every cell: sizes of the groups, controls last, the rest in none."""
    group = np.full(n_cells, -1)
    group[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    return stream(seed, "test/groups").permutation(group)


def scipy_p(x, group, control, test):
    out = []
    for g in range(group.max() + 1):
        if g == control:
            continue
        a, b = x[group == g], x[group == control]
        with np.errstate(all="ignore"):
            found = (
                stats.ttest_ind(a, b, equal_var=False)
                if test == "welch"
                else stats.mannwhitneyu(a, b, method="asymptotic")
            )
        out.append(found.pvalue)
    return np.array(out)


SIZES = (60, 7, 30, 2, 200)


def both(x, group, *, blocks=None, jobs=1):
    n_groups, control = group.max() + 1, group.max()
    shape = {"n_groups": n_groups, "n_genes": x.shape[1]}
    blocks = whole(x) if blocks is None else blocks
    t = welch(group_moments(blocks, group, **shape), control=control)
    return t, mann_whitney_p(blocks, group, control=control, jobs=jobs, **shape)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scipy_is_the_oracle_of_both_tests():
    x, group = sparse_values(), grouped(400, SIZES)
    t, u = both(x, group)
    for ours, name in ((t.p, "welch"), (u, "mann_whitney")):
        oracle = scipy_p(x, group, len(SIZES) - 1, name)
        undefined = np.isnan(oracle)
        if name == "mann_whitney":  # scipy gives 1 where all values are one tie; nothing was tested
            for i in range(len(SIZES) - 1):
                used = x[(group == i) | (group == len(SIZES) - 1)]
                undefined[i] |= (used == used[0]).all(axis=0)
        assert np.array_equal(np.isnan(ours), undefined)
        assert (~undefined).sum() > 90
        np.testing.assert_allclose(ours[~undefined], oracle[~undefined], rtol=1e-9)
    control = x[group == len(SIZES) - 1]
    for i in range(len(SIZES) - 1):
        own = x[group == i]
        np.testing.assert_allclose(t.effect[i], own.mean(0) - control.mean(0), atol=1e-12)
        se = np.sqrt(own.var(0, ddof=1) / len(own) + control.var(0, ddof=1) / len(control))
        np.testing.assert_allclose(t.se[i], se, atol=1e-12)
    assert t.n.tolist() == list(SIZES[:-1]) and t.n_controls == SIZES[-1]


def test_a_difference_is_found_and_a_twin_without_group_labels_would_be_caught():
    x, group = sparse_values(), grouped(400, SIZES)
    gene = int(x.mean(0).argmax())
    x[group == 0, gene] += 0.2
    t, u = both(x, group)
    assert t.p[0, gene] < 1e-8 and u[0, gene] < 1e-8
    shuffled = stream(3, "test/twin").permutation(group)
    t, u = both(x, shuffled)
    assert t.p[0, gene] > 1e-4 and u[0, gene] > 1e-4


def test_blocks_chunks_and_threads_change_no_bit(monkeypatch):
    x, group = sparse_values(), grouped(400, SIZES)
    t, u = both(x, group)
    monkeypatch.setattr(differential, "RANK_ENTRIES", 500)
    monkeypatch.setattr(differential, "_AT_ONCE", 40)
    for blocks, jobs in ((in_blocks(x, 7), 1), (in_blocks(x, 133), 3), (whole(x), 8)):
        again, ranks = both(x, group, blocks=blocks, jobs=jobs)
        for name in ("effect", "se", "p"):
            assert np.array_equal(getattr(again, name), getattr(t, name), equal_nan=True), name
        assert np.array_equal(ranks, u, equal_nan=True)


def test_degenerate_groups_are_defined_or_nan():
    x = np.zeros((12, 5))
    x[:, 1] = 0.3  # the same everywhere, not zero
    x[:, 2] = np.arange(12)
    x[6:, 3] = [1, 2, 3, 4, 5, 6]  # no group but the controls has any
    x[:6, 4] = 1.0  # constant in groups and in controls, and different
    group = np.array([0, 1, 1, 1, 2, 2, 4, 4, 4, 4, 4, 4])  # one cell, three, two, none, six controls
    t, u = both(x, group)
    assert np.isnan(t.p[:, 0]).all() and np.isnan(u[:, 0]).all()
    assert np.isnan(t.p[:, 1]).all() and np.isnan(u[:, 1]).all()  # rounding is not variance
    assert np.isnan(t.p[0]).all() and np.isnan(t.se[0]).all() and np.isfinite(t.effect[0]).all()
    assert np.isfinite(u[0, 2])  # ranks need no variance within a group
    assert np.isfinite(t.p[1, 2]) and np.isfinite(t.p[1, 3])
    assert np.isnan(t.p[1:, 4]).all() and np.isfinite(u[1, 4])
    assert np.isnan(t.effect[3]).all() and np.isnan(t.p[3]).all() and np.isnan(u[3]).all()


def test_p_underflows_to_zero_and_nothing_else():
    x = np.concatenate([np.full(3000, 5.0), np.full(3000, 1.0)])[:, None]
    x += stream(4, "test/underflow").normal(0, 0.01, x.shape)
    t, u = both(x, np.repeat([0, 1], 3000))
    assert t.p[0, 0] == 0.0
    assert u[0, 0] == 0.0 or u[0, 0] < 1e-300
    assert np.isfinite(t.effect).all() and np.isfinite(t.se).all()


def test_what_does_not_fit_is_refused():
    x, group = sparse_values(20, 3), np.zeros(20, dtype=int)
    shape = {"n_groups": 1, "n_genes": 3}
    with pytest.raises(AlignmentError, match="Number the groups"):
        group_moments(whole(x), group + 1, **shape)
    with pytest.raises(AlignmentError, match="in order"):
        group_moments(lambda: [(5, sp.csr_matrix(x[5:]))], group, **shape)
    with pytest.raises(AlignmentError, match="in order"):
        group_moments(lambda: [(0, sp.csr_matrix(x[:5]))], group, **shape)
    with pytest.raises(ParameterError, match=">= 0 for ranks"):
        mann_whitney_p(whole(x - 1), group, control=0, **shape)


def null_rates(n_draws, n_genes, seed):
    """Share of p below 0.05 without any difference, by test and size of the group."""
    rng = stream(seed, "test/level")
    found = {}
    for size in (30, 100):
        below = np.zeros(2)
        tested = np.zeros(2)
        for _ in range(n_draws):
            mean = rng.gamma(2.0, 1.0, n_genes) + 0.5
            x = np.log1p(rng.poisson(mean, (size + 400, n_genes)))
            group = np.repeat([0, 1], [size, 400])
            t, u = both(x, group)
            for i, p in enumerate((t.p, u)):
                below[i] += (p < 0.05).sum()
                tested[i] += np.isfinite(p).sum()
        found[size] = below / tested
    return found


def test_type_one_error_without_a_difference():
    # 2,000 p each: a binomial 5 % has a standard error of 0.0049; fixed seed.
    for size, rate in null_rates(20, 100, seed=7).items():
        assert (np.abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)).all(), (size, rate)


def rare_genes(seed, *, size=30, n_genes=1500, detection=0.05):
    """One group and 1,000 controls without a difference, in genes that few cells express."""
    rng = stream(seed, "test/rare")
    x = np.where(rng.random((size + 1000, n_genes)) < detection, np.log1p(rng.gamma(4.0, 10.0, (1, n_genes))), 0.0)
    return x, np.repeat([0, 1], [size, 1000])


def test_a_silent_group_borrows_its_variance_since_the_letter_of_welch_errs_wildly():
    x, group = rare_genes(1)
    moments = group_moments(whole(x), group, n_groups=2, n_genes=x.shape[1])
    letter, borrowed = welch(moments, control=1), welch(moments, control=1, borrow=True)
    silent = (x[:30] == 0).all(axis=0)
    assert 0.15 < silent.mean() < 0.3
    assert (letter.p[0, silent] < 1e-5).all()  # and nothing happened to any of these genes
    assert not (borrowed.p[0] < 1e-5).any() and (borrowed.p[0] < 0.05).mean() < 0.05
    assert np.array_equal(letter.p[:, ~silent], borrowed.p[:, ~silent])
    assert np.array_equal(letter.effect, borrowed.effect)
    # what is really switched off is still found
    x, group = rare_genes(2, size=100, detection=0.5, n_genes=50)
    x[:100] = 0
    moments = group_moments(whole(x), group, n_groups=2, n_genes=50)
    assert (welch(moments, control=1, borrow=True).p < 1e-10).all()


def test_controls_without_variation_borrow_too():
    x = np.zeros((40, 1))
    x[:4] = 2.0
    moments = group_moments(whole(x), np.repeat([0, 1], [30, 10]), n_groups=2, n_genes=1)
    letter, borrowed = welch(moments, control=1), welch(moments, control=1, borrow=True)
    assert borrowed.se[0, 0] > letter.se[0, 0] and borrowed.p[0, 0] > letter.p[0, 0]


@pytest.mark.long
def test_type_one_error_without_a_difference_at_length():
    for size, rate in null_rates(400, 200, seed=8).items():
        assert (np.abs(rate - 0.05) < 0.004).all(), (size, rate)


def screen_of(n_cells=300, n_genes=12, seed=5, backed=None):
    """Cells of three perturbations and controls; library sizes beyond the panel."""
    import anndata as ad

    rng = stream(seed, "test/screen")
    counts = rng.poisson(rng.gamma(1.0, 1.0, n_genes), (n_cells, n_genes)).astype(np.float32)
    counts[:, 0] += 1
    obs = pd.DataFrame(
        {
            "perturbation": stream(seed, "test/labels").permutation(np.resize(["", "", "G1", "G2", "G3"], n_cells)),
            "total": counts.sum(1) + rng.integers(0, 5, n_cells),
        },
        index=[f"c{i}" for i in range(n_cells)],
    )
    data = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(n_genes)]))
    if backed is not None:
        data.write_h5ad(backed)
    cells = read_cells(
        data if backed is None else backed, total_counts="total", gene_map=GeneMap.empty(),
        backed="auto" if backed is None else True,
    )  # fmt: skip
    frame = pd.DataFrame(
        {"perturbation": obs["perturbation"], "control": obs["perturbation"] == ""}, index=cells.obs.index
    )
    return Screen(name="test", cells=cells, obs=frame)


@pytest.mark.parametrize("test", ["welch", "mann_whitney"])
def test_effects_are_those_of_log1p_cp10k_backed_or_not(test, tmp_path, monkeypatch):
    screen = screen_of()
    effects = effects_of(screen, test=test)
    assert effects.perturbations == ("G1", "G2", "G3") and effects.test == test
    assert effects.n_cells.tolist() == [60, 60, 60] and effects.n_controls == 120
    x = screen.cells.log_normalised().toarray()
    label = screen.obs["perturbation"].to_numpy()
    ranked = screen.cells.counts.toarray().astype(np.float64) / screen.cells.total_counts[:, None]
    for i, name in enumerate(effects.perturbations):
        np.testing.assert_allclose(effects.effect[i], x[label == name].mean(0) - x[label == ""].mean(0), atol=1e-12)
        if test == "welch":
            oracle = stats.ttest_ind(x[label == name], x[label == ""], equal_var=False).pvalue
        else:
            oracle = stats.mannwhitneyu(ranked[label == name], ranked[label == ""], method="asymptotic").pvalue
        np.testing.assert_allclose(effects.p[i], oracle, rtol=1e-9)
    monkeypatch.setattr(screen_effects, "_PIECE", 100)
    backed = screen_of(backed=tmp_path / "screen.h5ad")
    assert backed.cells.backed
    assert effects_of(backed, test=test, jobs=2).digest == effects.digest


def test_effects_borrow_unless_told_otherwise():
    screen = screen_of()
    counts = screen.cells.counts.toarray()
    gene = next(j for j in range(1, 12) if counts[:, j].mean() > 0.2)
    counts[(screen.obs["perturbation"] == "G1").to_numpy(), gene] = 0
    cells = replace(screen.cells, counts=sp.csr_matrix(counts))
    found, letter = (effects_of(replace(screen, cells=cells), borrow=b) for b in (True, False))
    assert found.se[0, gene] > letter.se[0, gene]
    assert np.array_equal(found.se[1:], letter.se[1:], equal_nan=True)


def test_control_subsets_and_placebo_groups():
    screen = screen_of()
    at = np.flatnonzero(screen.obs["control"])
    few = effects_of(screen, controls=at[:50], perturbations=["G3", "G1"])
    assert few.n_controls == 50 and few.perturbations == ("G3", "G1")
    mask = np.zeros(300, dtype=bool)
    mask[at[:50]] = True
    assert effects_of(screen, controls=mask, perturbations=["G3", "G1"]).digest == few.digest
    placebo = np.full(300, "", dtype=object)
    placebo[at[:40]] = "placebo"
    found = effects_of(screen, groups=placebo)
    assert found.perturbations == ("placebo",) and found.n_cells.tolist() == [40] and found.n_controls == 80


def test_what_cannot_be_compared_is_said():
    screen = screen_of()
    with pytest.raises(InputError, match=r"got G11\. Did you mean 'G1'\?"):
        effects_of(screen, perturbations=["G11"])
    with pytest.raises(InputError, match="Leave some"):
        effects_of(screen, controls=np.zeros(300, dtype=bool))
    with pytest.raises(InputError, match="Check the perturbation column"):
        effects_of(screen, groups=np.full(300, ""))
    with pytest.raises(AlignmentError, match="one group per cell"):
        effects_of(screen, groups=np.array(["A"]))
    with pytest.raises(AlignmentError, match="as positions of cells"):
        effects_of(screen, controls=np.array([0.5]))
    with pytest.raises(AlignmentError, match="cells in both"):
        effects_of(screen, controls=np.arange(300))
    with pytest.raises(ParameterError, match="'welch' or 'mann_whitney'"):
        effects_of(screen, test="t")
