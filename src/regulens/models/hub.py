"""How does a model get here from the Hugging Face hub? Downloaded once, resumed when cut, verified, then read offline.

Only a specification that says ``hf://`` downloads anything::

    family:hf://org/name[@revision][/subfolder]

The files of that folder of the repository go into the cache folder (``$REGULENS_CACHE``, else the user's), together
with what the family names as belonging to it (`Family.companions`). Each file is compared with the digest that the
hub publishes for it (sha256 of large files, git's sha1 of small ones); only then is a record written, and with a
record the network is not asked again: a branch such as ``main`` means the commit it stood for at the first download.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regulens.errors import MissingExtraError, ModelError, examples
from regulens.io.atomic import write_json
from regulens.io.demo import cache_folder

#: Files of which a folder with ``.safetensors`` needs none: the same weights again, and leftovers of training.
TWINS = (
    "pytorch_model*.bin", "pytorch_model*.bin.index.json", "tf_model*.h5", "flax_model*.msgpack", "*.onnx", "*.ot",
    "*.gguf",
)  # fmt: skip
#: Never needed: code, and states of training.
UNUSED = ("*.py", "*.ipynb", "optimizer.pt", "scheduler.pt", "rng_state*.pth", "training_args.bin", ".git*")

_PLACE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w. +-]+)*)/?")

#: Names of the hub's exceptions to what they mean; any other is a connection that failed.
_PROBLEMS = {
    "GatedRepoError": ("access to it has to be asked for", "Ask on its page, then log in with: hf auth login"),
    "RepositoryNotFoundError": ("no such repository, or a private one", "Check org/name; for a private one, log in"),
    "RevisionNotFoundError": ("no such revision", "Check what stands behind @"),
    "EntryNotFoundError": ("a file that has gone since it was listed", "Try again"),
    "HFValidationError": ("a name that the hub does not allow", "Check org/name"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A folder (or one file) of a repository at a revision."""

    repo: str
    revision: str
    folder: str

    @property
    def title(self) -> str:
        """As printed."""
        return f"{self.repo}@{self.revision}" + (f"/{self.folder}" if self.folder else "")


def parse_place(place: str) -> HubPlace:
    """Take ``hf://org/name[@revision][/subfolder]`` apart.

    Examples
    --------
    >>> parse_place("hf://org/name@v1/models/small").title
    'org/name@v1/models/small'
    >>> parse_place("hf://org/name").revision
    'main'
    """
    found = _PLACE.fullmatch(place)
    parts = found["folder"].strip("/").split("/") if found else []
    if not found or any(set(p) == {"."} for p in [*found["repo"].split("/"), *parts, found["revision"] or "-"]):
        message = f"Expected hf://org/name[@revision][/subfolder], got '{place}'. Write the repository as on the hub."
        raise ModelError(message)
    return HubPlace(repo=found["repo"], revision=found["revision"] or "main", folder="/".join(parts))


def _home(place: HubPlace, cache_dir: Path | None) -> Path:
    return (cache_dir or cache_folder()) / "hub" / place.repo.replace("/", "--")


def _slug(place: HubPlace, revision: str) -> str:
    return f"{revision}--{place.folder.replace('/', '+') or 'all'}"


def record(place: str, *, cache_dir: Path | None = None) -> dict[str, Any] | None:
    """What was downloaded and verified for a place: ``repo``, ``commit``, ``folder``, ``files``; None when nothing."""
    where = parse_place(place)
    path = _home(where, cache_dir) / f"{_slug(where, where.revision)}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def fetch(place: str, *, companions: tuple[str, ...] = (), cache_dir: Path | None = None) -> tuple[Path, str]:
    """Return the local folder of a place on the hub, downloading what is not there yet.

    Parameters
    ----------
    place
        ``hf://org/name[@revision][/subfolder]``; the last part may also name one file.
    companions
        Patterns of further files of the repository that belong to the model.
    cache_dir
        By default `regulens.io.demo.cache_folder`.

    Returns
    -------
    The folder, and the commit that the files are from.

    Raises
    ------
    MissingExtraError
        When something has to be downloaded and `huggingface_hub` is not installed.
    ModelError
        Offline, unknown or gated repository, empty folder, full disk, or a file that is not what the hub says.
    """
    where = parse_place(place)
    home = _home(where, cache_dir)
    known = record(place, cache_dir=cache_dir)
    if known and not _changed(home / known["kept"], known["files"]):
        return home / known["kept"] / known["folder"], known["commit"]
    client = _client()
    revision = known["commit"] if known else where.revision
    try:
        info = client.HfApi().model_info(where.repo, revision=revision, files_metadata=True)
    except Exception as error:
        raise _problem(where, error) from error
    chosen, folder = _choose(info.siblings, where, companions)
    kept = home / _slug(where, info.sha)
    _check_space(home, sum(f["bytes"] or 0 for f in chosen.values()), where)
    for name, facts in chosen.items():
        if _intact(kept / name, facts):
            continue
        try:
            client.hf_hub_download(where.repo, name, revision=info.sha, local_dir=str(kept))
        except Exception as error:
            raise _problem(where, error) from error
        if not _intact(kept / name, facts):
            (kept / name).unlink(missing_ok=True)
            message = (
                f"Expected {name} of {where.title} as the hub describes it ({facts['bytes']:,} bytes, digest "
                f"{facts['digest'][:12]}…), got another file. It was deleted; run the same command again."
            )
            raise ModelError(message)
    shutil.rmtree(kept / ".cache", ignore_errors=True)  # notes for resuming; done
    found = {"repo": where.repo, "commit": info.sha, "kept": kept.name, "folder": folder, "files": chosen}
    write_json(home / f"{_slug(where, where.revision)}.json", found)
    return kept / folder, info.sha


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        message = (
            "Expected huggingface_hub to be installed for a model named by hf://, found none. Install it with: "
            "pip install 'regulens[hub]', or download the folder yourself and give its path."
        )
        raise MissingExtraError(message) from None
    return huggingface_hub


