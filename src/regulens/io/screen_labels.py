"""What does the label of a cell in a screen mean: a control, one perturbed gene, several, or nothing that is known?

Labels are read as scPerturb, GEARS, Replogle and Norman write them: ``control``, ``non-targeting``, ``STAT1``,
``STAT1+ctrl``, ``STAT1_JAK1``, ``CBL_NegCtrl0``, ``STAT1g2``. Words for controls come before genes, since CTRL and
AAVS1 are approved symbols too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from regulens.errors import InputError, examples, nearest
from regulens.io.gene_ids import GeneMap

#: Words for guides that aim at nothing, without punctuation and in lower case.
NON_TARGETING = (
    "nontargeting", "nontargetting", "nontarget", "nontargetingcontrol", "notarget", "notargeting", "nt", "ntc", "nts",
    "negctrl", "negctl", "negcontrol", "negativecontrol", "neg", "safetargeting", "safetarget", "safetargetingcontrol",
    "safe", "scramble", "scrambled", "scr", "intergenic",
)  # fmt: skip
#: Words that only say that it is a control.
GENERIC = ("control", "controls", "ctrl", "ctl", "ctrlctrl")
#: A locus that is cut without effect; a control only where nothing else is.
SAFE_HARBOUR = ("aavs1", "safeharbor", "safeharbour")
#: Words for cells without one clear guide.
UNLABELLED = (
    "", "nan", "na", "none", "null", "unassigned", "unknown", "undetermined", "negative", "multiple", "multiplet",
    "doublet", "ambiguous", "noguide", "nogrna", "nosgrna", "unmapped",
)  # fmt: skip

#: How tools join several genes in one label.
_JOINED = re.compile(r"\s*[+|;,&_]\s*")
_NUMBER = re.compile(r"^(.*?)([\s_.\-]*)\d+$")
#: What stands for "guide" between a gene and its number: anything like it after a separator, lower case without one.
_MARK = r"(?:[\s_.\-]+(?i:sgrna|grna|guide|sg|g)|sgRNA|gRNA|guide|sg|g)"
_GUIDE = re.compile(rf"^(.+?){_MARK}[\s_.\-]*\d+$")
#: Names of guides, as rules that take the gene out of them; words for the report.
GUIDE_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("gene, then g, sg or guide and a number", _GUIDE),
    ("gene, then a separator and a number", re.compile(r"^(.+?)[\s_.\-]\d+$")),
)
#: Share of the labels that mean nothing otherwise which a rule has to turn into genes.
RULE_SHARE = 0.9

# Kinds of labels.
CONTROL, GENE, SEVERAL, UNKNOWN, AMBIGUOUS, NO_LABEL, OTHER_CONTROL = (
    "control", "gene", "several genes perturbed", "perturbed gene unknown", "alias of several genes",
    "no label", "another control label",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReading:
    """What every distinct label means.

    Parameters
    ----------
    kind
        Label to one of the kinds above.
    gene
        Label to approved symbol, of labels of kind `GENE`.
    controls
        Labels taken for controls, sorted.
    rule
        Words of the guide rule that was applied, or an empty string.
    guides
        Labels that this rule turned into genes.
    renamed
        Old symbols and aliases among the labels, with the approved symbol.
    """

    kind: dict[str, str]
    gene: dict[str, str]
    controls: tuple[str, ...]
    rule: str = ""
    guides: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)


def plain(label: str) -> str:
    """Letters and digits in lower case, by which words for controls are compared.

    >>> plain("Non-Targeting")
    'nontargeting'
    """
    return re.sub(r"[^a-z0-9]", "", str(label).lower())


def is_joined(label: str) -> bool:
    """Whether a label has parts, as several genes in one have."""
    return len([p for p in _JOINED.split(str(label).strip()) if p]) > 1


def control_word(label: str, gene_map: GeneMap) -> str:
    """Which kind of control a label names: ``non-targeting``, ``control``, ``safe harbour`` or none (``""``).

    >>> genes = GeneMap.bundled()
    >>> [control_word(w, genes) for w in ("NTg3", "non-targeting_00012", "CTRL", "NT5", "STAT1")]
    ['non-targeting', 'non-targeting', 'control', '', '']
    """
    word = plain(label)
    kinds = {**dict.fromkeys(NON_TARGETING, "non-targeting"), **dict.fromkeys(GENERIC, "control")}
    kinds |= dict.fromkeys(SAFE_HARBOUR, "safe harbour")
    if word in kinds:
        return kinds[word]
    text = str(label).strip()
    if (guide := _GUIDE.match(text)) and plain(guide[1]) in kinds:
        return kinds[plain(guide[1])]
    if (numbered := _NUMBER.match(text)) and plain(numbered[1]) in kinds:
        # NT5 was a symbol, NT_5 never; without a separator genes come first.
        known = bool(gene_map.ensembl) and gene_map.resolve(label).how not in ("unknown", "ambiguous")
        if numbered[2] or not known:
            return kinds[plain(numbered[1])]
    parts = [p for p in _JOINED.split(text) if p]
    if len(parts) > 1:  # NegCtrl0_NegCtrl0
        each = {control_word(p, gene_map) for p in parts}
        if len(each) == 1:
            return each.pop()
    return ""


class LabelReader:
    """Reads the labels of one column.

    Parameters
    ----------
    measured
        Symbols of the genes measured: they count as genes although the table does not know them.
    """

    def __init__(self, gene_map: GeneMap, measured: Sequence[str] = ()) -> None:
        self.gene_map, self.measured = gene_map, frozenset(measured)

    def gene(self, name: str) -> tuple[str, str]:
        """Approved symbol and how it was found; an empty symbol where the name means no gene.

        A name that the table does not know is a gene where it is measured.
        """
        match = self.gene_map.resolve(name)
        if match.how == "unknown" and match.symbol not in self.measured and (self.gene_map.ensembl or self.measured):
            return "", "unknown"
        return match.symbol, match.how

    def read(self, labels: Sequence[str], *, control: Sequence[str] = ()) -> LabelReading:
        """What the distinct `labels` mean; with `control` named, only those are controls."""
        distinct = sorted({str(v) for v in labels})
        words = {v: control_word(v, self.gene_map) for v in distinct}
        chosen = set(control) if control else set(self._controls(words))
        kind: dict[str, str] = {}
        gene: dict[str, str] = {}
        renamed: dict[str, str] = {}
        open_labels = []
        for label in distinct:
            if label in chosen:
                kind[label] = CONTROL
            elif words[label]:
                kind[label] = OTHER_CONTROL
            elif plain(label) in UNLABELLED:
                kind[label] = NO_LABEL
            else:
                kind[label], symbol = self._meaning(label)
                if kind[label] == GENE:
                    gene[label] = symbol
                    if symbol != label.strip() and not _JOINED.search(label.strip()):
                        renamed[label] = symbol
                elif kind[label] == UNKNOWN:
                    open_labels.append(label)
        rule, stripped = self._strip(open_labels, n_named=len(gene))
        for label, symbol in stripped.items():
            kind[label], gene[label] = GENE, symbol
        return LabelReading(
            kind=kind, gene=gene, controls=tuple(sorted(chosen)), rule=rule, guides=tuple(sorted(stripped)),
            renamed=renamed,
        )  # fmt: skip

    def _controls(self, words: dict[str, str]) -> list[str]:
        """Labels taken for controls: of one kind of word, the safe harbour only where there is no other."""
        for wanted in ("non-targeting", "control", "safe harbour"):
            found = [label for label, word in words.items() if word == wanted]
            if found:
                return found
        return []

    def _meaning(self, label: str) -> tuple[str, str]:
        symbol, how = self.gene(label)
        if symbol:
            return GENE, symbol
        parts = [p for p in _JOINED.split(label.strip()) if p]
        genes = []
        for part in parts if len(parts) > 1 else ():
            if control_word(part, self.gene_map):
                continue
            found, found_by = self.gene(part)
            # An alias within a label is more often a number of a promoter or a guide: P1 is an old name of A4GALT.
            genes.append(found if found_by in ("approved", "ensembl") or "+" in label or len(part) > 3 else "")
        named = {g for g in genes if g}
        if genes and all(genes):
            return (GENE, named.pop()) if len(named) == 1 else (SEVERAL, "")
        if len(named) > 1 or (len(genes) > 1 and "+" in label):
            return SEVERAL, ""
        return (AMBIGUOUS, "") if how == "ambiguous" else (UNKNOWN, "")

    def _strip(self, labels: list[str], *, n_named: int) -> tuple[str, dict[str, str]]:
        """Names of guides as genes, where one rule reads nearly all labels that mean nothing otherwise."""
        best: tuple[str, dict[str, str]] = ("", {})
        for words, pattern in GUIDE_RULES:
            found = {}
            for label in labels:
                if match := pattern.match(label):
                    symbol, how = self.gene(match[1])
                    if symbol and how != "ambiguous":
                        found[label] = symbol
            if len(found) > len(best[1]):
                best = (words, found)
        enough = len(best[1]) >= RULE_SHARE * len(labels) and len(best[1]) >= n_named
        return best if best[1] and enough else ("", {})


def conflicting_controls(reading: LabelReading, sizes: pd.Series, gene_map: GeneMap) -> str:
    """Words for other labels that say control beside those recognised, with their cells; empty when there are none."""
    generic = [v for v, k in reading.kind.items() if k == OTHER_CONTROL and control_word(v, gene_map) == "control"]
    if not generic:
        return ""
    return examples([f"'{v}' ({int(sizes[v])} cells)" for v in [*reading.controls, *generic]])


def named_controls(control: str | Sequence[str], labels: Sequence[str], *, column: str, gene_map: GeneMap) -> list[str]:
    """Control labels as the user named them.

    Raises
    ------
    InputError
        When there is no such label; with the nearest, or those that look like controls.
    """
    wanted = [control] if isinstance(control, str) else [str(c) for c in control]
    there = sorted({str(v) for v in labels})
    lost = [c for c in wanted if c not in there]
    if lost or not wanted:
        likely = [v for v in there if control_word(v, gene_map)]
        offered = f"labels that look like controls: {examples(likely)}" if likely else f"labels {examples(there)}"
        near = nearest(lost[0], there) if lost else ""
        message = (
            f"Expected the control label '{examples(lost) or control}' in obs['{column}'], got {offered}.{near} Name "
            "a label that exists."
        )
        raise InputError(message)
    return wanted
