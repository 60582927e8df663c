"""Every exception that regulens raises on purpose.

::

    RegulensError
    ├── InputError              a file or table handed in is not what was declared      exit 2
    │   ├── SchemaError         a column, key or file is missing or malformed
    │   ├── ScaleError          counts were needed, something else was found
    │   ├── NamespaceError      gene identifiers do not match
    │   └── AlignmentError      two values do not share one vocabulary or universe
    ├── PlanError               the study file or the command line is not a valid plan   exit 2
    ├── ParameterError          an argument is outside its range (also a ValueError)     exit 2
    ├── ModelError              a checkpoint cannot be used as it is                      exit 2
    │   ├── CaptureError        captured attention violates an invariant
    │   ├── ParityError         two routes to the same number disagree
    │   └── MissingExtraError   an optional dependency is not installed
    ├── StatisticsError         a statistical rule would be broken                        exit 3
    │   ├── OpenFamilyError     an adjusted p-value was asked of a family still open
    │   ├── UnplannedTestError  a result was recorded that nobody planned
    │   └── DuplicateTestError  a test was planned or recorded twice
    ├── StoreError              a run folder or attention store cannot be used            exit 2
    │   ├── DigestMismatchError it belongs to another plan or other inputs
    │   └── VersionError        it was written by an incompatible version
    └── RegistryError           an unknown or doubly registered name                      exit 2

A message has three parts: what was expected, what was found, what to do next.
"""

from __future__ import annotations


class RegulensError(Exception):
    """Base of everything regulens raises on purpose."""

    exit_code = 2


class InputError(RegulensError):
    """A file or table handed in is not what was declared."""


class SchemaError(InputError):
    """A column, key or file is missing or malformed."""


class ScaleError(InputError):
    """Counts were needed and something else was found."""


class NamespaceError(InputError):
    """Gene identifiers do not match."""


class AlignmentError(InputError):
    """Two values do not share one vocabulary or universe."""


class PlanError(RegulensError):
    """The study file or the command line is not a valid plan."""


class ParameterError(RegulensError, ValueError):
    """An argument lies outside its range."""


class ModelError(RegulensError):
    """A checkpoint cannot be used as it is."""


class CaptureError(ModelError):
    """Captured attention violates an invariant."""


class ParityError(ModelError):
    """Two routes to the same number disagree."""


class MissingExtraError(ModelError):
    """An optional dependency is not installed."""


class StatisticsError(RegulensError):
    """A statistical rule would be broken; a defect of the caller, not of the input."""

    exit_code = 3


class OpenFamilyError(StatisticsError):
    """An adjusted p-value was asked of a family that is still open."""


class UnplannedTestError(StatisticsError):
    """A result was recorded that nobody planned."""


class DuplicateTestError(StatisticsError):
    """A test was planned or recorded twice."""


class StoreError(RegulensError):
    """A run folder or attention store cannot be used."""


class DigestMismatchError(StoreError):
    """A stored element belongs to another plan or to other inputs."""


class VersionError(StoreError):
    """A stored element was written by an incompatible version."""


class RegistryError(RegulensError):
    """An unknown or doubly registered name."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a "did you mean" clause for `name`, or an empty string.

    >>> nearest("celltype", ["cell_type", "donor"])
    " Did you mean 'cell_type'?"
    """
    import difflib

    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""


def examples(names: list[str] | tuple[str, ...], *, limit: int = 5) -> str:
    """Join at most `limit` names for a message and say how many more there are.

    >>> examples(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = [str(n) for n in names]
    shown = ", ".join(names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
