"""Models as mteb, the Massive Text Embedding Benchmark, takes them: text, sound and video.

    encoder = MtebEncoder(vatt.load("runs/toy"))
    mteb.evaluate(encoder, mteb.get_tasks(tasks=["ESC50_Zeroshot"]))

docs/evaluation.md says which embeddings a task is given. mteb is imported when an encoder is made.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from vatt.data.features import TEXT, VIDEO
from vatt.errors import DataError, UserError, nearest

if TYPE_CHECKING:
    import torch
    from mteb import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import Array, BatchedInput, PromptType
    from torch.utils.data import DataLoader

    from vatt.api.model import Model
    from vatt.api.results import Embedding

_MOST_NAME = 100  # characters of a file's name that are kept


class MtebEncoder:
    """A model with the methods that mteb calls (`mteb.models.EncoderProtocol`).

    Attributes:
      model: what embeds.
      space: what tasks of one modality are given.
      mteb_model_meta: what is known of the model; `model_copy(update={...})` of it says more, such
        as licence, languages and where it can be found.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, model: Model, *, name: str | None = None, space: str | None = None) -> None:
        """Fills in the metadata.

        Args:
          model: a pretrained model, or a classifier of one modality.
          name: "organization/model" for mteb's tables; by default "vatt/" and the model's name.
          space: the embedding that tasks of one modality are given, such as "features_pooled", what
            probes are put on; by default the one that counts where none is named.

        Raises:
          UserError: mteb is not installed; a name or space that is none; a model that only takes
            several modalities together.
        """
        if importlib.util.find_spec("mteb") is None:
            raise UserError("mteb is not installed: pip install 'vatt[mteb]'")
        self.model, self.space = model, space
        self.mteb_model_meta = _metadata(model, name, space)

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        show_progress_bar: bool = True,
        precision: str = "float32",
        **_: Any,
    ) -> np.ndarray:
        """Returns embeddings of length 1 in the space of the task, float32 [rows, d].

        A row of several modalities gets the mean of their embeddings, at length 1.

        Args:
          inputs: batches with "text", "audio" and "video".
          task_metadata: its modalities say which space they are compared in.
          hf_split: of the data; changes nothing.
          hf_subset: of the data; changes nothing.
          prompt_type: query or document; changes nothing.
          show_progress_bar: whether to show one.
          precision: "float32".

        Raises:
          UserError: modalities that the model does not take or compare.
          DataError: a row that has none of them, sound without a sampling rate.
          UnusableError: files that cannot be read.
        """
        if precision != "float32":
            raise UserError(f"precision: {precision!r}; vatt's embeddings are 'float32'")
        keys = self._keys(task_metadata)
        found = [
            self._batch(batch, keys, task_metadata.name)
            for batch in tqdm(_undecoded(inputs), desc="Encoding", disable=not show_progress_bar)
        ]
        return np.concatenate(found)

    def similarity(self, embeddings1: Array, embeddings2: Array) -> torch.Tensor:
        """Returns the cosines of all with all, float32 [len(embeddings1), len(embeddings2)]."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> torch.Tensor:
        """Returns the cosine of each with the one in the same row, float32 [rows]."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _keys(self, task: TaskMetadata) -> dict[str, str | None]:
        """The names of the embeddings that a task compares, by modality; None is the first one."""
        model = self.model
        wanted = [m for m in model.modalities if m in task.modalities]
        if not wanted:
            raise UserError(
                f"{task.name}: {model.name} takes {', '.join(model.modalities)}, none of the "
                f"task's modalities ({', '.join(task.modalities)})"
            )
        if len(wanted) == 1:
            return {wanted[0]: self.space}
        for space in model.spaces:
            if set(wanted) <= space.keys():
                return {m: space[m] for m in wanted}
        known = "; ".join(" with ".join(space) for space in model.spaces)
        raise UserError(
            f"{task.name} compares {', '.join(wanted)}: {model.name} has no space of all of them; "
            f"it compares {known or 'nothing across modalities'}"
        )

    def _batch(self, batch: BatchedInput, keys: Mapping[str, str | None], task: str) -> np.ndarray:
        """Embeddings of the rows of a batch, float32 [rows, d]."""
        from vatt.evaluation import metrics

        columns = {modality: batch[modality] for modality in keys if modality in batch}
        if not columns:
            raise DataError(f"{task}: a batch of {', '.join(batch)}, without {' or '.join(keys)}")
        rows: list[list[np.ndarray]] = [[] for _ in next(iter(columns.values()))]
        for modality, column in columns.items():
            there = [number for number, item in enumerate(column) if item is not None]
            found = self._embed(modality, [column[number] for number in there], task)
            for number, embedding in zip(there, found, strict=True):
                rows[number].append(embedding.vector(keys[modality]))
        if not all(rows):
            raise DataError(f"{task}: a row without {' or '.join(columns)}")
        return np.concatenate([metrics.window_mean(np.stack(row)[None]) for row in rows])

    def _embed(self, modality: str, items: Sequence[Any], task: str) -> list[Embedding]:
        if modality == TEXT:
            return self.model.embed_text(items)
        with tempfile.TemporaryDirectory() as folder:
            if modality == VIDEO:
                return self.model.embed_video([_video(x, folder, task) for x in items])
            sounds = [_sound(x, folder, task) for x in items]
            return _at_their_rates(self.model.embed_audio, sounds)


