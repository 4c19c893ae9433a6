"""Keep the table of docs/reliability.md and what `nox -s faults` prints the same.

`python tests/faults/figures_of_docs.py FILE` says which figures of the page the session that wrote
FILE (by TASKPROC_FIGURES) did not print, or the other way round, and exits with 1 then. With
`--write` it puts the table of that session into the page instead. Knows nothing of what they mean.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from figures import shown

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def rows_of(file: Path) -> dict[str, str]:
    """The figures of a session, as they are shown."""
    rows = json.loads(file.read_text())["figures"]
    return {row["name"]: f"{shown(row['value'])} {row['unit']}".strip() for row in sorted(rows, key=by_name)}


def by_name(row: dict[str, str]) -> str:
    return row["name"]


def main(words: list[str]) -> int:
    rows = rows_of(Path(words[-1]))
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    if "--write" in words:
        lines = [
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
        ]
        PAGE.write_text("".join([before, BEGIN, "\n".join(lines), "\n", END, after]))
        return 0
    told = {line.split("|")[1].strip() for line in table.splitlines()[2:]}
    for name in sorted(told ^ set(rows)):
        where = "the session did not print it" if name in told else "the page does not have it"
        print(f"{PAGE.name}: {name!r}: {where}; write the table anew with --write", file=sys.stderr)
    return int(told != set(rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
