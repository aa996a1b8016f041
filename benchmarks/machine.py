"""What the measurements were made on."""

import importlib.metadata
import os
import pathlib
import platform
import re

_PACKAGES = (
    "tensorflow",
    "tf-slim",
    "torch",
    "onnxruntime",
    "tf2onnx",
    "numpy",
    "opencv-python",
)


def num_cores():
    """Return the number of cores that this process may use.

    Returns
    -------
    int
    """
    return len(os.sched_getaffinity(0))


def describe():
    """Describe machine and software, a line each.

    Returns
    -------
    list of str
    """
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    return [
        f"CPU: {_cpu_model()}, {num_cores()} cores, {_cpu_features()}",
        f"Memory: {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        f"System: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"Packages: {versions}",
        f"Load before (1, 5, 15 minutes): {load}",
    ]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _read_cpu_info(key):
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""


def _cpu_model():
    return _read_cpu_info("model name") or platform.machine()


def _cpu_features():
    flags = _read_cpu_info("flags").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return " ".join(known) or "no vector extensions known here"
