"""The contenders in TensorFlow: the package itself, and the feed of the original."""

import contextlib
import dataclasses
import functools
import pathlib
import tempfile
import threading
import time
from unittest import mock

import numpy as np

from benchmarks import flops, op_kinds
from benchmarks.workers import CropEncoder, mean_secs
from datasets import market1501, mars
from deep_reid import export, samplers, training
from deep_reid.compat import tf
from deep_reid.config import ComputeSettings
from deep_reid.config.step import StepSettings
from deep_reid.engine import image_trainer
from deep_reid.engine.train_step import TrainStep
from deep_reid.images import pipeline
from deep_reid.nets import deep_sort
from deep_reid.runtime.precision import set_precision
from deep_reid.runtime.sessions import create_session_config, describe_devices, find_gpu
from deep_reid.training import graph

IMAGE_SHAPE = market1501.IMAGE_SHAPE
NUM_CLASSES = market1501.MAX_LABEL + 1
NUM_IMAGES_PER_ID = 4
QUEUE_CAPACITY = 512
LEARNING_RATE = 1e-3
_IMAGES = {
    "preprocess_fn": deep_sort.preprocess,
    "image_shape": IMAGE_SHAPE,
    "read_from_file": True,
}
_NUM_WARM_UP_STEPS = 2
_SECS_BETWEEN_LOOKS = 0.05


class Training:
    """Trains from image files: a step is that of the training loop, with logs and summaries.

    `has_staging` is whether the next batch waits on the GPU, if there is one.
    """

    def __init__(
        self,
        dataset_dir,
        batch_size,
        precision,
        xla=False,
        has_staging=True,
        num_enqueue_threads=StepSettings.num_enqueue_threads,
    ):
        compute = ComputeSettings(precision=precision, xla=xla)
        filenames, labels, _ = market1501.read_train_split_to_str(dataset_dir)
        batches = _sample_batches(batch_size, filenames, labels)
        with contextlib.nullcontext() if has_staging else _without_staging():
            trainer, self._train_op = training.create_trainer(
                network_factory=deep_sort.create_network_factory(
                    True, NUM_CLASSES, add_logits=True
                ),
                **_IMAGES,
                batch_size=batch_size,
                loss_mode="cosine-softmax",
                num_enqueue_threads=num_enqueue_threads,
                compute=compute,
            )
        self._global_step = tf.train.get_global_step()
        self._log_dir = tempfile.TemporaryDirectory()
        self._writer = tf.summary.FileWriter(self._log_dir.name)
        self._step = TrainStep(
            self._train_op,
            batch_size=batch_size,
            start_feed=lambda session: trainer.start_feed(session, batches),
            number_of_steps=None,
            log_every_n_steps=10,
            summary_op=tf.summary.merge_all(),
            save_summaries_secs=60,
            save=None,
            save_interval_secs=0,
            save_at_start=False,
        )
        self._num_waiting = _count_waiting()
        self._session = tf.Session(config=create_session_config(compute))
        self._session.run(tf.global_variables_initializer())

    def measure(self, count):
        """Train from files: mean seconds of `count` steps."""
        secs = mean_secs(self._train_from_files, count, _NUM_WARM_UP_STEPS)
        _wait_until_queue_rests(self._session, self._num_waiting)
        return secs

    def count_flops(self):
        """Return the floating point operations of a step, see `benchmarks.flops`."""
        return flops.count([self._train_op.op])

    def peak_gpu_memory(self):
        """Return the peak of the memory that tensors had on the GPU, in MiB."""
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20

    def close(self):
        """End the feed's threads."""
        self._step.stop_feed()
        self._session.close()
        self._writer.close()
        self._log_dir.cleanup()

    def _train_from_files(self):
        kwargs = {"summary_writer": self._writer}
        self._step(self._session, self._train_op, self._global_step, kwargs)


class ConstantTraining:
    """Trains on one batch, without a feed, logs and summaries: what is left is the step itself.

    Feeding a batch in the place of the queue's would not do: TensorFlow takes one from the queue
    all the same, as its optimizer makes other ops depend on that.
    """

    def __init__(self, batch_size, precision, xla=False, inter_op_threads=None):
        compute = ComputeSettings(precision=precision, xla=xla, inter_op_threads=inter_op_threads)
        set_precision(compute)
        # Variables: what follows from constants would be computed once.
        pixels = tf.random.uniform((batch_size, *IMAGE_SHAPE), seed=1)
        images = tf.Variable(pixels, trainable=False)
        identities = tf.range(batch_size, dtype=tf.int64) // NUM_IMAGES_PER_ID
        labels = tf.Variable(identities, trainable=False)
        step = graph.create_step(
            deep_sort.create_network_factory(True, NUM_CLASSES, add_logits=True),
            images,
            labels,
            LEARNING_RATE,
            StepSettings(loss_mode="cosine-softmax", **dataclasses.asdict(compute)),
        )
        self._train_op = step.train_op
        self._session = tf.Session(config=create_session_config(compute))
        self._session.run(tf.global_variables_initializer())

    def measure(self, count):
        """Train: mean seconds of `count` steps."""
        return mean_secs(lambda: self._session.run(self._train_op), count, _NUM_WARM_UP_STEPS)

    def count_flops(self):
        """Return the floating point operations of a step, see `benchmarks.flops`."""
        return flops.count([self._train_op.op])

    def trace(self):
        """Train one step: its ops, see `benchmarks.op_kinds`."""
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
        self._session.run(self._train_op, options=options, run_metadata=metadata)
        return op_kinds.read_ops(metadata)

    def num_queues(self):
        """Return the number of queues in the graph."""
        return len(_find_ops("FIFOQueueV2"))


