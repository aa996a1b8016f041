"""Starts scripts through the runner of old code, as processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Found before TensorFlow: a script that imports it, or a runner that does too early, fails.
NO_TENSORFLOW = "raise RuntimeError('TensorFlow was imported')"


def write(folder, files):
    """Write files from their relative paths and texts; returns the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def environment(python_path=()):
    variables = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    path = [*map(str, python_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return variables | {"PYTHONPATH": os.pathsep.join(path)}


def python(folder, *arguments, python_path=()):
    """Run Python in a folder."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment(python_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def run(folder, *arguments, python_path=()):
    """Run the runner in a folder."""
    return python(folder, "-m", "deep_reid.legacy", *arguments, python_path=python_path)
