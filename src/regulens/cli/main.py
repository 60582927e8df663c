"""What does `regulens …` run, and with which exit code does it end?

Exit codes: 0 done; 2 the input, plan or command line has to change; 3 a defect of regulens; 130 interrupted.
No numerical library is imported before a subcommand starts, so that help comes at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from regulens.cli import audit, doctor, listing, models, plan, report, score, show
from regulens.cli.console import print_error
from regulens.errors import RegulensError

INTERRUPTED = 130
DEFECT = 3

app = typer.Typer(
    name="regulens",
    help=(
        "Does a single-cell foundation model's attention know more about gene regulation than co-expression and gene "
        "prominence do? Start with `regulens audit`: it audits two small bundled models on bundled real cells."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("audit")(audit.audit)
app.command("score")(score.score)
app.command("plan")(plan.plan)
app.command("report")(report.report)
app.command("list")(listing.list_)
app.command("show")(show.show)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")


def _version(value: bool) -> None:
    if value:
        from regulens._version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; allowed anywhere on the line.")] = False,
) -> None:
    pass


def _prepare(*, debug: bool) -> None:
    """Send the library's log to standard error and keep other libraries' warnings out of the way."""
    import logging
    import warnings

    logger = logging.getLogger("regulens")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not debug:
        warnings.simplefilter("ignore")


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    arguments
        What follows ``regulens``.
    """
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    _prepare(debug=debug)
    try:
        code = app(arguments, prog_name="regulens", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.Abort:
        code = INTERRUPTED
    except RegulensError as error:
        if debug:
            raise
        print_error(str(error), getattr(error, "__notes__", ()))
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has left; nothing is wrong, and nothing more can be written.
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):
            return _usage_error(error)
        if debug:
            raise
        print_error(
            f"regulens met a defect of its own ({type(error).__name__}: {error}). "
            "Run the same command with --debug and report the traceback.",
            getattr(error, "__notes__", ()),
        )
        return DEFECT
    if code == INTERRUPTED:
        print_error("interrupted; finished work is kept, resume with the same command.")
        return INTERRUPTED
    return int(code or 0)


def _usage_error(error: Exception) -> int:
    """Say what was wrong with the command line in one sentence, and where its help is."""
    text = error.format_message().strip()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "regulens"
    if not text:  # no arguments at all: typer has printed the help
        return 2
    print_error(f"{text if text.endswith(('.', '?')) else text + '.'} See `{path} --help`.")
    return 2


def main() -> int:
    """Entry point of the `regulens` script."""
    return run(sys.argv[1:])