def _problem(where: HubPlace, error: Exception) -> ModelError:
    """One sentence for whatever the hub's client raised."""
    if getattr(error, "errno", None) == 28:
        return ModelError(f"Expected room for {where.title}, got a full disk. Free some, or set REGULENS_CACHE.")
    names = [c.__name__ for c in type(error).__mro__]
    for name, (what, advice) in _PROBLEMS.items():
        if name in names and "LocalEntryNotFoundError" not in names:
            return ModelError(f"Expected {where.title} on the Hugging Face hub, got {what}. {advice}.")
    return ModelError(
        f"Expected to reach the Hugging Face hub for {where.title}, which is not in the cache yet, got "
        f"{type(error).__name__}. Connect and run the same command again (it resumes), or give the path of a folder."
    )


def _choose(siblings: Any, where: HubPlace, companions: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], str]:
    """Files to fetch with size and digest, and the folder that the loader is given."""
    listed = {s.rfilename: s for s in siblings or () if ".." not in Path(s.rfilename).parts}
    if where.folder in listed:
        folder, own = str(Path(where.folder).parent), [where.folder]
    else:
        folder = where.folder or "."
        own = [n for n in listed if str(Path(n).parent) == folder]
        unused = UNUSED + (TWINS if any(n.endswith(".safetensors") for n in own) else ())
        own = [n for n in own if not any(fnmatch.fnmatch(Path(n).name, p) for p in unused)]
    if not own:
        inside = sorted({str(Path(n).parent) for n in listed} - {"."})
        message = f"Expected files in {where.title}, found none. Folders there: {examples(inside) or 'none'}."
        raise ModelError(message)
    beside = [n for n in listed if any(fnmatch.fnmatch(n, p) for p in companions)]
    return {n: _facts(listed[n]) for n in sorted({*own, *beside})}, folder


def _facts(sibling: Any) -> dict[str, Any]:
    lfs = getattr(sibling, "lfs", None)
    sha = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    kind, digest = ("sha256", sha) if sha else ("git", getattr(sibling, "blob_id", None))
    if not digest:
        message = f"Expected a digest of {sibling.rfilename} from the hub, got none. Nothing is used unverified."
        raise ModelError(f"{message} Download the folder yourself and give its path.")
    return {"bytes": int(sibling.size or 0), "kind": kind, "digest": digest}


def _intact(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a file is what the hub describes, byte for byte."""
    if not path.is_file() or path.stat().st_size != facts["bytes"]:
        return False
    digest = hashlib.sha256()
    if facts["kind"] == "git":
        digest = hashlib.sha1(f"blob {facts['bytes']}\0".encode(), usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == facts["digest"]


def _changed(kept: Path, files: dict[str, Any]) -> list[str]:
    """Files of a record that are gone or of another size; contents were compared when the record was written."""
    sizes = {n: (kept / n).stat().st_size if (kept / n).is_file() else -1 for n in files}
    return [n for n, facts in files.items() if sizes[n] != facts["bytes"]]


def _check_space(home: Path, wanted: int, where: HubPlace) -> None:
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if free < wanted:
        message = f"Expected {wanted / 1e9:.1f} GB of room in {home} for {where.title}, got {free / 1e9:.1f} GB free."
        raise ModelError(f"{message} Free some, or set REGULENS_CACHE to a folder on a larger disk.")
