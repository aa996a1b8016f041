"""What is written of the package's dependencies in several files agrees."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def lower_bounds():
    """From each dependency in pyproject.toml, those of extras as well, to its lower bound."""
    text = (ROOT / "pyproject.toml").read_text()
    project = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    return dict(re.findall(r'"([\w-]+)(?:\[[\w-]+\])?>=([\d.]+)', project))


def constraints():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_oldest_packages_are_the_lower_bounds():
    bounds, oldest = lower_bounds(), constraints()
    assert set(oldest) == set(bounds)
    for name, version in oldest.items():
        assert f"{version.removesuffix('.*')}.".startswith(f"{bounds[name]}."), name


def test_the_tools_of_the_hooks_are_at_least_as_new_as_those_of_the_extra():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for name in ("ruff", "codespell"):
        (version,) = set(re.findall(rf"\b{name}==([\d.]+)", hooks))
        pinned, bound = ([int(x) for x in v.split(".")] for v in (version, lower_bounds()[name]))
        assert pinned >= bound


def test_files_of_tests_have_names_of_their_own():
    """Two of one name cannot be collected in one run: folders of tests are no packages."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
