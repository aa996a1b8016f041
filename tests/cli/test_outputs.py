"""Where outputs go, what tells their origin, and that nothing is overwritten silently."""

import dataclasses
import fnmatch
import json
import os
import re
import shutil
import stat
import threading
from pathlib import Path

import pytest
from saved import save

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import cli
from deep_reid.cli import outputs
from deep_reid.cli.outputs import Origin
from deep_reid.config import RunConfig

ROOT = Path(__file__).parents[2]
A = Origin(run="a", step=10, checkpoint="log/a/model.ckpt-10")
A_LATER = Origin(run="a", step=20, checkpoint="log/a/model.ckpt-20")
B = Origin(run="b", step=10, checkpoint="log/b/model.ckpt-10")
PUBLISHED = Origin(run=None, step=0, checkpoint="published/model.ckpt")
OTHER = Origin(run=None, step=0, checkpoint="other/model.ckpt")


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


DATA = "x.data-00000-of-00001"
# For each mode the flags that name its outputs, and all files that it then writes.
OUTPUTS = {
    "freeze": (["--output=out/x.pb"], ["x.pb", "x.pb.manifest.json"]),
    "finalize": (
        ["--output=out/x"], ["x.index", DATA, "x.manifest.json"],
    ),
    "export": (
        ["--sdk_dir=out"], ["feat_test.mat", "feat_test.csv", "feat_test.mat.manifest.json"],
    ),
    "test": (
        ["--metrics_file=out/scores.json", "--report_dir=out"],
        [name + ending for name in ("scores.json", "report.html")
         for ending in ("", ".manifest.json")],
    ),
    "search": (
        ["--search_dir=out", "--query=people", "--gallery=people"],
        ["query.npy", "query.csv", "gallery.npy", "gallery.csv", "results.csv", "search.html",
         "results.csv.manifest.json"],
    ),
}  # fmt: skip


