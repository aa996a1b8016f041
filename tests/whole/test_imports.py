"""What may be imported where."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PACKAGE = ROOT / "deep_reid"

# The floors of the house, from the top. Imports run down, or stay on a room of their floor.
FLOORS = [
    {"__main__", "train_app", "legacy", "launch", "serve_bench"},
    {"cli"},
    {"training"},
    {"evaluation"},
    {"export", "queued_trainer"},
    {"engine"},
    {"losses", "metrics"},
    {"distances", "nets"},
    {"images"},
    {"runs"},
    {"compat"},
    {"runtime"},
    {"tracking"},
    {"datasets"},
    {"scoring"},
    {"config"},
    {"samplers"},
    {"system"},
    {"errors", "interfaces"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What the command line needs before it knows that its arguments are right; and all below runtime.
ROOMS_FREE_OF_TENSORFLOW = {"cli"}.union(*FLOORS[FLOOR_OF["runtime"] + 1 :])


def room_of(module):
    """The room of a module of the package: the first name below ``deep_reid``."""
    names = module.split(".")
    is_ours = names[0] == "deep_reid" and len(names) > 1
    return names[1] if is_ours and names[1] in FLOOR_OF else None


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def claims_to_be_free_of_tensorflow(path):
    return "free of TensorFlow" in (ast.get_docstring(ast.parse(path.read_text())) or "")


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FREE_OF_TENSORFLOW = [
    module
    for module, path in MODULES.items()
    if room_of(module) in ROOMS_FREE_OF_TENSORFLOW
    or path.name == "__init__.py"
    or claims_to_be_free_of_tensorflow(path)
] + [module_of(path) for path in sorted((ROOT / "datasets").rglob("*.py"))]


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


def run_without_tensorflow(code, **kwargs):
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'tf_slim', 'keras']));"
    return subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **kwargs,
    )


# Each module is imported alone, in a fork of a process that has imported what others have made.
IMPORT_EACH = """
import importlib, json, os, sys, traceback
import cv2, numpy, PIL.Image, scipy.io

def import_alone(module):
    reading, writing = os.pipe()
    if not os.fork():
        os.close(reading)
        try:
            importlib.import_module(module)
        except BaseException:
            os.write(writing, traceback.format_exc()[-3000:].encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        trace = file.read()
    _, status = os.wait()
    return trace or status

print(json.dumps({module: import_alone(module) for module in json.load(sys.stdin)}))
"""


@pytest.fixture(scope="module")
def failures():
    """For each module the trace, or 0 where it was imported."""
    process = run_without_tensorflow(IMPORT_EACH, input=json.dumps(FREE_OF_TENSORFLOW))
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("module", FREE_OF_TENSORFLOW)
def test_module_is_imported_without_tensorflow(failures, module):
    assert failures[module] == 0


def test_the_block_works():
    assert "ModuleNotFoundError" in run_without_tensorflow("import tensorflow").stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "deep_reid").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_package_never_imports_the_data_sets(path):
    assert not [m for m in imported_modules(path) if m.split(".")[0] == "datasets"]


@pytest.mark.parametrize("path", sorted((ROOT / "datasets").rglob("*.py")), ids=lambda p: p.name)
def test_the_data_sets_import_the_ground_floors_alone(path):
    modules = [m for m in imported_modules(path) if m.split(".")[0] == "deep_reid"]
    assert {room_of(m) for m in modules} <= {"errors", "samplers", "scoring", "system"}


def test_each_file_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} <= set(FLOOR_OF)


def test_the_page_for_contributors_has_these_floors():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [set(re.findall(r"`(\w+?)(?:/|\.py)`", row)) for row in rows] == FLOORS


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m)])
def test_imports_run_down(module):
    room = room_of(module)
    others = {room_of(name) for name in imported_modules(MODULES[module])} - {room, None}
    assert not [r for r in others if FLOOR_OF[r] <= FLOOR_OF[room]]


def own_imports(path):
    return {
        name
        for imported in imported_modules(path)
        for name in (imported, imported.rpartition(".")[0])
        if name in MODULES and MODULES[name].name != "__init__.py"
    }


def test_no_imports_run_in_a_circle():
    remaining = {module: own_imports(path) - {module} for module, path in MODULES.items()}
    while leaves := {m for m, others in remaining.items() if not others & set(remaining)}:
        remaining = {m: others for m, others in remaining.items() if m not in leaves}
    assert not remaining
