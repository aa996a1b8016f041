"""What is measured in PyTorch: the same network, trained and used as well as PyTorch does it."""

import contextlib
import ctypes
import statistics

import cv2
import numpy as np
import torch
import torch._inductor.config
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import num_cores
from benchmarks.pytorch_network import DeepSortNetwork
from benchmarks.workers import mean_secs
from datasets import market1501
from deep_reid import samplers

NUM_CLASSES = market1501.MAX_LABEL + 1
NUM_IMAGES_PER_ID = 4
LEARNING_RATE = 1e-3
MIRROR_PROBABILITY = 0.5
_NUM_WARM_UP_STEPS = 2
_NUM_TRIAL_STEPS = 3
_NUM_TRIAL_CALLS = 10
# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def use_all_there_is():
    """Set PyTorch up as its guide to performance on CPUs says: all cores, and memory that is kept.

    It takes memory for each result from the C library, which by default gives large pieces back to
    the system, to be filled with zeros when they are taken again: convolutions took twice as long.
    TensorFlow keeps memory by itself.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    torch.set_num_threads(num_cores())


class Batches(Dataset):
    """Reads whole batches of image files: an item is named by its file names and labels."""

    def __getitem__(self, batch):
        """Read a batch.

        Parameters
        ----------
        batch : tuple
            File names and labels.

        Returns
        -------
        images : np.ndarray of uint8, shape (N, 128, 64, 3), BGR
            Each mirrored with probability one half.
        labels : np.ndarray of int64, shape (N,)
        """
        filenames, labels = batch
        height, width, _ = market1501.IMAGE_SHAPE
        images = np.empty((len(filenames), height, width, 3), np.uint8)
        is_mirrored = torch.rand(len(filenames)).numpy() < MIRROR_PROBABILITY
        for row, filename in enumerate(filenames):
            image = cv2.imread(filename)
            if image.shape[:2] != (height, width):
                image = cv2.resize(image, (width, height))
            images[row] = image[:, ::-1] if is_mirrored[row] else image
        return images, labels


class Training:
    """Steps of training from image files.

    Parameters
    ----------
    dataset_dir : str
        Drawn in the layout of Market-1501.
    batch_size : int
    precision : {"float32", "bfloat16"}
        bfloat16 is PyTorch's autocast, which keeps weights and optimizer in float32, as we do.
    is_compiled : bool
    """

    def __init__(self, dataset_dir, batch_size, precision, is_compiled):
        use_all_there_is()
        torch.manual_seed(1)
        filenames, labels, _ = market1501.read_train_split_to_str(dataset_dir)
        self._batches = samplers.random_sample_identities_forever(
            batch_size, NUM_IMAGES_PER_ID, filenames, labels, seed=1
        )
        self._autocast = contextlib.nullcontext
        if precision == "bfloat16":
            self._autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
        self._network = DeepSortNetwork(NUM_CLASSES).to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(
            [weights for weights in self._network.parameters() if weights.requires_grad],
            LEARNING_RATE,
            fused=True,
        )
        self._compute = torch.compile(self._compute_loss) if is_compiled else self._compute_loss
        self._load(num_workers=1)

    def choose_num_workers(self):
        """Try how many processes read the images best, and stay with that number.

        Returns
        -------
        int
        """
        secs = {}
        for num_workers in range(1, num_cores() + 1):
            self._load(num_workers)
            secs[num_workers] = statistics.median(self.measure(1) for _ in range(_NUM_TRIAL_STEPS))
        best = min(secs, key=secs.get)
        self._load(best)
        return best

    def measure(self, count):
        """Train from files: mean seconds of `count` steps."""
        return mean_secs(self._train_step, count, _NUM_WARM_UP_STEPS)

    def _load(self, num_workers):
        self._loaded = iter(
            DataLoader(
                Batches(),
                sampler=((list(names), labels) for names, labels in self._batches),
                batch_size=None,
                num_workers=num_workers,
                worker_init_fn=_use_one_thread,
                multiprocessing_context="fork",
            )
        )

    def _train_step(self):
        images, labels = next(self._loaded)
        loss = self._compute(images, labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _compute_loss(self, images, labels):
        with self._autocast():
            features = self._network(to_input(images))
        return self._network.compute_loss(features, labels)


class Encoding:
    """Encoding of crops.

    Parameters
    ----------
    weights_path : str
        Variables of a checkpoint by TensorFlow's names, as ``.npz``.
    crops_path : str
        Array of uint8 crops, (N, 128, 64, 3), BGR.
    is_compiled : bool
        Whether the network is compiled anew for each number of crops, with its weights as
        constants.
    """

    def __init__(self, weights_path, crops_path, is_compiled):
        use_all_there_is()
        self._crops = np.load(crops_path)
        self._network = DeepSortNetwork(NUM_CLASSES)
        with np.load(weights_path) as variables:
            self._network.load_weights(variables)
        self._network = self._network.eval().to(memory_format=torch.channels_last)
        self._encode = self._encode_eagerly
        if is_compiled:
            torch._inductor.config.freezing = True
            self._encode = torch.compile(self._encode_eagerly, dynamic=False)

    def choose_num_threads(self, num_crops):
        """Try with how many threads so many crops are encoded best, and stay with that number.

        Returns
        -------
        int
        """
        secs = {}
        for num_threads in range(1, num_cores() + 1):
            torch.set_num_threads(num_threads)
            secs[num_threads] = self.measure(num_crops, _NUM_TRIAL_CALLS)
        best = min(secs, key=secs.get)
        torch.set_num_threads(best)
        return best

    def measure(self, num_crops, count):
        """Encode crops: mean seconds of `count` calls."""
        return mean_secs(lambda: self.features(num_crops), count, 1)

    def features(self, num_crops):
        """Return the features of the first crops, of shape (N, 128)."""
        with torch.inference_mode():
            return self._encode(torch.from_numpy(self._crops[:num_crops])).numpy()

    def _encode_eagerly(self, crops):
        return self._network(to_input(crops))


def to_input(images):
    """Bring images into the form that the network takes.

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (N, H, W, 3), BGR

    Returns
    -------
    torch.Tensor of float32, shape (N, 3, H, W), RGB in [0, 1], channels last in memory
    """
    images = images.flip(3).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.channels_last) / 255.0


def _use_one_thread(worker_id):
    del worker_id
    cv2.setNumThreads(0)
