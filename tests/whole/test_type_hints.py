"""All public functions and methods have type hints, for editors and for mypy."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for room in ("deep_reid", "datasets") for path in sorted((ROOT / room).rglob("*.py"))]


def list_public(body, prefix=""):
    """Yield the public functions of a module or class, with their full names."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from list_public(node.body, f"{prefix}{node.name}.")
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and (not node.name.startswith("_") or node.name in ("__init__", "__call__")):
            yield prefix + node.name, node


def list_missing(function):
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    every = [*positional, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    missing = [x.arg for x in every if x is not None and x.annotation is None]
    return missing + ["return"] * (function.returns is None and function.name != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_type_hints(path):
    functions = list_public(ast.parse(path.read_text()).body)
    missing = {name: list_missing(function) for name, function in functions}
    assert {name: names for name, names in missing.items() if names} == {}


def test_a_missing_hint_is_found():
    module = ast.parse("class A:\n    def f(self, a: int, *b, c=1) -> None: ...\ndef g(): ...\n")
    found = {name: list_missing(function) for name, function in list_public(module.body)}
    assert found == {"A.f": ["c", "b"], "g": ["return"]}


USES = """
from typing import Any, ClassVar
from datasets.base import ReidDataset
from datasets.custom import Custom
from datasets.market1501 import Market1501
from datasets.mars import Mars
from datasets.protocols import TestSet
from datasets.split import Split
from deep_reid import interfaces

classes: list[type[interfaces.Dataset]] = [Market1501, Mars, Custom]

class Own(ReidDataset):
    NAME = TITLE = DEFAULT_DIR = TRAIN_DIR = HOMEPAGE = "own"
    MAX_LABEL = 9
    IMAGE_SHAPE = (128, 64, 3)
    TEST_SPLITS = ()
    def _read_train(self) -> Split: ...
    def export_files(self) -> dict[str, list[str]]: ...

class Alone:
    NAME: ClassVar[str] = "alone"
    TITLE: ClassVar[str] = "alone"
    DEFAULT_DIR: ClassVar[str] = "alone"
    IMAGE_SHAPE: ClassVar[tuple[int, int, int]] = (128, 64, 3)
    NUM_GALLERIES: ClassVar[int] = 10
    COMPACT_LABELS: ClassVar[bool] = True
    FITS_BATCHES: ClassVar[bool] = True
    num_classes: int
    dataset_dir: str
    train: Split
    validation: Split
    def __init__(self, dataset_dir: str, num_validation_identities: float = 0.1,
                 seed: int = 1234, *, needs_train: bool = True): ...
    @classmethod
    def find(cls, dataset_dir: str, name: str) -> Any: ...
    def name_of(self, label: int) -> str: ...
    def list_splits(self) -> dict[str, Split]: ...
    def summary_table(self) -> str: ...
    def test_set(self) -> TestSet: ...
    def export_files(self) -> dict[str, list[str]]: ...

classes += [Own, Alone]

def use(dataset: ReidDataset, own: Custom, split: Split, test_set: TestSet) -> None:
    datasets: list[interfaces.Dataset] = [dataset, own, Alone("folder")]
    splits: list[interfaces.Split] = [split, datasets[0].train]
    tests: list[interfaces.TestSet] = [test_set, own.test_set()]
"""


def check_types(code, folder):
    """Return what mypy finds in a file, by the settings of this project."""
    path = folder / "uses.py"
    path.write_text(code)
    argv = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", path]
    result = subprocess.run(
        [*argv, "--disable-error-code=empty-body", f"--cache-dir={folder / 'cache'}"],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stdout + result.stderr


@pytest.mark.slow
def test_our_classes_and_those_of_users_fit_the_protocols(tmp_path):
    pytest.importorskip("mypy")
    assert "Success" in check_types(USES, tmp_path)
    wrong = check_types(
        USES.replace("def name_of(self, label: int) -> str", "def n(self)"), tmp_path
    )
    assert '"type[Alone]"' in wrong
