"""``--mode=freeze``: writes a network for trackers, servers and devices."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from deep_reid import nets
from deep_reid.cli import outputs
from deep_reid.cli.command import Command
from deep_reid.cli.export import default_path
from deep_reid.cli.settings import find_run_dir, open_dataset, settle
from deep_reid.cli.subject import find_checkpoint
from deep_reid.cli.weights import Weights
from deep_reid.config import RunConfig
from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.export import formats
from deep_reid.export.clients import CLIENTS, Client
from deep_reid.export.formats.model import Model
from deep_reid.export.model_input import BGR_UINT8, LAYOUTS, ModelInput
from deep_reid.export.parity import HEADER, PROTOCOL, Parity, Samples
from deep_reid.images.files import read_for_network
from deep_reid.interfaces import Dataset
from deep_reid.system.tables import align

_logger = logging.getLogger(__name__)

_NUM_SAMPLES = 256
_SEED = 0


def freeze(args: Command, dataset_class: type[Dataset]) -> None:
    """Write the network in one or more formats, each compared with the checkpoint."""
    config = settle(args, dataset_class, find_run_dir(args))
    if args.no_preprocess:
        _freeze_without_preprocessing(args, config, dataset_class)
        return
    client = None if args.client is None else CLIENTS[args.client]
    names = _choose_formats(args, client)
    model_input = ModelInput(
        config.image_shape,
        args.model_input or (client.kind if client else BGR_UINT8),
        args.layout or (client.layout if client else LAYOUTS[0]),
    )
    if args.output is not None:  # before TensorFlow is imported
        for name, path in _name_outputs(args, names, client, None).items():
            formats.FORMATS[name].check_output(path)
    dataset = _open_dataset(args, config, dataset_class)
    weights = Weights(args, dataset_class, config, dataset)
    origin = find_checkpoint(args, config)
    paths = _name_outputs(
        args,
        names,
        client,
        lambda name: default_path(dataset_class, origin, dataset_class.NAME + name),
    )
    for name, path in paths.items():
        outputs.warn_of_overwriting(path, origin, is_folder=formats.FORMATS[name].is_folder)
    samples = _read_samples(dataset, config)
    from deep_reid.export.convert import convert

    network = nets.load_network(config.network)
    compared: dict[str, Parity] = {}

    def describe(name, model, figures):
        """Write what belongs to a file: without it, boxmot for one takes it for another network."""
        compared[name] = figures
        outputs.write_manifest(paths[name], origin, parity=figures.to_dict())
        if client is not None:
            _write_beside(client, paths[name], model)

    try:
        with weights.of(origin.checkpoint) as checkpoint_path:
            convert(
                network.preprocess,
                nets.create_inference_network(network),
                checkpoint_path,
                model_input,
                paths,
                samples,
                quantization=args.quantize,
                calibration_images=_read_calibration(args, dataset, config),
                facts={"run": origin.run, "step": origin.step, **weights.facts},
                on_written=describe,
            )
    finally:
        _log_figures(compared, paths, len(samples.images))
    if client is not None:
        for path in paths.values():
            _logger.info("In %s: %s", client.title, client.describe_usage(path, model_input))


def _log_figures(compared, paths, num_images):
    """Log a table of the files that were written, also if a later one failed."""
    if not compared:
        return
    _logger.info(
        "Compared with the checkpoint, on %d images; rank-1 and mAP of %s:", num_images, PROTOCOL
    )
    rows = [figures.to_row(os.path.basename(paths[name])) for name, figures in compared.items()]
    for line in align([HEADER, *rows]).splitlines():
        _logger.info("%s", line)


def _write_beside(client: Client, path: str, model: Model) -> None:
    """Write what a client needs beside a file."""
    for beside in client.write_beside(path, model):
        _logger.info("Wrote %s, which %s reads", beside, client.title)


def _freeze_without_preprocessing(args, config, dataset_class):
    """Write a graph whose input is the network's own."""
    outputs.check_paths(args.output)
    given = {"--format": args.formats, "--for": args.client, "--input": args.model_input,
             "--layout": args.layout}  # fmt: skip
    for flag, value in given.items():
        if value and value != ("pb",):
            raise UsageError(
                f"--no_preprocess writes a frozen graph that takes the network's own input: leave "
                f"{flag} or --no_preprocess out"
            )
    weights = Weights(args, dataset_class, config)
    origin = find_checkpoint(args, config)
    from deep_reid.export.encoding import freeze as write_graph

    network = nets.load_network(config.network)
    path = args.output or default_path(dataset_class, origin, f"{dataset_class.NAME}.pb")
    outputs.warn_of_overwriting(path, origin)
    with weights.of(origin.checkpoint) as checkpoint_path:
        write_graph(
            network.preprocess,
            nets.create_inference_network(network),
            checkpoint_path,
            config.image_shape,
            path,
            with_preprocessing=False,
        )
    outputs.write_manifest(path, origin)


