"""All public functions and methods have type hints, for editors and for mypy."""

import ast
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
