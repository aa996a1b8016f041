"""Files of MATLAB: each array of numbers as SciPy reads it, each damage one error."""

import io as io_module
import itertools
import os
import random
import struct
import zlib

import numpy as np
import pytest
from scipy import io, sparse

from deep_reid.errors import DataError
from deep_reid.system import matlab

ARRAYS = {
    "features": np.random.RandomState(0).normal(size=(5, 3)).astype(np.float32),
    "junk_index": np.array([[3, 5, 400]], np.float64),
    "none": np.zeros((0, 0)),
    "x" * 31: np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    **{kind: np.array([[1, 2], [3, 127]], kind) for kind in ("i1", "u1", "u2", "i4", "u4", "i8")},
}


def write(path, arrays=ARRAYS, **kwargs):
    io.savemat(path, arrays, appendmat=False, **kwargs)
    return path.read_bytes()


def big_endian(array):
    """Return a file as a big-endian machine writes it, with the numbers as float64."""
    parts = [(6, struct.pack(">2I", 6, 0)), (5, struct.pack(f">{array.ndim}i", *array.shape)),
             (1, b"features"), (9, array.astype(">f8").tobytes("F"))]  # fmt: skip
    content = b"".join(struct.pack(">2I", kind, len(part)) + part for kind, part in parts)
    return b"MATLAB 5.0".ljust(124) + b"\1\0MI" + struct.pack(">2I", 14, len(content)) + content


class TestReading:
    @pytest.mark.parametrize("do_compression", [False, True])
    @pytest.mark.parametrize("name", list(ARRAYS))
    def test_all_arrays_of_numbers(self, tmp_path, name, do_compression):
        write(tmp_path / "a.mat", do_compression=do_compression)
        array = matlab.read_variable(tmp_path / "a.mat", name, "restore it")
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype

    def test_another_byte_order(self, tmp_path):
        path = tmp_path / "a.mat"
        path.write_bytes(big_endian(np.arange(6.0).reshape(2, 3)))
        array = matlab.read_variable(path, "features", "restore it")
        np.testing.assert_array_equal(array, io.loadmat(path)["features"])
        np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))

    @pytest.mark.parametrize(
        "value", ["text", {"a": 1}, np.array([1j]), np.array([1, "a"], object)]
    )
    def test_other_variables_are_refused(self, tmp_path, value):
        write(tmp_path / "a.mat", {"a": value, "b": 3.0})
        with pytest.raises(DataError, match="'a' is not an array of real numbers.*: restore it$"):
            matlab.read_variable(tmp_path / "a.mat", "a", "restore it")
        assert matlab.read_variable(tmp_path / "a.mat", "b", "restore it").tolist() == [[3.0]]

    def test_a_missing_variable(self, tmp_path):
        write(tmp_path / "a.mat", {"b": 1, "a": "text"})
        with pytest.raises(DataError, match=r"has no variable 'c' \(it has a, b\): restore it$"):
            matlab.read_variable(tmp_path / "a.mat", "c", "restore it")

    def test_version_7_3_gets_its_way_out(self, tmp_path):
        content = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400) + b"\x89HDF"
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(DataError, match=r"version 7\.3; MATLAB writes version 5 by save -v7"):
            matlab.read_variable(tmp_path / "a.mat", "c", "restore it")

    def test_an_endless_device_is_not_read(self, tmp_path):
        (tmp_path / "a.mat").symlink_to("/dev/zero")
        with pytest.raises(OSError, match="is not a regular file"):
            matlab.read_variable(tmp_path / "a.mat", "c", "restore it")


def read_or_refuse(path, content, name):
    """Read a file; what is raised is one line, which names the file."""
    path.write_bytes(content)
    try:
        return matlab.read_variable(path, name, "restore it")
    except DataError as error:
        assert str(error).startswith(os.fspath(path))
        assert "\n" not in str(error)
        assert "version 4 or 5 ()" not in str(error)
        return None


OLD_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")
# MATLAB 4 has matrices only, of these types.
OLD_ARRAYS = {
    "none": np.zeros((0, 3)),
    "junk_index": np.array([[3, 5, 400]], np.float64),
    "x" * 19: np.arange(6.0).reshape(2, 3),
    **{kind: np.array([[1, 2, 3], [4, 5, 127]], kind) for kind in OLD_TYPES},
}


def old_matrix(name, array, order="<", kind=0):
    """Return a variable as MATLAB 4 writes it; SciPy writes one order only."""
    code = (order == ">") * 1000 + OLD_TYPES.index(array.dtype.str[1:]) * 10 + kind
    header = struct.pack(f"{order}5i", code, *array.shape, 0, len(name) + 1)
    numbers = array.astype(array.dtype.newbyteorder(order)).tobytes("F")
    return header + name.encode() + b"\0" + numbers


