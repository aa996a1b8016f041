"""Settings of the command line alone, which no run records."""

import dataclasses

from deep_reid.config.kinds import COUNT, POSITIVE, Choice, On, Path, Switch, Text
from deep_reid.config.setting import MODES, setting

_OF_CHECKPOINTS = ("test", "export", "finalize", "freeze")
_OF_EVALUATION = {"modes": ("eval",), "group": "evaluation"}
_OF_TEST = {"modes": ("test",), "group": "test"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """What a mode is to do, and on what.

    In defaults, ``{name}`` stands for the name of the data set. `given` holds the settings of a
    run (`deep_reid.config.RunConfig`) that were given on the command line.
    """

    mode: str = setting(
        "train", Choice(MODES), "what to do", modes=MODES, group="run", is_main=True
    )
    log_dir: str = setting(
        "./output/{name}/train",
        Text(),
        "where training writes its runs",
        modes=MODES,
        group="run",
        is_main=True,
    )
    run_id: str | None = setting(
        None,
        Text(),
        "name of the run",
        modes=MODES,
        group="run",
        is_main=True,
        default_text="training makes one, others take the latest",
    )
    config: str | None = setting(
        None,
        Path(),
        "config.json of another run, whose settings are the defaults here",
        modes=MODES,
        group="run",
        default_text="none",
    )
    checkpoint: str | None = setting(
        None,
        Path(),
        "checkpoint to use: its prefix, any of its files or its directory",
        modes=_OF_CHECKPOINTS,
        group="run",
        is_main=True,
        flags=("--restore_path", "--checkpoint"),
        default_text="the run's latest",
        otherwise="evaluation watches the checkpoints of a run: name the run with --run_id",
    )
    gray: bool | None = setting(
        None,
        Switch(),
        "gray images instead of color",
        modes=MODES,
        group="data",
        flags=("--gray", "--grey"),
        default_text="color",
    )
    debug: bool = setting(
        False,
        On(),
        "log more, and errors with a trace",
        modes=MODES,
        group="run",
    )
    check_data: bool = setting(
        False,
        On(),
        "read all images before training, and list those that cannot be used",
        group="data",
    )
    benchmark_input: bool = setting(
        False, On(), "instead of training, measure how fast the images come"
    )
    benchmark_model: bool = setting(
        False, On(), "instead of training, measure how fast the steps are on a constant batch"
    )
    eval_log_dir: str = setting(
        "./output/{name}/eval", Text(), "where evaluation writes", **_OF_EVALUATION, is_main=True
    )
    eval_interval_secs: float = setting(
        60, POSITIVE, "seconds between looks for new checkpoints", **_OF_EVALUATION
    )
    max_num_evaluations: int | None = setting(
        None, COUNT, "evaluations to make", **_OF_EVALUATION, default_text="no end"
    )
    timeout_secs: float | None = setting(
        None,
        POSITIVE,
        "seconds without a new checkpoint after which evaluation ends",
        **_OF_EVALUATION,
        is_main=True,
        default_text="it never ends",
    )
    keep_best: bool = setting(
        False,
        On(),
        "keep a copy of the checkpoint with the best rank-1, under best/ in the run's folder",
        **_OF_EVALUATION,
        is_main=True,
    )
    projector: bool = setting(
        False,
        On(),
        "write validation features for TensorBoard's embedding projector",
        **_OF_EVALUATION,
    )
    batch_size: int = setting(
        128,
        COUNT,
        "images that are encoded at once",
        modes=("test", "export"),
        group="machine",
    )
    metrics_file: str = setting(
        "./test_metrics.json",
        Text(),
        "file that the scores are written to",
        **_OF_TEST,
        is_main=True,
    )
    report_dir: str | None = setting(
        None,
        Text(),
        "folder for report.html: table, curves and rankings as pictures",
        **_OF_TEST,
        is_main=True,
        default_text="no report",
    )
    frozen_graph: str | None = setting(
        None,
        Text(),
        "score this graph instead of a checkpoint",
        **_OF_TEST,
        is_main=True,
        default_text="none",
    )
    features: str | None = setting(
        None,
        Text(),
        "score these instead: .mat with the variable features, or .npy; one row per image of the "
        "gallery, in the order of export",
        **_OF_TEST,
        default_text="none",
    )
    query_features: str | None = setting(
        None,
        Text(),
        "the same for the queries, where they are images",
        **_OF_TEST,
        default_text="none",
    )
    rerank: bool = setting(
        False,
        On(),
        "score k-reciprocal re-ranking, too (Zhong et al. 2017)",
        **_OF_TEST,
        is_main=True,
    )
    sdk_dir: str = setting(
        "./output/{name}/export",
        Text(),
        "where export writes its .mat files",
        modes=("export",),
        group="export",
        is_main=True,
    )
    output: str | None = setting(
        None,
        Text(),
        "file to write",
        modes=("finalize", "freeze"),
        group="export",
        is_main=True,
        default_text="./{name}.ckpt for finalize, ./{name}.pb for freeze",
    )
    no_preprocess: bool = setting(
        False,
        On(),
        "freeze a graph that takes what the network takes: float32, RGB, scaled",
        modes=("freeze",),
        group="export",
        is_main=True,
    )
    given: dict = dataclasses.field(default_factory=dict)
