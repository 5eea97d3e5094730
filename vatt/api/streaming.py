"""From files to what a model makes of them: decoded ahead, run together, given back one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vatt.api import encoding
from vatt.api.encoders import Encoder
from vatt.api.windows import LACKS, Piece, Reader, Taken
from vatt.data.media import MediaClip
from vatt.errors import DataError
from vatt.evaluators.subject import Arrays

Source = Path | MediaClip
Times = Sequence[float | None]  # start and end (s)
Asked = tuple[str, Source, Times]  # name, what it stands for, which part of it
Kind = tuple[str, ...]  # modalities that the model takes at once
_STARTS, _ENDS = "starts", "ends"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What a model gives for the windows of a file, [windows, d] by key, and their times (s)."""

    starts: np.ndarray
    ends: np.ndarray
    arrays: Arrays
    notices: tuple[str, ...]  # what was put right
    gaps: tuple[str, ...]  # pieces that cannot be read, and why


Found = dict[Kind, Encoded] | DataError


@dataclasses.dataclass(frozen=True)
class _Part:
    """A piece of a source on its way; without one the source ends."""

    name: str
    piece: Piece | None = None
    taken: Taken | None = None
    error: DataError | None = None
    kind: Kind = ()


@dataclasses.dataclass
class _File:
    """What is there of a source so far."""

    parts: dict[Kind, list[Arrays]] = dataclasses.field(default_factory=dict)
    notices: list[str] = dataclasses.field(default_factory=list)
    gaps: list[str] = dataclasses.field(default_factory=list)
    errors: list[DataError] = dataclasses.field(default_factory=list)

    def add(self, part: _Part, made: Arrays) -> None:
        place = part.piece.place if part.piece else ""
        if part.error is not None:
            self.errors.append(part.error)
            self.gaps.append(f"{place}: {part.error}")
            return
        told = part.taken.notices if part.taken else ()
        self.notices += [f"{place}: {text}" if place else text for text in told]
        if made:  # not the clips themselves, which are large
            clips = part.taken.clips[part.kind[0]]
            times = {_STARTS: clips.starts, _ENDS: clips.ends}
            self.parts.setdefault(part.kind, []).append(times | made)

    def result(self, kinds: Sequence[Kind]) -> Found:
        """What all the pieces give; an error where there is nothing."""
        if not self.parts:
            lacking = [LACKS[modality] for kind in kinds for modality in kind]
            return self.errors[0] if self.errors else DataError(", ".join(lacking))
        told = [tuple(dict.fromkeys(texts)) for texts in (self.notices, self.gaps)]
        return {kind: _joined(parts, *told) for kind, parts in self.parts.items()}


def _joined(parts: Sequence[Arrays], notices: tuple[str, ...], gaps: tuple[str, ...]) -> Encoded:
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Encoded(arrays.pop(_STARTS), arrays.pop(_ENDS), arrays, notices, gaps)


def results(
    reader: Reader,
    encoder: Encoder,
    sources: Iterable[Asked],
    kinds: Sequence[Kind],
    stride: float | None = None,
) -> Iterator[tuple[str, Found]]:
    """Yields what the model makes of each source, in their order, or why it cannot be used.

    Memory does not grow with their number or length, beside what is yielded.

    Args:
      reader: makes clips.
      encoder: the model.
      sources: what is asked for.
      kinds: of what embeddings or classes are made; what a source lacks is left out.
      stride: s from window to window.
    """
    modalities = [modality for kind in kinds for modality in kind]

    def clips() -> Iterator[tuple[_Part, Arrays]]:
        jobs = _jobs(reader, sources, modalities, stride)
        for part, outcome in encoding.ahead(jobs, DataError):
            if isinstance(outcome, DataError):
                yield dataclasses.replace(part, error=outcome), {}
            elif part.piece is None:
                yield part, {}
            else:
                yield from _by_kind(dataclasses.replace(part, taken=outcome), kinds)

    current = _File()
    for part, made in encoding.for_owners(clips(), encoder):
        if part.piece is None and part.error is None:
            yield part.name, current.result(kinds)
            current = _File()
        else:
            current.add(part, _without_crops(part, made))


def _jobs(
    reader: Reader,
    sources: Iterable[Asked],
    modalities: Sequence[str],
    stride: float | None,
) -> Iterator[tuple[_Part, Callable[[], Taken]]]:
    for name, source, times in sources:
        try:
            for piece in reader.pieces(source, *times, stride):
                yield _Part(name, piece), partial(reader.read, piece, modalities)
        except DataError as error:
            yield _Part(name), partial(_fail, error)
        yield _Part(name), partial(Taken, {})


def _fail(error: DataError) -> Taken:
    raise error


def _by_kind(part: _Part, kinds: Sequence[Kind]) -> Iterator[tuple[_Part, Arrays]]:
    """The clips of a piece, those apart that the model takes apart; at least one."""
    there: Mapping[str, object] = part.taken.clips
    found = [kind for kind in kinds if all(modality in there for modality in kind)]
    if not found:
        yield part, {}
    for kind in found:
        rows = {m: part.taken.clips[m].values for m in kind}
        crops = max(x.shape[1] for x in rows.values())  # of pictures; all with the same sound
        rows = {m: np.repeat(x, crops // x.shape[1], axis=1) for m, x in rows.items()}
        flat = {m: x.reshape(-1, *x.shape[2:]) for m, x in rows.items()}  # crops as rows
        yield dataclasses.replace(part, kind=kind), flat


def _without_crops(part: _Part, made: Arrays) -> Arrays:
    """Means over the crops of each window, [windows, d]."""
    if not made:
        return {}
    windows = len(part.taken.clips[part.kind[0]].starts)
    return {
        key: x.reshape(windows, -1, x.shape[-1]).mean(axis=1, dtype=np.float64).astype(np.float32)
        for key, x in made.items()
    }
