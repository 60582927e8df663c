"""Which models can be loaded, from where, and are they what they say? ``load``, ``inspect``, ``verify``, `FAMILIES`.

Importing this module loads no torch; naming a model does.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regulens.errors import MissingExtraError, ModelError, RegistryError, examples, nearest
from regulens.models.spec import ModelSpec, Option, parse, read_options
from regulens.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from regulens.models.base import AbstractAdapter
    from regulens.models.conformance import check_adapter
    from regulens.models.family import Family
    from regulens.types.attention import ModelCard
    from regulens.types.cells import Cells

__all__ = ["FAMILIES", "AbstractAdapter", "bundled", "check_adapter", "detect", "inspect", "load", "verify"]

#: For adapters of one's own; imported when first asked for.
_LAZY = {
    "AbstractAdapter": "regulens.models.base:AbstractAdapter",
    "check_adapter": "regulens.models.conformance:check_adapter",
}

#: Options of every family: the same architecture without what training wrote into it, as a null.
COMMON_OPTIONS = {
    "weights": Option("published", "published weights, or weights drawn at random as a null", ("published", "random")),
    "weights_seed": Option(0, "seed of random weights"),
}

#: Families that are loaded without torch.
WITHOUT_TORCH = ("edges",)

#: Checkpoint formats by name.
FAMILIES: Registry[Family] = Registry(
    "model family",
    {
        "scgpt": "regulens.models.scgpt:FAMILY",
        "geneformer": "regulens.models.geneformer:FAMILY",
        "c2s": "regulens.models.c2s:FAMILY",
        "scvi": "regulens.models.scvi:FAMILY",
        "scfoundation": "regulens.models.scfoundation:FAMILY",
        "aido_cell": "regulens.models.aido_cell:FAMILY",
        "scprint": "regulens.models.scprint:FAMILY",
        "uce": "regulens.models.uce:FAMILY",
        "edges": "regulens.models.edge_list:FAMILY",
    },
    group="regulens.models",
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'regulens.models' has no attribute '{name}'"
        raise AttributeError(message)
    module, _, attribute = _LAZY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _need_torch() -> None:
    missing = [n for n in ("torch", "safetensors") if importlib.util.find_spec(n) is None]
    if missing:
        message = (
            f"Expected {' and '.join(missing)} to be installed for work with models, found none. "
            "Install them with: pip install 'regulens[models]'"
        )
        raise MissingExtraError(message)


def _bundled_folder() -> Path:
    return Path(str(resources.files("regulens"))) / "data" / "models"


def bundled() -> tuple[str, ...]:
    """Names of the small demonstration models that come with regulens, as ``bundled:NAME``."""
    folder = _bundled_folder()
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir())) if folder.is_dir() else ()


def detect(folder: Path | str) -> str:
    """Name of the family whose published layout `folder` has; none or several is a `ModelError`."""
    _need_torch()
    folder = Path(folder)
    if not folder.is_dir():
        message = f"Expected a folder with a checkpoint at {folder}, found none. Give the folder, not a file inside it."
        raise ModelError(message)
    found = [name for name in FAMILIES if FAMILIES[name].detect(folder)]
    if len(found) != 1:
        of_folders = [FAMILIES[n] for n in FAMILIES if not FAMILIES[n].of_file]
        layouts = "; ".join(f"{family.title}: {family.files}" for family in of_folders)
        got = (
            f"one that fits {' and '.join(found)}" if found else f"{examples(sorted(p.name for p in folder.iterdir()))}"
        )
        message = (
            f"Expected {folder} to have one published layout ({layouts}), got {got or 'an empty folder'}. "
            "Complete the folder, or name the family: family:FOLDER."
        )
        raise ModelError(message)
    return found[0]


def _resolve(spec: ModelSpec) -> tuple[str, Path]:
    """Family and folder of a specification."""
    family, folder = spec.family, spec.folder
    if spec.remote:
        if family is None:
            message = f"Expected the family before a place on the hub ({', '.join(FAMILIES)}), got '{spec.text}'."
            raise ModelError(f"{message} Write family:{spec.place}.")
        from regulens.models.hub import fetch

        return family, fetch(spec.place, companions=FAMILIES[family].companions)[0]
    if family is not None and Path(spec.text).is_dir():  # a folder with a colon in its name
        family, folder = None, Path(spec.text)
    if family is None:
        return detect(folder), folder
    if family == "bundled":
        if spec.place not in bundled():
            known = ", ".join(bundled())
            message = f"Expected a bundled model ({known}), got '{spec.place}'.{nearest(spec.place, bundled())}"
            raise RegistryError(message)
        folder = _bundled_folder() / spec.place
        return detect(folder), folder
    entry = FAMILIES[family]
    if entry.of_file:
        return family, folder
    if not folder.is_dir():
        message = f"Expected a folder of {entry.title} ({entry.files}) at {folder}, found none. Check the path."
        raise ModelError(message)
    if not entry.detect(folder):
        others = [FAMILIES[n].title for n in FAMILIES if n != family and FAMILIES[n].detect(folder)]
        if others:
            message = f"Expected a {entry.title} folder ({entry.files}) at {folder}, but this looks like a {others[0]}"
            raise ModelError(f"{message} folder. Name that family instead, or leave the family out.")
    return family, folder


def load(spec: str, *, name: str | None = None) -> AbstractAdapter:
    """Load a model.

    Parameters
    ----------
    spec
        ``"scgpt:FOLDER"``, ``"FOLDER"`` (the family is recognised by its files), or ``"bundled:NAME"``, each with
        ``?key=value&key=value`` behind it for options that the family declares, or ``?weights=random`` for a null of
        the same architecture; see `regulens.models.spec`.
    name
        Short name for tables; by default the folder's, with the values of the options.

    Raises
    ------
    RegistryError
        Unknown family or bundled model.
    MissingExtraError
        Without torch and safetensors.
    ModelError
        When the checkpoint is damaged, incomplete, of another family, or inconsistent.
    """
    asked = parse(str(spec))
    if asked.family not in WITHOUT_TORCH:
        _need_torch()
    family, folder = _resolve(asked)
    entry = FAMILIES[family]
    common = {k: v for k, v in asked.options.items() if k in COMMON_OPTIONS}
    own = {k: v for k, v in asked.options.items() if k not in COMMON_OPTIONS}
    options = read_options(replace(asked, options=own), entry.options, title=entry.title)
    weights, seed = read_options(replace(asked, options=common), COMMON_OPTIONS, title="every family").values()
    given = {"options": options} if entry.options else {}
    adapter = entry.load(folder, name=name or asked.name, spec=asked.text, **given)
    if asked.remote:
        from regulens.models.hub import record

        origin = f"downloaded from {asked.place}, commit {(record(asked.place) or {}).get('commit')}"
        adapter.card = replace(adapter.card, notes=(*adapter.card.notes, origin))
    if weights == "random" and entry.of_file:
        message = f"Expected no ?weights=random for {entry.title}, which has no weights to draw, got '{asked.text}'."
        raise ModelError(f"{message} Leave it out.")
    if weights == "random":
        from regulens.models.random_weights import with_random_weights

        return with_random_weights(adapter, seed=int(seed))
    return adapter


def inspect(spec: str) -> ModelCard:
    """Identity and dimensions of a model; loads it, so that everything shown was checked."""
    return load(spec).card


def verify(model: str | AbstractAdapter, cells: Cells, *, n_cells: int = 4, seed: int = 0) -> pd.DataFrame:
    """Check a loaded model on a few cells: `regulens.models.checks.verify`, or `verify_scores` without attention."""
    from regulens.models.score_model import AbstractScoreModel, verify_scores

    loaded = load(model) if isinstance(model, str) else model
    if isinstance(loaded, AbstractScoreModel):
        return verify_scores(loaded, cells)
    _need_torch()
    from regulens.models.checks import verify as run

    return run(loaded, cells, n_cells=n_cells, seed=seed)
