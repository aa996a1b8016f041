"""The charts of TensorBoard's tab Custom Scalars: which curves are drawn together.

The layout is one summary in the events. Its text is the message ``Layout`` of TensorBoard's
``plugins/custom_scalar/layout.proto``, which is written here, as TensorBoard may not be installed.
"""

import re
from typing import NamedTuple

from deep_reid.runtime.compat import tf

TAG = "custom_scalars__config__"

_EVALUATION, _TRAINING = "Evaluation", "Training"


class _Curve(NamedTuple):
    """Where curves are shown, and what TensorBoard says about each."""

    pattern: str  # of their tags
    pane: str
    chart: str
    text: str


# In the order in which the charts are shown.
_CURVES = (
    _Curve(
        r"Precision_\d+",
        _EVALUATION,
        "CMC: Precision at rank k",
        "Share of probes whose identity is among the k nearest, in a gallery with an image of each",
    ),
    _Curve(r"total_loss", _TRAINING, "Total loss", "What training minimizes, weight_loss included"),
    _Curve(r"weight_loss", _TRAINING, "Total loss", "Weight decay: its part of total_loss"),
    _Curve(
        r"\w+_loss(_\d+)?",
        _TRAINING,
        "Losses",
        "On the batch. Only that of --loss_mode is trained on; the others are to compare",
    ),
    _Curve(
        r"classification_accuracy",
        _TRAINING,
        "Classification accuracy",
        "Share of the batch whose largest logit is that of its identity",
    ),
    _Curve(
        r"triplet/share_solved",
        _TRAINING,
        "Triplets: share solved",
        "Share of the batch that is nearer to all images of its identity than to any other",
    ),
    _Curve(
        r"triplet/farthest_positive",
        _TRAINING,
        "Triplets: distances",
        "Mean distance to the farthest image of the same identity",
    ),
    _Curve(
        r"triplet/nearest_negative",
        _TRAINING,
        "Triplets: distances",
        "Mean distance to the nearest image of another identity: should be the larger one",
    ),
    _Curve(
        r"features/spread",
        _TRAINING,
        "Features: spread",
        "Root mean square distance of the features of a batch: near 0, they have collapsed",
    ),
    _Curve(r"learning_rate", _TRAINING, "Learning rate", "Of the Adam optimizer"),
    _Curve(r"logit_scale", _TRAINING, "Scale of the logits", "Learned, kappa in the paper"),
    _Curve(
        r"queue/share_filled",
        _TRAINING,
        "Input: share of the queue that is filled",
        "Near 0, training waits for images",
    ),
    _Curve(
        r"feed/num_bad_images",
        _TRAINING,
        "Input: images that cannot be read",
        "Images that --on_bad_image=skip has replaced so far",
    ),
)


class Charts:
    """Adds the layout of the charts, and a text for each curve, to the first summary of a file."""

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
        scalars = [value for value in result.value if value.HasField("simple_value")]
        if not scalars or self._has_layout:
            return result
        self._has_layout = True
        for value in scalars:
            curve = _find_curve(value.tag)
            if curve is not None:
                value.metadata.summary_description = curve.text
        plugin = tf.SummaryMetadata.PluginData(plugin_name="custom_scalars")
        layout = _encode_layout(_arrange([value.tag for value in scalars]))
        result.value.add(
            tag=TAG,
            metadata=tf.SummaryMetadata(plugin_data=plugin),
            tensor=tf.make_tensor_proto(layout, dtype=tf.string),
        )
        return result


def _find_curve(tag):
    return next((curve for curve in _CURVES if re.fullmatch(curve.pattern, tag)), None)


def _arrange(tags):
    """Arrange tags: a dict from pane to chart to the tags in it."""
    places: dict[tuple[str, str], list[str]] = {(curve.pane, curve.chart): [] for curve in _CURVES}
    for tag in tags:
        curve = _find_curve(tag)
        place = (_TRAINING, tag.partition("/")[0]) if curve is None else (curve.pane, curve.chart)
        places.setdefault(place, []).append(tag)
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
