"""How does docs/calibration.md show what was measured? Its tables, written from the table of answers."""

from __future__ import annotations

import pandas as pd

from regulens.testing.worlds.expectations import CLAIM, SETTINGS
from regulens.testing.worlds.kinds import KINDS
from regulens.testing.worlds.screen_expectations import SCREEN_SETTINGS
from regulens.testing.worlds.screens import SCREEN_KINDS

START, END = "<!-- measured: start -->", "<!-- measured: end -->"


def _shares(rows: pd.DataFrame) -> str:
    cells = [
        f"{r.world} {r.share:.2f}" if r.as_expected == "yes" else f"**{r.world} {r.share:.2f}**"
        for r in rows.itertuples()
    ]
    return "; ".join(cells)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def worlds_table() -> str:
    """One row per kind of world and what is true in it."""
    extra = [
        [f"`{name}`", f"`{kind}` with other sizes: {sizes}" if sizes else SCREEN_KINDS[kind]]
        for name, (kind, sizes) in SETTINGS.items()
        if sizes or name in SCREEN_SETTINGS
    ]
    rows = [[f"`{kind}`", truth] for kind, truth in KINDS.items()]
    return "\n".join(_table(["world", "what is true in it"], rows + extra))


def measured(table: pd.DataFrame) -> str:
    """Markdown of what was measured: tests by analysis, claims, and everything that is not as declared.

    Parameters
    ----------
    table
        As `summarise_answers` makes it.
    """
    n = table["n_worlds"]
    words = f"{n.min()} to {n.max()}" if n.min() < n.max() else f"{n.min()}"
    out = [f"{words} worlds of each kind. Numbers are shares of worlds; bold ones are not what was declared.", ""]
    tests = table[table["analysis"] != CLAIM]
    rows = [
        [
            str(analysis), f"`{test}`", _shares(own[own["expected"] == "answers"]),
            _shares(own[own["expected"] == "silent"]),
        ]
        for (analysis, test), own in tests.groupby(["analysis", "test"], sort=False)
    ]  # fmt: skip
    out += ["### Tests", "", *_table(["analysis", "test", "must answer (p < 0.05)", "must be silent"], rows)]
    claims = table[table["analysis"] == CLAIM]
    rows = [
        [
            f"`{r.test}`", r.world, "supported" if r.expected == "answers" else "not supported or inconclusive",
            str(r.n_answers), str(r.n_not_supported), str(r.n_inconclusive), r.as_expected,
        ]
        for r in claims.itertuples()
    ]  # fmt: skip
    head = ["claim", "world", "must be", "supported", "not supported", "inconclusive", "as declared"]
    out += ["### Claims", "", *_table(head, rows)]
    wrong = table[table["as_expected"] == "no"]
    out += ["### Not as declared", ""]
    if wrong.empty:
        return "\n".join([*out, "Nothing.", ""])
    rows = [
        [
            r.analysis, f"`{r.test}`", r.world, r.expected, f"{r.share:.2f} [{r.low:.2f}, {r.high:.2f}]",
            r.reason if isinstance(r.reason, str) and r.reason else "not explained",
        ]
        for r in wrong.itertuples()
    ]  # fmt: skip
    head = ["analysis", "test", "world", "declared", "share that answers (95 % Wilson interval)", "why"]
    return "\n".join([*out, *_table(head, rows)])


def refreshed(page: str, table: pd.DataFrame) -> str:
    """The page with its measured part, and the list of worlds, written anew."""
    before, rest = page.split(START, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{START}\n{worlds_table()}\n{measured(table)}{END}{after}"
