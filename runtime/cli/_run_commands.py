# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
# ruff: noqa: PLC0415 - a command imports what it needs when it runs: `hotloop --help` needs nothing
"""The commands that read a run, as the command line sees them. The work is done elsewhere."""

import webbrowser
from typing import Annotated, Literal

import typer

from runtime.cli._exit import PROBLEM, CommandError, ends_cleanly
from runtime.cli._parameters import AsJson, Out, RunDir, Types
from runtime.cli._runs import find_run_dir


@ends_cleanly
def status(run_dir: RunDir, *, as_json: AsJson = False) -> None:
    """Show how a run stands.

    Its state, every attempt with its outcome and who stopped it, the last step, the newest value
    of each metric, how many events of each type are kept, what is damaged or missing and why,
    and when the journal was last written to.

    \b
    Examples:
      hotloop status runs/gpt
      hotloop status gpt --json | jq .latest.loss.value

    \b
    Exit codes:
      0   the run goes on, or ended well (finished, stopped, preempted)
      1   it failed, or crashed: its process is gone without a word
      2   there is no such run
    """
    from runtime.cli._output import show, show_json
    from runtime.cli._status import read_status
    from runtime.cli._status_view import view

    found = read_status(find_run_dir(run_dir))
    if as_json:
        show_json(found)
    else:
        show(*view(found))
    if found.state in {"failed", "crashed"}:
        raise typer.Exit(PROBLEM)


@ends_cleanly
def tail(
    run_dir: RunDir,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new events until the run ends.")
    ] = False,
    types: Types = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the events already there.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Print the last events of a run, one a line, and those that follow.

    A line says when, in which attempt (a2; a2.r1 is its rank 1), at which step, what happened, and
    the values that belong to it. What a later attempt replaced is left out.

    With --json a line is {"attempt":1,"rank":0,"seq":17,"event":{...}}; NaN and infinities are
    the strings "NaN", "Infinity" and "-Infinity".

    \b
    Examples:
      hotloop tail gpt --follow
      hotloop tail gpt --type evaluated --type alert_raised --lines 100
      hotloop tail gpt --json -n 1000 | jq -r .event.type | sort | uniq -c

    \b
    Exit codes:
      0     all printed; with --follow: the run has ended, however it did
      2     there is no such run
      130   interrupted with Ctrl-C
    """
    from runtime.cli._journal import type_names
    from runtime.cli._tail import tail as print_tail

    print_tail(
        find_run_dir(run_dir),
        types=type_names(types),
        lines=lines,
        follow=follow,
        as_json=as_json,
    )


@ends_cleanly
def export(
    run_dir: RunDir,
    *,
    to: Annotated[
        Literal["csv", "jsonl"], typer.Option(help="A table of metrics, or the events themselves.")
    ],
    out: Out = None,
    types: Types = None,
    superseded: Annotated[
        bool,
        typer.Option("--superseded", help="Include what a later attempt replaced, marked so."),
    ] = False,
) -> None:
    """Write a run's data for other programs, to standard output unless --out is given.

    csv is a wide table: one row for each event that carries metrics, with the columns attempt,
    rank, step, time (Unix seconds), type, dataset, then one column for each metric. A cell is
    empty where the event does not have that metric; NaN, Infinity and -Infinity are spelled so.
    A metric called like one of the first columns is headed metric:step and so on.

    jsonl has every event as one strict JSON object a line:
    {"attempt":1,"rank":0,"seq":17,"event":{"type":"metrics_logged",...}}. NaN and infinities,
    which JSON does not have, are the strings "NaN", "Infinity" and "-Infinity".

    A file appears under its name when it is complete. With --superseded both have one more
    field of that name, true or false.

    \b
    Examples:
      hotloop export gpt --to csv --out gpt.csv
      hotloop export gpt --to csv --type evaluated
      hotloop export gpt --to jsonl | jq 'select(.event.type == "gap")'

    \b
    Exit codes:
      0     written
      2     there is no such run, or the file cannot be written
      130   interrupted with Ctrl-C; no file is left behind
    """
    from runtime.cli._export import Selection
    from runtime.cli._export import export as write_export
    from runtime.cli._journal import type_names

    selection = Selection(
        run_dir=find_run_dir(run_dir), types=type_names(types), superseded=superseded
    )
    write_export(selection, to=to, out=out)


@ends_cleanly
def report(
    run_dir: RunDir,
    *,
    out: Out = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a run's report: one HTML file that opens anywhere, and print its path.

    It is report.html in the run's folder unless --out is given. It needs no network, and the run
    may still be going on.

    \b
    Examples:
      hotloop report gpt --open
      hotloop report runs/gpt --out /tmp/gpt.html

    \b
    Exit codes:
      0   written
      1   written, but no browser could be started
      2   there is no such run, or the file cannot be written
    """
    from runtime.cli._report import write

    path = write(find_run_dir(run_dir), out)
    typer.echo(path)
    if open_it and not webbrowser.open(path.as_uri()):
        raise CommandError(f"no browser could be started; open {path} yourself")
