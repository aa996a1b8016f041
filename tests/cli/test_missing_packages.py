"""A package that is not installed ends every program with one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in import write_tensorflow

from datasets import synthetic
from deep_reid.system.packages import PACKAGES, missing_explained

ROOT = Path(__file__).parents[2]
# Runs a program where a module cannot be found, as if its package were not installed.
CODE = """
import runpy, sys

blocked, program, *argv = sys.argv[1:]

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == blocked or name.startswith(blocked + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [name for name in sys.modules if name.split(".")[0] == blocked]:
    del sys.modules[name]
sys.meta_path.insert(0, Blocked())
sys.argv = [program, *argv]
if program.endswith("__main__.py"):
    runpy.run_module("deep_reid", run_name="__main__")
else:
    runpy.run_path(program, run_name="__main__")
"""
TRAIN = ["--mode=train", "--dataset=people", "--batch_size=8", "--num_validation=0"]
TRAIN += ["--number_of_steps=1", "--image_shape", "32", "16"]
PROGRAMS = {
    "train_custom.py": [],
    "train_market1501.py": [],
    "train_mars.py": ["--mode=freeze"],
    "deep_reid/__main__.py": ["custom", "--mode=eval"],
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    return folder


def check(folder, module, program, argv, python_path=()):
    process = subprocess.run(
        [sys.executable, "-c", CODE, module, str(ROOT / program), *argv],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*python_path, ROOT)))},
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    *before, line = process.stderr.splitlines()
    assert all(re.search(" (INFO|WARNING) ", earlier) for earlier in before), before
    assert f"the package {PACKAGES[module]} is missing in this Python, {sys.executable}: " in line
    assert "pip install '.[tensorboard]'" in line


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("module", ["numpy", "cv2"])
def test_what_each_program_imports_first(work, module, program):
    check(work, module, program, PROGRAMS[program])


@pytest.mark.parametrize("module", ["numpy", "cv2"])
@pytest.mark.parametrize("argv", [["draw"], ["draw", "--layout=mot", "--output_dir=new"]])
def test_drawing(work, module, argv):
    check(work, module, "deep_reid/__main__.py", argv)
    assert not (work / "new").exists()


def test_a_mode_in_place_of_a_program(work):
    check(work, "numpy", "deep_reid/__main__.py", ["train"])


LATER = {
    "google.protobuf": TRAIN,
    "PIL": [*TRAIN, "--check_data"],
    "scipy": ["--mode=test", "--dataset=people", "--features=x.mat"],
    "tqdm": [*TRAIN, "--check_data"],
    "tensorflow": TRAIN,
    "tf_keras": TRAIN,
    "tf_slim": TRAIN,
    "threadpoolctl": ["--mode=test", "--dataset=people", "--features=x.mat"],
}


def test_each_package_is_tried():
    assert {*LATER, "numpy", "cv2"} == set(PACKAGES)


@pytest.mark.parametrize(
    "module",
    [pytest.param(m, marks=[pytest.mark.slow] if m == "tf_slim" else []) for m in LATER],
)
def test_what_is_imported_later(work, tmp_path, module):
    # Only TF-Slim is missed after TensorFlow has been used.
    python_path = [write_tensorflow(tmp_path, "2.17.3")] if module == "tf_keras" else []
    check(work, module, "train_custom.py", LATER[module], python_path)


def test_the_packages_are_those_of_the_project():
    text = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    needed = set(re.findall(r'^    "([\w-]+)', listed, re.MULTILINE))
    assert set(PACKAGES.values()) == needed | {"protobuf"}  # which comes with TensorFlow


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'mine'", name="mine"),
        ModuleNotFoundError("No module named 'numpy.mine'", name="numpy.mine"),
        ImportError("cannot import name 'mine' from 'numpy'", name="numpy"),
        ModuleNotFoundError("without a name"),
    ],
)
def test_other_errors_of_imports_stay_as_they_are(error):
    with pytest.raises(ImportError) as caught, missing_explained():
        raise error
    assert caught.value is error
