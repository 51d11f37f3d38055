"""Size, shape and import structure of Python packages, from their syntax trees.

    python scripts/code_shape.py receipt_dynamo receipt_layoutlm
    python scripts/code_shape.py receipt_dynamo receipt_layoutlm --beside PEER/arq --beside PEER/procrastinate --json
    python scripts/code_shape.py receipt_dynamo receipt_layoutlm \\
        --path receipt_layoutlm.cli.train:receipt_dynamo.client

The folders named first are measured together, each folder after --beside in a column of its own.

lines               physical lines of all files
code lines          lines with code on them: no blank lines, comments or docstrings
function            a def or async def, methods and nested ones included; its length runs from `def` to its last line
single-use          a module-level function named `_x` with exactly one reference (a call or a callback) in the folders,
                    references inside its own body not counted
lone small file     under 40 lines and imported by exactly one other file; `__init__.py` and `__main__.py` not counted
defined twice       a public class or function name that several modules define at their top level
import cycle        modules that import one another, imports inside functions and for type checking included; the
                    implied import of a package by its submodules is not counted
path FROM:TO        the modules on any chain of imports that leads from one module to another, both ends included
"""

import argparse
import ast
import io
import json
import math
import tokenize
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

SMALL_FILE_LINES = 40
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NOT_CODE = frozenset(
    {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
        *(tokenize.ENCODING, tokenize.ENDMARKER),
    }
)
Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str  # dotted
    path: Path  # below the parent of its package's folder
    is_package: bool
    source: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())


@dataclass(frozen=True)
class Shape:
    """The measurements of one body of code."""

    lines: int
    code_lines: int
    files: int
    median_file_lines: float
    functions: int
    median_function_lines: float
    p95_function_lines: int
    module_level_functions: int
    single_use: list[str]
    lone_small_files: list[str]
    defined_twice: dict[str, list[str]]
    import_cycles: list[list[str]]

    @property
    def single_use_share(self) -> float:
        return len(self.single_use) / max(1, self.module_level_functions)


def read_modules(folders: Sequence[Path], skipped: Collection[str]) -> dict[str, Module]:
    modules = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder.parent)
            if not set(inside.parts).isdisjoint(skipped):
                continue
            parts = inside.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = path.read_text(encoding="utf-8")
            modules[name] = Module(name, inside, path.name == "__init__.py", source, ast.parse(source, str(path)))
    return modules


def measure(folders: Sequence[Path], skipped: Collection[str] = ()) -> Shape:
    modules = read_modules(folders, skipped)
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS) and node.end_lineno is not None
    )
    graph = {name: imported_modules(module, modules) for name, module in modules.items()}
    return Shape(
        lines=sum(module.lines for module in modules.values()),
        code_lines=sum(code_lines(module) for module in modules.values()),
        files=len(modules),
        median_file_lines=median(module.lines for module in modules.values()),
        functions=len(lengths),
        median_function_lines=median(lengths),
        p95_function_lines=lengths[math.ceil(0.95 * len(lengths)) - 1],
        module_level_functions=sum(isinstance(node, FUNCTIONS) for each in modules.values() for node in each.tree.body),
        single_use=single_use(modules),
        lone_small_files=lone_small_files(modules, graph),
        defined_twice=defined_twice(modules),
        import_cycles=import_cycles(graph),
    )


def code_lines(module: Module) -> int:
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type not in NOT_CODE:
            numbers.update(range(token.start[0], token.end[0] + 1))
    return len(numbers - docstring_lines(module.tree))


def docstring_lines(tree: ast.Module) -> set[int]:
    numbers: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node) is not None:
            numbers.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return numbers


