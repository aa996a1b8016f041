"""Installs the package ``deep_reid``.

The scripts and ``datasets/`` are used from the checkout: a top-level package of the name
``datasets`` among the installed ones would shadow that of Hugging Face.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "deep_reid" / "__init__.py").read_text(), re.MULTILINE
)[1]
REPORT = ["matplotlib", "jinja2"]
DEV = ["pytest>=8", "pytest-timeout", "hypothesis", "ruff", "scikit-learn", "setuptools", *REPORT]

setup(
    name="deep-reid",
    version=VERSION,
    description="Deep cosine metric learning for person re-identification, on today's TensorFlow",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["deep_reid", "deep_reid.*"]),
    package_data={"deep_reid.scoring": ["report.html.jinja"]},
    install_requires=[
        "tensorflow>=2.16,<2.22",
        "tf-keras>=2.16,<2.22",  # each release asks for TensorFlow of its own minor version
        "tf-slim>=1.1,<1.2",
        "numpy",
        "opencv-python",
        "pillow",
        "scipy",
        "tqdm",
    ],
    extras_require={
        # What the benchmarks compare with.
        "bench": ["torch", "onnxruntime", "tf2onnx"],
        "dev": DEV,
        "gpu": ["tensorflow[and-cuda]>=2.16,<2.22"],
        "report": REPORT,
        # TensorFlow stopped bringing it along.
        "tensorboard": ["tensorboard"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
