"""`audit`: the one place where the stages meet. Tests are registered first; finished work is reused; order is fixed.

prepare (reads and refuses) → claim the folder → per model: extract, verify, score → per reference and analysis:
answer or reuse → ledger closed → verdicts → record. The report is made from the folder by a later stage.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from threadpoolctl import threadpool_limits

from regulens.analyses.base import SimulationInput
from regulens.io.atomic import read_json, write_json
from regulens.io.outcomes import read_outcome, write_outcome
from regulens.io.run_folder import RunFolder, read_record, read_tables
from regulens.io.tables import write_table
from regulens.models.spec import portable
from regulens.parallel import release_workers
from regulens.plan import Plan
from regulens.progress import SILENT, Progress
from regulens.provenance import digest_of, versions
from regulens.run.evidence import AbstractEvidence, gather
from regulens.run.inputs import input_fingerprints
from regulens.run.listed import edge_lists
from regulens.run.networks import InferredNetworks
from regulens.run.prepare import PlannedAnalysis, Prepared, plan_analyses, prepare, unmet_needs
from regulens.run.recipes import recipes_asked
from regulens.run.record import build_record
from regulens.types.endpoints import Endpoint, Protocol
from regulens.types.ledger import TestLedger, TestRecord
from regulens.types.nouns import noun_of
from regulens.types.results import AnalysisOutcome, Verdict

if TYPE_CHECKING:
    from regulens.analyses.base import AnalysisInput


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A finished run, read from its folder.

    Examples
    --------
    ``Run.read("runs/demo-immune").verdicts`` is a table of claims and states.
    """

    path: Path
    record: dict[str, Any]
    tests: pd.DataFrame
    results: pd.DataFrame
    tables: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, path: Path | str) -> Run:
        """Read a run folder; `StoreError` when there is no finished run in it."""
        path = Path(path)
        record = read_record(path)
        tables = read_tables(path)
        return cls(path=path, record=record, tests=tables.pop("tests"), results=tables.pop("results"), tables=tables)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per claim, model and reference: ``state`` and the reasons."""
        rows = [{**v, "reasons": " ".join(v["reasons"])} for v in self.record["verdicts"]]
        return pd.DataFrame(rows, columns=["claim", "title", "model", "reference", "state", "reasons", "rule"])


def label_of(item: PlannedAnalysis) -> str:
    """Name of an analysis in files: its own, with the protocol where it is not the corrected one."""
    protocol = item.request.protocol
    return item.spec.name if protocol is Protocol.CORRECTED else f"{item.spec.name}.{protocol}"


def _outcome_key(item: PlannedAnalysis, prepared: Prepared, *digests: str) -> str:
    return digest_of(
        item.spec.name, item.spec.version, str(item.request), item.section.parameters, [d for d in digests if d],
        prepared.cells.digest, prepared.universe_of(item.request.reference).digest, prepared.labels_digest, versions(),
    )  # fmt: skip


def _answered(
    item: PlannedAnalysis, *, key: str, folder: Path, answer: Callable[[], AnalysisOutcome]
) -> AnalysisOutcome:
    """Outcome under `key`, made now unless it is on disk; read back, so that a resumed run sees the same values."""
    names = (label_of(item), item.request.model, item.request.reference)
    outcome = read_outcome(*names, folder=folder, key=key)
    if outcome is None:
        write_outcome(answer(), folder=folder, key=key)
        outcome = read_outcome(*names, folder=folder, key=key)
        assert outcome is not None
    return outcome


def _simulate(item: PlannedAnalysis) -> AnalysisOutcome:
    given = SimulationInput(request=item.request, parameters=item.spec.parameters | item.section.parameters)
    return replace(item.spec.run(given), analysis=label_of(item))


class _Clock:
    """Wall seconds per stage; volatile, so kept apart from the record."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now


def _model_record(
    prepared: Prepared, model: str, evidence: AbstractEvidence, verification: dict[str, Any]
) -> dict[str, Any]:
    card = prepared.adapters[model].card
    return asdict(card) | {
        "spec": portable(card.spec),
        "label": card.label(),
        "vocabulary_genes": int(prepared.vocabulary[model].sum()),
        "attention": evidence.facts(prepared),
        "verification": verification,
    }


