"""Which parts does a reference have? Its positives with sign and evidence, and slices by sign, source and level."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from regulens.types.edges import EdgeUniverse
from regulens.types.networks import ReferenceNetwork

#: A list of sources is split at these.
_SEPARATORS = re.compile(r"[;,|]")
_LEVEL = re.compile(r"^[A-E]$")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceEdges:
    """The positives of a universe with what the reference says of them.

    Parameters
    ----------
    regulator, target
        Row and column in the universe, int64, shape ``(edge,)``, row by row.
    sign
        +1, −1, or 0 for unknown or contradictory, shape ``(edge,)``.
    evidence
        Text of the reference, ``""`` where there is none, shape ``(edge,)``.
    """

    regulator: np.ndarray
    target: np.ndarray
    sign: np.ndarray
    evidence: np.ndarray

    @property
    def has_signs(self) -> bool:
        """Whether some signs are known and others are not: only then does a filter by sign change anything."""
        return bool((self.sign == 0).any() and (self.sign != 0).any())

    @property
    def has_levels(self) -> bool:
        """Whether all evidence is a level A to E, best first."""
        return bool(len(self.evidence)) and all(_LEVEL.match(e) for e in self.evidence)

    def sources(self) -> list[frozenset[str]]:
        """Sources that list each edge; empty sets where the reference names none, or gives levels."""
        if self.has_levels:
            return [frozenset()] * len(self.evidence)
        return [frozenset(x.strip() for x in _SEPARATORS.split(e) if x.strip()) for e in self.evidence]

    def strength(self) -> np.ndarray | None:
        """How well supported each edge is, float64 ``(edge,)``: number of sources, or 5 for level A to 1 for E.

        None where the reference says nothing, or the same of every edge.
        """
        if self.has_levels:
            value = np.array([ord("F") - ord(e) for e in self.evidence], dtype=np.float64)
        else:
            value = np.array([len(s) for s in self.sources()], dtype=np.float64)
        return value if len(value) and np.ptp(value) > 0 else None


def reference_edges(universe: EdgeUniverse, network: ReferenceNetwork | None) -> ReferenceEdges:
    """Look every positive of `universe` up in `network`; without a network, signs are 0 and evidence is empty.

    A positive that the network lists only in the other direction (a symmetric network) takes what that entry says.
    """
    i, j = np.nonzero(universe.positive)
    sign, evidence = np.zeros(len(i), dtype=np.int64), np.full(len(i), "", dtype=object)
    if network is not None:
        edges = network.edges
        known = {
            pair: (s, e)
            for pair, s, e in zip(
                zip(edges["source"], edges["target"]), edges["sign"].to_numpy(), edges["evidence"].to_numpy()
            )
        }
        for k, (a, b) in enumerate(zip(i, j)):  # over positives, a few thousand
            pair = universe.regulators[a], universe.genes[b]
            found = known.get(pair) or known.get(pair[::-1])
            if found is not None:
                sign[k], evidence[k] = int(found[0]), str(found[1])
    return ReferenceEdges(regulator=i.astype(np.int64), target=j.astype(np.int64), sign=sign, evidence=evidence)


def slices(edges: ReferenceEdges, *, max_sources: int = 8) -> list[tuple[str, str, np.ndarray]]:
    """Parts of the positives: ``(kind, name, mask over positives)``; kinds are sign, level, evidence, source.

    A slice that holds all positives or none is no slice and is left out. Sources are those with most edges.
    """
    found: list[tuple[str, str, np.ndarray]] = []
    for name, mask in (
        ("known sign", edges.sign != 0),
        ("activation", edges.sign > 0),
        ("repression", edges.sign < 0),
        ("unknown sign", edges.sign == 0),
    ):
        found.append(("sign", name, mask))
    if edges.has_levels:
        levels = sorted(set(edges.evidence))
        for k, level in enumerate(levels):
            found.append(("level", level, edges.evidence == level))
            if 0 < k < len(levels) - 1:
                found.append(("level", f"{levels[0]} to {level}", edges.evidence <= level))
    else:
        of_edge = edges.sources()
        count = np.array([len(s) for s in of_edge])
        for least in (2, 3):
            found.append(("evidence", f"{least} or more sources", count >= least))
        size: dict[str, int] = {}
        for s in of_edge:
            for name in s:
                size[name] = size.get(name, 0) + 1
        largest = sorted(size, key=lambda n: (-size[n], n))
        if len(largest) <= len(of_edge) / 5:  # identifiers of papers are no sources to slice by
            for name in largest[:max_sources]:
                found.append(("source", name, np.array([name in s for s in of_edge])))
    return [(k, n, m) for k, n, m in found if m.any() and not m.all()]