class TestMatlab4:
    @pytest.mark.parametrize("name", OLD_ARRAYS)
    def test_all_matrices_of_numbers(self, tmp_path, name):
        others = {"text": "some text", "complex": np.array([[1j]]), "sparse": sparse.eye(3)}
        write(tmp_path / "a.mat", {**others, **OLD_ARRAYS}, format="4")
        array = matlab.read_variable(tmp_path / "a.mat", name, "restore it")
        np.testing.assert_array_equal(array, io.loadmat(tmp_path / "a.mat")[name])
        np.testing.assert_array_equal(array, OLD_ARRAYS[name])
        for other in others:
            with pytest.raises(DataError, match=f"'{other}' is not an array of real numbers"):
                matlab.read_variable(tmp_path / "a.mat", other, "restore it")
        with pytest.raises(DataError, match=r"has no variable 'c' \(it has complex, f4, f8"):
            matlab.read_variable(tmp_path / "a.mat", "c", "restore it")

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("name", OLD_ARRAYS)
    def test_both_byte_orders(self, tmp_path, name, order):
        content = b"".join(old_matrix(x, array, order) for x, array in OLD_ARRAYS.items())
        (tmp_path / "a.mat").write_bytes(content)
        array = matlab.read_variable(tmp_path / "a.mat", name, "restore it")
        assert array.dtype == np.dtype(OLD_ARRAYS[name].dtype).newbyteorder(order)
        np.testing.assert_array_equal(array, io.loadmat(tmp_path / "a.mat")[name])

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_each_length(self, tmp_path, order):
        content = old_matrix("features", np.ones((5, 3)), order)
        for length in range(len(content)):
            assert read_or_refuse(tmp_path / "b.mat", content[:length], "features") is None
        assert read_or_refuse(tmp_path / "b.mat", content, "features").shape == (5, 3)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_each_byte_before_the_numbers(self, tmp_path, order):
        content = old_matrix("a", np.ones((5, 3)), order)
        for position, value in itertools.product(range(22), range(256)):
            changed = content[:position] + bytes([value]) + content[position + 1 :]
            array = read_or_refuse(tmp_path / "b.mat", changed, "a")
            # There is no checksum, but what is read lies in the file.
            assert array is None or array.nbytes <= len(content)

    def test_changes_at_random(self, tmp_path):
        content = write(tmp_path / "a.mat", OLD_ARRAYS, format="4")
        choose = random.Random(1)
        for _ in range(2000):
            changed = bytearray(content)
            for _ in range(choose.randint(1, 8)):
                changed[choose.randrange(len(content))] = choose.choice([0, 1, 14, 255, 128])
            array = read_or_refuse(tmp_path / "b.mat", bytes(changed), choose.choice([*OLD_ARRAYS]))
            assert array is None or array.nbytes <= len(content)


class TestDamage:
    """With SciPy's reader, some of these files end the process."""

    @pytest.mark.slow
    def test_each_byte_before_the_numbers(self, tmp_path):
        content = write(tmp_path / "a.mat", {"features": ARRAYS["features"]})
        for position, value in itertools.product(range(120, 192), (*range(24), 127, 128, 255)):
            changed = content[:position] + bytes([value]) + content[position + 1 :]
            read_or_refuse(tmp_path / "b.mat", changed, "features")

    @pytest.mark.parametrize("do_compression", [False, True])
    def test_a_file_cut_at_any_length_is_read_or_refused(self, tmp_path, do_compression):
        content = write(
            tmp_path / "a.mat", {"features": ARRAYS["features"]}, do_compression=do_compression
        )
        for length in range(len(content)):
            assert read_or_refuse(tmp_path / "b.mat", content[:length], "features") is None

    @pytest.mark.parametrize("do_compression", [False, True])
    def test_changes_at_random(self, tmp_path, do_compression):
        content = write(tmp_path / "a.mat", do_compression=do_compression)
        choose = random.Random(1)
        for _ in range(1000):
            changed = bytearray(content)
            for _ in range(choose.randint(1, 8)):
                changed[choose.randrange(124, len(content))] = choose.choice([0, 1, 14, 255, 128])
            name = choose.choice(list(ARRAYS))
            read_or_refuse(tmp_path / "b.mat", bytes(changed), name)

    def test_each_change_of_what_is_compressed(self, tmp_path):
        content = write(tmp_path / "a.mat", {"features": ARRAYS["features"]})[128:]
        for position, value in itertools.product(range(64), (0, 1, 127, 128, 255)):
            changed = zlib.compress(content[:position] + bytes([value]) + content[position + 1 :])
            header = bytes(124) + b"\0\1IM" + struct.pack("<2I", 15, len(changed))
            read_or_refuse(tmp_path / "b.mat", header + changed, "features")

    def test_a_changed_checksum(self, tmp_path):
        content = write(tmp_path / "a.mat", do_compression=True)
        name = list(ARRAYS)[-1]
        assert read_or_refuse(tmp_path / "b.mat", content, name) is not None
        changed = content[:-1] + bytes([content[-1] ^ 1])
        assert read_or_refuse(tmp_path / "b.mat", changed, name) is None

    def test_a_file_of_another_format_is_refused(self, tmp_path):
        npy = io_module.BytesIO()
        np.save(npy, np.ones((100, 3)))
        for content in (b"", b"x", bytes(5000), b"\xff" * 5000, npy.getvalue()):
            assert read_or_refuse(tmp_path / "b.mat", content, "features") is None
