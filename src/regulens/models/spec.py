"""Which model is meant, where is it, and with which options? One syntax: ``family:PLACE?key=value&key=value``.

::

    scgpt:FOLDER                          a folder, as published
    FOLDER                                the family is recognised by the folder's files
    uce:FOLDER?mode=corrected             with options, which the family declares; also without a family
    geneformer:hf://org/name@rev/sub      downloaded once into the cache folder; revision and subfolder as needed
    bundled:NAME                          a small demonstration model that comes with regulens
    edges:FILE?absent=exclude             an edge table of any tool, see `regulens.models.edge_list`

Options are what changes the numbers of one and the same checkpoint. They are parsed here and nowhere else; a key that
the family does not declare is refused. Nothing here imports torch or touches the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regulens.errors import ModelError, nearest

#: What an option can be.
Value = str | bool | int | float

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One option that a family of models declares.

    Parameters
    ----------
    default
        Value when the specification does not name it. Its type (str, bool, int, float) is the type of the option.
    description
        What it changes, in a few words.
    choices
        Allowed values; empty for any.

    Examples
    --------
    >>> Option("upstream", "padding mask", choices=("upstream", "corrected")).read("corrected", where="uce?mode")
    'corrected'
    >>> Option(512, "longest sequence").read("x", where="uce?length")
    Traceback (most recent call last):
    ...
    regulens.errors.ModelError: Expected a whole number as uce?length (longest sequence), got 'x'. Default: 512.
    """

    default: Value
    description: str
    choices: tuple[Value, ...] = ()

    def read(self, text: str, *, where: str) -> Value:
        """Value of `text` in the type of the default; anything else is a `ModelError` that names `where`."""
        value: Value | None
        if isinstance(self.default, bool):
            value, wanted = _WORDS.get(text.lower()), "true or false"
        elif isinstance(self.default, (int, float)):
            kind = type(self.default)
            wanted = "a whole number" if kind is int else "a number"
            try:
                value = kind(text)
            except ValueError:
                value = None
        else:
            value, wanted = text, "a text"
        if self.choices and value not in self.choices:
            value, wanted = None, f"one of {', '.join(map(str, self.choices))}"
        if value is None:
            message = f"Expected {wanted} as {where} ({self.description}), got '{text}'."
            hint = nearest(text, [str(c) for c in self.choices])
            raise ModelError(f"{message} Default: {self.default}.{hint}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A parsed specification.

    Parameters
    ----------
    text
        As written.
    family
        Name before the colon, or None where the files decide.
    place
        Folder, bundled name, or ``hf://…``, without options.
    options
        Texts as written, by key.
    """

    text: str
    family: str | None
    place: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether the place is on the Hugging Face hub."""
        return self.place.startswith("hf://")

    @property
    def folder(self) -> Path:
        """Place as a path, with ``~`` expanded; meaningless for a remote place."""
        return Path(self.place).expanduser()

    @property
    def name(self) -> str:
        """Short name for tables and files: last part of the place, then the values of the options.

        >>> parse("uce:models/4layers?mode=corrected").name, parse("geneformer:hf://org/name@main").name
        ('4layers-corrected', 'name')
        >>> parse("edges:tables/grn.v2.tsv.gz?absent=exclude").name
        'grn.v2-exclude'
        """
        last = Path(self.place.rpartition("@")[0] if self.remote and "@" in Path(self.place).name else self.place).name
        if last in ("", ".", ".."):
            last = self.folder.resolve().name
        if self.family == "edges":
            last = without_endings(last)
        return "-".join([last, *(Path(v).name for v in self.options.values())])


def without_endings(name: str) -> str:
    """Name of a file without what says how it is written.

    >>> without_endings("grn.v2.tsv.gz")
    'grn.v2'
    """
    for ending in (".gz", ".bz2", ".xz", ".zip", ".tsv", ".csv", ".txt", ".parquet", ".sif", ".graphml", ".h5ad"):
        name = name.removesuffix(ending) or name
    return name


def parse(spec: str) -> ModelSpec:
    """Take a specification apart; whether the family and the place exist is not looked at.

    Raises
    ------
    ModelError
        When the options are not ``key=value`` pairs, or a key is given twice.

    Examples
    --------
    >>> found = parse("uce:models/4layers?mode=corrected&seed=3")
    >>> found.family, found.place, dict(found.options)
    ('uce', 'models/4layers', {'mode': 'corrected', 'seed': '3'})
    >>> parse("./my:folder").family is None
    True
    """
    spec = str(spec)
    place, mark, query = spec.partition("?")
    options: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        key, equals, value = part.partition("=")
        if not key or not equals or not value or key in options:
            problem = f"'{key}' twice" if key and key in options else f"'{part}'"
            message = f"Expected options as ?key=value&key=value in '{spec}', got {problem}."
            raise ModelError(f"{message} Write each option once, behind the folder.")
        options[key] = value
    family, colon, rest = place.partition(":")
    if not colon or place.startswith("hf://") or "/" in family or family in ("", ".", "~"):
        return ModelSpec(text=spec, family=None, place=place, options=options)
    return ModelSpec(text=spec, family=family, place=rest, options=options)


def options_of(spec: str) -> list[tuple[str, str]]:
    """Options in a specification, sorted, files by name only; none for a text that is no specification.

    For keys of stored results: two models that differ in an option never share one.

    >>> options_of("uce:models/4layers?mode=corrected")
    [('mode', 'corrected')]
    """
    try:
        return sorted((k, Path(v).name) for k, v in parse(spec).options.items())
    except ModelError:
        return []


def portable(spec: str) -> str:
    """A specification without the folders that its files happen to lie in; a place on the hub stays whole.

    What is recorded of a model, and what a plan is known by: it keeps the family, and every option with its key.

    >>> portable("aido_cell:/data/3M?genes=/x/y.tsv"), portable("models/a/"), portable("bundled:scgpt-mini")
    ('aido_cell:3M?genes=y.tsv', 'a', 'bundled:scgpt-mini')
    >>> portable("geneformer:hf://org/name@v2/sub?mode=x")
    'geneformer:hf://org/name@v2/sub?mode=x'
    """
    try:
        found = parse(spec)
    except ModelError:
        return Path(spec).name
    place = found.place if found.remote else Path(found.place).name or found.place
    options = "&".join(f"{k}={Path(v).name}" for k, v in found.options.items())
    return f"{found.family + ':' if found.family else ''}{place}{'?' + options if options else ''}"


def read_options(spec: ModelSpec, declared: Mapping[str, Option], *, title: str) -> dict[str, Value]:
    """Values of all declared options: as given, else the default.

    Parameters
    ----------
    declared
        Options of the family, by key.
    title
        Family as printed.

    Raises
    ------
    ModelError
        For a key that the family does not declare (with the nearest one), or a value that does not fit.
    """
    for key in spec.options:
        if key not in declared:
            known = "; ".join(f"{k}: {o.description}, default {o.default}" for k, o in declared.items())
            message = f"Expected an option of {title} in '{spec.text}' ({known or 'it has none'}), got '{key}'."
            raise ModelError(f"{message} Leave it out or use a known one.{nearest(key, list(declared))}")
    return {k: o.read(spec.options[k], where=f"?{k}=") if k in spec.options else o.default for k, o in declared.items()}