class Input:
    """The feed alone: turns image files into the network's input, which is thrown away.

    `way` is "ours" or "naive". The naive feed is the original's: it decodes in one ``tf.map_fn``
    (without resizing, so that all files must have one size), resizes the batch, preprocesses in
    another ``tf.map_fn``, and puts single rows into the queue.
    """

    def __init__(self, dataset_dir, batch_size, way, num_threads):
        self._filenames, labels, *_ = mars.read_train_split_to_str(dataset_dir)
        if way == "ours":
            feed = image_trainer.create_image_trainer(
                **_IMAGES, is_training=True, num_enqueue_threads=num_threads
            )
            self._create_pixels = functools.partial(pipeline.create_image_input, **_IMAGES)
        else:
            feed, self._create_pixels = _NaiveFeed(num_threads), _create_naive_pixels
        self._dequeue = feed.get_input_vars(batch_size)[0].op
        self._num_waiting = _count_waiting()
        # Batches that wait in the queue or in a thread were decoded before.
        self._num_warm_up = QUEUE_CAPACITY // batch_size + num_threads + 2
        self._session = tf.Session(config=create_session_config())
        batches = _sample_batches(batch_size, self._filenames, labels)
        self._feed = feed.start_feed(self._session, batches)

    def measure(self, count):
        """Take `count` batches out of the queue: mean seconds of one."""
        secs = mean_secs(self._take_batch, count, self._num_warm_up)
        _wait_until_queue_rests(self._session, self._num_waiting)
        return secs

    def pixels(self):
        """Return the network's input for some files, not mirrored, of shape (N, H, W, 3)."""
        with tf.Graph().as_default(), tf.Session(config=create_session_config()) as session:
            filename_var, images = self._create_pixels(is_training=False)
            return session.run(images, {filename_var: self._filenames[:32]})

    def close(self):
        """End the feed's threads."""
        self._feed.stop()
        self._session.close()

    def _take_batch(self):
        self._feed.wait_for_batch()
        self._session.run(self._dequeue)


class FrozenGraph(CropEncoder):
    """Encodes crops by a frozen graph, as Deep SORT does."""

    def __init__(self, graph_path, crops_path):
        super().__init__(crops_path)
        self._graph_def = tf.GraphDef.FromString(pathlib.Path(graph_path).read_bytes())
        tf.import_graph_def(self._graph_def, name="")
        self._session = tf.Session(config=create_session_config())

    def encode(self, crops):
        """Return the features of crops."""
        return self._session.run("features:0", {"images:0": crops})

    def count_flops(self, num_crops):
        """Return the floating point operations for `num_crops`, see `benchmarks.flops`."""
        with tf.Graph().as_default():
            images = tf.placeholder(tf.uint8, (num_crops, *self.crops.shape[1:]))
            (features,) = tf.import_graph_def(
                self._graph_def, {"images:0": images}, ["features:0"], name="frozen"
            )
            return flops.count([features.op])


class EncoderOnFrame:
    """The package's encoder: it cuts crops out of a frame, resizes and encodes them."""

    def __init__(self, graph_path, frame_path):
        from deep_reid.export.encoder import Encoder

        self._encoder = Encoder(graph_path)
        with np.load(frame_path) as arrays:
            self._frame, self._boxes = arrays["frame"], arrays["boxes"]

    def measure(self, count):
        """Crop, resize and encode: mean seconds of `count` calls."""
        return mean_secs(lambda: self._encoder(self._frame, self._boxes), count)


class Encoding:
    """Encodes image files by a checkpoint, as ``--mode=test`` does."""

    def __init__(self, dataset_dir, checkpoint_path, batch_size):
        self._filenames = market1501.read_train_split_to_str(dataset_dir)[0]
        self._checkpoint_path = checkpoint_path
        self._batch_size = batch_size

    def encode(self, num_images):
        """Encode a number of files, each of them repeatedly if there are fewer: seconds."""
        filenames = np.resize(np.array(self._filenames, dtype=object), num_images)
        start = time.perf_counter()
        export.encode(
            deep_sort.preprocess,
            deep_sort.create_network_factory(False, NUM_CLASSES, add_logits=False),
            self._checkpoint_path,
            list(filenames),
            batch_size=self._batch_size,
            image_shape=IMAGE_SHAPE,
        )
        return time.perf_counter() - start


