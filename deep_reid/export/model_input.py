"""What an exported network takes: which values, in which layout, of which size; free of TensorFlow.

An exporter writes these facts into the file; `deep_reid.Encoder` reads them, and converts crops.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from deep_reid import __version__
from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError
from deep_reid.system import files

BGR_UINT8 = "bgr_uint8"
RGB01 = "rgb01"
IMAGENET = "imagenet"
KINDS = (BGR_UINT8, RGB01, IMAGENET)
"""Values of images: uint8, BGR, as OpenCV reads them; float32, RGB, in [0, 1]; or the latter, less
ImageNet's mean, divided by its standard deviation, as PyTorch's networks take them."""

LAYOUTS = ("nhwc", "nchw")
"""The order of axes: channels last, or channels first."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STDDEV = (0.229, 0.224, 0.225)
_MEAN = np.array(IMAGENET_MEAN, np.float32)
_SCALE = np.float32(1) / np.array(IMAGENET_STDDEV, np.float32)


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """The input of an exported network.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width, channels), or (height, width) for a network that takes gray images without
        a channel axis.
    kind : {"bgr_uint8", "rgb01", "imagenet"}
        See `KINDS`. Gray images have one channel in place of three.
    layout : {"nhwc", "nchw"}

    Raises
    ------
    UsageError
        If a value is none of these, or they do not go together.
    """

    image_shape: tuple[int, ...]
    kind: str = BGR_UINT8
    layout: str = LAYOUTS[0]

    def __post_init__(self) -> None:
        """Check that the values go together."""
        num_channels = add_channels(self.image_shape)[2]
        if self.kind not in KINDS:
            raise UsageError(f"input ({self.kind!r}) is unknown: use one of {', '.join(KINDS)}")
        if self.layout not in LAYOUTS:
            raise UsageError(
                f"layout ({self.layout!r}) is unknown: use one of {', '.join(LAYOUTS)}"
            )
        if self.kind == IMAGENET and num_channels != 3:
            raise UsageError(
                "input imagenet has the means of three colors, but the network takes gray images: "
                "use input rgb01 or bgr_uint8"
            )
        if len(self.image_shape) == 2 and self.layout != LAYOUTS[0]:
            raise UsageError("layout nchw needs an axis for channels: use layout nhwc")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image in this layout."""
        if self.layout == "nhwc":
            return self.image_shape
        height, width, num_channels = self.image_shape
        return num_channels, height, width

    @property
    def dtype(self) -> np.dtype:
        """The type of values."""
        return np.dtype(np.uint8 if self.kind == BGR_UINT8 else np.float32)

    def convert(self, images: np.ndarray) -> np.ndarray:
        """Convert a batch of images, as OpenCV reads them, to what the network takes.

        Parameters
        ----------
        images : np.ndarray of uint8, shape (N, height, width, channels)
            BGR, or gray with one channel, of the network's size.

        Returns
        -------
        np.ndarray of `dtype`, shape (N,) + `shape`
            Contiguous.
        """
        if self.kind != BGR_UINT8:
            images = np.multiply(images[..., ::-1], np.float32(1 / 255), dtype=np.float32)
            if self.kind == IMAGENET:
                images -= _MEAN
                images *= _SCALE
        if self.layout == "nchw":
            images = np.moveaxis(images, 3, 1)
        return np.ascontiguousarray(images.reshape(len(images), *self.shape))

    def describe(self) -> str:
        """Describe the input in words, for logs."""
        is_gray = add_channels(self.image_shape)[2] == 1
        order = "gray" if is_gray else "BGR" if self.kind == BGR_UINT8 else "RGB"
        values = {
            BGR_UINT8: "",
            RGB01: ", in [0, 1]",
            IMAGENET: ", in [0, 1], less ImageNet's mean, divided by its standard deviation",
        }[self.kind]
        return f"{self.dtype.name}, (N, {', '.join(map(str, self.shape))}), {order}{values}"


def write_facts(model_input: ModelInput, feature_size: int, facts: Mapping[str, Any]) -> str:
    """Write what a file of a network tells about itself.

    Parameters
    ----------
    model_input : ModelInput
    feature_size : int
    facts : dict
        Further facts: run, step, quantization, and the scores of the images that the file is
        compared on, as computed by the checkpoint.

    Returns
    -------
    str
        JSON.
    """
    return json.dumps(
        {
            "producer": f"deep_reid {__version__}",
            "image_shape": model_input.image_shape,
            "input": model_input.kind,
            "layout": model_input.layout,
            "feature_size": feature_size,
            **facts,
        }
    )


def is_in_bfloat16(text: str) -> bool:
    """Tell whether `write_facts` has written that a network is to be computed in bfloat16.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool
    """
    try:
        return files.parse_json(text)["quantization"] == "bfloat16"
    except (ValueError, TypeError, KeyError):
        return False


def read_facts(text: str | bytes) -> ModelInput | None:
    """Read what `write_facts` has written.

    Parameters
    ----------
    text : str or bytes

    Returns
    -------
    ModelInput or None
        None if it is something else.
    """
    try:
        facts = files.parse_json(text)
        sizes = tuple(facts["image_shape"])
        return ModelInput(sizes, facts["input"], facts["layout"])
    except (ValueError, TypeError, KeyError):  # UsageError is a ValueError
        return None