def _answer(
    item: PlannedAnalysis, prepared: Prepared, evidence: AbstractEvidence, cache: dict[str, AnalysisInput],
    networks: InferredNetworks, jobs: int,
) -> AnalysisOutcome:  # fmt: skip
    def given_for(name: str) -> AnalysisInput:
        request = replace(item.request, reference=name)
        if name not in cache:
            cache[name] = evidence.input(prepared, request)
        screen = prepared.screens.get(name)
        return replace(
            cache[name], request=request, parameters=item.spec.parameters | item.section.parameters,
            inferred=networks.of(replace(item, request=request)), jobs=jobs, cells=prepared.cells,
            adapter=prepared.adapters[request.model],
            screen=None if screen is None else screen.view(prepared.universe_of(name)),
        )  # fmt: skip

    given = given_for(item.request.reference)
    given = replace(given, others={name: partial(given_for, name) for name in item.request.others})
    return replace(item.spec.run(given), analysis=label_of(item))


def _not_run(item: PlannedAnalysis, reason: str) -> AnalysisOutcome:
    """Outcome of an analysis that could not run: every planned test recorded as undefined, with the reason."""
    return AnalysisOutcome(
        analysis=label_of(item), model=item.request.model, reference=item.request.reference, results=(), tables={},
        records=tuple(TestRecord(id=t.id, undefined=reason) for t in item.tests), facts={"skipped": reason},
    )  # fmt: skip


def _decide(
    prepared: Prepared, outcomes: list[tuple[PlannedAnalysis, AnalysisOutcome]], ledger: TestLedger
) -> tuple[Verdict, ...]:
    from regulens.verdicts import decide

    found: list[Verdict] = []
    contexts = [(r, Endpoint.REFERENCE_RECOVERY) for r in prepared.references]
    contexts += [(s, Endpoint.PERTURBATION_RESPONSE) for s in prepared.screens]
    for model in prepared.adapters:
        for reference, endpoint in contexts:
            mine = {
                item.spec.name: outcome
                for item, outcome in outcomes
                if (item.request.model, item.request.reference) == (model, reference)
                and item.request.protocol is Protocol.CORRECTED
            }
            found += decide(
                mine, ledger, model=model, reference=reference, settings=prepared.settings, endpoint=endpoint,
                noun=noun_of(prepared.adapters[model].card.n_layers),
            )  # fmt: skip
    return tuple(found)


