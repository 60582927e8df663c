"""How does the page look? One self-contained HTML file from the template; nothing is loaded from anywhere."""

from __future__ import annotations

import json
from functools import partial
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from regulens.report import claims, lists, numbers, screens, sections, wording
from regulens.report.figures import Drawn
from regulens.report.model import RunView
from regulens.types.nouns import ATTENTION, in_terms_of


def render_html(view: RunView, figures: dict[str, Drawn]) -> str:
    """The page; every value is escaped, only our own SVG, style and script are not."""
    environment = Environment(
        loader=PackageLoader("regulens.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, finalize=partial(_said, noun=view.noun),
    )  # fmt: skip
    page = environment.get_template("report.html.jinja").render(
        **content(view, figures),
        n=_Numbers(),
        css=Markup(_asset("report.css")),
        js=Markup(_asset("report.js")),
    )
    return page


def _said(value: Any, *, noun: str) -> Any:
    """A text of the page in words that fit what was judged; our own markup, and the plan, are left as they are."""
    return in_terms_of(value, noun) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Numbers:
    """Numbers of sections; a section that a run has nothing for takes none. The first is the answer's."""

    def __init__(self) -> None:
        self._last = 1

    def next(self) -> int:
        self._last += 1
        return self._last


def content(view: RunView, figures: dict[str, Drawn]) -> dict[str, Any]:
    """Everything that the templates print, as plain values."""
    drawn = {
        name: {"svg": Markup(inline_svg(d.svg, d.alt)), "caption": d.caption, "alt": d.alt}
        for name, d in figures.items()
    }
    return {
        "title": wording.title(), "run_name": str(view.run.get("name", "run")),
        "identity": sections.identity(view), "answers": claims.answers(view),
        "synthetic": wording.synthetic_notice(view), "demonstration": wording.demonstration_notice(view),
        "truncation": lists.notice(view),
        "cards": sections.cards(view), "matrices": sections.matrices(view), "no_verdict": claims.no_verdict(view),
        "screens": screens.blocks(view), "has_references": bool(view.references),
        "has_heads": view.noun == ATTENTION,
        "signs": wording.SIGNS, "figures": drawn, "details": sections.details(view, figures),
        "ledger": sections.ledger(view),
        "ledger_sentence": wording.ledger_sentence(view), "losses": sections.losses(view),
        "skipped": sections.skipped(view), "left_out": sections.left_out(view),
        "methods": sections.methods(view), "citations": sections.citations(view),
        "plan": escape(view.plan or json.dumps(view.run.get("plan", {}), indent=1, sort_keys=True)),
        "command": wording.reproduce_command(), "strip": strip,
    }  # fmt: skip


def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Places, in per cent of a common AUROC axis, of the small intervals on a card."""
    values = [0.47, 0.6]
    for item in rows:
        values += [
            float(item["row"][k]) for k in ("value", "low", "high") if not numbers.is_missing(item["row"].get(k))
        ]
    low, high = min(values), max(values)

    def place(x: float) -> float:
        return round(100 * (x - low) / (high - low), 2)

    out = []
    for item in rows:
        row = item["row"]
        defined = not any(numbers.is_missing(row.get(k)) for k in ("value", "low", "high"))
        out.append(item | {"defined": defined, "chance": place(0.5)} | ({
            "at": place(row["value"]), "from": place(row["low"]),
            "width": round(place(row["high"]) - place(row["low"]), 2),
        } if defined else {}))  # fmt: skip
    return out


def inline_svg(svg: str, alt: str) -> str:
    """SVG without its XML prologue and fixed size, with a label for screen readers."""
    body = svg[svg.index("<svg") :]
    head, rest = body.split(">", 1)
    kept = " ".join(p for p in head.split(" ") if not p.startswith(("width=", "height=")))
    return f'{kept} role="img" aria-label="{escape(alt)}">{rest}'


def _asset(name: str) -> str:
    return resources.files("regulens.report").joinpath("templates", name).read_text(encoding="utf-8")
