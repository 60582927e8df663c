"""What is to be audited: `Plan`, a study file validated as a whole, with every problem in one message.

A plan is plain data. Relative paths in a study file are relative to that file. Two plans are the same study when
their digests agree; the digest holds file names, not folders, and nothing about workers or output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from regulens.errors import ParameterError, PlanError, RegistryError, examples, nearest
from regulens.models.spec import portable
from regulens.provenance import digest_of
from regulens.types.endpoints import Protocol
from regulens.types.size import read_size

PLAN_VERSION = 1

#: Source of cells in a study of edge tables without expression.
NO_CELLS = "none"
#: Genes of the universe are those that edge tables list.
LISTED = "listed"


def _a_name(value: Any) -> Any:
    # YAML reads an unquoted NO, on or 7 as something else than text; a gene or column name must stay text.
    if isinstance(value, bool) or (value is not None and not isinstance(value, str)):
        message = f"expected text, got {value!r}; quote it in the study file"
        raise ValueError(message)
    return value


Text = Annotated[str, BeforeValidator(_a_name), Field(min_length=1)]


def _a_size(value: Any) -> Any:
    if value is None:
        return None
    try:
        return read_size(value)
    except ParameterError as error:
        raise ValueError(str(error)) from None


Size = Annotated[int, BeforeValidator(_a_size)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class CellsSection(_Section):
    """Which cells, where their counts are, and what their columns mean."""

    source: Text = Field(
        default="demo:immune",
        description="an .h5ad file, an AnnData .zarr, demo:immune, demo:pbmc68k; none: edge tables alone",
    )
    name: Text | None = Field(default=None, description="name in tables; by default that of the file")
    counts: Text = Field(default="auto", description="auto, X, raw, or the name of a layer")
    log1p_cp10k: bool = Field(default=False, description="recover counts from log1p(CP10k) values")
    total_counts: Text | None = Field(default=None, description="obs column with library sizes; default row sums")
    gene_column: Text | None = Field(default=None, description="var column with gene ids; default var_names")
    duplicates: Literal["refuse", "sum"] = Field(default="refuse", description="what to do with repeated gene ids")
    cell_state: Text | None = Field(default=None, description="obs column that says which state a cell is in")
    donor: Text | None = Field(default=None, description="obs column of the donor")
    batch: Text | None = Field(default=None, description="obs column of the batch")
    perturbation: Text | None = Field(default=None, description="obs column of the perturbation")
    control: Text | None = Field(
        default=None, description="label of unperturbed cells in the perturbation column; only these are read"
    )
    backed: bool | Literal["auto"] = Field(
        default="auto",
        description="leave counts in the file and read them in blocks; auto: above 2 GB; no number changes",
    )


class ModelSection(_Section):
    """One model."""

    spec: Text = Field(description="family:PATH, bundled:NAME, or a folder whose family is recognised")
    name: Text | None = Field(default=None, description="name in tables; by default from the folder")


class ReferenceSection(_Section):
    """One curated network."""

    source: Text = Field(description="a table of any common shape, or bundled:dorothea")
    name: Text | None = Field(default=None, description="name in tables; by default from the file")
    levels: tuple[Text, ...] = Field(default=(), description="evidence levels to keep; empty keeps all")


class ScreenSection(_Section):
    """One screen of perturbations, as cells or as a ready table of effects, and the rule that labels responders."""

    source: Text = Field(description="an .h5ad or AnnData .zarr with a perturbation a cell, or a table of effects")
    name: Text | None = Field(default=None, description="name in tables; by default from the file")
    perturbation: Text | None = Field(default=None, description="obs column of the perturbation; default: recognised")
    control: Text | None = Field(default=None, description="label of control cells; default: recognised")
    guide: Text | None = Field(default=None, description="obs column of the guide; default: recognised")
    replicate: Text | None = Field(
        default=None, description="obs column of the replicate, batch or donor; default: recognised"
    )
    cell_line: Text | None = Field(default=None, description="obs column of the cell line; default: recognised")
    only: Text | None = Field(default=None, description="keep this cell line only")
    modality: Literal["crispri", "crispra", "knockout"] | None = Field(
        default=None, description="what a perturbation does; checked against the perturbed genes' own expression"
    )
    counts: Text = Field(default="auto", description="auto, X, raw, or the name of a layer")
    log1p_cp10k: bool = Field(default=False, description="recover counts from log1p(CP10k) values")
    total_counts: Text | None = Field(default=None, description="obs column with library sizes; default row sums")
    gene_column: Text | None = Field(default=None, description="var column with gene ids; default var_names")
    duplicates: Literal["refuse", "sum"] = Field(default="refuse", description="what to do with repeated gene ids")
    test: Literal["welch", "mann_whitney"] = Field(default="welch", description="of perturbed against control cells")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="level of the p adjusted within a perturbation")
    min_effect: float = Field(default=0.5, ge=0, description="smallest absolute effect of a responder")
    min_cells: int = Field(default=30, ge=2, description="cells that a perturbation needs")
    min_responders: int = Field(default=3, ge=1, description="responders in the universe that a perturbation needs")
    backed: bool | Literal["auto"] = Field(default="auto", description="leave counts in the file; no number changes")


class UniverseSection(_Section):
    """Which genes and regulators make the candidate pairs."""

    genes: Annotated[int, Field(ge=2)] | Literal["listed"] = Field(
        default=1500,
        description="number of most variable genes, to which regulators are added; listed: genes and regulators that "
        "edge tables list",
    )
    min_cells_expressing: int = Field(default=28, ge=1, description="cells in which a gene must be detected")
    regulators: Text = Field(default="reference", description="reference, bundled:tfs, or a file with one a line")


class ExtractionSection(_Section):
    """How attention is read."""

    max_cells: int | None = Field(default=None, ge=10, description="use at most so many cells, drawn at random")
    blocks: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="random blocks of cells per cell state and donor; auto: of about 25 cells where an analysis "
        "resamples cells, else one",
    )
    partition_by: tuple[Literal["cell_state", "donor", "batch", "perturbation"], ...] = Field(
        default=("cell_state", "donor"), description="roles whose combinations are kept apart in the store"
    )
    recipe: Literal["probability", "logit", "log_probability", "value_weighted"] = Field(
        default="probability", description="what is summed over cells, see docs/extraction.md"
    )
    memory: Size | None = Field(
        default=None,
        ge=1_000_000,
        description="bytes per process for sums and tokens (2GB, 500MB); several passes where they exceed",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the model runs")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the model's matrices; what half precision changes is measured and recorded"
    )


class AnalysisSection(_Section):
    """One analysis with its protocol and parameters."""

    name: Text
    protocol: Protocol = Protocol.CORRECTED
    parameters: dict[str, Any] = Field(default_factory=dict)


class StatisticsSection(_Section):
    """Numbers that every analysis shares."""

    bootstrap: int = Field(default=2000, ge=100, le=100_000, description="bootstrap draws")
    permutations: int = Field(default=1000, ge=99, le=1_000_000, description="permutation draws")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="level of tests; 1 − alpha is that of intervals")
    seoi: float = Field(default=0.02, gt=0, lt=0.5, description="smallest AUROC difference of interest")
    min_cells: int = Field(default=5, ge=1, description="cells in which a pair must have met to count as observed")


def _listed(key: str) -> Any:
    def convert(value: Any) -> Any:
        if isinstance(value, (str, dict)):
            value = [value]
        if isinstance(value, (list, tuple)):
            return [{key: v} if isinstance(v, str) else v for v in value]
        return value

    return BeforeValidator(convert)


DEFAULT_ANALYSES = (
    "reference_recovery",
    "gene_level_baselines",
    "expression_matched",
    "coexpression_dominance",
    "degree_null",
    "cross_fitted_residual",
    "tf_resolution",
    "reference_sensitivity",
    "grn_method_baselines",
    "recipe_sensitivity",
    "layer_hierarchy",
    "cssi",
    "synthetic_cssi",
    "cell_count_scaling",
    "composition_control",
    "metric_dependence",
    "perturbation_recovery",
    "perturbation_baselines",
    "incremental_value",
    "propensity_matched",
    "design_sensitivity",
    "rank_consistency",
    "dataset_generalisation",
    "calibration",
    "conformal",
)


class Plan(_Section):
    """A study: cells, models, references, universe, analyses, statistics, one seed.

    Every section has defaults; an empty plan is the embedded default (bundled cells, models and reference).

    Examples
    --------
    >>> Plan().cells.source
    'demo:immune'
    >>> Plan.from_options(seed=7).seed
    7
    >>> Plan.from_options(sed=7)
    Traceback (most recent call last):
    ...
    regulens.errors.PlanError: The plan has 1 problem: sed: unknown key. Did you mean 'seed'?
    """

    name: Text | None = Field(default=None, description="name of the run; by default that of the cells")
    cells: CellsSection = CellsSection()
    models: Annotated[tuple[ModelSection, ...], _listed("spec")] = Field(
        default=(ModelSection(spec="bundled:scgpt-mini"), ModelSection(spec="bundled:geneformer-mini")), min_length=1
    )
    references: Annotated[tuple[ReferenceSection, ...], _listed("source")] = Field(
        default=(ReferenceSection(source="bundled:dorothea"),)
    )
    screens: Annotated[tuple[ScreenSection, ...], _listed("source")] = ()
    universe: UniverseSection = UniverseSection()
    extraction: ExtractionSection = ExtractionSection()
    analyses: Annotated[tuple[AnalysisSection, ...], _listed("name")] = Field(
        default=tuple(AnalysisSection(name=n) for n in DEFAULT_ANALYSES), min_length=1
    )
    statistics: StatisticsSection = StatisticsSection()
    direction: Literal["regulator_attends", "target_attends"] = "regulator_attends"
    primary: Text = Field(default="pooled", description="pre-specified score: pooled, or a layer such as L03_mean")
    seed: int = Field(default=42, ge=0)

    _base: Path = PrivateAttr(default=Path())

    @field_validator("primary")
    @classmethod
    def _known_primary(cls, value: str) -> str:
        import re

        if value != "pooled" and not re.fullmatch(r"L\d{2}_(mean|H\d{2})", value):
            message = f"expected 'pooled', a layer 'L03_mean' or a head 'L03_H01' (from zero), got '{value}'"
            raise ValueError(message)
        return value

    @field_validator("analyses")
    @classmethod
    def _known_analyses(cls, value: tuple[AnalysisSection, ...]) -> tuple[AnalysisSection, ...]:
        from regulens.analyses.base import ANALYSES

        seen: set[tuple[str, str]] = set()
        for section in value:
            try:
                spec = ANALYSES[section.name]
            except RegistryError as error:
                raise ValueError(str(error)) from None
            odd = [p for p in section.parameters if p not in spec.parameters]
            if odd:
                known = list(spec.parameters)
                message = (
                    f"{section.name} has no parameter '{odd[0]}' (known: {examples(known, limit=20) or 'none'})."
                    f"{nearest(odd[0], known)}"
                )
                raise ValueError(message)
            if section.protocol not in spec.protocols:
                message = f"{section.name} has no protocol '{section.protocol}' (known: {examples(spec.protocols)})"
                raise ValueError(message)
            if (section.name, section.protocol) in seen:
                message = f"{section.name} is listed twice under the protocol '{section.protocol}'"
                raise ValueError(message)
            seen.add((section.name, section.protocol))
        return value

    @classmethod
    def _validated(cls, data: Any, *, base: Path, where: str) -> Plan:
        if not isinstance(data, dict):
            message = f"Expected a mapping of plan keys in {where}, got {type(data).__name__}. See docs/study_file.md."
            raise PlanError(message)
        try:
            plan = cls.model_validate(data)
        except ValidationError as error:
            raise PlanError(_all_problems(error, cls)) from None
        names = [s.name for s in (*plan.models, *plan.references, *plan.screens) if s.name]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            message = (
                "The plan has 1 problem: names of models, references and screens must be unique, got "
                f"{examples(repeated)}"
            )
            raise PlanError(message)
        if not plan.references and not plan.screens:
            message = "The plan has 1 problem: references: expected a reference or a screen, got neither"
            raise PlanError(message)
        plan._base = base
        return plan

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """Read a study file (YAML).

        Raises
        ------
        PlanError
            With every problem of the file, each with its path; or when there is no such file.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"Expected a study file in YAML at {path}, got {type(error).__name__}. Check the path."
            raise PlanError(message) from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            message = f"Expected valid YAML in {path}, got a syntax error{place}. Check indentation and quotes there."
            raise PlanError(message) from error
        return cls._validated({} if data is None else data, base=path.parent, where=str(path))

    @classmethod
    def from_options(cls, **options: Any) -> Plan:
        """Plan from keyword arguments with the structure of a study file; paths relative to the working folder."""
        return cls._validated(options, base=Path(), where="the options")

    def with_overrides(self, overrides: dict[str, Any]) -> Plan:
        """The same plan with some keys replaced.

        Parameters
        ----------
        overrides
            Dotted key (``"statistics.bootstrap"``, ``"cells.cell_state"``) to value. Lists are replaced whole.
        """
        data = self.model_dump(mode="json")
        for key, value in overrides.items():
            *parents, last = key.split(".")
            node = data
            for depth, part in enumerate(parents):
                if not isinstance(node.get(part), dict):
                    known = [k for k, v in node.items() if isinstance(v, dict)]
                    path = ".".join(parents[: depth + 1])
                    message = f"The plan has 1 problem: {path}: unknown section.{nearest(part, known)}"
                    raise PlanError(message)
                node = node[part]
            node[last] = value
        return type(self)._validated(data, base=self._base, where="the overrides")

    def resolve(self, source: str) -> str:
        """`source` with a relative file path made relative to the working folder; schemes are left alone."""
        scheme, colon, rest = source.partition(":")
        if source == NO_CELLS or scheme in ("demo", "bundled") or (colon and rest.startswith("hf://")):
            return source
        if colon and len(scheme) > 1 and "/" not in scheme and "." not in scheme:  # family:PATH
            return f"{scheme}:{self._base / Path(rest).expanduser()}"
        return str(self._base / Path(source).expanduser())

    def run_name(self) -> str:
        """Name of the run: as given, else that of the cells."""
        if self.name:
            return self.name
        if self.cells.name:
            return self.cells.name
        source = self.cells.source
        return source.replace(":", "-") if source.startswith("demo:") else Path(source).stem

    def to_yaml(self) -> str:
        """The complete plan as a study file, defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @property
    def digest(self) -> str:
        """Digest of everything that can change a number; of files the names only (contents have digests of theirs)."""
        data = self.model_dump(mode="json")
        data.pop("name")
        data["cells"]["source"] = Path(data["cells"]["source"]).name
        data["cells"].pop("backed")
        for model in data["models"]:
            model["spec"] = portable(model["spec"])
        for reference in data["references"]:
            reference["source"] = Path(reference["source"]).name
        for screen in data["screens"]:
            screen["source"] = Path(screen["source"]).name
            screen.pop("backed")
        return digest_of(PLAN_VERSION, data)


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Keys that would have been valid beside the offending one."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if isinstance(current, type) else None
        if field is None:
            break
        inner = [
            a
            for a in (field.annotation, *get_args(field.annotation))
            if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        if not inner:
            break
        current = inner[0]
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _all_problems(error: ValidationError, model: type[BaseModel]) -> str:
    problems = []
    found = error.errors()
    for item in found:
        location = item["loc"]
        inner = any(o["loc"][: len(location)] == location and len(o["loc"]) > len(location) for o in found)
        if item["type"] == "too_short" and inner:
            continue  # the list only looks short because its bad items were left out; these are reported
        path = ""
        for part in location:
            path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
        if item["type"] == "extra_forbidden":
            text = f"unknown key.{nearest(str(location[-1]), _keys_at(model, location[:-1]))}".rstrip(".")
        elif item["type"] == "missing":
            text = "required, but absent"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        else:
            got = item.get("input")
            shown = repr(got) if not isinstance(got, (dict, list)) else f"a {type(got).__name__}"
            text = f"{item['msg'][0].lower()}{item['msg'][1:]}, got {shown}"
        problems.append(f"{path}: {text}")
    n = len(problems)
    head = f"The plan has {n} problem{'s' if n > 1 else ''}: "
    return head + "; ".join(problems)
