"""What a user brings: how it is found by its name, and what it must have."""

import argparse
import inspect
import sys
import typing

import pytest

from datasets import synthetic
from datasets.custom import Custom
from datasets.market1501 import Market1501
from datasets.mars import Mars
from deep_reid import interfaces, losses, nets
from deep_reid.compat import tf
from deep_reid.config.imports import check_call, import_named
from deep_reid.config.kinds import ChoiceOrImport
from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import NETWORKS, RunConfig
from deep_reid.errors import UsageError
from deep_reid.interfaces import Loss, Network, NetworkFactory, Preprocess

COLORS = ChoiceOrImport(("red", "green"))


def refuse(name):
    """Import what cannot be imported; return the error and its line."""
    with pytest.raises(UsageError) as caught:
        import_named(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or repr(name) in str(caught.value)
    return caught.value, str(caught.value)


class TestImportNamed:
    def test_finds_a_module_of_the_working_directory(self, write_module, tmp_path):
        write_module("mine.py", "thing = [3]\n")
        assert import_named("mine:thing") is import_named("mine:thing")
        assert import_named("mine:thing") == [3]
        assert sys.path[-1] == str(tmp_path)  # nothing there comes before what is installed
        assert sys.path.count(str(tmp_path)) == 1

    def test_finds_a_module_in_a_folder_and_what_is_installed(self, write_module, tmp_path):
        (tmp_path / "lab").mkdir()
        write_module("lab/mine.py", "thing = 3\n")
        assert import_named("lab.mine:thing") == 3
        assert import_named("deep_reid.losses:magnet_loss") is losses.magnet_loss

    def test_a_class_is_made_without_arguments(self, write_module):
        write_module("mine.py", "class Mine:\n    def __init__(self):\n        self.size = 3\n")
        assert import_named("mine:Mine").size == 3

    def test_names_may_have_any_letters_that_python_takes(self, write_module):
        write_module("réseau.py", "perte_à_marge = 3\n")
        assert import_named("réseau:perte_à_marge") == 3

    @pytest.mark.parametrize(
        "name",
        ["", ":", "mine", "mine:", ":thing", "a:b:c", "mine:a.b", "mine:thing ", "my module:thing",
         ".mine:thing", "mine.:thing", "a..b:thing", "mine:3", "mine:→", "mine\udcff:thing",
         "mine:thing\n", "mine:\0"],
    )  # fmt: skip
    def test_another_form_is_refused_with_an_example(self, name):
        _, line = refuse(name)
        assert "must be MODULE:NAME, such as my_module:MyNetwork" in line

    @pytest.mark.parametrize(
        "name", ["mine.py:thing", "lab/mine.py:thing", "./mine:thing", "/lab/mine:thing",
                 "lab\\mine:thing"],
    )  # fmt: skip
    def test_a_path_is_refused_with_what_to_write_instead(self, name):
        _, line = refuse(name)
        assert "has the path of a file: write the module as Python imports it" in line

    @pytest.mark.parametrize(
        ("name", "missing"),
        [("absent:thing", "absent"), ("absent.part:thing", "absent"),
         ("mine.part:thing", "mine.part")],
    )  # fmt: skip
    def test_a_missing_module_is_named_with_where_it_was_looked_for(
        self, write_module, tmp_path, name, missing
    ):
        write_module("mine.py", "")
        error, line = refuse(name)
        assert f"there is no module {missing} in {tmp_path}" in line
        assert "start in the folder of its file, or add that folder to PYTHONPATH" in line
        assert isinstance(error.__cause__, ModuleNotFoundError)

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("class MyNetwork: pass", "; did you mean MyNetwork?"),
            ("def other(): pass\nimport os", ": it has other"),
            ("import os", ": define it there"),
            ("", ": define it there"),
        ],
    )
    def test_a_missing_name_comes_with_what_there_is(self, write_module, tmp_path, text, part):
        write_module("mine.py", text)
        _, line = refuse("mine:MyNetwrk")
        assert f"module mine ({tmp_path / 'mine.py'}) has no MyNetwrk{part}" in line

    def test_a_module_of_the_same_name_is_told_by_its_file(self, write_module):
        write_module("json.py", "thing = 3\n")
        _, line = refuse("json:thing")
        assert f"module json ({sys.modules['json'].__file__}) has no thing" in line

    def test_a_folder_is_told_by_its_path(self, write_module, tmp_path):
        (tmp_path / "lab").mkdir()
        _, line = refuse("lab:thing")
        assert f"module lab ({tmp_path / 'lab'}) has no thing" in line

    @pytest.mark.parametrize(
        ("text", "kind", "parts"),
        [
            ("1 / 0", ZeroDivisionError, ["ZeroDivisionError: division by zero", "line 2)"]),
            ("raise ValueError('a\\nb')", ValueError, ["ValueError: a (", "line 2)"]),
            ("raise ValueError", ValueError, ["imported: ValueError (", "line 2)"]),
            ("def f(:", SyntaxError, ["SyntaxError: ", "(mine.py, line 2)"]),
            ("import absent", ImportError, ["No module named 'absent' (", "line 2)"]),
            ("import mine.part", ImportError, ["No module named 'mine.part'", "line 2)"]),
            ("from os import absent", ImportError, ["cannot import name 'absent'", "line 2)"]),
            ("raise ModuleNotFoundError('gone')", ImportError, ["gone (", "line 2)"]),
            ("import sys; sys.exit('done')", SystemExit, ["SystemExit: done", "line 2)"]),
        ],
    )
    def test_a_module_that_fails_is_told_by_its_error_and_line(
        self, write_module, text, kind, parts
    ):
        write_module("mine.py", f"\n{text}\n")
        error, line = refuse("mine:thing")
        assert "mine:thing: module mine cannot be imported: " in line
        assert isinstance(error.__cause__, kind)
        for part in parts:
            assert part in line

    @pytest.mark.parametrize(
        ("body", "part"),
        [
            ("def __init__(self, size): pass", "missing 1 required positional argument: 'size'"),
            ("def __init__(self): raise OSError('no file')", "OSError: no file ("),
        ],
    )
    def test_a_class_that_cannot_be_made_is_told_by_its_error(self, write_module, body, part):
        write_module("mine.py", f"class Mine:\n    {body}\n")
        error, line = refuse("mine:Mine")
        assert "mine:Mine() failed: " in line
        assert part in line
        assert "give the object's name" in line
        assert error.__cause__ is not None


