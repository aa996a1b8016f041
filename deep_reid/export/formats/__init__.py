"""File formats of exported networks, and the runtimes that compute them; free of TensorFlow.

Each module has ``write(graph, path, quantization)``, for `deep_reid.export.convert`, and
``load(path, compute, trust)``, for `deep_reid.Encoder`. Writing needs TensorFlow. Except for ``pb``
and ``savedmodel``, loading needs only the runtime itself.
"""

import dataclasses
import importlib
import os
from collections.abc import Iterable, Sequence
from types import ModuleType

from deep_reid.config import ComputeSettings
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.export.formats.model import Model
from deep_reid.runs import records
from deep_reid.system import files, packages

INT8 = "int8"
BFLOAT16 = "bfloat16"
QUANTIZATIONS = ("none", INT8, BFLOAT16)
"""Types of the weights and of the computation: float32, or a narrower one."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format of networks.

    Parameters
    ----------
    name : str
        Its name on the command line, and of its module in this package.
    title : str
        Its name for people.
    ending : str
        Of its files, or of its folders.
    is_folder : bool
    quantizations : sequence of str
        Those of `QUANTIZATIONS` that it can have.
    to_write : dict of str -> str
        Import names of the packages that a converter needs, with the extra that brings each.
    to_read : dict of str -> str
        The same for the runtime.
    to_write_int8 : dict of str -> str
        The same for int8, beside those.
    """

    name: str
    title: str
    ending: str
    is_folder: bool = False
    quantizations: Sequence[str] = ("none",)
    to_write: dict[str, str] = dataclasses.field(default_factory=dict)
    to_read: dict[str, str] = dataclasses.field(default_factory=dict)
    to_write_int8: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def module(self) -> ModuleType:
        """The module that writes and loads it."""
        return importlib.import_module(f"{__name__}.{self.name}")

    def check_packages(self, quantization: str) -> None:
        """Check that the packages to write and to read it are installed.

        Parameters
        ----------
        quantization : str

        Raises
        ------
        UsageError
            If one is missing.
        """
        needs = {**self.to_write, **self.to_read}
        if quantization == INT8:
            needs |= self.to_write_int8
        packages.require(needs, f"format {self.name}")

    def check_exists(self, path: str) -> None:
        """Raise a `DataError` if there is nothing of this name, or a folder in place of a file."""
        if not os.path.exists(path):
            raise MissingPathError(f"{self.title} {path} does not exist: --mode=freeze writes it")
        if os.path.isdir(path) and not self.is_folder:
            raise DataError(
                f"{path} is a folder, not a file ({self.title}): name the file; runs and "
                "checkpoints are named by --run_id or --restore_path"
            )

    def load(self, path: str, compute: ComputeSettings, trust: bool) -> Model:
        """Load a file or folder of this format.

        Parameters
        ----------
        path : str
        compute : ComputeSettings
        trust : bool
            Whether a graph of TensorFlow may have any ops.

        Returns
        -------
        deep_reid.export.formats.model.Model

        Raises
        ------
        MissingPathError, DataError
            If it is missing, or cannot be used.
        UsageError, RunError
            If its runtime is not installed, or would compute in another precision than the file's.
        """
        self.check_exists(path)
        packages.require(self.to_read, f"to compute {path}")
        with packages.missing_explained():
            return self.module.load(path, compute, trust)

    def check_output(self, path: str | os.PathLike[str]) -> None:
        """Check, before the work that it needs, that a file or folder may be written.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        OSError
            If a file is to be written where a folder is.
        UsageError
            If a folder would be replaced that is neither empty nor a model of this format.
        """
        path = os.fspath(path)
        if not self.is_folder:
            files.check_output(path)
        elif os.path.exists(path) and not self._can_replace(path):
            raise UsageError(
                f"{path} exists and is no {self.title}: name a new folder, or remove this one"
            )

    def _can_replace(self, path):
        return os.path.isdir(path) and (not os.listdir(path) or find_format(path) == self)


