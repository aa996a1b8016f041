"""Describes the machine and the software of the measurements."""

import importlib.metadata
import os
import pathlib
import platform
import re

_PACKAGES = ["tensorflow", "tf-slim", "torch", "onnxruntime", "tf2onnx", "numpy", "opencv-python"]
_CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def num_cores():
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def list_precisions():
    """List the types to compute in: without AVX-512, bfloat16 takes minutes for a step."""
    return ("float32", "bfloat16") if "avx512f" in _read_cpu_info("flags").split() else ("float32",)


def describe():
    """Describe machine and software: a list of lines."""
    flags = _read_cpu_info("flags").split()
    features = " ".join(each for each in _CPU_FEATURES if each in flags)
    model = _read_cpu_info("model name") or platform.machine()
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    return [
        f"CPU: {model}, {num_cores()} cores, {features or 'no vector extensions known here'}",
        f"Memory: {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        f"System: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"Packages: {', '.join(f'{name} {_version(name)}' for name in _PACKAGES)}",
        f"Precisions: {', '.join(list_precisions())}",
        f"Load before (1, 5, 15 minutes): {load}",
    ]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe_builds(builds):
    """Describe the builds of PyTorch: a list of lines."""
    facts = [f"Builds of PyTorch: {', '.join(builds)}"]
    if all("+cu" in build for build in builds):
        facts.append(
            "No build of PyTorch is for CPUs, the fastest kind on them: compare with one, too (pip "
            "install torch --index-url https://download.pytorch.org/whl/cpu, in an environment of "
            "its own; --pytorch names its interpreter)"
        )
    return facts


def _read_cpu_info(key):
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""