def audit(
    plan: Plan, *, out: Path | str | None = None, jobs: int | None = None, progress: Progress = SILENT,
    overwrite: bool = False,
) -> Run:  # fmt: skip
    """Run a plan into a folder, or finish it, or find it finished.

    Parameters
    ----------
    plan
        The study.
    out
        Run folder, by default ``runs/<name of the run>``. A folder of another plan is refused.
    jobs
        Worker processes, by default the number of processors. No number depends on it.
    overwrite
        Replace a run of another plan in `out`.

    Returns
    -------
    The finished run. Figures and report are made from its folder by `regulens.report`.

    Raises
    ------
    RegulensError
        For anything that is refused; nothing has been written when inputs are refused.
    """
    import numba

    out = Path("runs") / plan.run_name() if out is None else Path(out)
    jobs = jobs or os.cpu_count() or 1
    planned = plan_analyses(plan)
    ledger = TestLedger([t for item in planned for t in item.tests])
    if not overwrite:
        RunFolder.check(out, plan_digest=plan.digest)
    fingerprints = input_fingerprints(plan)
    inputs = out / "state" / "inputs.json"
    if not overwrite and (out / "run.json").is_file() and inputs.is_file() and read_json(inputs) == fingerprints:
        progress.note(f"{out} is complete: the same plan, inputs and versions; nothing to do")
        return Run.read(out)

    clock = _Clock()
    prepared = prepare(plan, progress=progress)
    networks = InferredNetworks(prepared, folder=out, jobs=jobs, progress=progress)
    for model in prepared.adapters:
        recipes_asked(prepared, model)  # refuses what is no recipe
    clock.lap("reading inputs")
    RunFolder.claim(out, plan_digest=plan.digest, plan_yaml=plan.to_yaml(), overwrite=overwrite)
    (out / "run.json").unlink(missing_ok=True)
    write_table(ledger_plan_table(ledger), out / "state" / "planned_tests")
    write_table(prepared.cells.alignment.table, out / "tables" / "gene_ids")
    for name, table in edge_lists(prepared.adapters).items():
        stem = name.replace("/", "-")
        write_table(table.table.alignment.table, out / "tables" / f"edge_genes__{stem}")
    for name, screen in prepared.screens.items():
        stem = name.replace("/", "-")
        write_table(screen.checks, out / "tables" / f"screen_checks__{stem}")
        write_table(screen.labels.to_frame(), out / "tables" / f"responders__{stem}")

    models: list[dict[str, Any]] = []
    outcomes: list[tuple[PlannedAnalysis, AnalysisOutcome]] = []
    numba.set_num_threads(max(1, min(jobs, numba.config.NUMBA_NUM_THREADS)))
    # One BLAS thread: the order of summation, and so the last bit, must not depend on the machine's cores.
    with threadpool_limits(limits=1, user_api="blas"):
        evidence: dict[str, AbstractEvidence] = {}
        for model in prepared.adapters:
            evidence[model] = gather(prepared, model, folder=out, jobs=jobs, progress=progress)
            clock.lap(f"attention of {model}")
        release_workers()
        networks.make()
        clock.lap("networks inferred from expression")
        for model, found in evidence.items():
            verification = found.verification(folder=out, model=model)
            models.append(_model_record(prepared, model, found, verification))
            clock.lap(f"verification of {model}")
            mine = [item for item in prepared.analyses if item.request.model == model]
            stage = progress.stage(f"analyses of {model}", len(mine))
            cache: dict[str, AnalysisInput] = {}
            for item in mine:
                if reason := unmet_needs(item, prepared):
                    outcomes.append((item, _not_run(item, reason)))
                    continue
                outcome = _answered(
                    item, folder=out, answer=partial(_answer, item, prepared, found, cache, networks, jobs),
                    key=_outcome_key(item, prepared, found.digest_for(item.spec), networks.digest(item)),
                )  # fmt: skip
                outcomes.append((item, outcome))
                stage.advance()
                clock.lap(f"{label_of(item)} of {model}")
            stage.close()
        simulated = [item for item in prepared.analyses if item.spec.scope == "simulation"]
        stage = progress.stage("simulations", len(simulated)) if simulated else None
        for item in simulated:
            key = digest_of(item.spec.name, item.spec.version, str(item.request), item.section.parameters, versions())
            outcomes.append((item, _answered(item, key=key, folder=out, answer=partial(_simulate, item))))
            clock.lap(label_of(item))
            stage.advance()
        if stage is not None:
            stage.close()

    for _, outcome in outcomes:
        for record in outcome.records:
            ledger.record(record)
    ledger.close()
    verdicts = _decide(prepared, outcomes, ledger)
    write_table(ledger.table(), out / "tests")
    write_table(pd.DataFrame([r.to_row() for _, o in outcomes for r in o.results]), out / "results")
    write_json(
        out / "timing.json",
        {
            "seconds": clock.seconds,
            "networks": networks.seconds,
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "jobs": jobs,
        },
    )
    write_json(inputs, fingerprints)
    write_json(
        out / "run.json",
        build_record(
            prepared,
            models=models,
            outcomes=[(o.analysis, o) for _, o in outcomes],
            verdicts=verdicts,
            skipped=[
                {"analysis": o.analysis, "model": o.model, "reference": o.reference, "reason": o.facts["skipped"]}
                for _, o in outcomes
                if "skipped" in o.facts
            ],
        ),
    )
    return Run.read(out)


def ledger_plan_table(ledger: TestLedger) -> pd.DataFrame:
    """The registered tests as a table, written before any cell is scored."""
    return pd.DataFrame(
        [{k: str(v) if k in ("endpoint", "protocol") else v for k, v in asdict(t).items()} for t in ledger.planned]
    )