FORMATS = {
    known.name: known
    for known in (
        Format("pb", "frozen graph", ".pb"),
        Format("savedmodel", "SavedModel of TensorFlow", "_saved_model", is_folder=True),
        Format(
            "onnx",
            "ONNX",
            ".onnx",
            quantizations=("none", INT8),
            to_write={"onnx": "export", "tf2onnx": "export"},
            to_read={"onnxruntime": "export"},
        ),
        Format(
            "tflite",
            "TensorFlow Lite",
            ".tflite",
            quantizations=("none", INT8),
            to_read={"ai_edge_litert": "export"},
        ),
        Format(
            "openvino",
            "OpenVINO",
            "_openvino_model",
            is_folder=True,
            quantizations=QUANTIZATIONS,
            to_write={"onnx": "export", "tf2onnx": "export"},
            to_read={"openvino": "openvino"},
            to_write_int8={"nncf": "openvino"},
        ),
    )
}
ENDINGS = tuple(known.ending for known in FORMATS.values())
"""Of the names of files and folders, in the order of `FORMATS`."""


def check_quantization(formats: Iterable[str], quantization: str) -> None:
    """Check that formats can have a quantization.

    Parameters
    ----------
    formats : iterable of str
    quantization : str

    Raises
    ------
    UsageError
        If one cannot.
    """
    for name in formats:
        if quantization not in FORMATS[name].quantizations:
            able = [known.name for known in FORMATS.values() if quantization in known.quantizations]
            raise UsageError(
                f"format {name} has no quantization {quantization}: use --format="
                f"{' or '.join(able)}"
            )


def find_format(path: str | os.PathLike[str]) -> Format | None:
    """Tell the format of a file or folder by its name and what is in it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Format or None
        None: it may be a checkpoint.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        names = os.listdir(path)
        if "saved_model.pb" in names:
            return FORMATS["savedmodel"]
        return FORMATS["openvino"] if any(name.endswith(".xml") for name in names) else None
    ending = os.path.splitext(path)[1].lower()
    if ending == ".xml":
        return FORMATS["openvino"]
    return next((known for known in FORMATS.values() if known.ending == ending), None)


def find_network(path: str | os.PathLike[str]) -> tuple[Format | None, str]:
    """Find a network that `deep_reid.Encoder` takes.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    known : Format or None
        None: it is a checkpoint.
    path : str
        Of the file or folder; of a checkpoint, its prefix.

    Raises
    ------
    MissingPathError, DataError
        If there is none.
    """
    path = os.fspath(path)
    known = find_format(path)
    if known is not None:
        known.check_exists(path)
        return known, path
    try:
        return None, records.resolve_checkpoint(path)
    except DataError as error:
        raise type(error)(
            f"{error}. An exported network has a name that ends in {', '.join(ENDINGS)}"
        ) from error


def load_network(
    path: str,
    network: str | None = None,
    image_shape: Sequence[int] | None = None,
    compute: ComputeSettings = ComputeSettings(),
    trust: bool = False,
) -> Model:
    """Load a network that `deep_reid.Encoder` takes.

    Parameters
    ----------
    path, network, image_shape, compute, trust
        As in `deep_reid.Encoder`.

    Returns
    -------
    Model

    Raises
    ------
    MissingPathError, DataError
        If the file is missing or damaged.
    UsageError
        If a setting breaks its rule.
    """
    known, path = find_network(path)
    if known is None:
        from deep_reid.export.formats import pb

        return pb.load_checkpoint(path, network, image_shape, compute)
    if network is not None or image_shape is not None:
        raise UsageError(f"{path} has its own network and image_shape: leave out the settings")
    return known.load(path, compute, trust)


def needs_tensorflow(path: str | os.PathLike[str]) -> bool:
    """Tell whether `deep_reid.Encoder` imports TensorFlow to load a file or folder.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bool
    """
    known = find_format(path)
    return known is None or not known.to_read


def without_ending(path: str) -> str:
    """Return a path without the ending of a format.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
    """
    for known in FORMATS.values():
        path = path.removesuffix(known.ending)
    return path
