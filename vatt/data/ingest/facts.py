"""What the file of a shard or of a command must say to be believed.

It is ours, written whole, but a folder of a data set is copied, mended and cut short by others too;
what says something else counts as if it were not there. Fields that sets made earlier do not have
are optional.
"""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from vatt.data.card_schema import MOST_RECORDS

Number = Annotated[int, Field(ge=0)]
Records = Annotated[int, Field(ge=0, le=MOST_RECORDS)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = pydantic.InstanceOf[str]  # str would refuse names of files that are not UTF-8
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=]*$")]
Decibels = Annotated[str, Field(pattern=r"^-?\d{1,9}$")]

_ROW = Field(strict=False)  # JSON has lists only
Failure = Annotated[tuple[Text, float | None, float | None, Text], _ROW]  # path, times, reason
Notice = Annotated[tuple[Text, float | None, float | None, Text, Text], _ROW]  # ..., kind, detail
Size = Annotated[tuple[Count, Count], _ROW]
Caption = Annotated[tuple[float, float, Text], _ROW]
Picture = Annotated[tuple[float, Base64], _ROW]
Extremes = Annotated[tuple[float, float], _ROW]


class _Written(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)


class Features(_Written):
    """Of all vectors of one name."""

    width: Annotated[int, Field(ge=1, le=MOST_RECORDS)]
    rate: Annotated[float, Field(ge=1e-6, le=10**6)]
    records: Records
    vectors: Number


class Levels(_Written):
    """See `levels.of`."""

    clips: Number
    silent_clips: Number
    full_scale_clips: Number
    samples: Count
    silent_samples: Number
    peak: Seconds
    rms: dict[Decibels, Number]


class Sample(_Written):
    """See `samples.Sample`."""

    split: Text
    source: Text
    start: float
    end: float
    seconds: float
    properties: Text = ""
    facts: Text = ""  # as `properties` was called
    labels: list[Text]
    captions: list[Caption]
    frames: list[Picture]
    outline: list[Extremes]


class Shard(_Written):
    """See `shards.make_shard` and `summary.Tally`."""

    file: Text
    split: Text
    fingerprint: Text
    basis: list[float | Text]
    root: Text = ""
    files: list[Text] = []
    bytes: Number
    sha256: Text
    records: Records
    seconds: Seconds
    shortest: Seconds = 0.0
    longest: Seconds = 0.0
    with_video: Number
    with_audio: Number
    with_text: Number
    with_labels: Number
    with_text_around: Number = 0
    durations: dict[Text, Number] = {}
    classes: dict[Text, Number]
    sizes: list[Size]
    features: dict[Text, Features] = {}
    levels: Levels | None = None
    samples: list[Sample] = []
    failures: list[Failure]
    notices: list[Notice] = []


def believed(shard: object) -> bool:
    """Whether what was read has all that is asked of the facts of a shard."""
    try:
        Shard.model_validate(shard)
    except pydantic.ValidationError:
        return False
    return True


def rows(kind: Any, table: object) -> bool:
    """Whether what was read is a list of `kind`: `Failure` or `Notice`."""
    try:
        pydantic.TypeAdapter(list[kind], config=_Written.model_config).validate_python(table)
    except pydantic.ValidationError:
        return False
    return True
