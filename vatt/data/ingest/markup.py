"""What stands in a cue of subtitles beside words: tags, entities, breaks, signs without width.

Of `<...>` only what can be a tag is taken out, so that "x < 3" stays; parsers that follow the
standard of WebVTT to the letter take everything up to the next ">".
"""

from __future__ import annotations

import html
import re

Lines = tuple[str, ...]

_BREAK = re.compile(r"<br\s*/?>|\\N", re.IGNORECASE)
_TAG = re.compile(
    r"""</?[a-z][\w.-]*(?:\s+[\w-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>]+))*\s*/?>"""  # <c.red>
    r"|<(?:v|lang)[.\s][^<>]*>"  # <v Ann Lee>
    r"|<(?:\d+:)?\d+:\d+[.,]\d+>"  # the time of a word
    r"|\{\\[^{}]*\}|\{/?[biu]\}",
    re.IGNORECASE,
)
_ESCAPED_TAG = re.compile(r"</?(?:b|i|u|font)(?:\s+\w+=[^<>]*)?>", re.IGNORECASE)
# The others of their kind join letters (U+200C, U+200D).
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")


def lines_of(cue: str) -> Lines:
    """Returns the lines of a cue that have words, without markup."""
    text = html.unescape(_TAG.sub("", _BREAK.sub("\n", cue).replace("\\h", " ")))
    text = _ESCAPED_TAG.sub("", text)  # a common mistake, which nobody speaks
    return tuple(line for line in map(plain, text.split("\n")) if line)


def plain(text: str) -> str:
    """Returns a text in one line, with single spaces, without signs that have no width."""
    return " ".join(_INVISIBLE.sub("", text).split())
