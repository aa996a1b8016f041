"""``python -m deep_reid PROGRAM``: the same programs as the scripts of a clone."""

import os
import pathlib
import subprocess
import sys

import pytest

import deep_reid
from datasets import synthetic
from deep_reid import __main__ as command
from deep_reid.config.setting import MODES

ROOT = pathlib.Path(__file__).parents[2]
DATA_SETS = ["market1501", "mars", "custom"]
PROGRAMS = [*DATA_SETS, "track", "draw"]
SCRIPTS = {
    **{name: [f"train_{name}.py"] for name in DATA_SETS},
    "track": ["train_custom.py", "--mode=track"],
    "draw": ["-m", "datasets.synthetic"],
}
WITHOUT_TENSORFLOW = (
    "import runpy, sys; sys.modules['tensorflow'] = sys.modules['tf_slim'] = None; "
    "sys.argv[0] = 'deep_reid/__main__.py'; "
    "runpy.run_module('deep_reid', run_name='__main__')"
)


def run_python(*argv, cwd=ROOT):
    """Run Python in a folder; the package is the one beside these tests."""
    argv = [sys.executable, *map(str, argv)]
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def run(*argv, **kwargs):
    return run_python("-m", "deep_reid", *argv, **kwargs)


@pytest.fixture
def as_installed(monkeypatch):
    """Run the command in this process, as the script that pip installs."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/deep-reid"])
    return command.main


class TestListing:
    @pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
    def test_no_program_and_help_list_the_programs(self, capsys, as_installed, argv):
        assert as_installed(argv) == 0
        output = capsys.readouterr().out
        assert output.startswith("usage: deep-reid PROGRAM ...\n")
        listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ")]
        assert listed == PROGRAMS

    def test_the_version_is_printed_alone(self, capsys, as_installed):
        assert as_installed(["--version"]) == 0
        assert capsys.readouterr().out == f"deep-reid {deep_reid.__version__}\n"

    def test_run_as_a_module_it_names_itself_so(self):
        process = run()
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout.startswith("usage: python -m deep_reid PROGRAM ...\n")


class TestUnknownPrograms:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("markt1501", "market1501"),
            ("market", "market1501"),
            ("MARS", "mars"),
            ("mras", "mars"),
            ("costum", "custom"),
            ("trakc", "track"),
            ("drwa", "draw"),
        ],
    )
    def test_the_program_that_was_meant_is_suggested(self, capsys, as_installed, typed, meant):
        assert as_installed([typed, "--mode=train"]) == 2
        error = f"deep-reid: error: no program {typed!r}; did you mean {meant}? "
        assert capsys.readouterr().err.startswith(error)

    def test_without_a_similar_one_they_are_listed(self, capsys, as_installed):
        assert as_installed(["imagenet"]) == 2
        assert capsys.readouterr().err == (
            "deep-reid: error: no program 'imagenet' (the programs are market1501, mars, custom, "
            "track, draw)\n"
        )

    @pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in PROGRAMS])
    def test_a_mode_in_place_of_the_program(self, capsys, as_installed, mode):
        for typed in (mode, f"{mode}x"):
            assert as_installed([typed]) == 2
            assert f"write deep-reid PROGRAM --mode={mode} (the programs" in capsys.readouterr().err

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_the_version_after_the_program(self, capsys, as_installed, program):
        try:
            code = as_installed([program, "--version"])
        except SystemExit as error:
            code = error.code
        assert code == 0
        assert capsys.readouterr().out == f"deep-reid {deep_reid.__version__}\n"

    @pytest.mark.parametrize(
        "argv", [["--verison"], ["custom", "--verison"], ["draw", "--verison"]]
    )
    def test_the_version_mistyped(self, capsys, as_installed, argv):
        try:
            code = as_installed(argv)
        except SystemExit as error:
            code = error.code
        assert code == 2
        assert "--version" in capsys.readouterr().err

    @pytest.mark.parametrize("layout", sorted(synthetic.LAYOUTS))
    def test_a_mistyped_layout_or_flag_of_drawing(self, capsys, as_installed, layout):
        for argv, meant in (
            ([f"--layout={layout}x"], layout),
            ([f"--layot={layout}"], "--layout"),
            ([layout], f"--layout={layout}"),
            (["--layout", layout, "--output_dri=x"], "--output_dir"),
        ):
            with pytest.raises(SystemExit) as caught:
                as_installed(["draw", *argv])
            assert caught.value.code == 2
            assert f"; did you mean {meant}?" in (error := capsys.readouterr().err)
            assert len(error.splitlines()) == 1

    def test_a_setting_before_the_program(self, capsys, as_installed):
        assert as_installed(["--mode=train", "mars"]) == 2
        assert capsys.readouterr().err == (
            "deep-reid: error: --mode=train stands before the program: write deep-reid PROGRAM "
            "--mode=train\n"
        )


class TestSameAsTheScripts:
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_help_differs_only_in_the_name(self, program):
        ours, scripts = run(program, "--help"), run_python(*SCRIPTS[program], "--help")
        assert (ours.returncode, scripts.returncode) == (0, 0)
        assert ours.stdout.startswith(f"usage: python -m deep_reid {program} [-")
        # The usage is wrapped behind the name.
        assert ours.stdout.partition("\n\n")[2] == scripts.stdout.partition("\n\n")[2]

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_a_usage_error_ends_with_2_and_the_name(self, program):
        process = run(program, "--no_such_setting")
        assert process.returncode == 2
        expected = run_python(*SCRIPTS[program], "--no_such_setting").stderr.splitlines()[-1]
        name, _, error = process.stderr.splitlines()[-1].partition(": error: ")
        assert (name, error) == (
            f"python -m deep_reid {program}",
            expected.partition(": error: ")[2],
        )
        assert SCRIPTS[program][-1] not in process.stderr

    @pytest.mark.parametrize("program", DATA_SETS)
    def test_missing_data_ends_with_1_and_a_command_that_draws_some(self, program, tmp_path):
        process = run(program, f"--dataset_dir={tmp_path}/data", cwd=tmp_path)
        assert process.returncode == 1
        assert len(process.stderr.splitlines()) == 1
        start = process.stderr.index("python -m") + len("python ")
        argv = process.stderr[start:].split()
        sizes = ["--num_identities=4"] + (["--num_cameras=2"] if program != "custom" else [])
        assert run_python(*argv, *sizes, cwd=tmp_path).returncode == 0
        assert (tmp_path / "data").is_dir()

    @pytest.mark.parametrize("argv", [["mras"], ["mars", "--help"], ["draw", "--help"]])
    def test_help_and_typos_need_no_tensorflow(self, argv):
        process = run_python("-c", WITHOUT_TENSORFLOW, *argv)
        assert process.returncode == (0 if "--help" in argv else 2), process.stderr

    def test_what_comes_after_drawing_is_the_same_command(self, tmp_path, caplog, as_installed):
        caplog.set_level("INFO")
        argv = ["draw", "--layout=folders", f"--output_dir={tmp_path}/people"]
        assert as_installed([*argv, "--num_identities=2", "--images_per_identity=2"]) == 0
        expected = f"Next: deep-reid custom --mode=train --dataset={tmp_path}/people"
        assert caplog.messages[-1] == expected


class TestDataSetsInAClone:
    """The folder has two names, ``datasets`` and ``deep_reid.datasets``."""

    CHECK = (
        "import datasets.base, datasets.market1501, deep_reid.datasets.base; "
        "from deep_reid.datasets import market1501; "
        "assert market1501 is datasets.market1501 and deep_reid.datasets.base is datasets.base; "
        "assert issubclass(market1501.Market1501, datasets.base.ReidDataset); "
        "assert datasets.market1501.__spec__.name == datasets.market1501.__name__"
    )

    @pytest.mark.parametrize("first", ["datasets", "deep_reid.datasets"])
    def test_a_module_is_loaded_once_whichever_name_comes_first(self, first):
        process = run_python("-W", "error", "-c", f"import {first}.market1501; {self.CHECK}")
        assert process.returncode == 0, process.stderr

    def test_the_long_name_needs_no_folder_on_the_path(self, tmp_path):
        link = tmp_path / "deep_reid"
        link.symlink_to(ROOT / "deep_reid")
        process = run_python("-c", "import deep_reid.datasets.custom", cwd=tmp_path)
        assert process.returncode == 0, process.stderr

    @pytest.mark.parametrize("first", ["datasets.base", "deep_reid.datasets.base"])
    def test_another_package_of_the_short_name_stays_as_it_is(self, first, tmp_path):
        (tmp_path / "datasets").mkdir()
        for name in ("__init__", "base"):
            (tmp_path / "datasets" / f"{name}.py").write_text("IS_OTHER = True")
        process = run_python(
            "-c",
            f"import {first}, datasets.base, deep_reid.datasets.base as ours; "
            "assert datasets.base.IS_OTHER and ours.ReidDataset",
            cwd=tmp_path,
        )
        assert process.returncode == 0, process.stderr
