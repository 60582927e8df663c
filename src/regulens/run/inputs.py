"""Are the inputs still the ones a finished run was made from? Contents are compared, never times or paths."""

from __future__ import annotations

from pathlib import Path

from regulens._version import __version__
from regulens.io.cell_files import is_zarr
from regulens.models.hub import record
from regulens.plan import Plan
from regulens.provenance import digest_of, sha256_file, versions


def _fingerprint(source: str) -> str:
    if source.startswith(("demo:", "bundled:")):
        return f"{source} of regulens {__version__}"
    path = Path(source)
    if not path.exists():
        _, _, rest = source.partition(":")
        if rest.startswith("hf://"):
            return digest_of(record(rest.partition("?")[0]))
        path = next((p for p in (Path(rest), Path(rest.partition("?")[0]), Path(source.partition("?")[0]))
                     if str(p) != "." and p.exists()), Path(rest))  # fmt: skip
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        # The chunks of a zarr folder lie below it; what else lies below a folder of weights is not read.
        files = sorted(p for p in (path.rglob("*") if is_zarr(path) else path.iterdir()) if p.is_file())
        return digest_of([(p.relative_to(path).as_posix(), sha256_file(p)) for p in files])
    return "absent"


def input_fingerprints(plan: Plan) -> dict[str, str]:
    """Digest of every file the plan names, and of the versions that can change a number."""
    sources = [plan.cells.source, *(m.spec for m in plan.models), *(r.source for r in plan.references)]
    sources += [s.source for s in plan.screens]
    if plan.universe.regulators not in ("reference",):
        sources.append(plan.universe.regulators)
    sources += [str(p) for a in plan.analyses for p in dict(a.parameters.get("tables") or {}).values()]
    found = {f"{i}:{Path(s).name}": _fingerprint(plan.resolve(s)) for i, s in enumerate(sources)}
    return found | {"versions": digest_of(versions())}
