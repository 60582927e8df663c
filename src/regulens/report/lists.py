"""What must be said of an edge table that lists only some pairs? Notices and facts, made from what was recorded."""

from __future__ import annotations

from regulens.report.model import Row, RunView
from regulens.report.numbers import count

Pairs = list[tuple[str, str]]


def percent(share: float) -> str:
    """A share as printed.

    >>> percent(0.1821), percent(0.00042), percent(1.0)
    ('18 %', '0.042 %', '100 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def notice(view: RunView) -> list[str]:
    """Sentences at the top of the page: which tables are truncated, and what that makes of every number; or none."""
    out = []
    for model in view.models:
        table = view.list_of(model["name"])
        if not table or table["complete"]:
            continue
        what = f"{view.label(model['name'])} is a truncated list ({table['list'].removeprefix('truncated: ')})."
        if table["absent"] == "exclude":
            lost = "; ".join(_left_out(view, name) for name in table["within"])
            then = "Every number is over pairs that the tables list, and so over what they chose to list."
            out.append(f"{what} {then} Left out because they are not listed: {lost}.")
        else:
            lists = "; ".join(_within(name, row) for name, row in table["within"].items())
            then = "Pairs that it does not list tie last, below all that it lists."
            out.append(f"{what} {then} Of the pairs looked at: {lists}.")
    return out


def _left_out(view: RunView, name: str) -> str:
    counts = view.universe(name).get("counts", {})
    positives = count(counts.get("unlisted_positives_left_out"))
    return f"{count(counts.get('unlisted_left_out'))} pairs for {name}, {positives} of them positives"


def _within(name: str, row: Row) -> str:
    return f"{name}, {percent(row['share'])} listed ({_positives(row)})"


def _positives(row: Row) -> str:
    return f"{count(row['positives_listed'])} of {count(row['positives'])} positives"


def beside(view: RunView, model: str, reference: str) -> Pairs:
    """What stands beside the AUROC of a table: how much of the pairs it lists, and what became of the others."""
    table = view.list_of(model)
    row = table.get("within", {}).get(reference)
    if row is None or table["complete"]:
        return []
    if table["absent"] == "exclude":
        return [("pairs", "listed ones only, biased by that choice")]
    return [("pairs listed", percent(row["share"])), ("positives listed", percent_of(row)), ("others", "tie last")]


def percent_of(row: Row) -> str:
    """Share of positives that a table lists."""
    return percent(row["positives_listed"] / row["positives"]) if row["positives"] else "none"


def described(view: RunView, model: str) -> Pairs:
    """A table in the methods section: what kind of list, how it was read, what was lost."""
    table = view.list_of(model)
    if not table:
        return []
    out = [("list", str(table["list"])), ("read as", str(table["read_as"]))]
    if not table["complete"]:
        out.append(("absent pairs", str(table["absent_in_words"])))
    out += [("lost or changed", words) for words in table["losses"]]
    out += [
        (f"of {name}", f"{count(row['listed'])} of {count(row['pairs'])} pairs listed, {_positives(row)}")
        for name, row in table["within"].items()
    ]
    return out
