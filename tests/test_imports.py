"""What may be imported where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FREE_OF_TENSORFLOW = [
    "deep_reid",
    "deep_reid.cli",
    "deep_reid.config",
    "deep_reid.errors",
    "deep_reid.files",
    "deep_reid.galleries",
    "deep_reid.image_files",
    "deep_reid.locks",
    "deep_reid.matlab",
    "deep_reid.modes",
    "deep_reid.pairs",
    "deep_reid.pictures",
    "deep_reid.projector",
    "deep_reid.ranking",
    "deep_reid.score_log",
    "deep_reid.scoring",
    "deep_reid.report",
    "deep_reid.runs",
    "deep_reid.labels",
    "deep_reid.samplers",
    "deep_reid.settings",
    "deep_reid.stops",
    "deep_reid.tables",
    *(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "datasets").rglob("[!_]*.py"))
    ),
]


def imported_modules(path):
    """Absolute names of all modules a file imports, wherever it does."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def run_without_tensorflow(code):
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'tf_slim', 'keras']));"
    return subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("module", FREE_OF_TENSORFLOW)
def test_module_is_imported_without_tensorflow(module):
    process = run_without_tensorflow(f"import {module}")
    assert process.returncode == 0, process.stderr


def test_the_block_works():
    assert "ModuleNotFoundError" in run_without_tensorflow("import tensorflow").stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "deep_reid").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_package_never_imports_the_data_sets(path):
    assert not [m for m in imported_modules(path) if m.split(".")[0] == "datasets"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "datasets").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_data_sets_import_only_what_is_free_of_tensorflow_and_settings(path):
    names = ("errors", "galleries", "matlab", "tables")
    allowed = tuple(f"deep_reid.{name}." for name in names)
    modules = [m for m in imported_modules(path) if m.split(".")[0] == "deep_reid"]
    assert not [m for m in modules if not f"{m}.".startswith(allowed)]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "datasets").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_data_sets_import_each_other_by_relative_names(path):
    # The wheel carries the folder as deep_reid.datasets: nothing called datasets may be needed.
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level]
    assert not [name for name in names if name.split(".")[0] == "datasets"]
