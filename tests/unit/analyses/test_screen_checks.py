"""Checks of a screen: modality held against own genes, design against itself; every check is shown to stay silent."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regulens.analyses.screen_checks import COLUMNS, check_screen, cramers_v, design_flags
from regulens.errors import InputError
from regulens.io.screens import read_screen
from regulens.rng import stream
from regulens.stats.screen_effects import effects_of
from regulens.types.screens import PerturbationEffects

NAMES = tuple(f"P{i}" for i in range(8))


def effects(own, *, p_own=1e-9, without_p=False, genes=NAMES, n_controls=2500, adjusted=False):
    """Effects of the perturbations on their own genes; nothing else moves."""
    effect = np.zeros((len(own), len(genes)))
    p = np.full(effect.shape, 0.8)
    for i, value in enumerate(own):
        if NAMES[i] in genes:
            effect[i, genes.index(NAMES[i])] = value
            p[i, genes.index(NAMES[i])] = p_own if value else 0.7
    return PerturbationEffects(
        perturbations=NAMES[: len(own)], genes=genes, effect=effect, p=None if without_p else p, se=None,
        n_cells=np.full(len(own), 80), n_controls=n_controls, test="welch", adjusted=adjusted,
    )  # fmt: skip


DOWN, UP, STILL = [-1.0] * 8, [1.0] * 8, [0.0] * 8


@pytest.mark.parametrize("modality", ["crispri", "knockout"])
def test_a_modality_is_verified_by_what_own_genes_did(modality):
    checks, used, problem, flags = check_screen(effects(DOWN), None, modality=modality)
    assert list(checks.columns) == list(COLUMNS) and used == modality and problem == "" and flags == ()
    assert checks["verified"].all() and set(checks["direction"]) == {"down"}
    checks, used, problem, _ = check_screen(effects(UP), None, modality="crispra")
    assert checks["verified"].all() and problem == ""


@pytest.mark.parametrize(
    ("own", "modality", "words"),
    [
        ([*UP[:3], -1.0, *STILL[:4]], "crispri", r"but of 8 perturbed genes .* 1 went down, 3 up, 4 neither"),
        (UP[:5] + STILL[:3], "knockout", "but of 8"),
        (STILL, "crispri", "do not verify: of 8 perturbed genes that are measured 0 went down, 0 up, 8 neither"),
        (STILL, "knockout", "do not verify"),
        (DOWN[:2] + STILL[:6], "crispri", "do not verify"),
        (DOWN[:4] + UP[:2] + STILL[:2], "crispri", "leave open"),
        (DOWN[:3] + UP[:3], "crispra", "leave open"),
    ],
)
def test_a_modality_that_the_data_do_not_bear_out_is_a_problem(own, modality, words):
    import re

    _, _, problem, _ = check_screen(effects(own), None, modality=modality)
    assert re.search(words, problem), problem


@pytest.mark.parametrize(("own", "modality"), [(UP, "crispri"), (UP, "knockout"), (DOWN, "crispra")])
def test_a_modality_that_is_plainly_wrong_is_refused(own, modality):
    with pytest.raises(InputError, match=r"Expected perturbed genes to go .* got: of 8 .* Correct the modality"):
        check_screen(effects(own), None, modality=modality)
    # four own genes are too few for that
    assert check_screen(effects(own[:4]), None, modality=modality)[2].startswith("declared as")


def test_an_undeclared_modality_is_a_problem_that_says_what_the_data_look_like():
    for own, words in ((DOWN, "look like CRISPRi or a knock-out"), (UP, "look like CRISPRa"), (STILL, "do not tell")):
        checks, used, problem, _ = check_screen(effects(own), None, modality=None)
        assert used == "" and "modality not declared" in problem and words in problem
        assert not checks["verified"].any()


def test_own_genes_outside_of_the_panel_are_counted_and_prove_nothing():
    checks, _, problem, flags = check_screen(effects(DOWN, genes=NAMES[:4]), None, modality="crispri")
    assert checks["in_panel"].sum() == 4 and problem == ""
    assert checks.loc[~checks["in_panel"], "why"].eq("the perturbed gene is not measured").all()
    assert any("4 of 8 perturbed genes are not measured" in f for f in flags)
    _, _, problem, _ = check_screen(effects(DOWN, genes=("X", "Y")), None, modality="crispri")
    assert "cannot be verified" in problem


def test_weak_perturbations_are_listed():
    checks, _, problem, flags = check_screen(effects(DOWN[:6] + STILL[:2]), None, modality="crispri")
    assert problem == "" and any("2 of 8" in f and "P6, P7" in f for f in flags)
    assert checks["why"].iloc[6].startswith("its own expression did not move")


def test_effects_without_p_are_judged_by_sign_with_its_chance():
    _, _, problem, flags = check_screen(effects(DOWN, without_p=True), None, modality="crispri")
    assert problem == "" and any("without p" in f for f in flags)
    _, _, problem, _ = check_screen(effects(DOWN[:3], without_p=True), None, modality="crispri")
    assert "signs alone do not verify" in problem and "0.12" in problem
    # signs alone refuse nothing
    assert "but of" in check_screen(effects(UP, without_p=True), None, modality="crispri")[2]


def test_few_controls_and_adjusted_p_are_noted():
    _, _, _, flags = check_screen(effects(DOWN, n_controls=400, adjusted=True), None, modality="crispri")
    assert any("400 control cells" in f for f in flags) and any("adjusted p only" in f for f in flags)
    _, _, _, flags = check_screen(effects(DOWN, n_controls=-1), None, modality="crispri")
    assert any("does not say how many control" in f for f in flags)


def obs_of(*, confounded=False, one=False, bare=False, lines=1, n=60, seed=1):
    rng = stream(seed, "test/design")
    label = np.repeat(["", *NAMES], n)
    replicate = rng.choice(["a", "b", "c"], len(label))
    if confounded:
        replicate = np.where(label == "", replicate, [f"{'abc'[hash_ % 3]}" for hash_ in np.repeat(range(9), n)])
    if bare:
        replicate = np.where((label == "") & (replicate == "c"), "a", replicate)
    frame = pd.DataFrame({"perturbation": label, "control": label == ""})
    frame["replicate"] = "only" if one else replicate
    if lines > 1:
        frame["cell_line"] = rng.choice(["K562", "RPE1"], len(label))
    return frame


def test_a_balanced_design_is_not_flagged_and_a_confounded_one_is():
    for seed in range(5):
        assert design_flags(obs_of(seed=seed)) == []
        flags = design_flags(obs_of(confounded=True, seed=seed))
        assert any("confounded with perturbations: 8 of 8" in f and "Cramér's V" in f for f in flags)


def test_perturbations_in_half_of_the_batches_each_are_flagged_by_their_spread():
    obs = obs_of()
    half = np.array(["ab", "cd"])[np.repeat(np.arange(9) % 2, 60)]
    pick = stream(3, "test/half").integers(0, 2, len(obs))
    obs["replicate"] = np.where(obs["control"], np.resize(list("abcd"), len(obs)), [h[k] for h, k in zip(half, pick)])
    (flag,) = design_flags(obs)
    assert "no perturbation lies in one replicate alone" in flag and "confounded" in flag


def test_single_missing_and_control_free_replicates_are_flagged():
    assert any("one replicate ('only')" in f for f in design_flags(obs_of(one=True)))
    assert any("no replicate is named" in f for f in design_flags(obs_of().drop(columns="replicate")))
    assert any("1 of 3 replicates have no control cells (c;" in f for f in design_flags(obs_of(bare=True)))
    assert any("2 cell lines are compared together" in f for f in design_flags(obs_of(lines=2)))


def test_cramers_v_is_scipys_with_the_bias_taken_out():
    from scipy.stats.contingency import association

    counts = stream(2, "test/v").multinomial(200_000, [0.2, 0.1, 0.1, 0.05, 0.25, 0.3]).reshape(2, 3)
    assert cramers_v(counts) == pytest.approx(association(counts, method="cramer"), abs=0.01)
    independent = np.outer([30, 40, 50], [1, 2]) + 0
    assert cramers_v(independent) == 0.0
    assert cramers_v(np.array([[5, 7]])) == 0.0 and cramers_v(np.zeros((2, 2))) == 0.0


def test_worlds_of_screens_are_told_apart():
    pytest.importorskip("regulens.testing.worlds.screens")
    from regulens.testing.worlds.screens import make_screen_input

    clean = make_screen_input("planted_network", n_perturbations=12, n_genes=80).screen
    confounded = make_screen_input("replicate_confounded", n_perturbations=12, n_genes=80).screen
    for view, expected in ((clean, False), (confounded, True)):
        checks, _, problem, flags = check_screen(view.labels.effects, view.cells, modality="crispri")
        assert any("confounded" in f for f in flags) is expected, (view.name, flags)
        if view is clean:
            assert checks["direction"].isin(["down", "", "neither"]).all() and problem == ""


def test_papalexi_is_a_knock_out_whose_nine_measured_targets_go_down(shared_data):
    source = shared_data / "papalexi_thp1_perturbseq" / "papalexi_thp1_lowmoi_counts.h5ad"
    screen = read_screen(source, name="papalexi", modality="knockout")
    found = effects_of(screen)
    checks, used, problem, flags = check_screen(found, screen, modality=None)
    assert used == "knockout" and problem == "" and not any("confounded" in f for f in flags)
    down = checks[checks["direction"] == "down"]
    assert sorted(down["perturbation"]) == [
        "CMTM6", "IFNGR2", "JAK2", "NFKBIA", "STAT1", "STAT2", "STAT3", "TNFRSF14", "UBE2L6",
    ]  # fmt: skip
    with pytest.raises(InputError, match="9 went down, 0 up"):
        check_screen(found, screen, modality="crispra")
    assert "look like CRISPRi or a knock-out" in check_screen(found, replace(screen, modality=None), modality=None)[2]


def test_cells_without_a_label_are_no_replicate_and_no_line():
    """A gap is counted, and is not a replicate without controls or a second cell line."""
    obs = pd.DataFrame({"control": [True] * 40 + [False] * 60, "perturbation": [""] * 40 + ["A"] * 30 + ["B"] * 30})
    obs["replicate"] = np.where(np.arange(100) % 2 == 0, "r1", "r2")
    obs["cell_line"] = "K562"
    sound = design_flags(obs)
    assert sound == []
    obs.loc[70:74, "replicate"], obs.loc[::10, "cell_line"] = "", ""
    flags = design_flags(obs)
    assert flags == [
        "5 of 100 cells have no replicate, and are left out where replicates are compared",
        "10 of 100 cells have no cell line, and are left out where cell lines are compared",
    ]