def read_all(folder):
    """Return the content of each file in a folder, by its path; locks name processes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_run(run_dir):
    RunConfig((32, 16, 3), seed=1).save(run_dir)
    return str(run_dir)


class TestDefaultPath:
    def test_is_in_the_folder_of_the_run(self, tmp_path):
        run_dir = make_run(tmp_path / "log" / "run")
        path = outputs.default_path("custom", run_dir, "export", "custom.pb")
        assert path == os.path.join(run_dir, "export", "custom.pb")

    def test_of_the_best_checkpoint_too(self, tmp_path):
        run_dir = make_run(tmp_path / "log" / "run")
        best = make_run(tmp_path / "log" / "run" / "best")
        (tmp_path / "log" / "run" / "best" / "score.json").write_text("{}")
        assert outputs.default_path("custom", best, "x") == os.path.join(run_dir, "x")
        assert outputs.name_of_run(best) == "run"

    @pytest.mark.parametrize("run_dir", [None, "", "published", "missing"])
    def test_of_a_checkpoint_without_a_run_is_beside_the_runs(self, tmp_path, run_dir):
        (tmp_path / "published").mkdir()
        assert outputs.default_path("mars", run_dir, "x.pb") == "./output/mars/x.pb"
        assert outputs.name_of_run(run_dir) is None


SOURCES = [
    {"run": "a", "step": 1, "checkpoint": "a/model.ckpt-1"},
    {"run": "a", "step": 2, "checkpoint": "a/model.ckpt-2"},
    {"run": "b", "step": 1, "checkpoint": "b/model.ckpt-1"},
    {"run": None, "step": 0, "checkpoint": "published/model.ckpt"},
    {"run": "b", "step": 1, "frozen_graph": "b.pb"},
    {"frozen_graph": "x.pb"},
    {"features": "x.mat"},
    {"features": "gallery.mat, query.mat"},
]
MADE_OF = ["run a", "run a", "run b", "checkpoint published/model.ckpt", "run b",
           "frozen graph x.pb", "features x.mat", "features gallery.mat, query.mat"]  # fmt: skip


class TestOverwriting:
    @pytest.mark.parametrize("old", range(len(SOURCES)))
    @pytest.mark.parametrize("new", range(len(SOURCES)))
    def test_other_networks_and_other_inputs_are_named(self, tmp_path, caplog, old, new):
        (tmp_path / "x.json").write_text("{}")
        for inputs in ("people", "cars"):
            caplog.clear()
            outputs.write_manifest("x.json", Origin.of_source(SOURCES[old], query="people"))
            outputs.warn_of_overwriting("x.json", Origin.of_source(SOURCES[new], query=inputs))
            is_other = MADE_OF[old] != MADE_OF[new] or inputs != "people"
            assert len(caplog.messages) == is_other
            if is_other:
                before, _, after = caplog.messages[0].partition(", with ")
                assert f"is of {MADE_OF[old]}" in before
                assert before.endswith(f"query {tmp_path}/people")
                assert after.startswith(MADE_OF[new])
                assert after.endswith(f"query {tmp_path}/{inputs}")

    @pytest.mark.parametrize(
        ("earlier", "new", "is_named"),
        [
            (A, A, False),
            (A, A_LATER, False),
            (A, B, True),
            (A, PUBLISHED, True),
            (PUBLISHED, PUBLISHED, False),
            (PUBLISHED, OTHER, True),
            (PUBLISHED, A, True),
        ],
    )
    @pytest.mark.parametrize("file", ["graph.pb", "weights.ckpt.index"])
    def test_what_came_from_another_run_is_named(
        self, tmp_path, caplog, earlier, new, is_named, file
    ):
        (tmp_path / file).write_text("content")
        path = file.removesuffix(".index")
        outputs.write_manifest(path, earlier)
        outputs.warn_of_overwriting(path, new)
        assert [f"{path}, which is of {earlier}, with {new}" in caplog.text] == [is_named]

    @pytest.mark.parametrize("manifest", [None, "", "[]", "{}", '{"run": 1}', "[" * 10**5])
    def test_what_is_of_unknown_origin_is_named(self, tmp_path, caplog, manifest):
        (tmp_path / "graph.pb").write_text("content")
        if manifest is not None:
            (tmp_path / "graph.pb.manifest.json").write_text(manifest)
        outputs.warn_of_overwriting("graph.pb", A)
        assert "Overwriting graph.pb, of which no manifest tells the run" in caplog.text

    @pytest.mark.parametrize(
        ("name", "value"),
        [("run", ["a"]), ("run", 5), ("step", "7"), ("step", None), ("checkpoint", 5),
         ("checkpoint", None), ("inputs", {}), ("kind", None), ("precise_batch_norm", "1")],
    )  # fmt: skip
    def test_a_manifest_with_a_value_of_another_type_is_none(self, tmp_path, name, value):
        manifest = {**dataclasses.asdict(A), name: value}
        (tmp_path / "graph.pb.manifest.json").write_text(json.dumps(manifest))
        assert outputs.read_origin("graph.pb") is None

    def test_what_is_not_there_is_no_matter(self, caplog):
        outputs.warn_of_overwriting("graph.pb", A)
        outputs.warn_of_overwriting(os.devnull, A)
        outputs.write_manifest(os.devnull, A)
        assert not caplog.text
        assert not os.path.exists(os.devnull + ".manifest.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    for run_id in ("good", "stray"):
        argv = [
            "--mode=train", f"--dataset={folder}/people", f"--log_dir={folder}/train",
            f"--run_id={run_id}", "--number_of_steps=1", "--batch_size=8",
            "--image_shape", "32", "16", "--num_validation=2", "--network=tiny:Net",
        ]  # fmt: skip
        assert cli.main(Custom, argv) == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of two runs, of which the second is a stray one."""
    shutil.copytree(trained / "train", tmp_path / "output" / "custom" / "train")
    (tmp_path / "people").mkdir()
    return tmp_path / "output" / "custom" / "train"


