"""Sizes of the measurements, and their files: data sets, crops, a frame, and a model."""

import dataclasses
import functools
import pathlib
import sys

import cv2
import numpy as np

from benchmarks.workers import NotMeasured, closing_all
from datasets import synthetic

MODELS = {"tflite": "model.tflite", "openvino": "model_openvino", "onnx": "model.onnx"}
"""Files of the model for other runtimes, by their format."""

CROP_SIZE = (64, 128)  # width, height
FRAME_SIZE = (1920, 1080)
_WIDTHS_OF_BOXES = (40, 120)
_ASPECT_RATIO = 2.4  # height to width; not that of the network's input


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are those of a full run."""

    rounds: int = 9
    secs_per_turn: float = 1.0
    num_identities: int = 120  # persons of the drawn data sets
    batch_size: int = 128  # of training, input, and the encoding of files
    # Minimum of a turn. With fewer batches, most of them would be ready before the turn begins,
    # because the feed's threads work ahead.
    training_steps: int = 3
    input_batches: int = 40
    crop_counts: tuple = (1, 10, 32, 128)
    num_boxes: int = 20  # on the frame
    num_threads: tuple = (1, 2, 4)  # of the feed
    num_encoded: tuple = (2_000, 20_000)  # files to encode, to measure the peak memory
    matrix_size: int = 4096
    pytorch_ways: tuple = ("eager", "eager, channels first", "compiled")  # compiling takes minutes
    # Of the runs whose accuracy is compared.
    num_scored_identities: int = 80
    scored_batch_size: int = 32
    scored_steps: int = 400
    num_seeds: int = 3
    # Of the measurements on a GPU, where compiling takes minutes, too.
    gpu_batch_sizes: tuple = (128, 256, 512, 1024)
    gpu_crop_counts: tuple = (1, 32, 128, 1024)
    pytorch_gpu_ways: tuple = ("eager", "compiled", "CUDA graphs")


# The largest batch has 256 identities, and a fast GPU is measured in fewer rounds.
GPU = Sizes(rounds=5, num_identities=300, training_steps=10)
# Just enough to see that everything runs.
QUICK = Sizes(
    rounds=1,
    secs_per_turn=0.01,
    num_identities=4,
    batch_size=8,
    training_steps=1,
    input_batches=4,
    crop_counts=(1, 2),
    num_boxes=2,
    num_threads=(1, 2),
    num_encoded=(8, 16),
    matrix_size=64,
    pytorch_ways=("eager",),
    num_scored_identities=10,
    scored_batch_size=8,
    scored_steps=2,
    num_seeds=2,
    gpu_batch_sizes=(8,),
    gpu_crop_counts=(2,),
    pytorch_gpu_ways=("eager",),
)


class Files:
    """Paths of files. A file is written when it is first used, and all groups share it.

    Parameters
    ----------
    sizes : Sizes
    directory : str
        Folder of the files.
    pythons : sequence of str
        Interpreters of the environments that have builds of PyTorch to compare with.
    """

    def __init__(self, sizes, directory, pythons=(sys.executable,)):
        self.directory = pathlib.Path(directory)
        self.sizes = sizes
        self.pythons = pythons

    @property
    def training(self):
        """Settings of the workers that use the training images."""
        return {"dataset_dir": self.market1501, "batch_size": self.sizes.batch_size}

    @functools.cached_property
    def market1501(self):
        """A data set of images of 128 x 64."""
        return self._draw(synthetic.draw_market1501, "market1501")

    @functools.cached_property
    def mars(self):
        """A data set of images of 256 x 128."""
        return self._draw(synthetic.draw_mars, "mars")

    @functools.cached_property
    def crops(self):
        """File of an array of uint8, shape (N, 128, 64, 3), BGR, as smooth as photographs."""
        return self._draw_crops("crops.npy", max(*self.sizes.crop_counts, self.sizes.num_boxes))

    @functools.cached_property
    def gpu_crops(self):
        """As `crops`, and as many as a GPU encodes at once."""
        return self._draw_crops("gpu_crops.npy", max(self.sizes.gpu_crop_counts))

    @functools.cached_property
    def frame(self):
        """File of ``frame``, shape (1080, 1920, 3), and ``boxes``, (N, 4): x, y, width, height."""
        random = np.random.default_rng(2)
        coarse = random.integers(0, 256, (54, 96, 3), np.uint8)
        widths = random.uniform(*_WIDTHS_OF_BOXES, (self.sizes.num_boxes, 1))
        box_sizes = widths * (1, _ASPECT_RATIO)
        corners = random.uniform(size=box_sizes.shape) * (FRAME_SIZE - box_sizes)
        path = self.directory / "frame.npz"
        frame = cv2.resize(coarse, FRAME_SIZE)
        np.savez(path, frame=frame, boxes=np.hstack([corners, box_sizes]))
        return path

    @functools.cached_property
    def model(self):
        """A folder with the files of `benchmarks.model.ModelWriter`."""
        path = self.directory / "model"
        path.mkdir(exist_ok=True)
        with closing_all() as start:
            start("benchmarks.model:ModelWriter").ask("write", path)
        return path

    @functools.cached_property
    def pytorch_builds(self):
        """The builds of PyTorch, such as ``2.13.0+cpu``, with their interpreters."""
        builds = {}
        for number, python in enumerate(self.pythons):
            with closing_all() as start:
                try:
                    build = start("benchmarks.in_pytorch:Devices", python=python).ask("version")
                except NotMeasured:
                    if number == 0 and len(self.pythons) > 1:
                        continue  # this interpreter, where others are named
                    build = f"not found ({number})"  # the rows of its contenders say why
            builds[build] = python
        return builds

    def _draw_crops(self, name, count):
        coarse = np.random.default_rng(1).integers(0, 256, (count, 16, 8, 3), np.uint8)
        path = self.directory / name
        np.save(path, np.stack([cv2.resize(image, CROP_SIZE) for image in coarse]))
        return path

    def _draw(self, draw, name):
        path = self.directory / name
        draw(path, num_identities=self.sizes.num_identities, num_test_identities=1)
        return str(path)