def _choose_formats(args: Command, client: Client | None) -> Sequence[str]:
    """Return the formats to write, after the checks that need no TensorFlow."""
    if client is not None:
        client.check({"input": args.model_input, "layout": args.layout, "format": args.formats})
    names = args.formats or (client.formats[:1] if client else ("pb",))
    formats.check_quantization(names, args.quantize)
    for name in names:
        formats.FORMATS[name].check_packages(args.quantize)
    return names


def _name_outputs(args, names, client, default):
    """Return where each format goes; `default` makes a path of a name."""
    output, paths = args.output, {}
    if output is not None:
        if all(formats.FORMATS[name].is_folder for name in names):
            output = output.rstrip(os.sep)
        if os.path.basename(formats.without_ending(output)) in ("", os.curdir, os.pardir):
            raise UsageError(
                f"--output={args.output} has no name of its own: add one, such as "
                f"{os.path.join(output or os.sep, 'network')}"
            )
    for name in names:
        known = formats.FORMATS[name]
        if output is None:
            parts = args.client, None if args.quantize == "none" else args.quantize
            path = default("".join(f"_{part}" for part in parts if part) + known.ending)
        elif len(names) > 1:
            path = formats.without_ending(output) + known.ending
        else:
            path = output
        if client is not None:
            path = client.place(path)
        if not _is_recognized(path, known):
            raise UsageError(
                f"--output={args.output} must end in {known.ending}, by which the format is "
                "recognized"
            )
        paths[name] = path
    return paths


def _is_recognized(path, known):
    """Tell whether a name shows the format; a frozen graph may have any but that of another one."""
    if known.name == "pb":
        return path.endswith(known.ending) or not path.endswith(formats.ENDINGS)
    return known.is_folder or path.endswith(known.ending)


def _open_dataset(args, config, dataset_class):
    """Open the data set to compare and calibrate with; None if it is missing."""
    try:
        return open_dataset(dataset_class, config)
    except (MissingPathError, UsageError) as error:
        if args.quantize == formats.INT8:
            raise
        _logger.info("No data set to compare the files on, so random images are used (%s)", error)
        return None


def _read_samples(dataset: Dataset | None, config: RunConfig) -> Samples:
    """Read images of whole identities, so that they can be found among each other."""
    if dataset is None:
        noise = np.random.default_rng(_SEED).integers(0, 256, (64, 8, 4, config.image_shape[2]))
        return Samples(_enlarge(noise.astype(np.uint8), config.image_shape))
    split = dataset.validation if len(dataset.validation) else dataset.train
    identities = np.random.default_rng(_SEED).permutation(np.unique(split.labels))
    rows = np.concatenate([np.flatnonzero(split.labels == label) for label in identities])
    rows = rows[:_NUM_SAMPLES]
    measure = facts_of_loss(config.loss_mode).measure
    return Samples(_read(split, rows, config), split.labels[rows], measure)


def _read_calibration(args, dataset, config):
    if args.quantize != formats.INT8:
        return None
    split = dataset.train
    rows = np.random.default_rng(_SEED).permutation(len(split))[: args.calibration_images]
    _logger.info("int8: finding the ranges of activations on %d training images", len(rows))
    return _read(split, rows, config)


def _read(split, rows, config):
    names = [split.filenames[row] for row in rows]
    return np.stack([read_for_network(name, config.image_shape) for name in names])


def _enlarge(images, image_shape):
    """Make smooth images of small ones, as photographs are."""
    factors = -(-image_shape[0] // images.shape[1]), -(-image_shape[1] // images.shape[2])
    images = images.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
    return images[:, : image_shape[0], : image_shape[1]]
