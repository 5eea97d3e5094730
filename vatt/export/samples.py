"""Real clips on which an exported model is compared with the live one, and what that one gives.

Clips come from files that are given, else from the sets of the run, else from videos of the toy
corpus, rendered for that.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from vatt import configs
from vatt.api.encoders import LOGITS
from vatt.api.model import Model
from vatt.api.naming import Named
from vatt.data import cards, clips, framing, media, parsing, pipeline, sampling, text, views, vision
from vatt.data.features import AUDIO, RECORD, TEXT, VIDEO
from vatt.data.toy import sets as toy_sets
from vatt.data.toy import video as toy_video
from vatt.errors import DataError
from vatt.evaluation import predictions
from vatt.evaluators.subject import Arrays
from vatt.experiments import media_settings
from vatt.export import called
from vatt.export.formats import CALL, DEFAULT, Format
from vatt.export.signatures import CLASSIFY, FRAMES, IDS, PROBABILITIES, SENTENCES, WAVEFORM

Clips = configs.dataset.Evaluation | configs.dataset.Finetune

CLIPS = 4
RENDERED = "videos of the toy corpus"
# Where the run has no captions: sentences are read whatever they say.
SAID = ("a red circle bounces", "Someone's playing the guitar!", "rain", "A dog - and two cats.")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one function: what goes in, and what the live model gives."""

    function: str
    inputs: Arrays
    expected: Arrays


@dataclasses.dataclass(frozen=True)
class _Clip:
    """What is known of a clip, undecoded."""

    frames: tf.Tensor  # string [frames]
    waveform: tf.Tensor  # float32 [samples]
    spec: clips.ClipSpec

    def has(self, modality: str) -> bool:
        """Whether there is something to see, or to hear."""
        return bool(tf.size({VIDEO: self.frames, AUDIO: self.waveform}[modality]) > 0)


def calls(
    model: Model, named: Named, files: Sequence[Path], form: Format
) -> tuple[list[Call], str]:
    """Returns calls of all functions of a model, and where their clips are from.

    Args:
      model: the live one.
      named: what it was loaded from.
      files: media files to take; none takes clips of the run's sets.
      form: how it is written: whether a function of text takes sentences, and whether a published
        model is called.

    Raises:
      DataError: there is no clip that has what the model takes.
    """
    lasting = [m for m in (VIDEO, AUDIO) if m in model.modalities]
    found, said, where = _clips(model, named, files, lasting)
    if model.labels:
        made = _of_clips(model, CLASSIFY, lasting, found)
    else:
        made = [call for m in lasting for call in _of_clips(model, m, [m], found)]
    if TEXT in model.modalities:
        made.append(_of_text(model, said or SAID, form.strings))
    if form.called and model.parts[0].published:
        made += _as_published(model, found)
    return made, where


# -- clips -----------------------------------------------------------------------------------------


def _clips(
    model: Model, named: Named, files: Sequence[Path], modalities: Sequence[str]
) -> tuple[list[_Clip], list[str], str]:
    """Clips, of each modality some, captions, and where they are from."""
    if files:
        found, said = [_of_file(model, file) for file in files], []
        where = ", ".join(str(file) for file in files)
    else:
        found, said, where = _of_sets(model, named, modalities)
    if not found:
        found, where = _rendered(model), RENDERED
    for modality in modalities:
        if not any(clip.has(modality) for clip in found):
            raise DataError(f"{where}: no clip with {modality}, which {model.name} takes")
    return found, said, where


