"""A short YAML text cannot cost endless work: aliases, nesting, digits and dotted keys are bounded.

How long reading takes follows from how many values there are, so that is what is asserted; the one
limit of time is for what would take hours without the bounds.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from vatt import configs
from vatt.configs import yaml_text

LETTERS = "abcdefghijkl"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, here in itertools.pairwise(LETTERS)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{here}: &{here}\n  <<: [{', '.join([f'*{before}'] * 9)}]\n"
    for before, here in itertools.pairwise(LETTERS)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))
REFUSED = {
    "aliases": (BOMB, "more than 500000 values"),
    "merges": (MERGES, "more than 500000 values"),
    "chain of aliases": (CHAIN, "more than 50 values in one another"),
    "lists": ("[" * 100_000, "more than 50 values in one another"),
    "mappings": ("{a: " * 100_000, "more than 50 values in one another"),
    "digits": ("9" * 5000, "a number of 5000 characters"),
    "digits with an exponent": ("9" * 100_000 + "e5", "a number of 100002 characters"),
    "hexadecimal": ("0x" + "f" * 5000, "a number of 5002 characters"),
    "sexagesimal": ("!!float 1" + ":1" * 500, "a number of 1001 characters"),
    "itself in a list": ("a: &a [*a]", "a value that holds itself"),
    "itself in a mapping": ("&a {b: {c: *a}}", "a value that holds itself"),
    "itself as a key": ("&a {? *a : 1}", "a value that holds itself"),
    "empty number": ('!!int ""', ""),
    "no truth": ("!!bool x", ""),
    "no time": ("!!timestamp x", ""),
    "no day": ("2001-99-99", "month must be in 1..12"),
    "unhashable key": ("{[a]: 1}", "unhashable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    text, reason = REFUSED[name]
    with pytest.raises(configs.ConfigError) as caught:
        yaml_text.parse(text, "params_override")
    (problem,) = caught.value.problems
    assert problem.accepted.startswith("not readable as plain YAML (")
    assert reason in problem.accepted
    assert len(str(caught.value).splitlines()) == 2 and len(str(caught.value)) < 500


def test_of_brackets_that_are_too_many_no_more_is_read(monkeypatch):
    """PyYAML reads on for 1,024 letters, looking at every open bracket at each further one."""
    fetched, fetch = [], yaml_text._Loader.fetch_more_tokens
    monkeypatch.setattr(
        yaml_text._Loader, "fetch_more_tokens", lambda self: fetched.append(fetch(self))
    )
    with pytest.raises(ValueError, match="more than 50 values in one another"):
        yaml_text.document("[" * 1_100)
    assert len(fetched) < 100


def test_what_stands_for_little_is_read():
    text = "a: &a {k: 1, l: [1e-4, .5e1, 1_000.5e1]}\nb: *a\nc: {<<: *a, k: 2}\nd: 0x1F\n"
    parts = [1e-4, 5.0, 10005.0]
    assert yaml_text.document(text) == {
        "a": {"k": 1, "l": parts},
        "b": {"k": 1, "l": parts},
        "c": {"k": 2, "l": parts},
        "d": 31,
    }
    deep = "[" * 50 + "]" * 50
    assert str(yaml_text.document(deep)) == deep
    assert yaml_text.document("9" * 100) == int("9" * 100)
    assert yaml_text.document("") is None


def test_aliases_count_each_time():
    part = "a: &a [" + "x, " * 998 + "x]\n"  # 1000 values: the list and what is in it
    assert len(yaml_text.document(f"{part}b: [{'*a, ' * 498}]")["b"]) == 498
    with pytest.raises(ValueError, match="more than 500000 values"):
        yaml_text.document(f"{part}b: [{'*a, ' * 499}]")


@pytest.mark.parametrize("dots", [50, 3000, 100_000])
@pytest.mark.parametrize("form", ["{key}=1", "{{? {key} : 1}}", "{{a: {{? {key} : 1}}}}"])
def test_dotted_keys(dots, form):
    override = form.format(key=".".join("a" * dots))
    with pytest.raises(configs.ConfigError, match="more than 50 values in one another") as caught:
        configs.resolve(params_override=override)
    assert len(str(caught.value)) < 500


def test_a_mapping_that_holds_itself_given_by_code():
    changes: dict = {}
    changes["train"] = changes
    with pytest.raises(configs.ConfigError, match="more than 50 values in one another"):
        configs.resolve(params_override=changes)


@pytest.mark.parametrize("key", ["²", "9" * 5000, "-1", "01"])
def test_members_of_a_stack_that_are_none(key):
    changes = {"model_config": {"head_config": {"bridge": {key: {"d_model": 8}}}}}
    with pytest.raises(configs.ConfigError, match=r"expected an index below"):
        configs.resolve(model_arch="tx_fac_tiny", params_override=changes)


def test_a_file_of_another_size_or_encoding(tmp_path):
    for content, reason in ((b"#" * (2**22 + 1), "more than 4194304 bytes"), (b"\xff", "utf-8")):
        (tmp_path / "x.yaml").write_bytes(content)
        with pytest.raises(configs.ConfigError, match=reason):
            configs.resolve(config_file=str(tmp_path / "x.yaml"))


def test_bombs_end_a_command_soon(tmp_path):
    (tmp_path / "bomb.yaml").write_text(BOMB)
    command = [sys.executable, "-m", "vatt.main", f"--config_file={tmp_path / 'bomb.yaml'}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2 and "more than 500000 values" in ended.stderr
    assert "Traceback" not in ended.stderr
