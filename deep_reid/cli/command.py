"""Settings of the command line that no run records."""

import dataclasses
import functools
from typing import Any

from deep_reid.config.kinds import (
    COSINE_DISTANCE,
    COUNT,
    FINITE,
    POSITIVE,
    SHARE,
    Choice,
    Choices,
    Folders,
    On,
    Path,
    Shard,
    Switch,
    Text,
)
from deep_reid.config.recipes import RECIPES, describe
from deep_reid.config.setting import COMMAND, MODES, setting
from deep_reid.export.clients import CLIENTS
from deep_reid.export.formats import FORMATS, QUANTIZATIONS
from deep_reid.export.model_input import BGR_UINT8, KINDS, LAYOUTS

_setting = functools.partial(setting, belongs_to=COMMAND)
_of_all = functools.partial(_setting, modes=MODES, group="run")
_of_evaluation = functools.partial(_setting, modes=("eval",), group="evaluation")
_of_each_evaluation = functools.partial(
    _of_evaluation, modes=("train", "eval"), needs={"train": "--eval_every"}
)
_of_test = functools.partial(_setting, modes=("test",), group="test")
_of_search = functools.partial(_setting, modes=("search",), group="search", is_main=True)
_of_freeze = functools.partial(_setting, modes=("freeze",), group="export")
_of_tracking = functools.partial(_setting, modes=("track",), group="track")
_of_export = functools.partial(_setting, group="export", is_main=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """What to do, and with which files.

    In defaults, ``{name}`` stands for the name of the data set. `given` has the settings of a run
    (`deep_reid.config.RunConfig`) that are on the command line.
    """

    mode: str = _of_all(
        "train", Choice(MODES), "what to do; --mode=MODE --help describes one", is_main=True
    )
    log_dir: str = _of_all(
        "./output/{name}/train", Text(), "where training writes its runs", is_main=True
    )
    run_id: str | None = _of_all(
        None,
        Text(),
        "name of the run",
        is_main=True,
        synonyms=("name", "exp_name", "experiment", "resume"),
        default_text="training makes one, others take the latest",
    )
    config: str | None = _of_all(
        None,
        Path(),
        "config.json of another run: its settings become the defaults",
        default_text="none",
    )
    checkpoint: str | None = _setting(
        None,
        Path(),
        "checkpoint to use: its prefix, any of its files or its directory",
        modes=("test", "search", "track", "export", "finalize", "freeze"),
        group="run",
        is_main=True,
        flags=("--restore_path", "--checkpoint"),
        synonyms=("weights", "pretrained"),
        default_text="the run's latest",
        otherwise="evaluation watches the checkpoints of a run: name the run with --run_id",
    )
    precise_batch_norm: int | None = _of_all(
        None,
        COUNT,
        "set batch norm anew, without training, from this number of batches of training images "
        "(Wu and Johnson 2021); checkpoints stay as they are",
        is_main=True,
        needs={"train": "--eval_every"},
        default_text="the running averages of training",
    )
    gray: bool | None = _setting(
        None,
        Switch(),
        "gray images instead of color",
        modes=MODES,
        group="data",
        flags=("--gray", "--grey"),
        default_text="color",
    )
    debug: bool = _of_all(False, On(), "log more, and errors with a trace")
    recipe: str | None = _setting(
        None,
        Choice(RECIPES),
        f"set of settings that say how the network learns; strong is {describe('strong')}; "
        "each can be given by hand, too",
        group="recipe",
        is_main=True,
        default_text="faithful, or what the run has",
    )
    check_data: bool = _setting(
        False,
        On(),
        "read all images before training, and list those that cannot be used",
        group="data",
    )
    benchmark_input: bool = _setting(
        False, On(), "instead of training, measure how fast images are read"
    )
    benchmark_model: bool = _setting(
        False, On(), "instead of training, measure how fast the steps are on a constant batch"
    )
    sync_replicas: bool = _setting(
        True,
        Switch(),
        "in a cluster (TF_CONFIG), one batch of each process makes one step; without it, each "
        "batch makes a step of its own",
        group="cluster",
    )
    cluster_timeout_secs: float = _setting(
        600,
        POSITIVE,
        "seconds that the processes of a cluster wait for each other at their start",
        group="cluster",
    )
    eval_every: int | None = _setting(
        None,
        COUNT,
        "steps between evaluations in the training process",
        group="evaluation",
        is_main=True,
        default_text="none; --mode=eval evaluates in a process of its own",
    )
    eval_log_dir: str = _of_each_evaluation(
        "./output/{name}/eval",
        Text(),
        "where evaluation writes",
        is_main=True,
    )
    eval_interval_secs: float = _of_evaluation(
        10, POSITIVE, "seconds between checks for new checkpoints"
    )
    max_num_evaluations: int | None = _of_evaluation(
        None, COUNT, "number of evaluations, from the newest checkpoint on", default_text="no end"
    )
    eval_once: bool = _of_evaluation(
        False, On(), "evaluate the newest checkpoint and end", is_main=True
    )
    until_trained: bool = _of_evaluation(
        False,
        On(),
        "end when the training has ended and its checkpoints are evaluated",
        is_main=True,
    )
    patience: int | None = _of_each_evaluation(
        None,
        COUNT,
        "evaluations without a better Precision@1, after which training ends",
        is_main=True,
        default_text="it goes on",
    )
    timeout_secs: float | None = _of_evaluation(
        None,
        POSITIVE,
        "seconds without a new checkpoint after which evaluation ends",
        is_main=True,
        default_text="it never ends",
    )
    keep_best: bool = _of_each_evaluation(
        False,
        On(),
        "keep a copy of the checkpoint with the best rank-1, under best/ in the run's folder",
        is_main=True,
    )
    projector: bool = _of_each_evaluation(
        False,
        On(),
        "write validation features for TensorBoard's embedding projector",
    )
    batch_size: int = _setting(
        128,
        COUNT,
        "images that are encoded at once",
        modes=("test", "search", "track", "export"),
        group="machine",
    )
    shard: tuple[int, int] | None = _setting(
        None,
        Shard(),
        "compute and write only shard I of N of the features, with I from 0 to N - 1; test then "
        "scores all of them with --features",
        modes=("export", "test"),
        group="export",
        default_text="all of them, in one file",
    )
    metrics_file: str | None = _of_test(
        None,
        Text(),
        "file that the scores are written to",
        is_main=True,
        default_text="test_metrics.json in the run's folder",
    )
    report_dir: str | None = _of_test(
        None,
        Text(),
        "folder for report.html: table, curves and rankings as pictures",
        is_main=True,
        default_text="no report",
    )
    frozen_graph: str | None = _of_test(
        None,
        Text(),
        "use this graph instead of a checkpoint",
        modes=("test", "search", "track"),
        is_main=True,
        default_text="none",
    )
    trust_graph: bool = _of_test(
        False,
        On(),
        "run a frozen graph with any ops, also those that read or write files, or call programs",
        modes=("test", "search", "track"),
    )
    features: str | None = _of_test(
        None,
        Text(),
        "use the features in this file instead: .mat with the variable features, or .npy; one row "
        "per image of the gallery, in the order of --mode=export; or a pattern for all shards",
        modes=("test", "search"),
        default_text="none",
    )
    query_features: str | None = _of_test(
        None, Text(), "the features of the queries, where these are images", default_text="none"
    )
    rerank: bool = _of_test(
        False, On(), "score with k-reciprocal re-ranking, too (Zhong et al. 2017)", is_main=True
    )
    query: str | None = _of_search(
        None, Path(), "image to search for, or folder of such images", default_text="none"
    )
    gallery: str | None = _of_search(
        None, Path(), "folder of the images to search in, with its subfolders", default_text="none"
    )
    index: str = _of_search(
        "exact",
        Choice(("exact", "faiss")),
        "how to search: compare with all images, or by an index of faiss, which misses some, for "
        "10 million images and more",
        needs={"search": "--features"},
    )
    num_results: int = _of_search(10, COUNT, "results for each query")
    search_dir: str = _of_search(
        "./output/{name}/search",
        Text(),
        "where search writes results.csv, search.html and features",
    )
    sequences: tuple[str, ...] = _of_tracking(
        (),
        Folders(),
        "MOTChallenge sequences to track in: folders of them, or above several; detections are "
        "those of det/det.txt, or made from gt/gt.txt",
        is_main=True,
        default_text="none",
    )
    train_sequences: tuple[str, ...] = _of_tracking(
        (),
        Folders(),
        "sequences to choose the threshold on; the others report its scores",
        is_main=True,
        default_text="the first half of --sequences, by name",
    )
    max_cosine_distance: float | None = _of_tracking(
        None,
        COSINE_DISTANCE,
        "Deep SORT's threshold",
        is_main=True,
        default_text="the best one on --train_sequences",
    )
    min_confidence: float = _of_tracking(
        0.3, FINITE, "confidence of a detection below which it is left out"
    )
    nms_max_overlap: float = _of_tracking(
        1.0,
        SHARE,
        "overlap above which the less confident of two boxes is left out",
        default_text="1, none is left out",
    )
    video: bool = _of_tracking(True, Switch(), "write videos with the tracks")
    track_dir: str = _of_tracking(
        "./output/{name}/track",
        Text(),
        "where track writes features, tracks, videos, scores.csv and track.html",
        is_main=True,
    )
    sdk_dir: str | None = _of_export(
        None,
        Text(),
        "where export writes its .mat files",
        modes=("export",),
        default_text="export/ in the run's folder",
    )
    output: str | None = _of_export(
        None,
        Text(),
        "file to write",
        modes=("finalize", "freeze"),
        default_text="in the run's folder, export/{name}.ckpt for finalize, export/{name}.pb, or "
        "of another format, for freeze",
    )
    no_preprocess: bool = _of_export(
        False,
        On(),
        "freeze a graph whose input is the network's: float32, RGB, scaled",
        modes=("freeze",),
    )
    formats: tuple[str, ...] = _of_freeze(
        (),
        Choices(tuple(FORMATS)),
        "formats to write, separated by commas",
        flags=("--format",),
        is_main=True,
        default_text="pb, a frozen graph; with --for, what the client reads",
    )
    client: str | None = _of_freeze(
        None,
        Choice(tuple(CLIENTS)),
        "write what this program reads, with the files that it needs beside it",
        flags=("--for",),
        is_main=True,
        default_text="none",
    )
    quantize: str = _of_freeze(
        "none",
        Choice(QUANTIZATIONS),
        "type to compute in: int8 for onnx, tflite and openvino, bfloat16 for openvino",
        is_main=True,
    )
    calibration_images: int = _of_freeze(
        512, COUNT, "training images by which int8 finds the ranges of activations"
    )
    model_input: str | None = _of_freeze(
        None,
        Choice(KINDS),
        "values that the file takes: as OpenCV reads them, or RGB in [0, 1], or RGB normalized as "
        "for ImageNet",
        flags=("--input",),
        default_text=BGR_UINT8,
    )
    layout: str | None = _of_freeze(
        None, Choice(LAYOUTS), "order of axes: channels last or first", default_text=LAYOUTS[0]
    )
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