@pytest.fixture
def out(tmp_path, trained):
    """The folder for outputs; images are there to be searched."""
    (tmp_path / "people").rmdir()
    (tmp_path / "people").symlink_to(trained / "people")
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.slow
class TestModes:
    def test_which_run_is_taken_is_said_and_how_to_take_another(self, runs, run):
        for argv in (["--mode=freeze"], ["--mode=finalize"], ["--mode=export"], ["--mode=test"]):
            line = "Using run stray, step 1: ./output/custom/train/stray/model.ckpt-1"
            assert f"{line}; --run_id takes another one: good\n" in run(*argv)
            assert "takes another" not in run(*argv, "--run_id=good")
        text = run("--mode=eval", "--max_num_evaluations=1")
        assert "Evaluating run stray on 8 images; --run_id takes another one: good\n" in text

    def test_scores_of_an_export_name_the_run_that_it_was_made_of(
        self, runs, run, trained, tmp_path
    ):
        run("--mode=finalize", "--run_id=good", "--output=weights.ckpt")
        run("--mode=freeze", "--run_id=good", "--output=graph.pb")
        for source in ("--restore_path=weights.ckpt", "--frozen_graph=graph.pb"):
            run("--mode=test", source, f"--dataset={trained}/people", "--metrics_file=scores.json",
                "--network=tiny:Net", "--image_shape", "32", "16")  # fmt: skip
            scores = json.loads((tmp_path / "scores.json").read_text())
            assert (scores["run"], scores["step"]) == ("good", 1)

    def test_a_graph_is_tested_with_the_settings_of_its_own_run(self, runs, run):
        for run_id in ("good", "stray"):
            run("--mode=freeze", f"--run_id={run_id}", f"--output={run_id}.pb")
            text = run("--mode=test", f"--frozen_graph={run_id}.pb")
            assert f"with the settings of run {run_id}\n" in text

    def test_also_where_that_run_is_in_another_folder_and_says_so_where_it_is_gone(
        self, runs, run, tmp_path
    ):
        shutil.copytree(runs / "good", tmp_path / "other" / "third")
        run("--mode=freeze", "--log_dir=other", "--run_id=third", "--output=graph.pb")
        text = run("--mode=test", "--frozen_graph=graph.pb")
        assert "with the settings of run third\n" in text
        assert " is gone" not in text
        shutil.rmtree(tmp_path / "other")
        text = run("--mode=test", "--frozen_graph=graph.pb")
        assert "graph.pb was made of run third, whose folder other/third is gone" in text

    @pytest.mark.parametrize("ending", ["", "/", "/model.ckpt-1", "/model.ckpt-1.index"])
    def test_the_run_of_a_checkpoint_is_named_however_it_is_given(self, runs, run, ending):
        text = run("--mode=test", f"--restore_path={runs}/good{ending}")
        assert "with the settings of run good\n" in text
        assert "Overwriting" not in text
        text = run("--mode=test", "--metrics_file=scores.json", "--report_dir=report")
        assert "Overwriting" not in text
        text = run("--mode=test", f"--restore_path={runs}/good{ending}",
                   "--metrics_file=scores.json", "--report_dir=report")  # fmt: skip
        for name in ("scores.json", "report/report.html"):
            assert f"Overwriting {name}, which is of run stray, step 1, data set" in text

    def test_outputs_are_in_the_folder_of_their_run_with_a_manifest(self, runs, run):
        for run_id in ("good", "stray"):
            export, manifests = runs.relative_to(runs.parents[2]) / run_id / "export", set()
            for mode in ("freeze", "finalize", "export", "test"):
                text = run(f"--mode={mode}", f"--run_id={run_id}")
                assert "Overwriting" not in text
                made = set(export.glob("*.manifest.json")) - manifests
                manifests |= made
                assert len(made) == (mode != "test")
                assert all(
                    f"Wrote its manifest, with run and step, to {path}\n" in text for path in made
                )
            for name in ("custom.pb", "custom.ckpt", "feat_test.mat"):
                manifest = json.loads((export / f"{name}.manifest.json").read_text())
                assert (manifest["run"], manifest["step"]) == (run_id, 1)
            metrics = json.loads((runs / run_id / "test_metrics.json").read_text())
            assert (metrics["run"], metrics["step"]) == (run_id, 1)
        assert sorted(os.listdir()) == ["output", "people"]
        # The run goes on as before: what is in export/ are not its checkpoints.
        run("--mode=train", "--run_id=good", "--number_of_steps=2")
        assert (runs / "good" / "model.ckpt-2.index").exists()

    def test_outputs_elsewhere_name_what_they_overwrite(self, runs, run):
        run("--mode=freeze", "--run_id=good", "--output=custom.pb")
        text = run("--mode=freeze", "--output=custom.pb")
        assert "Overwriting custom.pb, which is of run good, step 1, with run stray, step 1" in text

    @pytest.mark.parametrize("is_there", [True, False])
    @pytest.mark.parametrize("mode", OUTPUTS)
    def test_outputs_are_written_through_links(self, runs, run, out, mode, is_there):
        """All of them: what is in the folder afterwards are the links."""
        argv, names = OUTPUTS[mode]
        (out / "store").mkdir()
        for name in names:
            if is_there:
                (out / "store" / name).write_text("old")
            (out / name).symlink_to(f"store/{name}")
        run(f"--mode={mode}", *argv)
        assert {path.name for path in out.iterdir() if path.is_symlink()} == set(names)
        assert set(os.listdir(out)) == {"store", *names}
        assert set(os.listdir(out / "store")) == set(names)
        for name in names:
            assert (out / name).read_bytes() not in (b"", b"old")
        if mode == "finalize":
            network = ("--network=tiny:Net", "--image_shape", "32", "16")
            run("--mode=freeze", "--restore_path=out/x", f"--output={os.devnull}", *network)

    @pytest.mark.parametrize("mode", sorted(OUTPUTS.keys() - {"finalize"}))
    def test_outputs_are_written_into_devices_and_pipes(self, runs, run, out, mode):
        argv, names = OUTPUTS[mode]
        got = {}

        def read(name):
            got[name] = (out / name).read_bytes()

        readers = []
        for name in names:
            if name.endswith(".manifest.json"):
                continue  # what is no file needs none
            os.mkfifo(out / name)
            readers.append(threading.Thread(target=read, args=(name,), daemon=True))
            readers[-1].start()
        run(f"--mode={mode}", *argv)
        for reader in readers:
            reader.join(60)  # it ends when the pipe was written
        assert set(os.listdir(out)) == set(got)
        assert all(got.values())
        for name in got:
            assert stat.S_ISFIFO((out / name).stat().st_mode)
            (out / name).unlink()
            (out / name).symlink_to(os.devnull)
        run(f"--mode={mode}", *argv)
        assert set(os.listdir(out)) == set(got)
        assert all(os.readlink(out / name) == os.devnull for name in got)
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)

    @pytest.mark.parametrize(
        ("mode", "name"), [(mode, name) for mode in OUTPUTS for name in OUTPUTS[mode][1]]
    )
    def test_folders_are_refused_before_any_work(self, runs, run, out, monkeypatch, mode, name):
        (out / name / "precious").mkdir(parents=True)
        for module in ("deep_reid.export.encoding.encode", "deep_reid.export.encoding.freeze"):
            monkeypatch.setattr(module, None)
        argv, _ = OUTPUTS[mode]
        text = run(f"--mode={mode}", *argv, code=2 if name in ("x.index", DATA) else 1)
        assert re.search(rf"out/{name}(: Is a directory; name a file| is not a regular)", text)
        assert [path.name for path in out.rglob("*")] == [name, "precious"]

    @pytest.mark.parametrize("output", ["out", "pipe", os.devnull, "out/"])
    def test_a_checkpoint_is_written_to_files_only(self, runs, run, out, output):
        os.mkfifo("pipe")
        before = sorted(os.listdir(os.path.dirname(output) or "."))
        text = run("--mode=finalize", f"--output={output}", code=1 if "out" in output else 2)
        assert "name a file" in text or "not a regular file" in text
        assert sorted(os.listdir(os.path.dirname(output) or ".")) == before

    @pytest.mark.parametrize("is_link", [True, False])
    def test_a_checkpoint_is_not_written_over_itself(self, runs, run, out, is_link):
        before = read_all(runs)
        output = runs / "good" / "model.ckpt-1"
        if is_link:
            (out / "x.index").symlink_to(f"{output}.index")
            output = out / "x"
        argv = ("--mode=finalize", "--run_id=good", f"--output={output}")
        assert "is the checkpoint itself" in run(*argv, code=2)
        assert read_all(runs) == before


