"""The command `vatt`: each of its words stands for a module that can also be run by itself.

    vatt pretrain --config_file=configs/pretrain/toy.yaml --model_dir=runs/toy ...
    vatt eval --model_dir=runs/toy
    vatt report runs/toy

`python -m vatt` is the same. Flags without a word go to `vatt.main`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from vatt import __version__
from vatt.errors import EXIT_USAGE, nearest
from vatt.printing import escape_what_cannot_be_shown, show


class Command(NamedTuple):
    """Where a word leads.

    Attributes:
      module: has `main(arguments)`, which returns the exit code.
      help: what it does.
      flag: comes before the arguments that follow the word.
    """

    module: str
    help: str
    flag: str = ""


COMMANDS = {
    "pretrain": Command("vatt.main", "learn from videos without labels", "--task=pretrain"),
    "finetune": Command("vatt.main", "learn to classify", "--task=finetune"),
    "launch": Command("vatt.tools.launch", "train with several workers on this machine"),
    "eval": Command("vatt.main", "evaluate checkpoints, as they are written", "--mode=eval"),
    "embed": Command("vatt.tools.embed", "embeddings of files and folders, for later use"),
    "predict": Command("vatt.tools.predict", "classes of files and folders, by a fine-tuned model"),
    "search": Command("vatt.tools.search", "find moments by a sentence, a sound or a video"),
    "export": Command("vatt.tools.export", "files for other programs: ONNX, LiteRT, ..."),
    "report": Command("vatt.reporting.report", "write the report of a run again, or compare runs"),
    "ingest": Command("vatt.data.ingest.command", "make records of media files"),
    "extract": Command("vatt.tools.extract", "make a set of features of another set, or of media"),
    "check": Command("vatt.data.check.command", "read a data set end to end"),
    "vocabulary": Command("vatt.data.vocabulary", "make a vocabulary of captions"),
    "toy": Command("vatt.data.toy.command", "render the toy corpus"),
    "zoo": Command("vatt.tools.zoo", "list published checkpoints"),
    "download": Command("vatt.tools.download", "fetch a published checkpoint"),
    "convert": Command("vatt.tools.convert_checkpoint", "make a checkpoint of ours of it"),
    "embeddings": Command("vatt.tools.convert_embeddings", "read a published table of words"),
    "models": Command("vatt.tools.model_summary", "parameters and costs of models"),
}
_MAIN = "vatt.main"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, without the program's name, and returns the exit code."""
    escape_what_cannot_be_shown()
    word, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if word in ("", "help", "--help", "-h"):
        show(_help())
        return 0 if word else EXIT_USAGE
    if word in ("--version", "version"):
        print(f"vatt {__version__}")
        return 0
    if word.partition("=")[0] == "--completion":
        return _complete([*word.split("=", 1)[1:], *rest])
    if word.startswith("-"):
        return _run(_MAIN, [word, *rest])
    if word not in COMMANDS:
        return _refuse(f"'{word}' is no command of vatt.{nearest(word, COMMANDS)} vatt --help")
    command = COMMANDS[word]
    if not command.flag:
        return _run(command.module, rest)
    name, _, value = command.flag.partition("=")
    for argument in rest:
        if argument.removeprefix("-").removeprefix("-").partition("=")[0] == name[2:]:
            return _refuse(f"{argument}: vatt {word} means {name}={value}")
    return _run(command.module, [command.flag, *rest])


def entry() -> None:
    """The console script."""
    sys.exit(main())


def _run(module: str, arguments: Sequence[str]) -> int:
    found = importlib.import_module(module)
    return found.main(["vatt", *arguments] if module == _MAIN else list(arguments))


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {word.ljust(width)}  {command.help}" for word, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vatt COMMAND ...",
            *rows,
            "",
            "vatt COMMAND --help says what one of them takes. vatt --version.",
            "Words on the Tab key: source <(vatt --completion bash), or zsh.",
        ]
    )


def _complete(given: Sequence[str]) -> int:
    from vatt.tools import completion

    if len(given) != 1 or given[0] not in completion.SHELLS:
        known, said = " or ".join(completion.SHELLS), " ".join(given)
        return _refuse(f"--completion {said}".rstrip() + f": expected the name of a shell, {known}")
    show(completion.script(given[0], {word: command.help for word, command in COMMANDS.items()}))
    return 0


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USAGE
