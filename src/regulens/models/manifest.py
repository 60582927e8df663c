"""Is this the very file that was published? Known sha256 digests, and what the licence of each family forbids.

The table (``data/known_files.tsv``) holds digests that are on record, and no others: most weights, and every
fine-tuned copy, are "unknown", which says that nobody compared them, not that something is wrong with them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from regulens.provenance import sha256_file


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """One published file.

    Parameters
    ----------
    sha256, bytes
        Of its content.
    family, file
        Key of the family; name under which it is published.
    title
        What it is.
    """

    sha256: str
    bytes: int
    family: str
    file: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Terms of a family's published weights, in short; the text that came with the files decides.

    Parameters
    ----------
    title
        Name of the licence.
    forbids
        What it rules out; empty where it asks for attribution only.
    """

    title: str
    forbids: str = ""


#: Terms of the published weights by family; a copy or a fine-tuned model may have others.
LICENCES: dict[str, Licence] = {
    "edges": Licence(title="that of the table's authors"),
    "geneformer": Licence(title="Apache-2.0"),
    "scgpt": Licence(title="MIT (code; the weights have no licence of their own)"),
    "scfoundation": Licence(
        title="scFoundation model licence, non-commercial research only",
        forbids="any commercial use, and passing the weights on",
    ),
    "aido_cell": Licence(
        title="GenBio AI Community License, non-commercial",
        forbids="commercial use of the model and of its outputs, among which it counts attention maps, gradients and "
        "embeddings; offering outputs as a service; training competing models on outputs",
    ),
    "scprint": Licence(title="MIT"),
    "c2s": Licence(
        title="differs between repositories and over time (CC0-1.0, CC-BY-NC-ND-4.0): see the model's card",
        forbids="under CC-BY-NC-ND-4.0: commercial use, and passing on changed copies",
    ),
    "uce": Licence(title="MIT"),
    "scvi": Licence(title="BSD-3-Clause (library); a saved model belongs to whoever trained it"),
}

#: Families whose loader reads the licence from the folder's own model card, with what it forbids.
DECLARED = frozenset({"c2s"})


def terms_of(family: str, *, declared: str = "", demonstration: bool = False) -> tuple[str, str]:
    """Licence to show for a model, and what it forbids.

    Parameters
    ----------
    declared
        What the model's own folder says (`ModelCard.licence`). It comes first: the terms of the family are those of
        the published weights, and where the folder names its own, they may not apply.
    demonstration
        A model that regulens trained.

    >>> terms_of("c2s", declared="cc0-1.0")
    ('cc0-1.0', '')
    >>> terms_of("geneformer")
    ('Apache-2.0 (of the published weights)', '')
    """
    terms = None if demonstration else LICENCES.get(family)
    if declared:
        # A loader that knows the licence of its family states it at length, and what it forbids with it.
        return declared, terms.forbids if terms and family not in DECLARED else ""
    return (f"{terms.title} (of the published weights)", terms.forbids) if terms else ("not stated", "")


@cache
def known_files() -> dict[str, KnownFile]:
    """All files on record, by sha256.

    >>> len(known_files()) > 10
    True
    """
    text = resources.files("regulens").joinpath("data/known_files.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {r["sha256"]: KnownFile(**{**r, "bytes": int(r["bytes"])}) for r in rows}


def published(sha256: str) -> str:
    """What a digest is on record as, or an empty string.

    >>> published("a5e33a757431643b3697de7ef6127950cdc49e06e58d4266b3a3ab191b683f14")
    'Geneformer V1-10M weights'
    """
    found = known_files().get(sha256)
    return found.title if found else ""


def identify(folder: Path | str) -> list[tuple[str, str]]:
    """Files of a folder and what each is on record as.

    Parameters
    ----------
    folder
        Looked through without its subfolders. Only files of a size on record are hashed, so this is quick.

    Returns
    -------
    Name and title, sorted by name; the title is empty for an unknown file.
    """
    sizes = {k.bytes for k in known_files().values()}
    files = sorted(p for p in Path(folder).iterdir() if p.is_file() and not p.name.startswith("."))
    return [(p.name, published(sha256_file(p)) if p.stat().st_size in sizes else "") for p in files]


def describe_digest(sha256: str) -> str:
    """A digest for people: its first digits, and what it is known as.

    >>> describe_digest("00" * 32)
    '000000000000…: unknown digest (not on record; compare it with the page you downloaded it from)'
    """
    title = published(sha256)
    words = f"known digest, {title}" if title else "unknown digest (not on record; compare it with the page you "
    return f"{sha256[:12]}…: {words}" + ("" if title else "downloaded it from)")
