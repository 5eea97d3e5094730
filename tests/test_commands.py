"""The command `vatt`: its words, and what it does with others."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from vatt import commands
from vatt.errors import EXIT_USAGE
from vatt.tools import completion

HEAVY = ("tensorflow", "keras", "numpy", "pydantic")


@pytest.fixture
def called(monkeypatch):
    """What was run, in place of running it."""
    found = []
    monkeypatch.setattr(commands, "_run", lambda *call: found.append(call) or 7)
    return found


def test_help_fits_a_screen_and_imports_nothing_heavy():
    program = (
        "import sys\nfrom vatt import commands\ncode = commands.main(['--help'])\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), code)"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    *lines, last = made.stdout.splitlines()
    assert last == "[] 0" and len(lines) < 24 and max(map(len, lines)) < 80
    for word in commands.COMMANDS:
        assert any(line.startswith(f"  {word} ") for line in lines)


@pytest.mark.parametrize("word", commands.COMMANDS)
def test_every_word_says_what_it_takes(word, capsys):
    assert callable(importlib.import_module(commands.COMMANDS[word].module).main)
    try:
        code = commands.main([word, "--help"])
    except SystemExit as ended:  # argparse
        code = ended.code
    assert not code and "--help" in capsys.readouterr().out


def test_arguments_follow_the_flag_of_their_word(called):
    assert commands.main(["finetune", "--model_dir=a"]) == 7
    assert commands.main(["ingest", "--input", "b"]) == 7
    assert commands.main(["--task=pretrain", "--mode=eval"]) == 7
    assert called == [
        ("vatt.main", ["--task=finetune", "--model_dir=a"]),
        ("vatt.data.ingest.command", ["--input", "b"]),
        ("vatt.main", ["--task=pretrain", "--mode=eval"]),
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pretrian"], "'pretrian' is no command of vatt. Did you mean 'pretrain'?"),
        (["pretrain", "--task=finetune"], "--task=finetune: vatt pretrain means --task=pretrain"),
        (["eval", "--mode", "train"], "--mode: vatt eval means --mode=eval"),
    ],
)
def test_what_cannot_be_meant_is_refused(called, capsys, arguments, told):
    assert commands.main(arguments) == EXIT_USAGE and not called
    assert told in capsys.readouterr().err


def test_nothing_asked_for_is_answered_with_help(capsys):
    assert commands.main([]) == EXIT_USAGE
    assert capsys.readouterr().out.startswith("usage: vatt COMMAND")


def test_the_package_can_be_run():
    command = [sys.executable, "-m", "vatt", "--version"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert made.stdout.startswith("vatt 0.")


def completed(*words):
    """What bash offers for the last of the words."""
    program = (
        'eval "$(cat)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vatt; echo "${COMPREPLY[*]}"'
    )
    script = completion.script("bash", {word: one.help for word, one in commands.COMMANDS.items()})
    call = ["bash", "-eu", "-c", program, "bash", *words]
    return subprocess.run(
        call, input=script, capture_output=True, text=True, check=True
    ).stdout.split()


def test_bash_completes_the_words_and_leaves_the_rest_to_files():
    assert completed("vatt", "") == list(commands.COMMANDS)
    assert completed("vatt", "pre") == ["pretrain", "predict"]
    assert completed("vatt", "embed", "pre") == []


def test_the_script_for_a_shell_is_printed(capsys):
    assert commands.main(["--completion", "zsh"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("#compdef vatt\n")
    for word, command in commands.COMMANDS.items():
        assert f"    '{word}:{command.help}'\n" in printed
    assert commands.main(["--completion=bash"]) == 0
    assert capsys.readouterr().out.endswith("-F _vatt vatt\n")


@pytest.mark.parametrize("arguments", [["--completion"], ["--completion=fish"]])
def test_a_shell_that_is_not_known_is_refused(capsys, arguments):
    assert commands.main(arguments) == EXIT_USAGE
    assert "expected the name of a shell, bash or zsh" in capsys.readouterr().err
