"""What becomes of extracted features, sound and words: tokens, in training and evaluation.

For methods that are trained on feature lists of records (`features` of a card) instead of pictures
and waveforms. The code that makes tokens is `vatt.data.tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from vatt.configs import base, dataset
from vatt.configs.base import Count, Positive, WholeNumber
from vatt.configs.problems import Problem, Problems, divides
from vatt.errors import nearest

FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)]
STRATEGIES = ("clip", "nearest", "max_pool")  # for a video that has more vectors than tokens
WORDS, CLIP = "words", "clip"  # values of `Tokens.text`
CLIP_CONTEXT = 77  # ids of a sentence, as CLIP takes them


class Tokens(base.Config):
    """Tokens of one example.

    `features_2d`, `features_3d`: names of features of the card, of single pictures and of moving
    ones; null leaves a stream out. Where both are there, a token is a vector of the second with
    the one of the first that is nearest in time before it. How many there are in a second and how
    wide they are, the card says; `video_embed_dim` is the width of both together.
    `n_video_tokens`: places for tokens; 0 is the largest value over time, one vector.
    `video_sampling_strategy`: what becomes of more vectors than places: "clip" takes the first
    ones, "nearest" some, evenly, "max_pool" the largest values of neighbours.

    `spectrogram`: name of the feature that is the log-mel spectrogram, one vector of `mel_bins` per
    window; null: the example has no sound. `num_audio_stft_frames`: windows of an example; what is
    missing is zeros.

    `text`: "words" are vectors of words, of `text_embed_dim` values, of the file `word_vectors`
    (word2vec, binary or text; null: each word has a vector of its own, drawn once by its letters);
    words that the file lacks are left out, and `max_words` are the most. "clip" are ids of the
    tokenizer of CLIP, by the file `merges`; a model makes `max_words` tokens of them.

    `narrated`: records are whole videos with captions, of which an example is `min_time` seconds or
    what is said around them; a record gives `n_clips` of them. `flag_text_audio_misaligned`: the
    sound of such a clip begins half of `min_time` later and lasts `min_time`, so that it is not the
    words themselves. Otherwise an example is a whole record, with one of its captions:
    `caption_selection`.

    `cut_clips`, in evaluation: a record is `n_clips` parts one after another, each with that many
    tokens and windows, whose embeddings are averaged.
    """

    features_2d: FeatureName | None = "resnet152"
    features_3d: FeatureName | None = "resnext101"
    video_embed_dim: Count = 4096
    n_video_tokens: WholeNumber = 12
    video_sampling_strategy: base.choice(*STRATEGIES) = "clip"
    spectrogram: FeatureName | None = "logmel"
    mel_bins: Count = 40
    num_audio_stft_frames: Count = 768
    text: base.choice(WORDS, CLIP) = WORDS
    text_embed_dim: Count = 300
    max_words: Count = 20
    word_vectors: str | None = None
    merges: str | None = None
    narrated: bool = False
    min_time: Positive = 8.0
    n_clips: Count = 1
    flag_text_audio_misaligned: bool = False
    caption_selection: base.choice("random", "first") = "first"
    cut_clips: bool = False

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the features that are seen, in the order in which they are joined."""
        return tuple(name for name in (self.features_2d, self.features_3d) if name is not None)

    @property
    def rows(self) -> int:
        """Rows of a batch that a record becomes."""
        return self.n_clips if self.narrated or self.cut_clips else 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name of what a model gets of one row.

        video [tokens, width] (without tokens [width]), audio [bands, windows], text [words, width],
        of CLIP int32 [ids]; masks, float32, 1 where there is something; and how many windows of the
        sound are real, -1 for all.
        """
        tokens, words, frames = self.n_video_tokens, self.max_words, self.num_audio_stft_frames
        video, text = (tokens, self.video_embed_dim), (words, self.text_embed_dim)
        shapes: dict[str, tuple[int, ...]] = {
            "video": video if tokens else video[1:],
            "video_mask": (max(tokens, 1),),
            "text": (CLIP_CONTEXT,) if self.text == CLIP else text,
            "text_mask": (words,),
        }
        if self.spectrogram is not None:
            shapes["audio"] = (self.mel_bins, frames)
            shapes["audio_mask"] = (frames,)
            shapes["audio_STFT_nframes"] = ()
        return shapes


class TokenPretrain(dataset.Pretrain):
    """Examples of tokens for pretraining; `batch_size` counts rows, `tokens.rows` of a record."""

    tokens: Tokens = Field(default_factory=Tokens)


class TokenEvaluation(dataset.Evaluation):
    """Records as tokens for evaluation; `tokens_of`: by the name of a set, what differs there."""

    tokens: Tokens = Field(default_factory=Tokens)
    tokens_of: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def of_set(self, name: str) -> Tokens:
        """Returns the tokens of a set.

        Raises:
          pydantic.ValidationError: `tokens_of` says what cannot be, which `problems` tells.
        """
        return Tokens.model_validate({**self.tokens.model_dump(), **self.tokens_of.get(name, {})})


def of(data: dataset.Dataset) -> Tokens | None:
    """Returns the tokens that an input asks for; None where it is of pictures and waveforms."""
    return getattr(data, "tokens", None)


def problems(path: str, data: dataset.Dataset) -> Problems:
    """Yields what does not fit together in an input, which stands at `path`."""
    tokens = of(data)
    if tokens is None:
        return
    yield from _of(f"{path}.tokens", tokens)
    if path.startswith("train"):
        what = "clips of a record (tokens.n_clips)"
        yield from divides(f"{path}.batch_size", data.batch_size, tokens.rows, what)
        if tokens.cut_clips:
            yield Problem(f"{path}.tokens.cut_clips", True, "expected false: it is for evaluation")
    for name, changes in getattr(data, "tokens_of", {}).items():
        yield from _of_set(f"{path}.tokens_of.{name}", data, name, changes)


def _of(path: str, tokens: Tokens) -> Problems:
    if not tokens.streams:
        accepted = "expected the name of a feature, or features_3d to have one: nothing is seen"
        yield Problem(f"{path}.features_2d", None, accepted)
    if tokens.narrated and tokens.cut_clips:
        accepted = "expected false: tokens.narrated cuts records where something is said"
        yield Problem(f"{path}.cut_clips", True, accepted)
    if tokens.n_clips > 1 and tokens.rows == 1:
        accepted = "expected 1, or narrated (training) or cut_clips (evaluation) true"
        yield Problem(f"{path}.n_clips", tokens.n_clips, accepted)
    if tokens.cut_clips and not tokens.n_video_tokens:
        accepted = "expected at least 1: a vector without tokens cannot be cut into clips"
        yield Problem(f"{path}.n_video_tokens", 0, accepted)
    if tokens.text == CLIP:
        if tokens.merges is None:
            accepted = "expected the file of merges of CLIP's tokenizer"
            yield Problem(f"{path}.merges", None, accepted)
        if tokens.word_vectors is not None:
            accepted = "expected null: text is clip, whose model has its own"
            yield Problem(f"{path}.word_vectors", tokens.word_vectors, accepted)
    elif tokens.merges is not None:
        yield Problem(f"{path}.merges", tokens.merges, "expected null, or text clip")


def _of_set(path: str, data: TokenEvaluation, name: str, changes: Mapping[str, Any]) -> Problems:
    """What a set says of its own: fields of `Tokens`, with values that they take."""
    if name not in data.name:
        accepted = f"expected one of the sets {', '.join(data.name)}"
        yield Problem(path, dict(changes), accepted, nearest(name, data.name))
    known = Tokens.keys()
    unknown = [key for key in changes if key not in known]
    for key in unknown:
        yield Problem(f"{path}.{key}", changes[key], "no such key", nearest(key, known))
    if unknown:
        return
    try:
        yield from _of(path, data.of_set(name))
    except pydantic.ValidationError as error:
        for fault in error.errors():
            key = str(fault["loc"][0])
            yield Problem(f"{path}.{key}", changes.get(key), fault["msg"].lower())
