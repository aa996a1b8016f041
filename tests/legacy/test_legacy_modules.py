"""Which module a name of old code stands for, with each engine."""

import importlib.util
import shutil

import pytest
import setuptools
from legacy_process import NO_TENSORFLOW, ROOT, run, write

RAISES = "raise RuntimeError('the wrong module')"
# A Hugging Face package, a clone of this package, ...: found before the site-packages.
RIVALS = {
    **{f"{name}/__init__.py": RAISES for name in ("datasets", "nets", "utils", "models")},
    "losses.py": RAISES,
    "train_app.py": RAISES,
    "tensorflow/__init__.py": NO_TENSORFLOW,
}


class TestOwn:
    """The modules beside the script win over all others of their names."""

    @pytest.mark.parametrize("init", [False, True])
    def test_folders_and_files_beside_the_script_win(self, tmp_path, init):
        script = """
            import losses, train_app
            from datasets import veri
            import datasets.util
            import nets.deep_sort.network_definition as net
            from utils.inner import deep
            import models.one
            print(losses.X, train_app.X, veri.X, datasets.util.X, net.X, deep.X, models.one.X)
        """
        names = ("losses", "train_app", "datasets/veri", "datasets/util", "models/one")
        names += ("nets/deep_sort/network_definition", "utils/inner/deep")
        files = {f"{name}.py": f"X = {i}" for i, name in enumerate(names)}
        if init:
            files |= {f"{name}/__init__.py": "" for name in ("datasets", "nets", "models")}
        folder = write(tmp_path / "old", {**files, "train.py": script})
        process = run(folder, "train.py", python_path=[write(tmp_path / "rivals", RIVALS), ROOT])
        assert process.stdout.split() == ["0", "1", "2", "3", "5", "6", "4"], process.stderr
        assert process.stderr == ""

    def test_so_they_do_for_a_module_of_the_working_folder(self, tmp_path):
        folder = write(
            tmp_path / "old", {"mine/train.py": "from datasets import veri; print(veri.X)"}
        )
        write(folder, {"datasets/veri.py": "X = 5", "mine/__init__.py": ""})
        rivals = write(tmp_path / "rivals", RIVALS)
        process = run(folder, "-m", "mine.train", python_path=[rivals])
        assert process.stdout == "5\n", process.stderr

    def test_folders_of_data_or_of_a_librarys_name_hide_nothing(self, tmp_path):
        script = "import json, numpy, utils; print(json.dumps(1), numpy.int8, utils.X)"
        files = {"json/notes.py": "", "numpy/exercise.py": "", "utils/faces.txt": ""}
        folder = write(tmp_path / "old", {**files, "train.py": script})
        rivals = write(tmp_path / "rivals", {"utils/__init__.py": "X = 1"})
        process = run(folder, "train.py", python_path=[rivals])
        assert process.stdout == "1 <class 'numpy.int8'> 1\n", process.stderr

    def test_what_a_script_puts_into_builtins_is_seen_by_its_modules_and_imports(self, tmp_path):
        files = {
            "train.py": "import builtins, helper\nbuiltins.thing = 3\nhelper.show()",
            "helper.py": "def show():\n    print(thing)",
        }
        process = run(write(tmp_path, files), "train.py")
        assert process.stdout == "3\n", process.stderr


OLD_FILES = {
    "train_app.py": "def train_loop(): pass\ndef save_as_text(): pass\n" + RAISES,
    "queued_trainer.py": "class QueuedTrainer:\n    def pause(self): pass\n" + RAISES,
    "losses.py": "def angular_loss(): pass\ndef _helper(): pass\n" + RAISES,
    "metrics.py": "print 'Python 2'",
    "datasets/util.py": RAISES,
    "datasets/base.py": "X = 'base of the old code'",
    "datasets/veri.py": "from datasets import base\nX = base.X",
    "nets/deep_sort/network_definition.py": RAISES,
    "nets/deep_sort/residual_net.py": "X = 'residual'",
    "nets/my_net.py": "from nets.deep_sort import residual_net\nX = residual_net.X",
    "tools/metrics.py": "X = 'another metrics'",
    "tools/__init__.py": "",
}
CHECKS = """
import importlib
from pathlib import Path

def is_ours(module, name):
    return module.__name__ == name and Path(module.__file__).is_relative_to({root!r})

assert is_ours(train_app, "deep_reid.train_app"), train_app
assert train_app is importlib.import_module("deep_reid.train_app")
assert train_app.__spec__.name == "deep_reid.train_app"
assert is_ours(queued_trainer, "deep_reid.queued_trainer")
assert is_ours(losses, "deep_reid.losses") and is_ours(metrics, "deep_reid.metrics")
assert net is network_definition and is_ours(net, "deep_reid.nets.deep_sort")
assert Path(util.__file__) == Path({root!r}, "datasets", "util.py")
assert Path(market1501.__file__) == Path({root!r}, "datasets", "market1501.py")
assert mars.MAX_LABEL == 1500
""".format(root=str(ROOT))
SCRIPT = (
    """
import train_app, queued_trainer
import losses
import metrics
from datasets import market1501, util
from datasets import mars, veri
import datasets.base
import nets.deep_sort.network_definition as net
from nets.deep_sort import network_definition, residual_net
from nets import my_net
import tools.metrics
import tensorflow as tf
"""
    + CHECKS
    + """
assert veri.X == datasets.base.X == "base of the old code"
assert my_net.X == "residual"
assert tools.metrics.X == "another metrics"
features, logits = net.create_network(tf.zeros((2, 128, 64, 3)), num_classes=3)
assert features.shape.as_list() == [2, 128]
losses.angular_loss(features)
"""
)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("old"), {**OLD_FILES, "train.py": SCRIPT})
    return run(folder, "--engine=deep_reid", "train.py")


