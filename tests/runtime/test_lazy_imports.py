"""Keras 3 and scikit-learn are imported at their first use, not with TensorFlow."""

import importlib
import subprocess
import sys
import textwrap
import threading

import pytest

from deep_reid.runtime.lazy_imports import LazyModule, without

pytest.importorskip("keras")


def run(code):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_importing_the_package_leaves_keras_out_until_it_is_used():
    output = run(
        """
        import sys
        from deep_reid.compat import tf
        from deep_reid import evaluation, export, training
        for module in (training.train_loop, evaluation.eval_loop, export.freeze):
            pass
        assert "keras" not in sys.modules
        print(tf.keras.layers.Dense.__name__, "keras" in sys.modules)
        import keras
        print(keras.optimizers.Adam().__class__.__name__)
        """
    )
    assert output.split() == ["Dense", "True", "Adam"]


@pytest.mark.slow
def test_a_keras_that_was_imported_before_stays_in_use():
    run(
        """
        import keras
        from deep_reid.compat import tf
        import sys
        assert sys.modules["keras"] is keras
        assert tf.keras.layers.Dense is keras.layers.Dense
        """
    )


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import sklearn.metrics", "import tf_slim"])
def test_scikit_learn_is_imported_when_the_cluster_loss_is_computed(before):
    pytest.importorskip("sklearn")
    run(
        f"""
        import sys
        {before}
        from deep_reid.compat import slim, tf
        assert {bool(before)} or not {{"sklearn", "scipy.stats"}} & set(sys.modules)
        from tf_slim.losses import metric_learning
        labels = tf.constant([1, 1, 2, 2])
        embeddings = tf.constant([[0.0, 1], [0, 1.1], [1, 0], [1.1, 0]])
        loss = metric_learning.cluster_loss(labels, embeddings, 1.0)
        with tf.Session() as session:
            assert session.run(loss) >= 0.0
        assert "sklearn.metrics" in sys.modules
        """
    )


def test_a_lazy_module_has_the_names_of_the_real_one():
    module = LazyModule("textwrap")
    assert module.dedent is textwrap.dedent
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018 - the access is the subject


@pytest.fixture
def no_keras(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "keras"]:
        monkeypatch.delitem(sys.modules, name)
    # As little as stands for Keras: importing the real one twice would register its classes twice.
    monkeypatch.setattr(sys, "path", sys.path[:])


def test_only_the_block_and_its_thread_go_without(no_keras, tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    with without("keras"):
        with pytest.raises(ImportError, match="first used"):
            importlib.import_module("keras")
        assert importlib.util.find_spec("keras").origin == str(tmp_path / "keras.py")
        thread = threading.Thread(target=lambda: found.append(importlib.import_module("keras")))
        thread.start()
        thread.join()
    assert found[0].__file__ == str(tmp_path / "keras.py")
    monkeypatch.delitem(sys.modules, "keras")
    assert importlib.import_module("keras").__file__ == str(tmp_path / "keras.py")
    monkeypatch.delitem(sys.modules, "keras")


def test_a_machine_without_keras_does_not_have_one(no_keras, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    importlib.invalidate_caches()
    with without("keras"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("keras")
