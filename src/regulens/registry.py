"""`Registry[T]`: names to lazily imported objects, with origins and did-you-mean.

The built-in table is literal text (``"name": "module:object"``), so that listing costs no import. Other
distributions add entries through an entry-point group; a duplicate name raises and names both origins.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, metadata
from typing import Generic, TypeVar

from regulens.errors import RegistryError, examples, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A named table of objects that are imported when they are first asked for.

    Parameters
    ----------
    kind
        What the entries are, for messages ("analysis", "model family").
    builtin
        Name to ``"module:object"``.
    group
        Entry-point group through which other distributions add entries.

    Examples
    --------
    >>> r = Registry("function", {"join": "os.path:join"}, group="regulens.doctest")
    >>> r["join"]("a", "b")
    'a/b'
    >>> r["joi"]
    Traceback (most recent call last):
    ...
    regulens.errors.RegistryError: Expected a function known to regulens (join), got 'joi'. Did you mean 'join'?
    """

    def __init__(self, kind: str, builtin: dict[str, str], *, group: str) -> None:
        self.kind = kind
        self._targets = dict(builtin)
        self._origins = dict.fromkeys(builtin, "regulens")
        self._loaded: dict[str, T] = {}
        self._group = group
        self._scanned = False

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        for point in metadata.entry_points(group=self._group):
            origin = point.dist.name if point.dist else "unknown"
            self._add(point.name, point.value, origin)

    def _add(self, name: str, target: str, origin: str) -> None:
        if name in self._targets:
            message = (
                f"Expected one {self.kind} named '{name}', got two: from {self._origins[name]} "
                f"({self._targets[name]}) and from {origin} ({target}). Rename or uninstall one of them."
            )
            raise RegistryError(message)
        self._targets[name] = target
        self._origins[name] = origin

    def register(self, name: str, target: str, *, origin: str = "user") -> None:
        """Add an entry at run time; a name that is taken raises `RegistryError`."""
        self._scan()
        self._add(name, target, origin)

    def names(self) -> list[str]:
        """Return all names, built-in ones first, in the order they were declared."""
        self._scan()
        return list(self._targets)

    def origin(self, name: str) -> str:
        """Return the distribution that `name` comes from."""
        self._scan()
        return self._origins[name]

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> T:
        self._scan()
        if name not in self._targets:
            known = examples(self.names(), limit=20)
            message = f"Expected a {self.kind} known to regulens ({known}), got '{name}'.{nearest(name, self.names())}"
            raise RegistryError(message)
        if name not in self._loaded:
            module, _, attribute = self._targets[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]
