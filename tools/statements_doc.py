"""Write docs/statements.md from the statements that ship in netpoll.testing.

python tools/statements_doc.py           write the page
python tools/statements_doc.py --check   exit 1 if the page is not what would be written
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

# Run as a script, before anything is installed: the statements are those of this tree.
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from netpoll.testing.statements import EVIDENCE, OTHERS, Statement, load  # noqa: E402

PAGE = ROOT / "docs" / "statements.md"

INTRODUCTION = """\
---
tocdepth: 2
---

# Statements

<!-- Made by tools/statements_doc.py from netpoll/testing/statements.toml: edit that file. -->

What completion ports and overlapped sockets do on Windows, one numbered statement at a time, and
the rules by which netpoll emulates it elsewhere. Numbers without a name are Win32 errors below
10000, except where Winsock is named, and Winsock errors above; 0x… is an NTSTATUS. A conformance
test names the statements it decides, and `netpoll conformance` shows the result for each backend.

Each statement says what it rests on:
"""


def render(statements: dict[str, Statement]) -> str:
    """The whole page."""
    kinds = [f"* **{kind}**: {meaning}" for kind, meaning in EVIDENCE.items()]
    parts = [INTRODUCTION, "\n".join(kinds) + "\n"]
    for title, group in groupby(statements.values(), key=lambda statement: statement.section):
        parts.append(f"## {title}\n")
        parts.extend(_entry(statement) for statement in group)
    return "\n".join(parts)


def _entry(statement: Statement) -> str:
    # A heading, so that statements.md#recv-05 is a link here and wherever Markdown is shown.
    parts = [f"### {statement.id}", statement.text]
    if statement.wine:
        parts.append(f"Wine: {statement.wine}")
    said = len(parts)
    for backend, reason in statement.undecided.items():
        where = f" on {backend}" if backend != OTHERS else " elsewhere" * (len(parts) > said)
        parts.append(f"No test decides it{where} ({reason.kind}): {reason.why}")
    if statement.rest is not None:
        parts.append(f"Not decided in part ({statement.rest.kind}): {statement.rest.why}")
    parts.append(f"*{', '.join(statement.evidence)}*")
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit code."""
    page = render(load())
    if arguments == ["--check"]:
        if PAGE.read_text(encoding="utf-8") == page:
            return 0
        print(f"{PAGE} is stale: run python tools/statements_doc.py", file=sys.stderr)
        return 1
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(page, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
