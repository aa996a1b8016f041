"""A stand-in for TensorFlow, for processes that end before they use more than its version."""


def write_tensorflow(folder, version):
    """Write a package that `deep_reid.compat` takes for TensorFlow, up to the repairs of TF-Slim.

    Returns
    -------
    pathlib.Path
        The folder, for ``PYTHONPATH``.
    """
    files = {
        "__init__": "from tensorflow import errors",
        "errors": "class OpError(Exception): pass",
        "compat/__init__": "",
        "compat/v1": f"import logging\n__version__ = {version!r}\nget_logger = logging.getLogger",
    }
    (folder / "tensorflow" / "compat").mkdir(parents=True)
    for name, text in files.items():
        (folder / "tensorflow" / f"{name}.py").write_text(text)
    return folder
