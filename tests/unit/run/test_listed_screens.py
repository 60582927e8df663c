"""Edge tables against a screen: perturbations that tables leave out are named with their reason, by the label rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from regulens.errors import InputError
from regulens.io.atomic import read_json
from regulens.report.screens import blocks
from regulens.rng import stream
from regulens.run.audit import audit
from regulens.run.prepare import prepare
from regulens.run.score import plan_of_edges
from regulens.testing.tiny_study import tiny_genes

N = 40
OPTIONS = {"statistics.bootstrap": 100, "statistics.permutations": 99, "analyses": ["perturbation_recovery"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Twelve perturbations with five responders each; a table that lists nothing, or too little, of some of them."""
    folder = tmp_path_factory.mktemp("listed")
    genes = tiny_genes(N)["symbol"].tolist()
    rng = stream(0, "test/listed-screens")
    rows, edges = [], []
    for i, perturbed in enumerate(genes[:12]):
        others = [g for g in genes if g != perturbed]
        responders = set(rng.choice(others, 5, replace=False))
        rows += [(perturbed, g, 2.0 if g in responders else 0.1, 1e-6 if g in responders else 0.5) for g in others]
        if i >= 10:
            continue  # listed by no table
        quiet = [g for g in others if g not in responders]
        listed = [*sorted(responders)[: 2 if i < 3 else 5], *quiet[: 2 if i == 3 else 10]]
        edges += [(perturbed, g, float(w)) for g, w in zip(listed, rng.gamma(2.0, size=len(listed)))]
    edges.append((genes[20], genes[0], 9.0))
    pd.DataFrame(rows, columns=["perturbation", "gene", "effect", "p"]).to_csv(
        folder / "effects.tsv", sep="\t", index=False
    )
    pd.DataFrame(edges, columns=["source", "target", "weight"]).to_csv(folder / "edges.tsv", sep="\t", index=False)
    return folder, genes


def plan(folder, **options):
    screens = [{"source": str(folder / "effects.tsv")}]
    return plan_of_edges(folder / "edges.tsv", screens=screens, overrides=OPTIONS, **options)


def test_perturbations_that_no_table_lists_are_named(study, tmp_path):
    folder, genes = study
    run = audit(plan(folder), out=tmp_path / "run", jobs=1)
    (screen,) = run.record["screens"]
    assert screen["lost"] == dict.fromkeys(genes[10:12], "no edge table lists it as a regulator")
    assert screen["counts"]["perturbations_lost"] == len(screen["lost"])
    assert screen["counts"]["perturbations_evaluable"] + len(screen["lost"]) == screen["counts"]["perturbations"] == 12

    class View:
        run = read_json(tmp_path / "run" / "run.json")

    (block,) = blocks(View)
    assert [[c.text for c in row] for row in block["lost"].rows] == [list(item) for item in screen["lost"].items()]


def test_the_label_rule_holds_among_the_pairs_that_are_left(study):
    """Excluding absent pairs takes responders away: three perturbations keep two, one keeps two that do not respond."""
    folder, genes = study
    prepared = prepare(plan(folder, absent="exclude"))
    universe, screen = prepared.screen_universes["effects"], prepared.screens["effects"]
    n_pos = universe.positive.sum(axis=1)
    assert (n_pos >= 3).all() and ((universe.candidate.sum(axis=1) - n_pos) >= 3).all()
    assert set(universe.regulators) == set(genes[4:10])
    lost = screen.view(universe).lost
    few = "fewer than 3 responders or 3 others among the pairs that tables list"
    assert lost == dict.fromkeys(sorted(genes[10:12]), lost[genes[10]]) | dict.fromkeys(sorted(genes[:4]), few)
    counts = universe.counts
    assert counts["perturbations_lost"] == len(lost) == 6 and counts["perturbations_evaluable"] == 6
    assert counts["listed_by_any"] == counts["listed_by_all"] == counts["candidates"] == int(universe.candidate.sum())
    assert counts["evaluable"] == int(universe.positive.sum()) == np.count_nonzero(universe.positive)


def test_lists_with_too_few_responders_are_refused(study):
    folder, _ = study
    strict = plan(folder, absent="exclude").with_overrides(
        {"screens": [{"source": str(folder / "effects.tsv"), "min_responders": 5}], "universe.genes": "listed"}
    )
    table = pd.read_csv(folder / "edges.tsv", sep="\t")
    table.groupby("source").head(4).to_csv(folder / "few.tsv", sep="\t", index=False)
    strict = strict.with_overrides({"models": [f"edges:{folder / 'few.tsv'}?absent=exclude"]})
    with pytest.raises(InputError, match=r"with 5 responders and 3 others among the pairs that tables list"):
        prepare(strict)
