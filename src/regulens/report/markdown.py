"""What does the report say in plain text? ``report.md``: the answer, the figures, the ledger and what was lost."""

from __future__ import annotations

from regulens.report import claims, lists, screens, sections, wording
from regulens.report.figures import Drawn
from regulens.report.model import RunView
from regulens.report.table import Table
from regulens.types.nouns import ATTENTION, in_terms_of


def render_markdown(view: RunView, figures: dict[str, Drawn]) -> str:
    """The report as Markdown; figures are linked as files beside it."""
    out = [f"# {escape(wording.title())}", "", f"Audit {escape(view.run.get('name', 'run'))}", ""]
    out += [f"> **{escape(n)}**\n" for n in (wording.synthetic_notice(view), wording.demonstration_notice(view)) if n]
    out += [f"> **{escape(n)}**\n" for n in lists.notice(view)]
    out += [f"- {key}: {escape(value)}" for key, value in sections.identity(view)]
    out += ["", "## 1. The answer", ""]
    cards = sections.cards(view)
    out += [f"- {escape(s)}" for s in claims.answers(view)] if cards else [escape(claims.no_verdict(view))]
    for card in cards:
        out += ["", f"### {escape(card['title'])} · {escape(card['model'])} · {escape(card['reference'])}", ""]
        out += [f"**{card['sign']} {escape(card['state'])}.** {escape(card['sentence'])}", ""]
        out += [f"- {escape(n['label'])}: AUROC {escape(n['words'])}" for n in card["numbers"]]
        out += [f"- {escape(e['name'])}: {escape(e['effect'])}, p {e['p']}, q {e['q']}" for e in card["evidence"]]
        out += [f"- {escape(k)}: {escape(v)}" for k, v in card["facts"]]
        out += [f"- because: {escape(r)}" for r in card["reasons"]]
        out += ["", f"Rule: {escape(card['rule'])}"]
    number = 1
    for screen in screens.blocks(view):
        number += 1
        out += ["", f"## {number}. The screen {escape(screen['name'])}", ""]
        out += [f"> **{escape(w)}**\n" for w in screen["warnings"]]
        out += [f"- {escape(k)}: {escape(v)}" for k, v in screen["pairs"]]
        out += ["", *_table(screen["lost"])] if screen["lost"] else []
    drawn = [("cascade", "The cascade"), ("layer_head", "Layers and heads")] if view.references else []
    for name, head in drawn if view.noun == ATTENTION else drawn[:1]:
        number += 1
        out += ["", f"## {number}. {head}", ""]
        out += _figure(figures[name]) if name in figures else ["Not drawn: this run has no numbers for it."]
    out += ["", f"## {number + 1}. Analyses"]
    for block in sections.details(view, figures):
        out += ["", f"### {escape(block['title'])}", "", escape(block["question"]), ""]
        out += [f"What would falsify it: {escape(block['falsified_by'])}", ""] if block["falsified_by"] else []
        for name in block["figures"]:
            out += [*_figure(figures[name]), ""]
        for table in block["tables"][:1]:
            out += _table(table)
    out += [
        "",
        f"## {number + 2}. The ledger",
        "",
        escape(wording.ledger_sentence(view)),
        "",
        *_table(sections.ledger(view)),
    ]
    out += ["", f"## {number + 3}. What was lost"]
    for head, pairs in sections.losses(view):
        out += ["", f"**{escape(head)}**", "", *[f"- {escape(k)}: {escape(v)}" for k, v in pairs]]
    for table in (sections.left_out(view), sections.skipped(view)):
        if table is not None:
            out += ["", *_table(table)]
    out += ["", f"## {number + 4}. Methods and provenance"]
    for head, pairs in sections.methods(view):
        out += ["", f"**{escape(head)}**", "", *[f"- {escape(k)}: {escape(v)}" for k, v in pairs]]
    out += ["", "**Sources**", "", *[f"- {escape(line)}" for line in sections.citations(view)]]
    out = [in_terms_of(line, view.noun) for line in out]
    out += [
        "",
        "**To reproduce**",
        "",
        "```",
        wording.reproduce_command(),
        "```",
        "",
        "```yaml",
        view.plan.rstrip(),
        "```",
    ]
    return "\n".join(out) + "\n"


def escape(text: object) -> str:
    r"""Text that Markdown prints as it stands.

    >>> escape("a|b <c>")
    'a\\|b &lt;c&gt;'
    """
    out = str(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in ("|", "*", "_", "`", "[", "]", "#"):
        out = out.replace(sign, f"\\{sign}")
    return " ".join(out.split())


def _figure(drawn: Drawn) -> list[str]:
    return [f"![{escape(drawn.alt)}](figures/{drawn.name}.svg)", "", f"*{escape(drawn.caption)}*"]


def _table(table: Table) -> list[str]:
    if not table.rows:
        return []
    head = "| " + " | ".join(escape(c.head) for c in table.columns) + " |"
    rule = "|" + "|".join("---:" if c.numeric else "---" for c in table.columns) + "|"
    body = ["| " + " | ".join(escape(c.text) for c in row) + " |" for row in table.rows]
    return [f"**{escape(table.title)}**", "", head, rule, *body, *(["", escape(table.note)] if table.note else [])]
