"""The names that NumPy 1.18 to 2.4 removed and that have an exact counterpart."""

import ast
import functools
import operator
import pickle
import warnings
from typing import Any

import numpy as np

_RENAMED = {
    "bool8": "bool_",
    "int0": "intp",
    "uint0": "uintp",
    "float_": "float64",
    "complex_": "complex128",
    "cfloat": "complex128",
    "singlecomplex": "complex64",
    "longfloat": "longdouble",
    "longcomplex": "clongdouble",
    "clongfloat": "clongdouble",
    "str0": "str_",
    "string_": "bytes_",
    "bytes0": "bytes_",
    "unicode_": "str_",
    "object0": "object_",
    "void0": "void",
    "Inf": "inf",
    "Infinity": "inf",
    "infty": "inf",
    "PINF": "inf",
    "NaN": "nan",
    "NAN": "nan",
    "mat": "asmatrix",
    "product": "prod",
    "cumproduct": "cumprod",
    "sometrue": "any",
    "alltrue": "all",
    "round_": "round",
    "rank": "ndim",
    "row_stack": "vstack",
    "trapz": "trapezoid",
    "typeDict": "sctypeDict",
    "chararray": "char.chararray",
    "compare_chararrays": "char.compare_chararrays",
    "format_parser": "rec.format_parser",
    "byte_bounds": "lib.array_utils.byte_bounds",
    "DataSource": "lib.npyio.DataSource",
    "AxisError": "exceptions.AxisError",
    "ComplexWarning": "exceptions.ComplexWarning",
    "ModuleDeprecationWarning": "exceptions.ModuleDeprecationWarning",
    "RankWarning": "exceptions.RankWarning",
    "TooHardError": "exceptions.TooHardError",
    "VisibleDeprecationWarning": "exceptions.VisibleDeprecationWarning",
}


class _Cast(dict):
    def __missing__(self, kind):
        return lambda a: np.asarray(a).astype(np.dtype(kind))


def _scalar_type(rep, default=None):
    if isinstance(rep, type) and issubclass(rep, np.generic):
        return rep
    if isinstance(rep, np.ndarray):
        return rep.dtype.type
    try:
        return np.dtype(rep).type
    except TypeError:
        return default


def _as_float_array(a, dtype=None):
    is_inexact = dtype is not None and np.issubdtype(dtype, np.inexact)
    return np.asarray(a, dtype=dtype if is_inexact else np.float64)


def _in_1d(ar1, ar2, assume_unique=False, invert=False, **kwargs):
    ar1 = np.asarray(ar1).ravel()
    return np.isin(ar1, ar2, assume_unique=assume_unique, invert=invert, **kwargs)


_VALUES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "object": object,
    "str": str,
    "long": int,
    "unicode": str,
    "NINF": -np.inf,
    "PZERO": 0.0,
    "NZERO": -0.0,
    "asfarray": _as_float_array,
    "in1d": _in_1d,
    "asscalar": lambda a: np.asarray(a).item(),
    "alen": lambda a: len(np.atleast_1d(a)),
    "msort": lambda a: np.sort(a, axis=0),
    "fastCopyAndTranspose": lambda a: np.array(a).T.copy(),
    "loads": pickle.loads,
    "safe_eval": ast.literal_eval,
    "cast": _Cast(),
    "sctypes": {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64, np.longdouble],
        "complex": [np.complex64, np.complex128, np.clongdouble],
        "others": [bool, object, bytes, str, np.void],
    },
    "issubclass_": lambda a, b: isinstance(a, type) and issubclass(a, b),
    "obj2sctype": _scalar_type,
    "issubsctype": lambda a, b: issubclass(_scalar_type(a), _scalar_type(b)),
}


@functools.cache
def restore() -> None:
    """Give NumPy the old names that this release lacks, for the whole process."""
    # Not hasattr: NumPy warns when some of these names are looked up.
    for name in _VALUES.keys() - vars(np).keys():
        setattr(np, name, _VALUES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody has used a deprecated name yet
        for name in _RENAMED.keys() - vars(np).keys():
            try:
                setattr(np, name, operator.attrgetter(_RENAMED[name])(np))
            except AttributeError:  # this release knows neither name
                continue
