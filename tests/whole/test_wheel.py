"""The wheel: what is in it, and that it works in an environment without the clone.

The whole way from training to the frozen graph is long: five processes import TensorFlow. Each step
of it is tested in the clone, and here that the package and its command are there.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BUILT_FROM = ["deep_reid", "datasets", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
# Tests must not build in the clone: setuptools leaves files there, and takes old ones from there.
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")

pytestmark = pytest.mark.slow


def run(*argv, cwd):
    """Run a command to its end in an environment that knows nothing of the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [str(arg) for arg in argv],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=800, env=environment,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def pip(*argv, cwd):
    return run(sys.executable, "-m", "pip", "--quiet", *argv, cwd=cwd)


def copy_clone(folder):
    folder.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(source, folder):
    pip("wheel", ".", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", cwd=source)
    (path,) = folder.glob("*.whl")
    return path


class Environment:
    """An environment with one package; its dependencies are those of the tests' environment."""

    def __init__(self, folder, *requirement):
        self.bin = folder / "bin"
        venv.create(folder, symlinks=True)
        (site_packages,) = folder.glob("lib/*/site-packages")
        others = [path for path in sys.path if pathlib.Path(path).name.endswith("-packages")]
        (site_packages / "dependencies.pth").write_text("\n".join(others))
        pip(
            f"--python={self.bin}/python", "install", "--no-deps", "--no-build-isolation",
            "--ignore-installed", *requirement, cwd=folder,
        )  # fmt: skip

    def python(self, code, cwd):
        return run(self.bin / "python", "-c", code, cwd=cwd).strip()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_clone(tmp_path_factory.mktemp("clone") / "deep-reid")


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    return build_wheel(clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def editable(clone, tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("editable"), "--editable", clone)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def people(installed, work):
    """What the installed command draws."""
    sizes = ["--num_identities=8", "--images_per_identity=4"]
    argv = ["draw", "--layout=folders", "--output_dir=people", *sizes]
    run(installed.bin / "deep-reid", *argv, cwd=work)
    return work / "people"


def source_files(folder):
    files = (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".jinja"))
    return {path.relative_to(ROOT / folder) for path in files}


class TestContents:
    def test_all_modules_are_in_it_under_one_name_and_the_data_sets_too(self, wheel):
        names = {pathlib.PurePath(name) for name in zipfile.ZipFile(wheel).namelist()}
        package = pathlib.PurePath("deep_reid")
        expected = {package / path for path in source_files("deep_reid")}
        expected |= {package / "datasets" / path for path in source_files("datasets")}
        expected |= {package / "py.typed"}
        assert {name for name in names if ".dist-info" not in name.parts[0]} == expected
        assert any(name.suffix == ".jinja" for name in expected)

    def test_the_data_sets_are_the_folder_of_the_clone(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            for path in source_files("datasets"):
                content = archive.read(f"deep_reid/datasets/{path.as_posix()}")
                assert content == (ROOT / "datasets" / path).read_bytes()

    def test_nothing_is_installed_beside_deep_reid(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (x for x in archive.namelist() if x.endswith("top_level.txt"))
            assert archive.read(name).split() == [b"deep_reid"]

    def test_each_dependency_has_a_lower_bound(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (x for x in archive.namelist() if x.endswith("METADATA"))
            lines = archive.read(name).decode().partition("\n\n")[0].splitlines()
        required = [line for line in lines if line.startswith("Requires-Dist:")]
        assert len(required) > 8
        assert [x for x in required if ">=" not in x and "deep-reid[" not in x] == []

    def test_a_source_distribution_gives_the_same_wheel(self, clone, wheel, tmp_path):
        code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
        run(sys.executable, "-c", code, tmp_path, cwd=clone)
        (path,) = tmp_path.glob("*.tar.gz")
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
        (source,) = tmp_path.glob("*/setup.py")
        again = build_wheel(source.parent, tmp_path / "wheel")
        assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


class TestInstalled:
    """Outside the clone, from the wheel alone."""

    def test_the_package_comes_from_the_wheel(self, installed, work):
        for name in ("deep_reid", "deep_reid.datasets.custom"):
            file = installed.python(f"import {name} as module; print(module.__file__)", cwd=work)
            assert pathlib.Path(file).is_relative_to(installed.bin.parent)

    def test_old_code_finds_the_data_sets(self, installed, work):
        (work / "old.py").write_text("from datasets import market1501; print(market1501.__file__)")
        argv = ["-m", "deep_reid.legacy", "--engine=deep_reid", "old.py"]
        file = pathlib.Path(run(installed.bin / "python", *argv, cwd=work).strip())
        assert file.is_relative_to(installed.bin.parent)

    @pytest.mark.parametrize("name", ["market1501.Market1501", "custom.Custom"])
    def test_missing_data_lead_to_the_command(self, installed, work, name):
        code = f"""
            from deep_reid.errors import MissingPathError
            from deep_reid.datasets import custom, market1501
            try:
                {name}("nowhere").train
            except MissingPathError as error:
                print(error)
        """
        assert ": python -m deep_reid draw --layout " in installed.python(
            textwrap.dedent(code), work
        )

    def test_the_command_draws(self, people):
        assert len(list(people.glob("*/*.jpg"))) == 8 * 4

    @pytest.mark.long
    def test_trains_tests_and_freezes(self, installed, people, work):
        def deep_reid(*argv):
            return run(installed.bin / "deep-reid", *argv, cwd=work)

        deep_reid(
            "custom", "--mode=train", "--dataset=people", "--image_shape", "32", "16",
            "--batch_size=8", "--number_of_steps=3", "--num_validation=2",
        )  # fmt: skip
        assert "rank-1 " in deep_reid("custom", "--mode=test", "--report_dir=report")
        assert "<html" in (work / "report" / "report.html").read_text()
        deep_reid("custom", "--mode=freeze", "--output=custom.pb")
        code = (
            "import numpy as np; from deep_reid import Encoder; "
            "print(Encoder('custom.pb')(np.zeros((2, 32, 16, 3), np.uint8)).shape)"
        )
        assert installed.python(code, cwd=work) == "(2, 128)"


class TestEditable:
    """``pip install --editable .``: the clone is found from everywhere, by both of its names."""

    def test_the_data_sets_are_importable_from_everywhere(self, editable, clone, tmp_path):
        code = "from deep_reid.datasets import custom; print(custom.__file__)"
        assert editable.python(code, cwd=tmp_path) == str(clone / "datasets" / "custom.py")

    def test_in_the_clone_the_short_name_is_the_same_module(self, editable, clone):
        code = (
            "from datasets import market1501; from deep_reid.datasets import market1501 as same; "
            "print(market1501 is same)"
        )
        assert editable.python(code, cwd=clone) == "True"

    def test_the_command_is_installed(self, editable, tmp_path):
        assert "market1501" in run(editable.bin / "deep-reid", cwd=tmp_path)
