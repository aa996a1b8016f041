"""The charts of TensorBoard's tab Custom Scalars: which curves are drawn together.

The layout is one summary in the events. Its text is the message ``Layout`` of TensorBoard's
``plugins/custom_scalar/layout.proto``, which is written here, as TensorBoard may not be installed.
"""

import re

from deep_reid.runtime.compat import tf

TAG = "custom_scalars__config__"

_EVALUATION, _TRAINING = "Evaluation", "Training"
# The panes, their charts, and the tags of the curves in them, in the order of the page.
_CHARTS = (
    (_EVALUATION, "CMC: Precision at rank k", r"Precision_\d+"),
    (_TRAINING, "Total loss, and the part of the weights", r"(total|weight)_loss"),
    (_TRAINING, "Losses", r"\w+_loss(_\d+)?"),
    (_TRAINING, "Classification accuracy", r"classification_accuracy"),
    (_TRAINING, "Triplets: share solved", r"triplet/share_solved"),
    (_TRAINING, "Triplets: mean distances", r"triplet/\w+"),
    (_TRAINING, "Features: spread in the batch", r"features/spread"),
    (_TRAINING, "Learning rate", r"learning_rate"),
    (_TRAINING, "Scale of the logits", r"logit_scale"),
    (_TRAINING, "Input: share of the queue that is filled", r"queue/share_filled"),
    (_TRAINING, "Input: images that cannot be read", r"feed/num_bad_images"),
)


class Charts:
    """Adds the layout of the charts to the first summary of an event file."""

    def __init__(self) -> None:
        self._has_layout = False

    def add_to(self, summary: bytes) -> tf.Summary:
        """Add the layout of charts for the scalars of a summary, if it is the first with scalars.

        Parameters
        ----------
        summary : bytes
            A ``tf.Summary``. Tags that are not the package's have a chart for each first part of
            their names, up to a slash.

        Returns
        -------
        tf.Summary
        """
        result = tf.Summary.FromString(summary)
        tags = [value.tag for value in result.value if value.HasField("simple_value")]
        if tags and not self._has_layout:
            self._has_layout = True
            plugin = tf.SummaryMetadata.PluginData(plugin_name="custom_scalars")
            layout = tf.make_tensor_proto(_encode_layout(_arrange(tags)), dtype=tf.string)
            result.value.add(
                tag=TAG, metadata=tf.SummaryMetadata(plugin_data=plugin), tensor=layout
            )
        return result


def _arrange(tags):
    """Arrange tags: a dict from pane to chart to the tags in it."""
    places: dict[tuple[str, str], list[str]] = {(pane, chart): [] for pane, chart, _ in _CHARTS}
    for tag in tags:
        known = (chart[:2] for chart in _CHARTS if re.fullmatch(chart[2], tag))
        places.setdefault(next(known, (_TRAINING, tag.partition("/")[0])), []).append(tag)
    panes: dict[str, dict[str, list[str]]] = {}
    for (pane, chart), tags_in_chart in places.items():
        if tags_in_chart:
            panes.setdefault(pane, {})[chart] = tags_in_chart
    return panes


def _encode_layout(panes):
    """Encode a ``Layout``: its categories (field 2) have a title (1) and charts (2)."""
    return b"".join(
        _encode(2, _encode(1, pane) + b"".join(_encode_chart(*chart) for chart in charts.items()))
        for pane, charts in panes.items()
    )


def _encode_chart(title, tags):
    """Encode a ``Chart``: a title (1), and curves (2) with a regular expression for each (1)."""
    curves = b"".join(_encode(1, f"^{re.escape(tag)}$") for tag in tags)
    return _encode(2, _encode(1, title) + _encode(2, curves))


def _encode(number, content):
    """Encode a field of a Protocol Buffers message: its number and type, length, and content."""
    content = content.encode() if isinstance(content, str) else content
    length, rest = [], len(content)
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *length, rest]) + content
