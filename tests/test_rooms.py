"""The floors and rooms of the building: who imports what, through which door, and how large a room may be."""

import ast
import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOOR = {"modeling": 0, "data_pipeline": 0, "pretrain": 1, "eval": 1, "launch": 2}
FORBIDDEN = {
    "modeling": {"deepspeed", "mlflow", "datasets", "accelerate"},
    "data_pipeline": {"deepspeed", "mlflow"},
    "pretrain": {"mlflow"},
    "eval": {"mlflow", "deepspeed"},
}
LONGEST_FILE, MOST_FILES, MOST_FLOORS = 450, 15, 6


@dataclass(frozen=True)
class Import:
    """`from module import name` (name is None for `import module`) in the module `by`."""

    by: str
    line: int
    module: str
    name: str | None
    deferred: bool
    """Inside a function, or for type checkers only: it happens when both modules are there."""

    def __str__(self) -> str:
        return f"{self.by}:{self.line} {self.module}.{self.name or ''}"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the five packages by its dotted name."""
    found = {}
    for package in FLOOR:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """The folder of a module; a package is its own."""
    return module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]


@functools.cache
def imports() -> list[Import]:
    """Every import in the five packages, with relative ones resolved."""
    return [found for module in modules() for found in _imports_of(module)]


def _imports_of(module: str) -> Iterator[Import]:
    tree = ast.parse(modules()[module].read_text())
    at_once = set(_run_at_import(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, None, node not in at_once)
        elif isinstance(node, ast.ImportFrom):
            above = room(module).split(".")
            base = above[: len(above) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module, node.lineno, source, alias.name, node not in at_once)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that are executed when the module is imported: not functions' bodies, nor `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_at_import(child)


@functools.cache
def doors() -> dict[str, dict[str, str]]:
    """By room, its public names and the modules that define them."""
    found = {}
    for module, path in modules().items():
        stub = path.with_suffix(".pyi")
        if path.name == "__init__.py" and stub.exists():
            statements = ast.parse(stub.read_text()).body
            found[module] = {
                alias.name: f"{module}.{node.module}"
                for node in statements
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
    return found


def target(found: Import) -> str | None:
    """The module of ours that an import ends at, through a door if it takes one."""
    if found.name is not None and f"{found.module}.{found.name}" in modules():
        return f"{found.module}.{found.name}"
    if found.name in doors().get(found.module, {}):
        return doors()[found.module][found.name]
    return found.module if found.module in modules() else None


def ours() -> list[tuple[Import, str]]:
    """The imports that end in the five packages, and where."""
    return [(found, end) for found in imports() if (end := target(found)) is not None]


@pytest.mark.parametrize("package", FLOOR)
def test_a_room_imports_only_what_lies_below(package):
    tops = [(found, end.partition(".")[0]) for found, end in ours() if found.by.partition(".")[0] == package]
    assert [str(found) for found, top in tops if top != package and FLOOR[top] >= FLOOR[package]] == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_room_does_not_know_what_it_must_not(package):
    mine = [found for found in imports() if found.by.partition(".")[0] == package]
    assert [str(found) for found in mine if found.module.partition(".")[0] in FORBIDDEN[package]] == []


def test_preparing_and_streaming_do_not_know_each_other():
    corpus, stream = "data_pipeline.corpus", "data_pipeline.stream"
    between = [f for f, end in ours() if {room(f.by), room(end)} == {corpus, stream}]
    assert list(map(str, between)) == []


def test_other_rooms_are_entered_through_their_doors():
    """A module imports from its own room, from the rooms it lies in, and elsewhere public names only."""
    past = []
    for found, end in ours():
        inside = f"{room(found.by)}.".startswith(f"{room(end)}.")
        by_the_door = found.module in doors() and found.name in doors()[found.module]
        the_door_itself = modules()[end].name == "__init__.py"
        if not (inside or by_the_door or the_door_itself or end.partition(".")[0] == "modeling"):
            past.append(str(found))
    assert past == []


def test_no_modules_import_each_other_in_a_circle():
    edges: dict[str, set[str]] = {}
    for found, end in ours():
        if not found.deferred and end != found.by and modules()[end].name != "__init__.py":
            edges.setdefault(found.by, set()).add(end)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for end in sorted(edges.get(module, ())):
                visit(end, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("package", sorted(doors()))
def test_every_public_name_is_there_and_hides_no_module(package):
    names = doors()[package]
    assert [name for name in names if f"{package}.{name}" in modules()] == []
    door = importlib.import_module(package)
    assert sorted(door.__all__) == sorted(names)
    assert all(hasattr(door, name) for name in names)
    assert ast.get_docstring(ast.parse(modules()[package].read_text()))


def test_every_public_name_is_used_elsewhere():
    """By another room, a test, a benchmark, an example or the docs."""
    text = "\n".join(
        path.read_text() for folder in ("tests", "benchmarks", "examples", "docs") for path in _texts(ROOT / folder)
    )
    used = {(found.module, found.name) for found, _ in ours()}
    unused = [
        f"{package}.{name}"
        for package, names in doors().items()
        for name in names
        if (package, name) not in used and name not in text
    ]
    assert unused == []


def _texts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".py", ".md")]


def test_rooms_and_files_are_small_enough_to_be_read():
    files: dict[str, list[str]] = {}
    for module, path in modules().items():
        lines = len(path.read_text().splitlines())
        assert lines <= LONGEST_FILE or path.name == "modeling_acn.py", f"{path} has {lines} lines"
        if path.name != "__init__.py":
            files.setdefault(room(module), []).append(module)
    assert {name: len(found) for name, found in files.items() if len(found) > MOST_FILES} == {}


@pytest.mark.parametrize("package", sorted({room(module) for module in modules()}))
def test_a_room_has_few_floors(package):
    """The longest chain of imports from one module of a room to others of it."""
    edges: dict[str, set[str]] = {}
    for found, end in ours():
        if not found.deferred and room(found.by) == room(end) == package and package not in (found.by, end):
            edges.setdefault(found.by, set()).add(end)

    @functools.cache
    def height(module: str) -> int:
        return 1 + max(map(height, edges.get(module, ())), default=0)

    tallest = max(edges, key=height, default=None)
    assert tallest is None or height(tallest) <= MOST_FLOORS, tallest