@pytest.mark.slow
class TestOwnFiles:
    """A run's own files are replaced, not followed: a link would lead out of its folder."""

    TRAIN = ("--mode=train", "--run_id=good", "--batch_size=8")
    EVAL = ("--mode=eval", "--run_id=good", "--max_num_evaluations=1", "--keep_best",
            "--projector")  # fmt: skip
    IN_PLACE = ("lock", "best.lock", "evaluation.lock", "metrics.jsonl")

    @pytest.fixture
    def work(self, runs, run, tmp_path, trained):
        """A run that was trained and evaluated, and copies of all its files elsewhere."""
        people = f"--dataset={trained}/people"
        run(*self.EVAL, people)
        folders = [runs / "good", runs.parent / "eval" / "good"]
        victim = tmp_path / "victim"
        victim.mkdir()

        def link(is_wanted):
            paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
            for number, path in enumerate(filter(is_wanted, paths)):
                copy = victim / f"{number}-{path.name}"
                path.rename(copy)
                path.symlink_to(copy)
            return read_all(victim)

        return link, victim, people

    def test_what_is_written_replaces_links(self, work, run):
        link, victim, people = work
        before = link(lambda path: path.name not in self.IN_PLACE)
        assert len(before) > 12
        run(*self.TRAIN, people, "--number_of_steps=2")
        run(*self.EVAL, people)
        assert read_all(victim) == before

    @pytest.mark.parametrize(
        ("mode", "name"),
        [("freeze", "export"), ("freeze", "export/custom.pb"), ("test", "test_metrics.json"),
         ("finalize", "export/custom.ckpt.index"), ("export", "export/feat_test.mat"),
         ("export", "export/feat_test.mat.manifest.json"),
         ("test", "test_metrics.json.manifest.json")],
    )  # fmt: skip
    def test_links_in_place_of_outputs_that_nobody_named_lead_nowhere_else(
        self, work, run, runs, tmp_path, mode, name
    ):
        _, victim, people = work
        path = runs / "good" / name
        path.parent.mkdir(exist_ok=True)
        (victim / "precious").mkdir() if name == "export" else (victim / "precious").touch()
        path.symlink_to(victim / "precious")
        argv = (f"--mode={mode}", "--run_id=good", people)
        before = sorted(victim.rglob("*")), read_all(victim)
        assert "is a symbolic link that leads out of" in run(*argv, code=1)
        assert (sorted(victim.rglob("*")), read_all(victim)) == before
        # Within the run's folder, a link harms nobody.
        path.unlink()
        (runs / "good" / "elsewhere").mkdir()
        path.symlink_to(runs / "good" / "elsewhere" / ("" if name == "export" else "x"))
        run(*argv)

    @pytest.mark.parametrize("name", IN_PLACE)
    def test_what_is_changed_in_place_is_refused(self, work, run, name):
        link, victim, people = work
        before = link(lambda path: path.name == name)
        assert len(before) == 1
        argv = (*self.TRAIN, "--number_of_steps=2") if name == "lock" else self.EVAL
        if name == "metrics.jsonl":
            (next(victim.iterdir())).write_text("precious, without an end")
            before = read_all(victim)
        assert "is a symbolic link" in run(*argv, people, code=1)
        assert read_all(victim) == before


