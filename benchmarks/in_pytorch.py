"""The contenders in PyTorch: the same network, with the settings that make PyTorch fastest."""

import contextlib
import ctypes
import functools
import itertools
import statistics

import cv2
import numpy as np
import torch
import torch._inductor.config
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import num_cores
from benchmarks.pytorch_network import DeepSortNetwork
from benchmarks.workers import CropEncoder, mean_secs
from datasets import market1501
from deep_reid import samplers

NUM_CLASSES = market1501.MAX_LABEL + 1
NUM_IMAGES_PER_ID = 4
LEARNING_RATE = 1e-3
_NUM_WARM_UP_STEPS = 2
_NUM_TRIAL_STEPS = 3
_NUM_TRIAL_CALLS = 10
# Constants of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def use_all_there_is():
    """Set PyTorch up as its guides to performance recommend: all cores, reused memory.

    On GPUs, float32 is computed in TF32, as TensorFlow does, and convolutions choose the fastest
    algorithm. On CPUs, PyTorch takes memory for each result from the C library, which by default
    returns large pieces to the system. The system fills them with zeros before they are used again:
    convolutions took twice as long. TensorFlow reuses memory by itself.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    torch.set_num_threads(num_cores())
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def find_device(on_gpu):
    """Return the GPU if it is wanted and there is one, else the CPU."""
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


def find_memory_format(channels_last):
    """Return PyTorch's name of an order of the axes in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format


class Devices:
    """What PyTorch can compute on."""

    def version(self):
        """Return PyTorch's version, which names the build: 2.13.0+cpu, for instance."""
        return str(torch.__version__)  # its own type needs PyTorch where it is read

    def describe(self):
        """Return one line."""
        if torch.cuda.is_available():
            return f"PyTorch: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        if torch.version.cuda is None:
            return "PyTorch: no GPU, as this is its build for CPUs: install its CUDA build"
        return "PyTorch: no GPU: install the driver of an NVIDIA GPU"


class Batches(Dataset):
    """Reads whole batches: an index is the file names and labels of a batch.

    An item has images of uint8, shape (N, 128, 64, 3), BGR, each mirrored with probability 0.5, and
    their labels.
    """

    def __getitem__(self, batch):
        filenames, labels = batch
        images = np.empty((len(filenames), *market1501.IMAGE_SHAPE), np.uint8)
        is_mirrored = torch.rand(len(filenames)).numpy() < 0.5
        for row, filename in enumerate(filenames):
            image = cv2.imread(filename)
            images[row] = image[:, ::-1] if is_mirrored[row] else image
        return images, labels


class Training:
    """Trains from image files.

    `compile_mode` is one of ``torch.compile``, or None: eager. `channels_last` is the order of the
    axes in memory.
    """

    def __init__(
        self,
        dataset_dir,
        batch_size,
        precision,
        compile_mode=None,
        channels_last=True,
        on_gpu=False,
    ):
        use_all_there_is()
        torch.manual_seed(1)
        filenames, labels, _ = market1501.read_train_split_to_str(dataset_dir)
        self._batches = samplers.random_sample_identities_forever(
            batch_size, NUM_IMAGES_PER_ID, filenames, labels, seed=1
        )
        self._device = find_device(on_gpu)
        self._autocast = contextlib.nullcontext
        if precision != "float32":  # weights and optimizer stay in float32, as ours do
            self._autocast = functools.partial(
                torch.autocast, self._device.type, dtype=getattr(torch, precision)
            )
        # As ours: most gradients are too small for float16.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")
        self._memory_format = find_memory_format(channels_last)
        network = DeepSortNetwork(NUM_CLASSES).to(memory_format=self._memory_format)
        self._network = network.to(self._device)
        weights = [each for each in self._network.parameters() if each.requires_grad]
        self._optimizer = torch.optim.Adam(weights, LEARNING_RATE, fused=True)
        self._compute = self._compute_loss
        if compile_mode is not None:
            self._compute = torch.compile(self._compute_loss, mode=compile_mode)
        self._load(num_workers=1)

    def tune(self):
        """Find and keep the numbers of threads and reading processes that train fastest.

        Returns
        -------
        str
        """

        def use(numbers):
            torch.set_num_threads(numbers[0])
            self._load(numbers[1])

        def try_out(numbers):
            use(numbers)
            return statistics.median(self.measure(1) for _ in range(_NUM_TRIAL_STEPS))

        best = min(itertools.product(powers_of_two(num_cores()), repeat=2), key=try_out)
        use(best)
        return "threads: {}, processes that read images: {}".format(*best)

    def measure(self, count):
        """Train from files: mean seconds of `count` steps."""
        return mean_secs(self._train_step, count, _NUM_WARM_UP_STEPS)

    def peak_gpu_memory(self):
        """Return the peak of the memory that tensors had on the GPU, in MiB."""
        return torch.cuda.max_memory_allocated() / 2**20

    def _load(self, num_workers):
        self._loaded = iter(
            DataLoader(
                Batches(),
                sampler=((list(names), labels) for names, labels in self._batches),
                batch_size=None,
                num_workers=num_workers,
                worker_init_fn=_use_one_thread,
                multiprocessing_context="fork",
                pin_memory=self._device.type == "cuda",
            )
        )

    def _train_step(self):
        images, labels = (
            tensor.to(self._device, non_blocking=True) for tensor in next(self._loaded)
        )
        loss = self._compute(images, labels)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.item()

    def _compute_loss(self, images, labels):
        with self._autocast():
            features = self._network(_to_input(images, self._memory_format))
        return self._network.compute_loss(features, labels)


class Encoding(CropEncoder):
    """Encodes crops by the network with the weights of a ``.npz`` file."""

    def __init__(
        self, weights_path, crops_path, compile_mode=None, channels_last=True, on_gpu=False
    ):
        super().__init__(crops_path)
        use_all_there_is()
        network = DeepSortNetwork(NUM_CLASSES)
        with np.load(weights_path) as variables:
            network.load_weights(variables)
        self._device = find_device(on_gpu)
        memory_format = find_memory_format(channels_last)
        network = network.eval().to(self._device, memory_format=memory_format)
        self._encode = lambda crops: network(_to_input(crops, memory_format))
        if compile_mode is not None:  # once for each number of crops, with constant weights
            torch._inductor.config.freezing = True
            self._encode = torch.compile(self._encode, dynamic=False, mode=compile_mode)

    def choose_num_threads(self, num_crops):
        """Find and keep the number of threads that encode this number of crops fastest."""

        def try_out(num_threads):
            torch.set_num_threads(num_threads)
            return self.measure(num_crops, _NUM_TRIAL_CALLS)

        best = min(powers_of_two(num_cores()), key=try_out)
        torch.set_num_threads(best)
        return best

    def encode(self, crops):
        """Return the features of crops."""
        with torch.inference_mode():
            return self._encode(torch.from_numpy(crops).to(self._device)).cpu().numpy()


def powers_of_two(largest):
    """List 1, 2, 4, and so on, up to `largest`, which is the last one."""
    return sorted({2**power for power in range(largest.bit_length())} | {largest})


def _to_input(images, memory_format):
    """Turn uint8 (N, H, W, 3), BGR, into float32 (N, 3, H, W), RGB in [0, 1]."""
    images = images.flip(3).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=memory_format) / 255.0


def _use_one_thread(worker_id):
    del worker_id
    cv2.setNumThreads(0)