# -- what mteb hands over --------------------------------------------------------------------------


def _undecoded(inputs: DataLoader[BatchedInput]) -> DataLoader[BatchedInput]:
    """The same rows, whose media files are still files: they are decoded as everywhere in vatt.

    Sound that the task itself wants at another rate or number of channels stays with its decoder.
    """
    import datasets

    dataset = getattr(inputs, "dataset", None)
    files = {
        column: dataclasses.replace(feature, decode=False)
        for column, feature in (getattr(dataset, "features", None) or {}).items()
        if isinstance(feature, datasets.Video)
        or (
            isinstance(feature, datasets.Audio)
            and feature.sampling_rate is None
            and feature.num_channels is None
        )
    }
    if not files:
        return inputs
    for column, feature in files.items():
        dataset = dataset.cast_column(column, feature)
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset,
        batch_size=inputs.batch_size,
        collate_fn=inputs.collate_fn,
        num_workers=inputs.num_workers,
    )


def _file(item: Any, folder: str) -> Path | None:
    """A media file that `datasets` has not decoded; what is in memory is written into `folder`."""
    if not (isinstance(item, Mapping) and item.keys() >= {"path", "bytes"}):
        return None
    if item["bytes"] is None:
        return Path(item["path"])
    name = os.path.basename(item["path"] or "bytes")[-_MOST_NAME:]
    path = Path(tempfile.mkdtemp(dir=folder), name)
    path.write_bytes(item["bytes"])
    return path


def _video(item: Any, folder: str, task: str) -> Path:
    path = _file(item, folder)
    if path is None:
        raise DataError(
            f"{task}: a video as {type(item).__name__}; accepted is a column of datasets.Video"
        )
    return path


def _sound(item: Any, folder: str, task: str) -> tuple[Path | np.ndarray, int | None]:
    """A sound as `Model.embed_audio` takes it, and the rate of an array (Hz)."""
    path = _file(item, folder)
    if path is not None:
        return path, None
    try:
        array, rate = np.asarray(item["array"]), item["sampling_rate"]
    except (IndexError, KeyError, TypeError):
        array = rate = None
    if rate is None:
        raise DataError(
            f"{task}: a sound as {type(item).__name__} without 'array' and 'sampling_rate' (Hz); "
            "accepted is both, or a column of datasets.Audio"
        )
    return array.T, rate  # mteb's are [channels, samples]


def _at_their_rates(
    embed: Callable[..., list[Embedding]], sounds: Sequence[tuple[Path | np.ndarray, int | None]]
) -> list[Embedding]:
    """Embeddings of sounds, those of one rate together."""
    found: dict[int, Embedding] = {}
    for rate in dict.fromkeys(rate for _, rate in sounds):
        numbers = [number for number, (_, own) in enumerate(sounds) if own == rate]
        made = embed([sounds[number][0] for number in numbers], sample_rate=rate)
        found |= zip(numbers, made, strict=True)
    return [found[number] for number in range(len(sounds))]


# -- what mteb is told -----------------------------------------------------------------------------


def _metadata(model: Model, name: str | None, space: str | None) -> ModelMeta:
    """What a run knows of itself, as mteb wants it; None is what it does not know.

    Raises:
      UserError: see `MtebEncoder`.
    """
    from mteb.models import ModelMeta

    from vatt.api import encoders
    from vatt.data import pipeline

    if name is not None and name.count("/") != 1:
        raise UserError(f"name: {name!r} is not 'organization/model'")
    encoder, reader, _ = model.parts
    if encoder.together:
        raise UserError(
            f"{model.name} takes {' and '.join(model.modalities)} together: it has no embedding of "
            "one alone, which mteb compares"
        )
    widths = encoders.widths(encoder, pipeline.clip_shapes(reader.input))
    known = list(dict.fromkeys(key for own in widths.values() for key in own))
    if space is not None and space not in known:
        raise UserError(
            f"space: {space!r}; {model.name} has {', '.join(known)}.{nearest(space, known)}"
        )
    return ModelMeta(
        name=name or f"vatt/{Path(model.name).absolute().name}",
        revision=model.checkpoint,
        modalities=list(model.modalities),
        embed_dim=_dimensions(model.spaces, space, widths),
        max_tokens=reader.input.max_num_words if TEXT in model.modalities else None,
        n_parameters=encoder.parameters,
        memory_usage_mb=encoder.parameters * 4 / 2**20,  # float32, whatever the precision
        framework=["TensorFlow"],
        similarity_fn_name="cosine",
        use_instructions=False,
        experiment_kwargs=None if space is None else {"space": space},
        loader=None,
        release_date=None,
        languages=None,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        training_datasets=None,
    )


def _dimensions(
    spaces: Sequence[Mapping[str, str]], space: str | None, widths: Mapping[str, Mapping[str, int]]
) -> int | list[int]:
    """How wide the embeddings are that tasks can be given: one number where all are alike."""
    alone = {own.get(space or next(iter(own))) for own in widths.values()} - {None}
    together = {widths[m][key] for one in spaces for m, key in one.items() if m in widths}
    found = sorted(alone | together)
    return found[0] if len(found) == 1 else found
