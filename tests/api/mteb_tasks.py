"""Tasks of mteb whose data is in memory, where mteb is installed."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from mteb import TaskMetadata
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

CODES = {"text": "t", "audio": "a", "video": "v"}


def wav(samples: np.ndarray, rate: int) -> bytes:
    """Returns int16 [samples] as a file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def _described(kind: str, modalities: Sequence[str], category: str, score: str) -> TaskMetadata:
    return TaskMetadata(
        name=f"Toy{kind}{category}",
        description="Rendered toy scenes.",
        dataset={"path": "none", "revision": "none"},
        type=kind,
        category=category,
        modalities=list(modalities),
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        date=None,
        domains=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def _loaded(task: type, metadata: TaskMetadata, data: Any, **attributes: Any) -> Any:
    """An instance of a task that has its data."""
    made = type(metadata.name, (task,), {"metadata": metadata, **attributes})()
    made.dataset, made.data_loaded = data, True
    return made


def zero_shot(sounds: datasets.Dataset, classes: Sequence[str]) -> AbsTaskZeroShotClassification:
    """Sounds of `audio` and `label`, told apart by a sentence for each class."""
    return _loaded(
        AbsTaskZeroShotClassification,
        _described("AudioZeroshotClassification", ["audio", "text"], "a2t", "accuracy"),
        datasets.DatasetDict(test=sounds),
        input_column_name="audio",
        get_candidate_labels=lambda _: list(classes),
    )


def classification(
    train: datasets.Dataset, test: datasets.Dataset, modality: str
) -> AbsTaskClassification:
    """Rows of a column named as the modality, and `label`, told apart by a linear probe."""
    kind = {"audio": "AudioClassification", "text": "Classification"}[modality]
    return _loaded(
        AbsTaskClassification,
        _described(kind, [modality], f"{CODES[modality]}2c", "accuracy"),
        datasets.DatasetDict(train=train, test=test),
        input_column_name=modality,
    )


def sentence_pairs(pairs: datasets.Dataset) -> AbsTaskSTS:
    """Sentences `sentence1`, `sentence2`, and how alike they are (`score`)."""
    return _loaded(
        AbsTaskSTS,
        _described("STS", ["text"], "t2t", "cosine_spearman"),
        datasets.DatasetDict(test=pairs),
        min_score=0,
        max_score=3,
    )


def retrieval(
    queries: Mapping[str, Sequence[Any]], corpus: Mapping[str, datasets.Dataset]
) -> AbsTaskRetrieval:
    """Row n of the queries' columns, named as modalities, finds row n of the corpus'."""
    asked, there = _with_ids(queries), _with_ids(corpus)
    relevant = {name: {name: 1} for name in asked["id"]}
    codes = ["".join(CODES[m] for m in columns) for columns in (queries, corpus)]
    modalities = sorted({*queries, *corpus})
    split = dict(queries=asked, corpus=there, relevant_docs=relevant, top_ranked=None)
    return _loaded(
        AbsTaskRetrieval,
        _described("Any2AnyRetrieval", modalities, "2".join(codes), "recall_at_5"),
        {"default": {"test": split}},
    )


def _with_ids(columns: Mapping[str, Sequence[Any]]) -> datasets.Dataset:
    kinds = {"video": datasets.Video(), "audio": datasets.Audio()}
    count = len(next(iter(columns.values())))
    made = datasets.Dataset.from_dict({"id": [f"n{row}" for row in range(count)], **columns})
    for name in kinds.keys() & columns.keys():
        made = made.cast_column(name, kinds[name])
    return made
