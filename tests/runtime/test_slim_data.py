"""Decoders, readers and queues of TF-Slim, on examples that are written here."""

import cv2
import numpy as np
import pytest
from slim_running import draw, initialize, run

from deep_reid.compat import slim, tf

decoder = slim.tfexample_decoder
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
ENCODED = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()
BOXES = {"ymin": [0.1, 0.5], "xmin": [0.2, 0.6], "ymax": [0.3, 0.7], "xmax": [0.4, 0.8]}


def feature(value):
    values = np.ravel(value)
    if values.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if values.dtype.kind in "iu":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def example(**features):
    """A serialized example; texts are bytes, as a list of objects keeps their trailing zeros."""
    named = {name: feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def fixed(dtype, *shape):
    return tf.FixedLenFeature(shape, dtype)


def decode(keys_to_features, handler, serialized):
    """The item that a handler makes of an example."""

    def build():
        (item,) = decoder.TFExampleDecoder(keys_to_features, {"item": handler}).decode(
            tf.constant(serialized)
        )
        with tf.control_dependencies([tf.tables_initializer()]):
            return tf.sparse.to_dense(item) if isinstance(item, tf.SparseTensor) else item + 0

    return run(build)


IMAGE_KEYS = {"image/encoded": fixed(tf.string), "image/format": fixed(tf.string)}


def image_example(*files, file_format):
    data = np.array(files, object)
    return example(**{"image/encoded": data, "image/format": file_format})


@pytest.mark.parametrize("file_format", [b"png", b"raw"])
def test_images_are_decoded(file_format):
    data = IMAGE.tobytes() if file_format == b"raw" else ENCODED
    handler = decoder.Image(shape=IMAGE.shape)
    image = decode(IMAGE_KEYS, handler, image_example(data, file_format=file_format))
    np.testing.assert_array_equal(image, IMAGE)


def test_jpeg_images_are_decoded_and_gray_is_one_channel():
    smooth = cv2.imencode(".jpg", np.full((6, 5, 3), 90, np.uint8))[1].tobytes()
    image = decode(
        IMAGE_KEYS, decoder.Image(channels=1), image_example(smooth, file_format=b"jpeg")
    )
    np.testing.assert_allclose(image, np.full((6, 5, 1), 90), atol=1)


def test_several_images_of_one_example_are_decoded():
    keys = {"image/encoded": fixed(tf.string, 2), "image/format": fixed(tf.string)}
    serialized = image_example(ENCODED, ENCODED, file_format=b"png")
    images = decode(keys, decoder.Image(repeated=True), serialized)
    np.testing.assert_array_equal(images, [IMAGE, IMAGE])


HANDLERS = {
    "Tensor": (
        {"label": fixed(tf.int64)},
        lambda: decoder.Tensor("label"),
        {"label": 7},
        7,
    ),
    "Tensor, shape": (
        {"values": tf.VarLenFeature(tf.float32)},
        lambda: decoder.Tensor("values", shape=[2, 2]),
        {"values": [1.0, 2.0, 3.0, 4.0]},
        [[1, 2], [3, 4]],
    ),
    "Tensor, shape_keys": (
        {
            "values": tf.VarLenFeature(tf.float32),
            "height": fixed(tf.int64),
            "width": fixed(tf.int64),
        },
        lambda: decoder.Tensor("values", shape_keys=["height", "width"]),
        {"values": [1.0, 2.0], "height": 2, "width": 1},
        [[1], [2]],
    ),
    "BoundingBox": (
        {name: tf.VarLenFeature(tf.float32) for name in BOXES},
        decoder.BoundingBox,
        BOXES,
        np.transpose(list(BOXES.values())),
    ),
    "SparseTensor": (
        {"indices": tf.VarLenFeature(tf.int64), "values": tf.VarLenFeature(tf.float32)},
        lambda: decoder.SparseTensor(shape=[4]),
        {"indices": [0, 2], "values": [5.0, 6.0]},
        [5, 0, 6, 0],
    ),
    "SparseTensor, dense": (
        {"indices": tf.VarLenFeature(tf.int64), "values": tf.VarLenFeature(tf.float32)},
        lambda: decoder.SparseTensor(shape=[4], densify=True, default_value=-1),
        {"indices": [0, 2], "values": [5.0, 6.0]},
        [5, -1, 6, -1],
    ),
    "BackupHandler": (
        {"first": tf.VarLenFeature(tf.int64), "second": tf.VarLenFeature(tf.int64)},
        lambda: decoder.BackupHandler(decoder.Tensor("first"), decoder.Tensor("second")),
        {"second": [3, 4]},
        [3, 4],
    ),
    "ItemHandlerCallback": (
        {"a": fixed(tf.int64), "b": fixed(tf.int64)},
        lambda: decoder.ItemHandlerCallback(["a", "b"], lambda items: items["a"] + items["b"]),
        {"a": 3, "b": 4},
        7,
    ),
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_item_is_decoded(handler):
    keys, make, features, expected = HANDLERS[handler]
    np.testing.assert_allclose(decode(keys, make(), example(**features)), expected, rtol=1e-6)


def test_names_are_looked_up_in_a_table(graph):
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["cat", "dog"], tf.constant([4, 9], tf.int64)), -1
    )
    keys = {"name": fixed(tf.string)}
    reader = decoder.TFExampleDecoder(keys, {"item": decoder.LookupTensor("name", table)})
    assert reader.list_items() == ["item"]
    (item,) = reader.decode(tf.constant(example(name=b"dog")))
    with tf.Session() as session:
        session.run(tf.tables_initializer())
        assert session.run(item) == 9


