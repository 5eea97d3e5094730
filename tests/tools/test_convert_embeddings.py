"""Published word vectors become .npz files; pickles that hold anything else are refused unrun."""

from __future__ import annotations

import collections
import io
import os
import pickle
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from tests.torch_writer import WRITERS, Asked
from vatt.errors import EXIT_DATA
from vatt.tools import convert_embeddings

TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def convert(tmp_path, content: bytes, output="out.npz"):
    source = tmp_path / "in.pkl"
    source.write_bytes(content)
    return convert_embeddings.main([str(source), str(tmp_path / output)])


def refusal(tmp_path, capsys, content: bytes) -> str:
    assert convert(tmp_path, content) == EXIT_DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pkl"]
    return capsys.readouterr().err


def loaded(tmp_path) -> np.ndarray:
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert archive.files == ["word_embeddings"]
        return archive["word_embeddings"]


# Protocols of Python 3 and the spelling of NumPy 2, and those with names of free length before it.
SPELLINGS = [(protocol, b"numpy._core") for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
SPELLINGS += [(protocol, b"numpy.core") for protocol in range(4)]


@pytest.mark.parametrize(("protocol", "core"), SPELLINGS)
def test_every_protocol_and_both_spellings(tmp_path, capsys, protocol, core):
    content = {"word_embeddings": TABLE, "words": ["a", "b"], "size": np.float64(5.0)}
    written = pickle.dumps(content, protocol).replace(b"numpy._core", core)
    assert core in written
    assert convert(tmp_path, written) == 0
    assert "word_embeddings, 5 words of 3 values, float32." in capsys.readouterr().out
    np.testing.assert_array_equal(loaded(tmp_path), TABLE)
    assert loaded(tmp_path).dtype == np.float32


def test_an_array_written_by_python_2(tmp_path):
    """Protocol 2 of Python 2, opcode by opcode: the bytes of the array are a `str` there."""

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b")
    array += b"\x87R(K\x01K\x05K\x03\x86cnumpy\ndtype\n" + string(b"f4") + b"K\x00K\x01\x87R"
    array += b"(K\x03" + string(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array += b"\x89" + string(TABLE.tobytes()) + b"tb"
    content = b"\x80\x02}" + string(b"word_embeddings") + array + b"s."
    assert convert(tmp_path, content) == 0
    np.testing.assert_array_equal(loaded(tmp_path), TABLE)


def test_float64_becomes_float32_and_fortran_order_is_kept_straight(tmp_path):
    table = np.asfortranarray(TABLE.astype(np.float64) / 3.0)
    assert convert(tmp_path, pickle.dumps({"word_embeddings": table})) == 0
    np.testing.assert_array_equal(loaded(tmp_path), table.astype(np.float32))


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_function_is_refused_by_name_and_not_run(tmp_path, capsys, protocol):
    mark = tmp_path / "ran"
    content = pickle.dumps({"word_embeddings": TABLE, "x": Runs(os.mkdir, str(mark))}, protocol)
    message = refusal(tmp_path, capsys, content)
    assert "in.pkl is refused" in message and ".mkdir'" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "function", [eval, getattr, np.load, subprocess.call, collections.Counter, pickle.loads]
)
def test_only_what_arrays_need_is_allowed(tmp_path, capsys, function):
    content = pickle.dumps({"word_embeddings": TABLE, "x": Runs(function, "1")})
    assert f"{function.__name__}', code or a kind of object" in refusal(tmp_path, capsys, content)


def test_no_way_round_through_dots(tmp_path, capsys):
    """Protocol 4 resolves dotted names: numpy + 'dtype.__class__' must not reach `type`."""
    content = b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93\x8c\x01x\x85R."
    assert "numpy.dtype.__class__" in refusal(tmp_path, capsys, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"vectors": TABLE, "words": []}, "no entry 'word_embeddings'.*: 'vectors', 'words'"),
        ({}, "no entry 'word_embeddings'.*: none"),
        (TABLE, "holds a Array; expected a dict with an entry 'word_embeddings'"),
        ({"word_embeddings": TABLE[0]}, r"is float32 \[3\]; expected finite floating-point"),
        ({"word_embeddings": np.arange(6).reshape(2, 3)}, r"is int64 \[2, 3\]"),
        ({"word_embeddings": np.array([["a"]], object)}, "'O8', not real numbers"),
        ({"word_embeddings": TABLE.tolist()}, "is list; expected"),
        ({"word_embeddings": np.array([[np.nan]])}, "not finite in float32"),
        ({"word_embeddings": np.array([[1e300]])}, "not finite in float32"),
    ],
)
def test_other_contents(tmp_path, capsys, content, message):
    assert re.search(message, refusal(tmp_path, capsys, pickle.dumps(content)))


def test_files_that_are_no_pickle(tmp_path, capsys):
    good = pickle.dumps({"word_embeddings": TABLE})
    buffer = io.BytesIO()
    np.savez(buffer, word_embeddings=TABLE)
    for content in (b"", b"hello", good[:-20], buffer.getvalue()):
        assert "is not a pickle of arrays, or damaged" in refusal(tmp_path, capsys, content)


def test_files_that_cannot_be_read_or_written(tmp_path, capsys):
    missing = str(tmp_path / "none.pkl")
    assert convert_embeddings.main([missing, str(tmp_path / "out.npz")]) == EXIT_DATA
    assert f"Cannot read {missing}: No such file" in capsys.readouterr().err
    good = pickle.dumps({"word_embeddings": TABLE})
    assert convert(tmp_path, good, "out.npy") == EXIT_DATA
    assert "expected a name that ends in .npz" in capsys.readouterr().err
    assert convert(tmp_path, good, "in.pkl/out.npz") == EXIT_DATA
    assert "in.pkl: cannot be written" in capsys.readouterr().err
    (tmp_path / "out.npz").write_bytes(b"earlier")
    assert convert(tmp_path, b"damaged") == EXIT_DATA
    assert (tmp_path / "out.npz").read_bytes() == b"earlier"


def test_it_starts_without_tensorflow():
    program = "import sys, vatt.tools.convert_embeddings; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_tensor_of_pytorch(tmp_path, capsys, write):
    source = write(tmp_path / "word2vec.pth", TABLE)
    assert convert_embeddings.main([str(source), str(tmp_path / "out.npz")]) == 0
    assert "word_embeddings, 5 words of 3 values, float32." in capsys.readouterr().out
    np.testing.assert_array_equal(loaded(tmp_path), TABLE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": TABLE}}, "holds a dict; expected one tensor"),
        (Asked("os.system", "true"), "asks for 'os.system'"),
        (TABLE[0], "float32 [3]; expected finite"),
        (TABLE.astype(np.int64), "int64 [5, 3]; expected finite"),
    ],
)
def test_other_files_of_pytorch_are_refused(tmp_path, capsys, content, message):
    source = WRITERS["stream"](tmp_path / "word2vec.pth", content)
    assert convert_embeddings.main([str(source), str(tmp_path / "out.npz")]) == EXIT_DATA
    error = capsys.readouterr().err
    assert message in error and str(source) in error and error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()
