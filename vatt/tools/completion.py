"""What makes a shell complete the words of `vatt`, and file names after them.

    source <(vatt --completion bash)      # in ~/.bashrc
    source <(vatt --completion zsh)       # in ~/.zshrc, after compinit

The words are written into the script, so that the Tab key starts no Python.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_BASH = """\
_vatt() {{
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {words} -- "${{COMP_WORDS[1]}}"))
  fi
}}
complete -o bashdefault -o default -F _vatt vatt"""

_ZSH = """\
#compdef vatt
_vatt() {{
  local -a words_of_vatt=(
    {described}
  )
  if (( CURRENT == 2 )); then
    _describe command words_of_vatt
  else
    compset -P '*='
    _files
  fi
}}
if [ "$funcstack[1]" = _vatt ]; then _vatt "$@"; else compdef _vatt vatt; fi"""

SHELLS = {"bash": _BASH, "zsh": _ZSH}


def script(shell: str, commands: Mapping[str, str]) -> str:
    """Returns the script for a shell of `SHELLS`; `commands` has what each word does."""
    described = [shlex.quote(f"{word}:{text}") for word, text in commands.items()]
    return SHELLS[shell].format(
        words=shlex.quote(" ".join(commands)), described="\n    ".join(described)
    )
