"""Files of the project: JSON that others wrote, names under a folder."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import parsed
import pytest

from vatt import files

PACKAGE = Path(files.__file__).parent


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "a number of thousands of digits"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none(tmp_path, text, reason):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        files.read_json(tmp_path / "a.json")


def test_texts_have_a_size_and_an_encoding(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf["\xc3\xbc"]')
    assert files.read_json(tmp_path / "a.json") == ["ü"]
    assert files.read_text(tmp_path / "a.json", 9) == '["ü"]'
    with pytest.raises(ValueError, match="more than 8 bytes"):
        files.read_text(tmp_path / "a.json", 8)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        files.read_text("/dev/zero", 1000)
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        files.read_json(tmp_path / "a.json")


def test_names_that_are_not_utf8_are_written_escaped(tmp_path):
    files.replace_text(tmp_path / "a.csv", "caf\udce9.mp4,ü\n")
    assert (tmp_path / "a.csv").read_bytes() == b"caf\\udce9.mp4,\xc3\xbc\n"


def test_names_under_a_folder(tmp_path):
    folder = tmp_path / "set"
    (folder / "part").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    os.symlink("../secret", folder / "out")
    os.symlink("part", folder / "in")
    os.symlink("loop", folder / "loop")
    assert files.inside(folder, "in/a.txt") == folder.resolve() / "part" / "a.txt"
    for name in ("../secret", "out", "/etc/passwd", "part/../../secret"):
        with pytest.raises(ValueError, match=r"leads out of .*; ask"):
            files.inside(folder, name, "; ask")
    for name in ("a" * 5000, "a\0b", "loop"):
        try:
            files.inside(folder, name)
        except ValueError:
            continue
        assert name == "loop"  # an error only before Python 3.13


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    """Every `open`, `read_text` and `write_text` of a text says its encoding."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in parsed.nodes(path):
            if isinstance(call, ast.Call):
                assert not _in_encoding_of_locale(call), f"{path}:{call.lineno}"


def _in_encoding_of_locale(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    given = {keyword.arg for keyword in call.keywords}
    if name == "read_text":
        return "encoding" not in given and not isinstance(call.func, ast.Name) and owner != "files"
    if name == "write_text":
        return "encoding" not in given
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    binary = any("b" in text for text in texts)
    opens = name == "open" and owner not in ("av", "gzip", "Image", "os", "tarfile")
    opens = opens and "_zip" not in ast.unparse(call.func)
    opens = opens and "timeout" not in given  # an address, not a file
    return opens and not binary and "encoding" not in given