class TestCheckCall:
    @pytest.mark.parametrize(
        "function", [lambda a, b: 0, lambda *args, **kwargs: 0, lambda x, b, c=1: 0, max]
    )
    def test_takes_what_can_be_called_so_and_what_does_not_tell(self, function):
        check_call("mine:thing", function, ["a"], ["b"])

    @pytest.mark.parametrize(
        ("function", "part"),
        [
            (None, "is missing"),
            (3, "cannot be called, as it is of type int"),
            (lambda a: 0, "got an unexpected keyword argument 'b'"),
            (lambda a, b, c: 0, "missing a required argument: 'c'"),
            (lambda b: 0, "multiple values for argument 'b'"),
        ],
    )
    def test_refuses_others_with_how_it_is_called(self, function, part):
        with pytest.raises(UsageError, match=r"^mine:thing\(a, b\) .*docs/extending\.md") as caught:
            check_call("mine:thing", function, ["a"], ["b"])
        assert part in str(caught.value)


class TestChoiceOrImport:
    @pytest.mark.parametrize("value", ["red", "mine:thing", "lab.mine:Thing"])
    def test_takes_its_names_and_those_of_modules_without_importing_them(self, value):
        assert COLORS.check("color", value) == value
        parser = argparse.ArgumentParser()
        parser.add_argument("--color", **COLORS.arguments())
        assert parser.parse_args([f"--color={value}"]).color == value

    @pytest.mark.parametrize(
        ("value", "part"),
        [("blue", "use one of red, green, or MODULE:NAME"), (None, "use one of red, green"),
         (3, "use one of red, green"), (["red"], "use one of red, green"),
         ("a:b:c", "must be MODULE:NAME"), ("a/b.py:c", "has the path of a file")],
    )  # fmt: skip
    def test_refuses_others_by_the_name_of_the_setting(self, value, part):
        with pytest.raises(UsageError, match=r"^color ") as caught:
            COLORS.check("color", value)
        assert part in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "part"),
        [("blue", "--color: blue is unknown: use one of red, green, or MODULE:NAME"),
         ("a:b:c", "--color: a:b:c must be MODULE:NAME"),
         ("a/b.py:c", "--color: a/b.py:c has the path of a file")],
    )  # fmt: skip
    def test_refuses_others_on_the_command_line(self, value, part, capsys):
        parser = argparse.ArgumentParser()
        parser.add_argument("--color", **COLORS.arguments())
        with pytest.raises(SystemExit):
            parser.parse_args([f"--color={value}"])
        assert part in capsys.readouterr().err
        assert "--color {red,green,MODULE:NAME}" in parser.format_help()

    def test_a_run_records_the_name(self, tmp_path):
        config = RunConfig((32, 16, 3), network="mine:Net", loss_mode="mine:loss")
        config.save(tmp_path)
        assert RunConfig.load(tmp_path) == config


