"""Imports go left only. This test sees those inside functions and under TYPE_CHECKING, too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELL = "shell"
# From the ground up. A package may import those of the floors below its own, and itself.
FLOORS = [
    {"kaanha.lib"},
    {"kaanha.organizations", "kaanha.operations"},
    {"kaanha.whatsapp", "kaanha.webhooks"},
    {"contacts", "templates_app"},
    {"kaanha.messaging"},
    {"broadcasts", "sequences"},
    {"kaanha.inbound"},
    {SHELL},
]
PACKAGES = set().union(*FLOORS) - {SHELL}
# Speaks for Meta: it shares no code with the rest, and only the shell may start it.
SIMULATOR = "kaanha.simulator"
TOP = {package.split(".")[0] for package in PACKAGES}


def owner(module: str) -> str:
    """The package or room that `module` belongs to."""
    for package in PACKAGES | {SIMULATOR}:
        if module == package or module.startswith(f"{package}."):
            return package
    return SHELL


def allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if SIMULATOR in (importer, imported):
        return importer == SHELL
    floor = {package: height for height, packages in enumerate(FLOORS) for package in packages}
    return floor[imported] < floor[importer]


def sources() -> Iterator[Path]:
    for top in TOP:
        yield from (path for path in (ROOT / top).rglob("*.py") if "migrations" not in path.parts)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module of ours that the file imports, anywhere in it, relative imports and import_module included."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield from (f"{module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def violations(path: Path) -> list[str]:
    importer = owner(module_of(path))
    ours = {name for name in imports(path) if name.split(".")[0] in TOP}
    return [
        f"{path.relative_to(ROOT)} ({importer}) imports {name} ({owner(name)})"
        for name in sorted(ours)
        if not allowed(importer, owner(name))
    ]


def test_imports_go_left_only():
    assert [wrong for path in sources() for wrong in violations(path)] == []


def test_every_package_has_a_floor():
    packages = {module_of(path) for path in sources() if path.name == "__init__.py" and path.parent.parent == ROOT}
    rooms = {f"kaanha.{path.name}" for path in (ROOT / "kaanha").iterdir() if (path / "__init__.py").exists()}
    assert packages - {"kaanha"} | rooms - {"kaanha.management"} == PACKAGES | {SIMULATOR}


def test_the_kaanha_package_itself_imports_nothing():
    assert (ROOT / "kaanha/__init__.py").read_text() == ""


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("contacts/models.py", "from kaanha.messaging.models import Message"),
        ("kaanha/lib/phone.py", "def parse():\n    from contacts import models"),
        ("broadcasts/launch.py", "import sequences.models"),
        ("kaanha/messaging/sending.py", "from kaanha.settings import SEND_SLOTS"),
        ("kaanha/messaging/sending.py", "from kaanha import celery"),
        ("kaanha/simulator/server.py", "from kaanha.lib import phone"),
        ("kaanha/inbound/views.py", "from ..simulator import world"),
        ("contacts/consent.py", "import importlib\nimportlib.import_module('broadcasts.launch')"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path, monkeypatch, importer, source):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / importer
    path.parent.mkdir(parents=True)
    path.write_text(source)

    assert len(violations(path)) == 1