@pytest.mark.slow
def test_scores_of_a_graph_do_not_go_into_a_run_that_is_the_current_folder(
    runs, run, out, monkeypatch
):
    """Here is a run, but neither the graph nor the features are known to be of it."""
    run("--mode=freeze", "--run_id=good", "--output=x.pb")
    run("--mode=export", "--run_id=good", "--sdk_dir=features")
    paths = [os.path.abspath(x) for x in ("people", "x.pb", "features/feat_test.mat")]
    monkeypatch.chdir(runs / "good")
    before = set(os.listdir())
    people, graph, features = paths
    for flag in (f"--frozen_graph={graph}", f"--features={features}"):
        run("--mode=test", f"--dataset={people}", flag)
        assert os.path.exists("output/custom/test_metrics.json")
        assert set(os.listdir()) - before == {"output"}
        shutil.rmtree("output")


def test_the_copy_of_the_best_is_named_by_its_run(tmp_path):
    make_run(tmp_path / "log" / "run")
    save(tmp_path / "log" / "run", [1])
    assert outputs.name_of_run(str(tmp_path / "log" / "run")) == "run"


@pytest.mark.parametrize("name", ["x.pb", "x.ckpt.index", "x.ckpt.data-00000-of-00001"])
@pytest.mark.parametrize("ending", ["", outputs.ENDING])
def test_git_ignores_outputs_and_their_manifests(name, ending):
    patterns = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch.fnmatch(f"{name}{ending}", pattern) for pattern in patterns)
