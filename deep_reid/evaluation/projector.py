"""Files for TensorBoard's embedding projector; free of TensorFlow."""

import io
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from deep_reid.errors import printable
from deep_reid.evaluation import pictures
from deep_reid.system import files
from deep_reid.system.files import Path

CONFIG_FILENAME = "projector_config.pbtxt"
MAX_IMAGES = 10_000
SPRITE_HEIGHT, SPRITE_WIDTH = 64, 32
_NAME = "features of step"
_FOLDER = "projector"
_FILENAMES = ("features.tsv", "metadata.tsv", "sprite.png")

_CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "projector/features.tsv"
  metadata_path: "projector/metadata.tsv"
  sprite {{
    image_path: "projector/sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""


def choose_rows(num_images: int) -> np.ndarray:
    """Choose the images to export: all of them, or `MAX_IMAGES` at even distances.

    Parameters
    ----------
    num_images : int

    Returns
    -------
    np.ndarray of int64
    """
    count = min(num_images, MAX_IMAGES)
    return np.linspace(0, num_images - 1, count).round().astype(np.int64)


def has_features(log_dir: Path, step: int) -> bool:
    """Return whether the features of a step were written.

    Parameters
    ----------
    log_dir : str or Path
    step : int
    """
    return f'"{_NAME} {step}"' in (_read_config(log_dir) or "")


def write_sprite(log_dir: Path, images_or_filenames: Sequence[Path] | np.ndarray) -> None:
    """Write the thumbnails of an export, which are the same at each step.

    Parameters
    ----------
    log_dir : str or Path
        The directory where TensorBoard reads events.
    images_or_filenames : sequence of str or Path, or uint8 array (N, H, W, C), RGB
    """
    thumbnails = np.stack(
        [pictures.read_picture(x, SPRITE_HEIGHT, SPRITE_WIDTH) for x in images_or_filenames]
    )
    files.make_own_folder(pathlib.Path(log_dir) / _FOLDER)
    with files.replacing(pathlib.Path(log_dir) / _FOLDER / "sprite.png") as temporary:
        pathlib.Path(temporary).write_bytes(pictures.encode_png(pictures.draw_sprite(thumbnails)))


def write_features(
    log_dir: Path,
    step: int,
    features: np.ndarray,
    metadata: Mapping[str, Sequence[object]],
) -> None:
    """Write features with facts about their images; they replace those of an earlier step.

    Parameters
    ----------
    log_dir : str or Path
    step : int
        Part of the name that TensorBoard shows.
    features : np.ndarray of float32, shape (N, D)
    metadata : dict of str to sequence
        From a column's name to its N values, such as identities and cameras.
    """
    directory = pathlib.Path(log_dir) / _FOLDER
    files.make_own_folder(directory)
    rows = io.StringIO()
    np.savetxt(rows, features, fmt="%.9g", delimiter="\t")
    files.write_text(directory / "features.tsv", rows.getvalue())
    lines = [list(metadata), *zip(*metadata.values(), strict=True)]
    text = "".join("\t".join(printable(str(cell)) for cell in line) + "\n" for line in lines)
    files.write_text(directory / "metadata.tsv", text)
    _write_config(log_dir, step)


def copy_features(run_dir: Path, log_dir: Path, step: int) -> None:
    """Let the projector show the features where it would show weights of a run's checkpoint.

    TensorBoard lists each folder with a checkpoint, and may open that of the run first. There, too,
    features come first then. They are copied, as it reads no file outside the folder that it lists.

    Parameters
    ----------
    run_dir : str or Path
        If it is gone or has a configuration of the user's, nothing is written.
    log_dir : str or Path
        Where `write_sprite` and `write_features` have written.
    step : int
    """
    run_dir, config = pathlib.Path(run_dir), _read_config(run_dir)
    is_own = config is None or _NAME in config
    if not is_own or not run_dir.is_dir() or run_dir.samefile(log_dir):
        return
    # After a kill, the temporary file is where the evaluation writes: the next one removes it. In
    # the run's folder, another process could take a file that is being written for a leftover.
    folder = pathlib.Path(log_dir) / _FOLDER
    files.make_own_folder(run_dir / _FOLDER)
    for name in _FILENAMES:
        with files.replacing(run_dir / _FOLDER / name, folder=folder) as temporary:
            shutil.copyfile(folder / name, temporary)
    _write_config(run_dir, step, log_dir)


def _read_config(directory):
    """Return the configuration in a folder; None where there is none."""
    try:
        return files.read_text(pathlib.Path(directory) / CONFIG_FILENAME, errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_config(directory, step, folder=None):
    config = _CONFIG.format(name=f"{_NAME} {step}", width=SPRITE_WIDTH, height=SPRITE_HEIGHT)
    files.write_text(pathlib.Path(directory) / CONFIG_FILENAME, config, folder=folder)