def _of_sets(
    model: Model, named: Named, modalities: Sequence[str]
) -> tuple[list[_Clip], list[str], str]:
    """The first clips of the sets of a run, until there are some of each modality."""
    _, reader, _ = model.parts
    found: list[_Clip] = []
    said: list[str] = []
    names = []
    for card in media_settings.sets(named.cfg, named.folder):
        lacking = [m for m in modalities if not any(clip.has(m) for clip in found)]
        if not lacking and (said or TEXT not in model.modalities):
            break
        try:
            spec = pipeline.clip_spec(reader.input, card, reader.input.video_stride)
            taken = list(itertools.islice(_records(card, named.cfg.eval.input.split), CLIPS))
        except DataError:  # of another sample rate, or without its files
            continue
        names.append(card.name)
        for record in taken:
            found.append(_Clip(record.frames, record.waveform, spec))
            said += [caption.decode("utf-8", "replace") for caption in record.captions.numpy()]
    together = len(modalities) > 1 and bool(model.labels)
    whole = [clip for clip in found if all(clip.has(m) for m in modalities)]
    return whole if together else found, said[: 2 * CLIPS], ", ".join(dict.fromkeys(names))


def _records(card: cards.Card, split: str) -> Iterator[parsing.Record]:
    """Records of a set, those of `split` first."""
    for name in sorted(card.splits, key=lambda name: name != split):
        for shard in card.shards(name):
            for record in framing.walk(shard):
                if not record.problem:
                    schema = RECORD.renamed(card.fields)
                    yield parsing.parse(record.data, schema, card.record_type)


def _rendered(model: Model) -> list[_Clip]:
    """Clips of videos that are rendered now."""
    with tempfile.TemporaryDirectory() as folder:
        plans = toy_sets.plan("toy_retrieval", scale=0.01)[:CLIPS]
        for part in ("videos", "captions"):
            (Path(folder) / part).mkdir()
        for plan in plans:
            toy_video.make_video(plan, Path(folder))
        return [_of_file(model, path) for path in sorted((Path(folder) / "videos").iterdir())]


def _of_file(model: Model, path: Path) -> _Clip:
    """The beginning of a file, decoded as vatt.load's model decodes it."""
    _, reader, _ = model.parts
    settings = reader.settings
    decoded = media.read_clip(
        path,
        None,
        reader.seconds if media.length(path) > reader.seconds else None,
        fps=settings.fps,
        min_side=settings.min_side,
        sample_rate=reader.sample_rate,
        jpeg_quality=settings.jpeg_quality,
        downmix=settings.downmix,
    )
    sound = np.zeros(0, np.float32) if decoded.waveform is None else decoded.waveform
    frames = tf.constant(list(decoded.frames or []), tf.string)
    return _Clip(frames, tf.constant(sound, tf.float32), reader.spec)


# -- calls -----------------------------------------------------------------------------------------


def _of_clips(
    model: Model, function: str, modalities: Sequence[str], found: Sequence[_Clip]
) -> list[Call]:
    """A call for the first clip alone, and one for all of its size together."""
    made: dict[tuple[int, ...], list[tuple[Arrays, Arrays]]] = {}
    for clip in found:
        if all(clip.has(modality) for modality in modalities):
            inputs, expected = _of_clip(model, modalities, clip)
            size = inputs[FRAMES].shape[2:4] if FRAMES in inputs else ()
            made.setdefault(size, []).append((inputs, expected))
    groups = list(made.values())
    return [Call(function, *_joined(group)) for group in (groups[0][:1], *groups)]


def _joined(group: Sequence[tuple[Arrays, Arrays]]) -> tuple[Arrays, Arrays]:
    return tuple(
        {key: np.concatenate([values[key] for values in side]) for key in side[0]}
        for side in zip(*group, strict=True)
    )


