"""How do tables go to disk? As parquet for programs and TSV for people, with bytes that depend on content only."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from regulens.errors import SchemaError
from regulens.io.atomic import write_bytes


def write_table(frame: pd.DataFrame, stem: Path | str) -> tuple[Path, Path]:
    """Write ``<stem>.parquet`` and ``<stem>.tsv``; the index is left out.

    Missing values are empty in the TSV. Floats are written with 17 significant digits at most, the shortest text
    that reads back to the same number. Equal tables give equal bytes (with one version of pyarrow).

    Parameters
    ----------
    frame
        Unique string column names.
    stem
        Path without suffix; dots in the last part are kept.

    Returns
    -------
    The two paths, parquet first.

    Raises
    ------
    SchemaError
        On repeated column names.
    StoreError
        On a full disk or a folder that cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [str(c) for c in frame.columns]
    if len(set(names)) != len(names):
        message = f"Expected unique column names in table {Path(stem).name}, got {names}. Rename the repeats."
        raise SchemaError(message)
    plain = frame.set_axis(names, axis="columns").reset_index(drop=True)
    # The pandas block of the metadata names library versions; without it the bytes depend on the content.
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    base = Path(stem)
    parquet, tsv = (base.with_name(base.name + suffix) for suffix in (".parquet", ".tsv"))
    write_bytes(parquet, sink.getvalue())
    write_bytes(tsv, plain.to_csv(sep="\t", index=False, lineterminator="\n").encode("utf-8"))
    return parquet, tsv


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table written by `write_table`, from its stem or from either of its files.

    Raises
    ------
    SchemaError
        When there is no such table or it cannot be read.
    """
    base = Path(path)
    known = base.suffix in (".parquet", ".tsv")
    candidates = [base] if known else [base.with_name(base.name + s) for s in (".parquet", ".tsv")]
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        message = f"Expected a table at {base}, got no such file. Check the path, or run the audit again."
        raise SchemaError(message)
    try:
        if found.suffix == ".parquet":
            return pd.read_parquet(found)
        return pd.read_csv(found, sep="\t", keep_default_na=False, na_values=[""])
    except Exception as error:
        message = f"Expected a readable table at {found}, got '{error}'. The file is damaged; run the audit again."
        raise SchemaError(message) from error
