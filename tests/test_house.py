"""The plan of the package: which folder may import which, and how large a file may become."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "air").rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}
ROOMS = {path.parent.name for path in (ROOT / "air").glob("*/__init__.py")}
MAX_LINES = 400


def imports(module):
    """Return the modules of this package that a module imports anywhere, also within functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in members}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{module}: relative import in line {node.lineno}")
    return (found & set(MODULES)) - {module}


def room(module):
    """Return the room of a module; modules directly in `air` are rooms of their own."""
    return module.split(".")[1] if module != "air" else "air"


IMPORTS = {module: imports(module) for module in MODULES if module != "air"}
ROOM_IMPORTS = {name: set() for name in map(room, IMPORTS)}
for importer, imported in IMPORTS.items():
    ROOM_IMPORTS[room(importer)] |= set(map(room, imported)) - {room(importer)}

ALLOWED = {
    "errors": set(),
    "schedules": set(),
    "support": {"errors", "schedules"},
    "config": {"errors", "schedules", "support"},
    "presets": {"errors", "schedules", "support", "config"},
}
PORCH = set(ALLOWED)
ALLOWED |= {"data": PORCH, "model": PORCH}
ALLOWED["training"] = PORCH | {"data", "model"}
ALLOWED["evaluation"] = PORCH | {"data", "model", "training"}
ALLOWED["embeddings"] = ALLOWED["gui"] = PORCH | {"data", "model", "training", "evaluation"}


def cycle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return None


def test_few_folders_and_files_at_the_top():
    assert len(ROOMS) <= 7
    assert len(list((ROOT / "air").glob("*.py"))) <= 6
    assert set(ROOM_IMPORTS) == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_rooms_import_only_what_they_may(name):
    forbidden = {
        (importer, module)
        for importer, modules in IMPORTS.items()
        for module in modules
        if room(importer) == name and room(module) not in ALLOWED[name] | {name}
    }
    assert not forbidden


def test_no_circles():
    assert cycle(IMPORTS) is None
    assert cycle(ROOM_IMPORTS) is None


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_rooms_init_holds_a_docstring_and_imports_only(name):
    docstring, *others = ast.parse((ROOT / "air" / name / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    for node in others:
        is_all = isinstance(node, ast.Assign) and [target.id for target in node.targets] == ["__all__"]
        assert is_all or isinstance(node, (ast.Import, ast.ImportFrom)), ast.unparse(node)


@pytest.mark.parametrize("path", [*FILES.values(), *ROOT.glob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_long_files(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