def sequence_example():
    rows = {
        name: tf.train.FeatureList(feature=[feature(values), feature(values[:1])])
        for name, values in BOXES.items()
    }
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={"label": feature(3)}),
        feature_lists=tf.train.FeatureLists(feature_list=rows),
    ).SerializeToString()


def test_sequences_of_boxes_and_points_are_decoded():
    def build():
        reader = decoder.TFSequenceExampleDecoder(
            {"label": fixed(tf.int64)},
            {name: tf.VarLenFeature(tf.float32) for name in BOXES},
            {
                "label": decoder.Tensor("label"),
                "boxes": decoder.BoundingBoxSequence(prefix=""),
                "counts": decoder.NumBoxesSequence(list(BOXES)),
                "points": decoder.KeypointsSequence(["ymin", "xmin"], prefix=""),
            },
        )
        return reader.decode(
            tf.constant(sequence_example()), items=["label", "boxes", "counts", "points"]
        )

    label, boxes, counts, points = run(build)
    first, second = np.transpose(list(BOXES.values()))
    np.testing.assert_allclose(boxes, [[first, second], [first, [-1] * 4]], rtol=1e-6)
    np.testing.assert_allclose(points, boxes[..., :2])
    assert (label, counts.tolist()) == (3, [2, 1])


@pytest.fixture
def record_files(tmp_path):
    """Two files of three examples each; label i has an image that is i everywhere."""
    for number in range(2):
        with tf.python_io.TFRecordWriter(str(tmp_path / f"part-{number}.tfrecord")) as writer:
            for label in range(3 * number, 3 * number + 3):
                writer.write(example(label=label, pixels=np.full(4, label)))
    return str(tmp_path / "part-*.tfrecord")


def run_queues(fetches, num_runs):
    with tf.Session() as session:
        initialize(session)
        with slim.queues.QueueRunners(session):
            return [session.run(fetches) for _ in range(num_runs)]


def test_a_data_provider_gives_each_example_of_an_epoch_once(graph, record_files):
    keys = {"label": fixed(tf.int64), "pixels": fixed(tf.int64, 4)}
    handlers = {name: decoder.Tensor(name) for name in keys}
    data = slim.dataset.Dataset(
        data_sources=record_files,
        reader=tf.TFRecordReader,
        decoder=decoder.TFExampleDecoder(keys, handlers),
        num_samples=6,
        items_to_descriptions={"label": "a number", "pixels": "four times the label"},
    )
    provider = slim.dataset_data_provider.DatasetDataProvider(
        data, num_readers=2, num_epochs=1, common_queue_capacity=8, common_queue_min=1
    )
    assert set(provider.list_items()) == {"label", "pixels", "record_key"}
    assert provider.num_samples() == 6
    rows = run_queues(provider.get(["label", "pixels"]), 6)
    assert sorted(label for label, _ in rows) == list(range(6))
    assert all((pixels == label).all() for label, pixels in rows)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_parallel_reader_reads_all_files(graph, record_files, shuffle):
    _, value = slim.parallel_reader.parallel_read(
        record_files,
        tf.TFRecordReader,
        num_epochs=1,
        num_readers=2,
        shuffle=shuffle,
        capacity=8,
        min_after_dequeue=1,
    )
    label = tf.parse_single_example(value, {"label": fixed(tf.int64)})["label"]
    assert sorted(run_queues(label, 6)) == list(range(6))


def test_a_single_pass_reads_one_file_after_the_other(graph, record_files):
    _, value = slim.parallel_reader.single_pass_read(record_files, tf.TFRecordReader)
    label = tf.parse_single_example(value, {"label": fixed(tf.int64)})["label"]
    labels = run_queues(label, 6)
    assert sorted([labels[:3], labels[3:]]) == [[0, 1, 2], [3, 4, 5]]
    assert len(slim.parallel_reader.get_data_files(record_files)) == 2


def test_a_prefetch_queue_hands_batches_on(graph):
    counter = slim.local_variable(np.int64(0), name="counter", use_resource=True)
    queue = slim.prefetch_queue.prefetch_queue([tf.assign_add(counter, 1), tf.constant(draw(2))])
    rows = run_queues(queue.dequeue(), 3)
    assert [int(number) for number, _ in rows] == [1, 2, 3]
    np.testing.assert_array_equal(rows[0][1], draw(2))
