"""The names that NumPy 1.18 to 2.4 took away and that have an exact counterpart."""

import ast
import functools
import importlib
import operator
import pickle

_PYTHON_TYPES = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "object": object,
    "str": str,
    "long": int,
    "unicode": str,
}
# From the old name to today's, which starts from numpy.
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
_KINDS = {
    "int": ("int8", "int16", "int32", "int64"),
    "uint": ("uint8", "uint16", "uint32", "uint64"),
    "float": ("float16", "float32", "float64", "longdouble"),
    "complex": ("complex64", "complex128", "clongdouble"),
}


@functools.cache
def restore():
    """Give NumPy its old names back, where this release lacks them, for the whole process."""
    numpy = importlib.import_module("numpy")
    for name, value in _list_old_names(numpy):
        # Not hasattr: NumPy warns when some of these names are looked up.
        if name not in vars(numpy):
            setattr(numpy, name, value)


def _list_old_names(numpy):
    yield from _PYTHON_TYPES.items()
    for name, path in _RENAMED.items():
        try:
            yield name, operator.attrgetter(path)(numpy)
        except AttributeError:  # a release that has the old name still
            continue
    yield from _list_numbers(numpy)
    yield from _list_functions(numpy)
    yield from _list_type_functions(numpy)


def _list_numbers(numpy):
    yield "NINF", -numpy.inf
    yield "PZERO", 0.0
    yield "NZERO", -0.0


def _list_functions(numpy):
    def asfarray(a, dtype=None):
        is_inexact = dtype is not None and numpy.issubdtype(dtype, numpy.inexact)
        return numpy.asarray(a, dtype=dtype if is_inexact else numpy.float64)

    def in1d(ar1, ar2, assume_unique=False, invert=False, **kwargs):
        ar1 = numpy.asarray(ar1).ravel()
        return numpy.isin(ar1, ar2, assume_unique=assume_unique, invert=invert, **kwargs)

    yield "asfarray", asfarray
    yield "in1d", in1d
    yield "asscalar", lambda a: numpy.asarray(a).item()
    yield "alen", lambda a: len(numpy.atleast_1d(a))
    yield "msort", lambda a: numpy.sort(a, axis=0)
    yield "fastCopyAndTranspose", lambda a: numpy.array(a).T.copy()
    yield "loads", pickle.loads
    yield "safe_eval", ast.literal_eval


def _list_type_functions(numpy):
    """Yield the tables and functions that deal with types."""

    class Cast(dict):
        def __missing__(self, kind):
            return lambda a: numpy.asarray(a).astype(numpy.dtype(kind))

    types = {kind: [getattr(numpy, name) for name in names] for kind, names in _KINDS.items()}
    others = [bool, object, bytes, str, numpy.void]
    yield "cast", Cast()
    yield "sctypes", {**types, "others": others}
    yield "issubclass_", lambda a, b: isinstance(a, type) and issubclass(a, b)
    yield "obj2sctype", lambda rep, default=None: _scalar_type(numpy, rep, default)
    yield (
        "issubsctype",
        lambda a, b: issubclass(_scalar_type(numpy, a, None), _scalar_type(numpy, b, None)),
    )


def _scalar_type(numpy, value, default):
    if isinstance(value, type) and issubclass(value, numpy.generic):
        return value
    if isinstance(value, numpy.ndarray):
        return value.dtype.type
    try:
        return numpy.dtype(value).type
    except TypeError:
        return default
