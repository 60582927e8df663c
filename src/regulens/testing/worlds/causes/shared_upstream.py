"""A hidden common cause: targets of one upstream regulator are co-expressed and attend each other, without an edge."""

from __future__ import annotations

import numpy as np

from regulens.testing.worlds.draft import Cause, Draft

TRUTH = (
    "targets of a hidden upstream regulator are co-expressed and attend each other; direct edges come in blocks of "
    "their own and nothing knows them"
)
N_MODULES = 5


def shared_upstream(draft: Draft) -> Cause:
    """Modules of siblings in expression and attention; co-regulated blocks in the reference; the two independent."""
    rng = draft.rng("modules")
    module = rng.integers(0, 2 * N_MODULES, draft.n_genes)  # those of N_MODULES and above belong to none
    activity = rng.normal(size=(draft.n_cells, N_MODULES))
    member = module[None, :] == np.arange(N_MODULES)[:, None]
    counts = draft.express(factors=0.2, shift=0.8 * activity @ member - 0.32 * member.any(axis=0))
    siblings = (module[draft.own][:, None] == module[None, :]) & (module < N_MODULES)
    group = rng.integers(0, 8, draft.n_regulators)  # regulators that share targets
    popular = rng.normal(size=(8, draft.n_genes))
    odds = 1.2 * popular[group] + 0.4 * rng.normal(size=(draft.n_regulators, 1))
    return Cause(counts=counts, positive=draft.edges(odds), forward=draft.effect * siblings)
