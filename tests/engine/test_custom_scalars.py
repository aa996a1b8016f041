"""Which curves TensorBoard's tab Custom Scalars draws together."""

import re

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from deep_reid.compat import tf
from deep_reid.engine import custom_scalars

# plugins/custom_scalar/layout.proto of TensorBoard, as far as it is used: (name, number, type).
MESSAGES = {
    "Curves": [("tag", 1, None)],
    "Chart": [("title", 1, None), ("multiline", 2, "Curves")],
    "Category": [("title", 1, None), ("chart", 2, "Chart")],
    "Layout": [("version", 1, None), ("category", 2, "Category")],
}


def read_layout(text):
    file = descriptor_pb2.FileDescriptorProto(name="layout.proto", syntax="proto3")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, type_name in fields:
            field = described.field.add(name=name, number=number, label=3)
            field.type = 9 if type_name is None else 11
            if type_name is not None:
                field.type_name = f".{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    layout = message_factory.GetMessageClass(pool.FindMessageTypeByName("Layout"))
    return layout.FromString(text)


def summarize(tags):
    summary = tf.Summary()
    for tag in tags:
        summary.value.add(tag=tag, simple_value=0.5)
    summary.value.add(tag="picture", image=tf.Summary.Image(height=1, width=1))
    return summary.SerializeToString()


def layouts_in(summary):
    return [value for value in summary.value if value.tag == custom_scalars.TAG]


def panes_of(tags):
    (value,) = layouts_in(custom_scalars.Charts().add_to(summarize(tags)))
    assert value.metadata.plugin_data.plugin_name == "custom_scalars"
    (text,) = value.tensor.string_val
    return {
        pane.title[0]: {chart.title[0]: list(chart.multiline[0].tag) for chart in pane.chart}
        for pane in read_layout(text).category
    }


TAGS = [
    *("queue/share_filled", "total_loss", "weight_loss", "triplet_loss", "learning_rate"),
    *("triplet/nearest_negative", "triplet/farthest_positive", "magnet_loss", "Precision_1"),
    *("Precision_20", "own_loss_1", "focal", "mine/x (1)", "mine/y", "w" * 300, "\xfcbung"),
]


def test_curves_of_one_kind_share_a_chart_and_each_is_in_one():
    panes = panes_of(TAGS)
    assert list(panes) == ["Evaluation", "Training"]
    assert panes["Evaluation"] == {"CMC: Precision at rank k": ["^Precision_1$", "^Precision_20$"]}
    training = panes["Training"]
    assert list(training)[:2] == ["Total loss, and the part of the weights", "Losses"]
    assert training["Total loss, and the part of the weights"] == ["^total_loss$", "^weight_loss$"]
    assert training["Losses"] == ["^triplet_loss$", "^magnet_loss$", "^own_loss_1$"]
    assert len(training["Triplets: mean distances"]) == 2
    assert len(training["mine"]) == 2
    patterns = [p for pane in panes.values() for curves in pane.values() for p in curves]
    for tag in TAGS:  # TensorBoard looks for them with re.match
        assert sum(re.match(pattern, tag) is not None for pattern in patterns) == 1


@pytest.mark.parametrize("length", [1, 100, 127, 128, 129, 5000, 17000])
def test_names_of_any_length_are_read_back(length):
    tag = "t" * length
    assert panes_of([tag]) == {"Training": {tag: [f"^{tag}$"]}}


def test_the_first_summary_with_scalars_gets_the_layout_and_no_other():
    added = custom_scalars.Charts()
    sizes = [len(layouts_in(added.add_to(summarize(tags)))) for tags in ([], ["a"], ["a", "b"])]
    assert sizes == [0, 1, 0]


def test_values_stay_as_they_are():
    summary = custom_scalars.Charts().add_to(summarize(TAGS))
    assert summary.value.pop().tag == custom_scalars.TAG
    assert summary == tf.Summary.FromString(summarize(TAGS))


def test_tensorboard_reads_the_layout():
    layout_pb2 = pytest.importorskip("tensorboard.plugins.custom_scalar.layout_pb2")
    (value,) = layouts_in(custom_scalars.Charts().add_to(summarize(TAGS)))
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    assert [pane.title for pane in layout.category] == ["Evaluation", "Training"]
    assert layout.category[0].chart[0].multiline.tag[0] == "^Precision_1$"
