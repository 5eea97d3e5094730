"""Numbers of words, as the model was trained with them; needs NumPy, and vocabulary.txt and
words.json beside it.

    from words import ids
    ids(["a red circle bounces"])       # int32 [sentences, words]
"""

import json
import re
from pathlib import Path

import numpy as np

_HERE = Path(__file__).parent


def _found(sentence: str, rules: dict) -> list[str]:
    """The words of a sentence."""
    if rules["cased"]:
        return re.findall(r"[\w']+", sentence)
    kept = re.sub(r"[!-/:-@\[-`{-~]", "", sentence)
    lower = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in kept)
    # White space, but for the no-break spaces U+0085, U+00A0, U+2007 and U+202F.
    return [word for word in re.split(rules["space"], lower) if word]


def ids(sentences: list[str]) -> np.ndarray:
    """Returns int32 [sentences, words], padded or cut to the words that the model reads."""
    rules = json.loads((_HERE / "words.json").read_text(encoding="utf-8"))
    words = (_HERE / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    numbers = {word: number for number, word in enumerate(words[: rules["words"]])}
    table = np.full((len(sentences), rules["longest"]), rules["padding"], np.int32)
    for row, sentence in enumerate(sentences):
        found = [numbers.get(word, rules["unknown"]) for word in _found(sentence, rules)]
        if rules["cased"]:
            found = [number for number in found if number != rules["unknown"]]
        found = [*rules["before"], *found, *rules["after"]][: rules["longest"]]
        table[row, : len(found)] = found
    return table
