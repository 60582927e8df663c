"""What does a family of models say of itself? Name, files, options, and how one of it is loaded. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regulens.models.spec import Option

if TYPE_CHECKING:
    from regulens.models.base import AbstractAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One published checkpoint format.

    Parameters
    ----------
    name
        Key in the registry of families.
    title
        As printed ("scGPT").
    files
        Files that make up a folder of this format, for messages.
    detect
        Whether a folder looks like this format; reads names and small JSON files only.
    load
        ``load(folder, name=, spec=)`` to an adapter; with declared options also ``options=``, a value for each.
    options
        What ``family:FOLDER?key=value`` may set, by key; see `regulens.models.spec.Option`. An option that changes
        numbers belongs into the card (`tokenisation` or `notes`) as well.
    companions
        Patterns of files elsewhere in the published repository that a folder needs (dictionaries); fetched with it.
    of_file
        A place is one file and not a folder; such a family is named, never recognised, and needs no torch.
    """

    name: str
    title: str
    files: str
    detect: Callable[[Path], bool]
    load: Callable[..., AbstractAdapter]
    options: Mapping[str, Option] = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    of_file: bool = False
