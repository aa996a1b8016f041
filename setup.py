"""Tells setuptools what pyproject.toml cannot: the wheel has `datasets/` as `deep_reid.datasets`.

A top-level package of the name ``datasets`` among the installed ones would shadow that of Hugging
Face.
"""

from setuptools import find_packages, setup

DATASETS = "deep_reid.datasets"

setup(
    packages=[
        *find_packages(include=["deep_reid", "deep_reid.*"], exclude=[f"{DATASETS}*"]),
        DATASETS,
        *(f"{DATASETS}.{name}" for name in find_packages("datasets")),
    ],
    package_dir={DATASETS: "datasets"},
)