class WeightSize:
    """The size of what a step trains."""

    def __init__(self, num_classes):
        create_network = deep_sort.create_network_factory(True, num_classes, add_logits=True)
        create_network(tf.placeholder(tf.float32, (None, *IMAGE_SHAPE)))

    def num_bytes(self):
        """Return the bytes of the trained weights."""
        return sum(
            weights.get_shape().num_elements() * weights.dtype.base_dtype.size
            for weights in tf.trainable_variables()
        )


class Devices:
    """What TensorFlow can compute on."""

    def describe(self):
        """Return one line."""
        if find_gpu() is not None:
            return f"TensorFlow: {describe_devices()}"
        if not tf.test.is_built_with_cuda():
            return "TensorFlow: no GPU, as this is a build for CPUs: install tensorflow"
        return "TensorFlow: no GPU: install the extra gpu, and the driver of an NVIDIA GPU"


class MatrixProduct:
    """A product of two square matrices."""

    def __init__(self, size, precision):
        # Variables: a product of constants would be computed once, when the graph is optimized.
        a, b = (
            tf.Variable(tf.cast(tf.random.normal((size, size), seed=seed), precision))
            for seed in (1, 2)
        )
        self._product = tf.matmul(a, b).op
        self._session = tf.Session(config=create_session_config())
        self._session.run(tf.global_variables_initializer())

    def measure(self, count):
        """Multiply: mean seconds of `count` products."""
        return mean_secs(lambda: self._session.run(self._product), count)


def _without_staging():
    """Return a context in which trainers are created as on a machine without a GPU."""
    return mock.patch.object(image_trainer, "find_gpu", return_value=None)


def _sample_batches(batch_size, filenames, labels):
    return samplers.random_sample_identities_forever(
        batch_size, NUM_IMAGES_PER_ID, filenames, labels, seed=1
    )


def _create_naive_pixels(is_training):
    def decode(filename):
        return tf.image.decode_jpeg(tf.io.read_file(filename), channels=3)

    def preprocess(image):
        image = tf.divide(tf.cast(image, tf.float32), 255.0)
        return tf.image.random_flip_left_right(image) if is_training else image

    filename_var = tf.placeholder(tf.string, (None,))
    images = tf.map_fn(decode, filename_var, dtype=tf.uint8, back_prop=False)
    images = tf.image.resize_images(images, IMAGE_SHAPE[:2])
    images.set_shape((None, *IMAGE_SHAPE))
    return filename_var, tf.map_fn(preprocess, images, dtype=tf.float32, back_prop=False)


class _NaiveFeed:
    """The original's feed: each thread decodes and enqueues in one step, in any order."""

    def __init__(self, num_threads):
        self._num_threads = num_threads
        with tf.device("/cpu:0"):
            filename_var, images = _create_naive_pixels(is_training=True)
            label_var = tf.placeholder(tf.int64, (None,))
            self._enqueue_vars = [filename_var, label_var]
            self._queue = tf.FIFOQueue(QUEUE_CAPACITY, [tf.float32, tf.int64], [IMAGE_SHAPE, ()])
            self._enqueue = self._queue.enqueue_many([images, label_var])
            self._close = self._queue.close(cancel_pending_enqueues=True)
        self._coordinator = tf.train.Coordinator((tf.errors.CancelledError,))
        self._lock = threading.Lock()

    def get_input_vars(self, batch_size):
        return self._queue.dequeue_many(batch_size)

    def start_feed(self, session, batches):
        self._session, self._batches = session, batches
        for _ in range(self._num_threads):
            tf.train.LooperThread.loop(self._coordinator, None, self._enqueue_batch)
        return self

    def wait_for_batch(self):
        self._coordinator.raise_requested_exception()

    def stop(self):
        self._coordinator.request_stop()
        self._session.run(self._close)
        self._coordinator.join()

    def _enqueue_batch(self):
        with self._lock:
            batch = next(self._batches)
        self._session.run(self._enqueue, dict(zip(self._enqueue_vars, batch, strict=True)))


def _find_ops(op_type):
    return [op for op in tf.get_default_graph().get_operations() if op.type == op_type]


def _count_waiting():
    """Return how many elements wait in the queues of the graph."""
    queues = _find_ops("FIFOQueueV2")
    return tf.add_n([tf.raw_ops.QueueSizeV2(handle=queue.outputs[0]) for queue in queues])


def _wait_until_queue_rests(session, num_waiting):
    """Wait until the feed has filled the queue: it must not work in another contender's turn."""
    before = None
    while (now := session.run(num_waiting)) != before:
        before = now
        time.sleep(_SECS_BETWEEN_LOOKS)
    time.sleep(_SECS_BETWEEN_LOOKS)
