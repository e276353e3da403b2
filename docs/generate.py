"""Writes the generated parts of the pages in docs/: ``python docs/generate.py``; ``--check`` only compares.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hpo import config as configs
from hpo.cli import commands
from hpo.cli.overview import GROUPS, overview
from hpo.core.process import prepare_process
from hpo.tracking import schema

DOCS = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def overview_part() -> str:
    """Return the output of ``python -m hpo --help``."""
    return f"```text\n{overview()}\n```"


def commands_part() -> str:
    """Return the help of every command."""
    return "\n\n".join(f"## {name}\n\n```text\n{commands.load(name).help_text()}\n```" for name in commands.NAMES)


def strategies_part() -> str:
    """Return the output of ``python -m hpo strategies --markdown``."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        commands.load("strategies").run(["--markdown"])
    return printed.getvalue().rstrip()


def groups_part() -> str:
    """Return a table for each config group: its options and their descriptions."""
    sections = []
    for group in (*(group for group in GROUPS if group != "strategy"), "comparison"):
        rows = [f"| `{name}` | {_cell(text)} |" for name, text in configs.options(group).items()]
        sections.append("\n".join([f"### {group}", "", "| option | description |", "| --- | --- |", *rows]))
    return "\n\n".join(sections)


def schema_part() -> str:
    """Return tables of the tags, metrics and artifacts that ``hpo/tracking/schema.py`` names."""
    lines: list[str] = []
    for title, kind in (("Tags", schema.Tag), ("Metrics", schema.Metric), ("Artifacts", schema.Artifact)):
        lines += [f"### {title}", ""]
        for heading, rows in _sections(inspect.getsource(kind)):
            lines += [heading, "", "| name | content |", "| --- | --- |", *rows, ""]
        composed = list(_composed(title))
        lines += ["Composed names.", "", "| name | content |", "| --- | --- |", *composed, ""] if composed else []
    return "\n".join(lines).rstrip()


def _sections(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the comment above each group of names in a class, with a table row for each name."""
    heading, rows = "", []
    for line in source.splitlines():
        if comment := re.fullmatch(r" {4}# (.*)", line):
            if rows:
                yield heading, rows
            heading, rows = comment[1], []
        elif named := re.fullmatch(r' {4}\w+ = "([^"]+)"(?:  # (.*))?', line):
            rows.append(f"| `{named[1]}` | {_cell(named[2] or 'a folder, see above')} |")
    if rows:
        yield heading, rows


def _composed(title: str) -> Iterator[str]:
    """Yield a table row for each function of the schema that composes a name of this kind."""
    ending = {"Tags": "_tag", "Metrics": "_metric", "Artifacts": "_file"}[title]
    for name, function in inspect.getmembers(schema, inspect.isfunction):
        is_kind = name.endswith(ending) or (title == "Metrics" and name == "metric_on_test")
        if not is_kind or name.startswith("parse_"):
            continue
        arguments = [f"<{argument}>" for argument in inspect.signature(function).parameters]
        if "fold" in inspect.signature(function).parameters:
            arguments[0] = "<k>"
        if name == "user_file":
            arguments = ["name"]
        if name == "table_file":
            arguments = arguments[:1]
        names = [function(*arguments)]
        if "budget" in inspect.signature(function).parameters:
            names.insert(0, function(arguments[0]))
        text = (inspect.getdoc(function) or "").replace("``", "`")
        text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
        yield f"| {', '.join(f'`{name}`' for name in names)} | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "overview": overview_part,
    "commands": commands_part,
    "strategies": strategies_part,
    "groups": groups_part,
    "schema": schema_part,
}


def main() -> int:
    """Write or compare every page; return 1 if a page differs and was only compared."""
    parser = argparse.ArgumentParser(description="Writes the generated parts of the pages in docs/.")
    parser.add_argument("--check", action="store_true", help="print the differences and change nothing")
    parsed = parser.parse_args()
    prepare_process()
    code = 0
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[4]}", before)
        if after == before:
            continue
        if parsed.check:
            code = 1
            names = (f"docs/{page.name}", "generated")
            print("\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")))
        else:
            page.write_text(after, encoding="utf-8")
            print(f"wrote docs/{page.name}")
    if code:
        print("fix: python docs/generate.py", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