class TestDeepReid:
    """The original's names stand for this package's modules, all others for the folder's."""

    def test_each_name_is_where_it_belongs_and_what_is_missing_ends_in_one_line(self, process):
        assert process.returncode == 1
        line = SCRIPT[: SCRIPT.index("losses.angular_loss")].count("\n") + 1
        assert f"train.py:{line}: deep_reid.losses has no angular_loss" in process.stderr
        assert "Traceback" not in process.stderr

    @pytest.mark.parametrize(
        "name",
        [
            *("train_app", "queued_trainer", "losses", "metrics", "datasets.util"),
            *("datasets.market1501", "datasets.mars", "nets.deep_sort.network_definition"),
        ],
    )
    def test_a_line_says_once_where_each_name_was_taken_from(self, process, name):
        lines = [x for x in process.stderr.splitlines() if f": {name} is {ROOT}" in x]
        assert len(lines) == 1
        has_own = f"{name.replace('.', '/')}.py" in OLD_FILES
        assert (" instead of " in lines[0]) == has_own

    def test_what_the_folders_file_has_beyond_ours_is_warned_of(self, process):
        for file, names in {
            "losses.py": "angular_loss",
            "train_app.py": "save_as_text",
            "queued_trainer.py": "QueuedTrainer.pause",
        }.items():
            warning = (
                f"warning: {file} of this folder has {names}, which deep_reid.{file[:-3]} lacks"
            )
            assert warning in process.stderr
        assert process.stderr.count("warning: ") == 3

    def test_the_folders_residual_blocks_are_kept_with_a_word(self, process):
        line = next(x for x in process.stderr.splitlines() if "residual_net is" in x)
        assert "residual_net.py, because deep_reid" in line

    def test_in_a_package_relative_imports_lead_to_the_same_modules(self, tmp_path):
        script = (
            "from . import train_app, queued_trainer, losses\n"
            "from .losses import magnet_loss\n"
            "import mine.metrics as metrics\n"
            "from .nets.deep_sort import network_definition as net\n"
            "from mine.nets.deep_sort import network_definition\n"
            "from .datasets import util, market1501, mars, veri\n" + CHECKS + "print(veri.X)\n"
        )
        files = {f"mine/{name}": text for name, text in OLD_FILES.items()}
        files["mine/datasets/veri.py"] = "X = 'veri'"
        folder = write(tmp_path, {**files, "mine/__init__.py": ""})
        (folder / "mine" / "train.py").write_text(script)
        process = run(folder, "--engine=deep_reid", "-m", "mine.train")
        assert (process.returncode, process.stdout) == (0, "veri\n"), process.stderr

    def test_a_script_alone_in_its_folder_has_all_names(self, tmp_path):
        script = (
            "import train_app, queued_trainer, losses, metrics\n"
            "from datasets import util, market1501, mars\n"
            "import nets.deep_sort.network_definition as net\n"
            "from nets.deep_sort import network_definition\n" + CHECKS + "print('ok')\n"
        )
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "train.py").write_text(script)
        # A package of another's called datasets, as Hugging Face's is.
        other = write(tmp_path / "site-packages", {"datasets/__init__.py": RAISES})
        process = run(tmp_path / "old", "--engine=deep_reid", "train.py", python_path=[other])
        assert (process.returncode, process.stdout) == (0, "ok\n"), process.stderr

    def test_in_a_clone_of_this_package_its_data_sets_are_one_package(self, tmp_path):
        shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
        shutil.copytree(ROOT / "deep_reid", tmp_path / "deep_reid")
        script = """
            from datasets import custom, market1501, veri
            from datasets.base import ReidDataset
            assert issubclass(market1501.Market1501, ReidDataset)
            print(market1501.__name__, custom.__name__, veri.X)
        """
        write(tmp_path, {"train.py": script, "datasets/veri.py": "X = 6"})
        process = run(tmp_path, "--engine=deep_reid", "train.py")
        expected = "datasets.market1501 datasets.custom 6\n"
        assert (process.stdout, process.stderr) == (expected, "")


def test_the_package_is_installed():
    assert importlib.util.find_spec("deep_reid.legacy.__main__") is not None
    assert "deep_reid.legacy" in setuptools.find_packages(ROOT)
