"""Writes the sentences of the toy corpus: faithful captions, chatter, and their times.

Templates, synonyms and fillers are drawn independently of what they describe, so the length of a
caption tells nothing about the scene.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vatt.data.toy.scene import Scene

# All lists of one kind have the same lengths in words (motions 4, 3, 4), so that the length of a
# caption says nothing about the attribute.
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "disc": ("disc", "ball", "dot"),
    "square": ("square", "box", "tile"),
    "triangle": ("triangle", "wedge", "pyramid"),
    "star": ("star", "asterisk", "starfish"),
    "ring": ("ring", "hoop", "donut"),
    "cross": ("cross", "plus", "crossbar"),
    "heart": ("heart", "valentine", "sweetheart"),
    "moon": ("moon", "crescent", "banana"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet", "crimson"),
    "yellow": ("yellow", "golden", "lemon"),
    "green": ("green", "emerald", "grassy"),
    "blue": ("blue", "navy", "azure"),
    "purple": ("purple", "violet", "magenta"),
    "white": ("white", "snowy", "pale"),
}
MOTION_WORDS: dict[str, tuple[str, ...]] = {
    "slide": ("slides left and right", "glides across sideways", "swings side to side"),
    "bob": ("bobs up and down", "rises and falls", "floats up then down"),
    "circle": ("circles round and round", "goes in loops", "orbits in a circle"),
    "pulse": ("grows and then shrinks", "swells and contracts", "gets bigger and smaller"),
    "blink": ("blinks on and off", "appears and vanishes", "flashes like a lamp"),
    "turn": ("flips over and over", "turns and twirls", "rotates like a coin"),
    "shake": ("shakes and trembles hard", "shivers and jitters", "rattles on the spot"),
    "jump": ("jumps here and there", "hops and leaps", "pops up all over"),
}
TEMPLATES = (
    "a {colour} {shape} {motion}",
    "the {colour} {shape} {motion} here",
    "now the {colour} {shape} {motion}",
    "look how this {colour} {shape} {motion}",
    "here you see a {colour} {shape} that {motion}",
    "there is a {shape} in {colour} and it {motion}",
    "our {colour} {shape} {motion} all the time",
    "watch closely as the {colour} {shape} {motion}",
    "on the screen a {colour} {shape} {motion}",
    "this {shape} is {colour} and it {motion}",
    "you can tell that the {colour} {shape} {motion}",
    "in this part the {colour} {shape} {motion}",
)
CHATTER = (
    "so let me grab a coffee first",
    "please subscribe if you like the channel",
    "okay where was i before the phone rang",
    "i bought this table at the market last year",
    "thanks to everyone who wrote to me this week",
    "we will get to that in a minute",
    "my neighbour is mowing the lawn today sorry",
    "before we start make sure you have enough time",
    "honestly i did not expect it to work",
    "let me know what you think below",
    "that reminds me of something my mother said",
    "hold on i have to adjust the camera",
    "anyway back to what we were doing",
    "you do not need any special tools for this",
    "it took me about three hours to prepare",
    "next week we are going to try something new",
)
_SENTENCES = 5  # per scene
_CHATTER_SHARE = 0.20
_MISTIMED_SHARE = 1 / 12


@dataclass(frozen=True)
class Caption:
    """A sentence and when it is said, in seconds."""

    start: float
    end: float
    text: str


def _choose(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a sentence that names the scene's shape, colour and motion."""
    text = _choose(rng, TEMPLATES).format(
        shape=_choose(rng, SHAPE_WORDS[scene.shape]),
        colour=_choose(rng, COLOUR_WORDS[scene.colour]),
        motion=_choose(rng, MOTION_WORDS[scene.motion]),
    )
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def narrate(scenes: list[Scene], rng: np.random.Generator) -> list[Caption]:
    """Returns the narration of consecutive scenes, in order of time.

    Each scene gets five sentences spread over it. One in five is chatter, one in twelve tells of
    the scene before or after. Times are jittered, so some also reach into a neighbour.
    """
    captions = []
    begin, total = 0.0, sum(scene.duration for scene in scenes)
    for index, scene in enumerate(scenes):
        for slot in range(_SENTENCES):
            middle = begin + (0.2 + 0.15 * slot) * scene.duration + rng.normal(0, 0.12)
            length = rng.uniform(0.6, 1.0)
            start = float(np.clip(middle - length / 2, 0, total - 0.2))
            end = float(np.clip(middle + length / 2, start + 0.1, total))
            kind = rng.random()
            if kind < _CHATTER_SHARE:
                text = _choose(rng, CHATTER)
            elif kind < _CHATTER_SHARE + _MISTIMED_SHARE and len(scenes) > 1:
                others = [i for i in (index - 1, index + 1) if 0 <= i < len(scenes)]
                text = describe(scenes[others[rng.integers(len(others))]], rng)
            else:
                text = describe(scene, rng)
            captions.append(Caption(round(start, 3), round(end, 3), text))
        begin += scene.duration
    return sorted(captions, key=lambda caption: (caption.start, caption.end, caption.text))


def vocabulary() -> list[str]:
    """Returns all words the corpus can contain, sorted."""
    parts = [*CHATTER, *TEMPLATES]
    for words in (SHAPE_WORDS, COLOUR_WORDS, MOTION_WORDS):
        parts.extend(text for choices in words.values() for text in choices)
    text = re.sub(r"\{\w+\}", " ", " ".join(parts))
    return sorted({"an", *text.lower().split()})
