"""How are networks inferred once per study? Methods on the cells' expression, and edge tables of other tools.

What a method finds depends on the cells, the genes, the regulators and the seed, and on no model: it is made when the
first analysis asks for it, kept in the run folder under a digest of these, and handed to every model. References
share it where they share their regulators. How long it took is told in ``timing.json`` and nowhere else.
"""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from regulens.errors import ParameterError, PlanError
from regulens.io.atomic import write_with
from regulens.io.edge_tables import EdgeTable, read_edge_table
from regulens.parallel import release_workers
from regulens.progress import Progress
from regulens.provenance import digest_frame, digest_of
from regulens.run.prepare import PlannedAnalysis, Prepared, unmet_needs
from regulens.scorers import SCORERS
from regulens.scorers.imported import imported_scores
from regulens.scorers.network_inference import METHODS, check_methods, infer, rough_seconds
from regulens.types.edges import EdgeScores, EdgeUniverse

NEED = "inferred"


class InferredNetworks:
    """Scores of methods and imported tables for the analyses of one study.

    Parameters
    ----------
    prepared
        Checked inputs. Method names and edge tables of the plan are checked here too.
    folder
        Run folder; nothing is written before a method is asked for.
    jobs
        Worker processes; changes no number.

    Raises
    ------
    PlanError, InputError, SchemaError
        For a method that is not known, or a table that cannot be read.
    """

    def __init__(self, prepared: Prepared, *, folder: Path, jobs: int, progress: Progress) -> None:
        self._prepared, self._folder, self._jobs, self._progress = prepared, folder, jobs, progress
        self._held: dict[str, EdgeScores] = {}
        #: Wall seconds per method and universe; None where it was found in the folder.
        self.seconds: dict[str, float | None] = {}
        self._tables: dict[str, EdgeTable] = {}
        for item in prepared.analyses:
            if NEED in item.spec.needs:
                self._check(item)

    def _check(self, item: PlannedAnalysis) -> None:
        methods, tables = _asked(item)
        try:
            check_methods(methods)
        except ParameterError as error:
            message = f"The plan has 1 problem: analyses.{item.spec.name}.methods: {error}"
            raise PlanError(message) from None
        for name, path in tables.items():
            if name in (*METHODS, "ensemble"):
                message = f"Expected a name for the table {path} that is no method, got '{name}'. Call it otherwise."
                raise PlanError(message)
            if path not in self._tables:
                self._tables[path] = read_edge_table(self._prepared.plan.resolve(path), name=name)

    def rough_seconds(self) -> dict[str, float]:
        """Processor seconds of every method that the plan asks for, over all universes; an order of magnitude."""
        found: dict[str, float] = {}
        seen = set()
        for item in self._prepared.analyses:
            if NEED not in item.spec.needs or unmet_needs(item, self._prepared):
                continue
            universe = self._prepared.universe_of(item.request.reference)
            for method in _asked(item)[0]:
                if (method, universe.regulators) in seen:
                    continue
                seen.add((method, universe.regulators))
                found[method] = found.get(method, 0.0) + rough_seconds(
                    method, n_cells=self._prepared.cells.n_cells, n_regulators=len(universe.regulators),
                    n_genes=len(universe.genes),
                )  # fmt: skip
        return {method: round(seconds, 1) for method, seconds in found.items()}

    def digest(self, item: PlannedAnalysis) -> str:
        """Digest of the imported tables that an analysis reads; what its methods are made of is in its key anyway."""
        if NEED not in item.spec.needs:
            return ""
        methods, tables = _asked(item)
        regulators = self._prepared.universe_of(item.request.reference).regulators
        return digest_of(
            [(m, SCORERS[m].version) for m in methods], regulators,
            [(n, digest_frame(self._tables[p].edges)) for n, p in tables.items()],
        )  # fmt: skip

    def make(self) -> None:
        """Infer every network that the plan asks for, or find it in the folder."""
        for item in self._prepared.analyses:
            if not unmet_needs(item, self._prepared):
                self.of(item)

    def of(self, item: PlannedAnalysis) -> dict[str, EdgeScores]:
        """Scores that an analysis asked for, by method and table name; empty when it needs none."""
        if NEED not in item.spec.needs:
            return {}
        methods, tables = _asked(item)
        universe = self._prepared.universe_of(item.request.reference)
        found = {}
        for method in methods:
            found[method] = self._inferred(method, universe)
        for name, path in tables.items():
            found[name] = imported_scores(
                self._tables[path].edges, genes=universe.genes, regulators=universe.regulators, name=name
            )
        return found

    def _inferred(self, method: str, universe: EdgeUniverse) -> EdgeScores:
        prepared = self._prepared
        key = digest_of(
            method, SCORERS[method].version, prepared.cells.digest, universe.genes, universe.regulators,
            prepared.plan.seed,
        )  # fmt: skip
        if key in self._held:
            return self._held[key]
        path = self._folder / "state" / "inferred" / f"{method}-{key[:16]}.npz"
        label = f"{method} on {len(universe.regulators)} regulators and {len(universe.genes)} genes"
        found = _read(path, key, universe)
        if found is None:
            stage = self._progress.stage(f"network by {label}", 1)
            start = time.perf_counter()
            try:
                columns = prepared.cells.genes.index(universe.genes)
                made = infer(
                    method, sp.csc_matrix(prepared.cells.log_normalised(columns)), genes=universe.genes,
                    regulators=universe.regulators, seed=prepared.plan.seed, jobs=self._jobs,
                )  # fmt: skip
                release_workers()
                stage.advance()
            finally:
                stage.close()
            self.seconds[label] = round(time.perf_counter() - start, 3)
            _write(path, key, made)
            found = _read(path, key, universe)
            assert found is not None
        else:
            self.seconds.setdefault(label, None)
        self._held[key] = found
        return found


def _asked(item: PlannedAnalysis) -> tuple[tuple[str, ...], Mapping[str, str]]:
    parameters = item.spec.parameters | item.section.parameters
    return tuple(parameters.get("methods", ())), {str(k): str(v) for k, v in parameters.get("tables", {}).items()}


def _write(path: Path, key: str, scores: EdgeScores) -> None:
    facts = json.dumps({"key": key, "provenance": scores.provenance}, sort_keys=True)
    write_with(
        path,
        lambda beside: np.savez(
            beside, values=scores.values[0], observed=scores.observed, facts=np.array(facts, dtype=np.str_)
        ),
    )


def _read(path: Path, key: str, universe: EdgeUniverse) -> EdgeScores | None:
    """A network of this key, or None where there is none or it cannot be read."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            values, observed, facts = content["values"], content["observed"], json.loads(str(content["facts"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if facts.get("key") != key or values.shape != (len(universe.regulators), len(universe.genes)):
        return None
    method = path.name.rpartition("-")[0]
    return EdgeScores(
        values=values[None], observed=observed, names=(method,), genes=universe.genes,
        regulators=universe.regulators, scorer=method, provenance=facts["provenance"],
    )  # fmt: skip