def _of_clip(model: Model, modalities: Sequence[str], clip: _Clip) -> tuple[Arrays, Arrays]:
    """One row: inputs as users have them, and what evaluation's own code makes of the clip."""
    encoder, reader, _ = model.parts
    inputs, rows = {}, {}
    for modality in modalities:
        of = {VIDEO: _seen, AUDIO: _heard}[modality]
        name = FRAMES if modality == VIDEO else WAVEFORM
        inputs[name], rows[modality] = of(clip, reader.input)
    most = max(len(values) for values in rows.values())
    rows = {m: np.repeat(values, most // len(values), axis=0) for m, values in rows.items()}
    found = {key: values.mean(axis=0, keepdims=True) for key, values in encoder(rows).items()}
    if model.labels:
        likely = predictions.log_probabilities(found[LOGITS], model.multi_label)
        found = {PROBABILITIES: np.exp(likely), **found}
    return {name: values[None] for name, values in inputs.items()}, found


def _as_published(model: Model, found: Sequence[_Clip]) -> list[Call]:
    """Calls as of published models: of one row and of two, the latter without what is not used.

    What is seen and heard together may be of different clips.
    """
    with_each = ([clip for clip in found if clip.has(m)] for m in model.modalities)
    rows = [_row_as_published(model, row) for row in zip(*with_each, strict=False)][:2]
    given = called.inputs_of(model)
    made = []
    for function, group, names in (
        (CALL, rows[:1], list(given)),
        (CALL, rows, [called.NAMES[m] for m in model.modalities]),
        (DEFAULT, rows, list(given)),
    ):
        inputs, expected = _joined(group)
        for name in names:
            inputs.setdefault(name, np.zeros((len(group), *given[name].shape[1:]), np.float32))
        made.append(Call(function, inputs, expected))
    return made


def _row_as_published(model: Model, row: Sequence[_Clip]) -> tuple[Arrays, Arrays]:
    """A row of clips, one for each modality, and what the model gives for it."""
    encoder, reader, _ = model.parts
    cfg, inputs, rows = reader.input, {}, {}
    view = called.view_of(cfg)
    for modality, clip in zip(model.modalities, row, strict=True):
        name = called.NAMES[modality]
        if modality == AUDIO:
            sound, rows[modality] = _heard(clip, cfg)
            inputs[name] = sound[None, :, None]
        else:
            rows[modality] = _evaluated(clip, view).numpy()
            plain = dataclasses.replace(view, zero_centred=True, normalise=None)
            inputs[name] = _evaluated(clip, plain).numpy()
    made = encoder.as_published({m: tf.constant(values) for m, values in rows.items()})
    made = made if isinstance(made, dict) else {LOGITS: made}
    return inputs, {name: values.numpy() for name, values in made.items()}


def _evaluated(clip: _Clip, view: views.EvaluationView) -> tf.Tensor:
    """What evaluation makes of pictures, [crops, ...]."""
    record = parsing.Record(clip.frames, clip.waveform, *[tf.zeros([0])] * 6)
    return clips.evaluation_video(record, clip.spec, 1, view)[0]


def _seen(clip: _Clip, cfg: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and what evaluation makes of them, [crops, ...]."""
    spec = clip.spec
    count = tf.shape(clip.frames)[0]
    places = spec.positions(spec.starts(count, 1), count)[0]
    encoded = tf.gather(clip.frames, places)
    pictures = tf.stack([tf.io.decode_jpeg(one, channels=3) for one in tf.unstack(encoded)])
    made = _evaluated(clip, views.for_evaluation(cfg))
    return pictures.numpy(), (vision.space_to_depth(made) if cfg.space_to_depth else made).numpy()


def _heard(clip: _Clip, cfg: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Sound as long as a clip, and what evaluation makes of a record of it, [1, ...]."""
    spec, length = clip.spec, tf.shape(clip.waveform)[0]
    samples = spec.samples * spec.audio_stride
    start = spec.sound_starts(length, 1)[0]
    places = sampling.indices(tf.cast(start, tf.int32), length, samples, 1)
    sound = tf.gather(clip.waveform, places)
    return sound.numpy(), clips.evaluation_audio(sound, spec, 1, cfg).numpy()


def _of_text(model: Model, said: Sequence[str], strings: bool) -> Call:
    """All sentences together; as the numbers of words where they cannot be found outside."""
    _, _, sentences = model.parts
    expected = _stacked(model.embed_text(list(said)))
    _, vocabulary = sentences.tokenizer()
    if strings or vocabulary.kind != text.BERT_TOKENIZER:
        return Call(TEXT, {SENTENCES: np.array(said)}, expected)
    return Call(TEXT, {IDS: sentences.words(said)[0]}, expected)


def _stacked(embeddings: Sequence) -> Arrays:
    keys = embeddings[0].spaces
    return {key: np.concatenate([one.spaces[key] for one in embeddings]) for key in keys}
