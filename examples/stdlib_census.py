"""A census of the standard library of the Python that runs this.

Every module is parsed and measured, at most four at a time; the measures are added up by
package; a table is printed, and a chart drawn in a task's own directory. Run it twice:

    taskproc run examples/stdlib_census.py -o .cache
"""

from __future__ import annotations

import ast
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from taskproc import DefaultArguments, Future, FutureDict, FutureList, Task

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SKIPPED = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
# The kinds of lines, each with its colour in the chart.
COLOURS = {"code": "#2f6690", "docstrings": "#5fa8d3", "comments": "#bcd4e6", "blank": "#e4e6eb"}
SHOWN = 15
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)

# How many lines of each kind, how many files, how many functions.
Measure: TypeAlias = Counter[str]
Ranking: TypeAlias = list[tuple[str, Measure]]


class MeasureModule(Task):
    """Parse one file and count what is in it."""

    task_label = "parse"

    def __init__(self, path: str):
        self.path = path
        # A plain attribute is part of what a result depends on: a changed file is measured again.
        self.digest = blake2b((LIBRARY / path).read_bytes()).hexdigest()

    def run_task(self) -> Measure:
        source = (LIBRARY / self.path).read_bytes()
        nodes = list(ast.walk(ast.parse(source)))
        docs = {number for node in nodes for number in docstring_lines(node)}
        rest = [line.strip() for number, line in enumerate(source.splitlines(), 1) if number not in docs]
        measure = Counter(files=1, docstrings=len(docs), blank=rest.count(b""))
        measure["comments"] = sum(line.startswith(b"#") for line in rest)
        measure["code"] = len(rest) - measure["comments"] - measure["blank"]
        measure["functions"] = sum(isinstance(node, FUNCTIONS) for node in nodes)
        return measure


class MeasurePackage(Task):
    """Add up the modules of one package."""

    def __init__(self, paths: list[str]):
        self.modules = FutureList([MeasureModule(path) for path in paths])

    def run_task(self) -> Measure:
        return sum(self.modules.get_result(), Counter())


class RankPackages(Task):
    """Sort the packages, the largest first."""

    def __init__(self, packages: dict[str, list[str]]):
        self.measures = FutureDict({name: MeasurePackage(paths) for name, paths in packages.items()})

    def run_task(self) -> Ranking:
        return sorted(self.measures.get_result().items(), key=lambda item: (-lines(item[1]), item[0]))


class DrawChart(Task):
    """Draw the largest packages as bars, by kinds of lines."""

    def __init__(self, ranking: Future[Ranking]):
        self.ranking = ranking

    def run_task(self) -> Path:
        chart = self.task_directory / "census.svg"
        chart.write_text(svg(self.ranking.get_result()[:SHOWN]), encoding="utf-8")
        return chart


class Main(Task):
    """Print the table. `limit` takes that many files only, to look at a part; 0 takes all."""

    def __init__(self, limit: int = 0):
        packages: dict[str, list[str]] = defaultdict(list)
        for path in sorted(library_files())[: limit or None]:
            packages[path.parts[0].removesuffix(".py")].append(path.as_posix())
        self.ranking = RankPackages(dict(packages))
        self.chart = DrawChart(self.ranking)

    def run_task(self) -> str:
        ranking = self.ranking.get_result()
        total: Measure = sum((measure for _, measure in ranking), Counter())
        columns = (*COLOURS, "files", "functions")
        print(f"{'package':<18}{'lines':>10}", *(f"{column:>10}" for column in columns))
        for name, measure in [*ranking[:SHOWN], (f"all {len(ranking)}", total)]:
            print(f"{name:<18}{lines(measure):>10,}", *(f"{measure[column]:>10,}" for column in columns))
        print(f"chart: {self.chart.get_result()}")
        return f"{total['files']} files, {lines(total)} lines"


def library_files() -> Iterator[Path]:
    """The library's own modules, as paths below its folder."""
    for path in LIBRARY.rglob("*.py"):
        module = path.relative_to(LIBRARY)
        if SKIPPED.isdisjoint(module.parts) and all(part.isidentifier() for part in module.parts[:-1]):
            yield module


def docstring_lines(node: ast.AST) -> range:
    """The numbers of the lines of a node's docstring; none if it has none."""
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
        return range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    return range(0)


def lines(measure: Measure) -> int:
    return sum(measure[kind] for kind in COLOURS)


def svg(rows: Ranking) -> str:
    """The chart: a bar for each package, in the colours of its kinds of lines."""
    body = ['<text x="130" y="32">Largest packages, in lines</text>']
    for place, (kind, colour) in enumerate(COLOURS.items()):
        body.append(f'<rect x="{130 + 100 * place}" y="50" width="12" height="12" fill="{colour}"/>')
        body.append(f'<text x="{147 + 100 * place}" y="61">{kind}</text>')
    scale = 440 / max(lines(measure) for _, measure in rows)
    for row, (name, measure) in enumerate(rows):
        y, x = 84 + 26 * row, 130.0
        body.append(f'<text x="120" y="{y + 13}" text-anchor="end">{name}</text>')
        for kind, colour in COLOURS.items():
            width = measure[kind] * scale
            body.append(f'<rect x="{x}" y="{y}" width="{width}" height="18" fill="{colour}"/>')
            x += width
        body.append(f'<text x="{x + 8:.1f}" y="{y + 13}" fill="#555">{lines(measure):,}</text>')
    size = f'width="660" height="{100 + 26 * len(rows)}" style="background: #fff; font: 12px sans-serif"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *body, "</svg>\n"])


DefaultArguments(rate_limits={"parse": 4}).populate()

if __name__ == "__main__":
    Main.cli()
