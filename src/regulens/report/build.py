"""How is the report of a run folder written? Draw, render, then put every file in place at once."""

from __future__ import annotations

from pathlib import Path

from regulens.io.atomic import write_bytes, write_text
from regulens.report.model import read_run


def build_report(run_folder: Path | str) -> dict[str, Path]:
    """Write ``figures/*.svg`` and ``.png``, ``report.md`` and ``report.html`` of a finished run.

    Reads the run folder and nothing else; the same folder gives the same bytes. ``report.html`` is written last,
    so that its presence means that the report is complete.

    Parameters
    ----------
    run_folder
        Holds ``run.json`` and the tables that it lists.

    Returns
    -------
    Written files by name: ``"report.html"``, ``"report.md"``, ``"figures/<name>.svg"``, ``"figures/<name>.png"``.

    Raises
    ------
    StoreError
        When the folder holds no finished run, or a listed table is absent.
    VersionError
        When the run was written under another schema.
    """
    from regulens.report.figures import draw_all  # matplotlib only when there is something to draw
    from regulens.report.html import render_html
    from regulens.report.markdown import render_markdown

    folder = Path(run_folder)
    view = read_run(folder)
    figures = draw_all(view)
    page, text = render_html(view, figures), render_markdown(view, figures)
    written: dict[str, Path] = {}
    (folder / "figures").mkdir(exist_ok=True)
    for name, drawn in figures.items():
        written[f"figures/{name}.svg"] = folder / "figures" / f"{name}.svg"
        write_text(written[f"figures/{name}.svg"], drawn.svg)
        written[f"figures/{name}.png"] = folder / "figures" / f"{name}.png"
        write_bytes(written[f"figures/{name}.png"], drawn.png)
    for name, body in (("report.md", text), ("report.html", page)):
        written[name] = folder / name
        write_text(written[name], body)
    return written