def members(protocol):
    """Names that a class must have to follow a protocol."""
    hidden = ("__init__", "__call__", "__len__")
    own = [name for name in vars(protocol) if not name.startswith("_") or name in hidden]
    return {*own, *typing.get_type_hints(protocol)}


def check_follows(thing, protocol):
    """Check that something has a protocol's members, and that its functions take the arguments."""
    assert isinstance(thing, protocol)
    for name in members(protocol) & set(vars(protocol)) - {"__init__"}:
        described = getattr(vars(protocol)[name], "__func__", vars(protocol)[name])
        if inspect.isfunction(described):
            # The signature of a function is not that of its __call__.
            check_takes(thing if name == "__call__" else getattr(thing, name), described)


def check_takes(function, described):
    """Check that a function can be called as a method of a protocol is described."""
    signature = inspect.signature(function)
    for parameter in list(inspect.signature(described).parameters.values())[1:]:  # but self
        assert parameter.name in signature.parameters
        own = signature.parameters[parameter.name]
        assert own.kind in (parameter.kind, parameter.POSITIONAL_OR_KEYWORD)
        if parameter.default is not parameter.empty:
            assert own.default is not own.empty
    required = [x.name for x in signature.parameters.values() if x.default is x.empty]
    assert set(required) <= set(inspect.signature(described).parameters)


class TestProtocols:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_packages_networks_follow_theirs(self, name):
        network = nets.load_network(name)
        check_follows(network, Network)
        check_follows(network.preprocess, Preprocess)
        factory = nets.create_inference_network(network)
        check_follows(factory, NetworkFactory)
        with tf.Graph().as_default():
            images = network.preprocess(tf.zeros((2, 128, 64, 3), tf.uint8), is_training=False)
            features, logits = factory(images)
        assert (images.dtype, features.dtype, logits) == (tf.float32, tf.float32, None)
        assert features.get_shape().as_list() == [2, 128]

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_the_packages_losses_follow_theirs(self, loss_mode):
        loss = losses.load_loss(loss_mode)
        check_follows(loss, Loss)
        with tf.Graph().as_default():
            rows = tf.ones((4, 3))
            value = loss(rows, rows, tf.constant([0, 0, 1, 1], tf.int64))
        assert (value.dtype, value.get_shape().as_list()) == (tf.float32, [])

    @pytest.mark.parametrize("dataset_class", [Market1501, Mars, Custom])
    def test_the_data_sets_follow_theirs(self, dataset_class, request, tmp_path):
        if dataset_class is Custom:
            folder = tmp_path / "people"
            synthetic.draw_folders(folder, num_identities=6, images_per_identity=2)
        else:
            folder = request.getfixturevalue(f"drawn_{dataset_class.NAME}")
        check_takes(dataset_class, interfaces.Dataset.__init__)
        dataset = dataset_class(str(folder), 2)
        check_follows(dataset, interfaces.Dataset)
        for split in (dataset.train, dataset.validation):
            check_follows(split, interfaces.Split)
        check_follows(dataset.test_set(), interfaces.TestSet)

    def test_what_lacks_a_member_does_not_follow(self):
        class Half:
            def create_network_factory(self, is_training, num_classes, add_logits):
                raise NotImplementedError

        assert not isinstance(Half(), Network)
        assert not isinstance(3, Loss)
        with pytest.raises(AssertionError):
            check_follows(lambda features, labels: None, Loss)

    def test_all_of_them_are_documented(self):
        protocols = [x for x in vars(interfaces).values() if getattr(x, "_is_protocol", False)]
        own = [x for x in protocols if x.__module__ == interfaces.__name__]
        assert len(own) == 7
        for protocol in own:
            for name, member in {"": protocol, **vars(protocol)}.items():
                if callable(member) and not name.startswith("_"):
                    assert inspect.getdoc(member), (protocol, name)