def imports_of(module: Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import statement with the absolute name that it starts from; empty for a plain `import`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield node, ""
        elif isinstance(node, ast.ImportFrom):
            yield node, absolute(module, node)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    package = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def imported_modules(module: Module, modules: Mapping[str, Module]) -> set[str]:
    found: set[str] = set()
    for node, start in imports_of(module):
        for alias in node.names:
            submodule = f"{start}.{alias.name}" if start else alias.name
            found.add(submodule if submodule in modules else start)
    return (found & modules.keys()) - {module.name}


@dataclass
class Names:
    """The local names by which one module refers to others' definitions."""

    functions: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name -> module, function
    modules: dict[str, str] = field(default_factory=dict)  # local name -> module


def local_names(module: Module, modules: Mapping[str, Module]) -> Names:
    names = Names()
    for node in module.tree.body:
        if isinstance(node, FUNCTIONS):
            names.functions[node.name] = (module.name, node.name)
    for node, start in imports_of(module):
        for alias in node.names:
            local, target = alias.asname or alias.name, f"{start}.{alias.name}" if start else alias.name
            if target in modules:
                names.modules[local] = target
            elif start in modules:
                names.functions[local] = (start, alias.name)
    return names


def references(node: ast.AST, names: Names) -> Iterator[tuple[str, str]]:
    """Module and name of every function that the code under a node mentions."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load) and each.id in names.functions:
            yield names.functions[each.id]
        elif isinstance(each, ast.Attribute) and (owner := ast.unparse(each.value)) in names.modules:
            yield names.modules[owner], each.attr


def single_use(modules: Mapping[str, Module]) -> list[str]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    private: dict[tuple[str, str], str] = {}
    for module in modules.values():
        names = local_names(module, modules)
        for node in module.tree.body:
            own = (module.name, node.name) if isinstance(node, FUNCTIONS) else None
            if own is not None and own[1].startswith("_") and not own[1].startswith("__"):
                private[own] = f"{module.path}:{node.lineno} {own[1]}"
            for reference in references(node, names):
                counts[reference] += reference != own
    return [place for key, place in private.items() if counts[key] == 1]


def lone_small_files(modules: Mapping[str, Module], graph: Graph) -> list[str]:
    importers: dict[str, list[str]] = defaultdict(list)
    for name, imported in graph.items():
        for each in imported:
            importers[each].append(name)
    return [
        f"{module.path} ({module.lines} lines, for {importers[name][0]})"
        for name, module in modules.items()
        if module.path.stem not in ("__init__", "__main__")
        and module.lines < SMALL_FILE_LINES
        and len(importers[name]) == 1
    ]


def defined_twice(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for name, module in modules.items():
        for node in module.tree.body:
            if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
                places[node.name].setdefault(name, f"{module.path}:{node.lineno}")
    return {name: list(found.values()) for name, found in sorted(places.items()) if len(found) > 1}


def import_cycles(graph: Graph) -> list[list[str]]:
    """Groups of modules each of which reaches every other one."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {
        frozenset({name, *(other for other in reached[name] if name in reached[other])})
        for name in graph
        if name in reached[name]
    }
    return sorted(sorted(group) for group in groups)


def reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def path_modules(graph: Graph, start: str, end: str) -> list[str]:
    """Modules on some chain of imports from one module to another."""
    return sorted(name for name in {start, *reachable(graph, start)} if name == end or end in reachable(graph, name))


def rows(shape: Shape) -> dict[str, str]:
    """The numbers, as the table shows them."""
    return {
        "lines": f"{shape.lines:,}",
        "code lines": f"{shape.code_lines:,}",
        "files": str(shape.files),
        "median file, lines": f"{shape.median_file_lines:g}",
        "functions": f"{shape.functions:,}",
        "median function, lines": f"{shape.median_function_lines:g}",
        "95th percentile, lines": str(shape.p95_function_lines),
        "module-level functions": f"{shape.module_level_functions:,}",
        "of these single-use": f"{len(shape.single_use)} ({100 * shape.single_use_share:.1f} %)",
        "lone small files": str(len(shape.lone_small_files)),
        "names defined twice": str(len(shape.defined_twice)),
        "import cycles": str(len(shape.import_cycles)),
    }


def table(shapes: Mapping[str, Shape]) -> str:
    columns = {title: rows(shape) for title, shape in shapes.items()}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    lines += [
        f"| {name} | {' | '.join(each[name] for each in columns.values())} |" for name in next(iter(columns.values()))
    ]
    return "\n".join(lines)


def lists(shape: Shape) -> str:
    twice = [f"{name}: {', '.join(places)}" for name, places in shape.defined_twice.items()]
    sections = {
        "single-use private helpers": shape.single_use,
        "lone small files": shape.lone_small_files,
        "names defined twice": twice,
        "import cycles": [" <-> ".join(cycle) for cycle in shape.import_cycles],
    }
    return "\n\n".join("\n".join([f"{name}:", *(f"  {each}" for each in found)]) for name, found in sections.items())


def as_document(shape: Shape) -> dict[str, object]:
    return {**vars(shape), "single_use_share": shape.single_use_share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="package folders, measured together")
    parser.add_argument("--beside", action="append", default=[], type=Path, metavar="FOLDER", help="another package")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave out folders of this name")
    parser.add_argument("--lists", action="store_true", help="also list the findings of the first column by place")
    parser.add_argument("--path", metavar="FROM:TO", help="only list the modules between these two")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    groups = [arguments.folders, *([folder] for folder in arguments.beside)]
    shapes = {
        " + ".join(folder.name for folder in group): measure([each.resolve() for each in group], arguments.skip)
        for group in groups
    }
    if arguments.path:
        start, _, end = arguments.path.partition(":")
        modules = read_modules([folder.resolve() for folder in arguments.folders], arguments.skip)
        found = path_modules({name: imported_modules(module, modules) for name, module in modules.items()}, start, end)
        print(json.dumps(found, indent=1) if arguments.json else "\n".join([f"{len(found)} modules", *found]))
        return
    if arguments.json:
        print(json.dumps({title: as_document(shape) for title, shape in shapes.items()}, indent=1))
        return
    print(table(shapes))
    if arguments.lists:
        print("\n" + lists(next(iter(shapes.values()))))


if __name__ == "__main__":
    main()
