"""A small index, and a model that knows what its files are about: each is one axis of the space."""

from __future__ import annotations

from pathlib import Path

import media_files
import numpy as np
from PIL import Image

from vatt.api import index
from vatt.api.inputs import Clip
from vatt.api.results import Embedding
from vatt.errors import DataError, UserError
from vatt.search.finder import Finder
from vatt.search.gallery import Gallery

TOPICS = ("red", "green", "blue", "bell", "still")  # of the files, in their order
WIDTH = 8
RECIPE = {"model": "runs/toy", "weights": "ckpt-7", "step": 7, "checkpoint": "1",
          "modalities": ["video", "audio"], "stride": None, "records": {"fps": 25.0}}  # fmt: skip
SECONDS = 0.8  # of a window


def write_media(folder: Path) -> list[Path]:
    """Three videos of 3.2 s that tell their frames (one that no browser plays), sound, picture."""
    folder.mkdir(parents=True)
    frames, sound = media_files.numbered_frames(80), media_files.tone(440, 3.2)
    paths = [folder / name for name in ("red.mp4", "sub/green.mp4", "blue.avi", "bell.wav")]
    paths[1].parent.mkdir()
    for path in paths[:2]:
        media_files.write(path, frames, sound)
    media_files.write(paths[2], frames, sound, video_codec="mpeg4", audio_codec="pcm_s16le")
    media_files.write(paths[3], None, sound, audio_codec="pcm_s16le")
    Image.new("RGB", (64, 48), "orange").save(folder / "still.png")
    return [*paths, folder / "still.png"]


def axis(number: int, share: float = 1.0) -> np.ndarray:
    """A vector that lies on an axis with a share of its length, the rest on the last axis."""
    vector = np.zeros(WIDTH, np.float32)
    vector[number], vector[-1] = share, np.sqrt(1 - share**2)
    return vector


def write(path: Path, media: list[Path]) -> None:
    """Indexes files: of each the third of four windows is what it is about; lengths differ."""
    with index.Writer(path, RECIPE) as writer:
        for number, file in enumerate(media):
            picture, sound = file.suffix == ".png", file.suffix == ".wav"
            count = 1 if picture else 4
            starts = np.arange(count) * SECONDS
            ends = starts + (0 if picture else SECONDS)
            shares = [0.9] if picture else [0.1, 0.2, 0.9, 0.3]
            vectors = np.stack([(2 + number) * axis(number, share) for share in shares])
            found = {}
            if not sound:
                found["video"] = _embedding(
                    "video", file, starts, ends, vectors, "v_text", "v_sound"
                )
            if not picture:
                found["audio"] = _embedding("audio", file, starts, ends, vectors, "a_video")
            writer.add(Clip(str(file)), found)


def _embedding(modality: str, source: object, starts, ends, vectors, *spaces: str) -> Embedding:
    names = (*spaces, "features_pooled")
    return Embedding(modality, str(source), starts, ends, dict.fromkeys(names, vectors), "1")


class StandIn:
    """A model that finds the topic in sentences and names of files."""

    name, checkpoint, recipe = "toy", "1", RECIPE
    modalities = ("video", "audio", "text")
    spaces = ({"audio": "a_video", "video": "v_sound"}, {"text": "t_video", "video": "v_text"})

    def __init__(self) -> None:
        self.read: list[Path] = []

    def embed_text(self, text: str) -> Embedding:
        found = [number for number, topic in enumerate(TOPICS) if topic in text]
        if not found:
            raise UserError(f"no topic in {text}")
        zero = np.zeros(1)
        rows = {"t_video": 3 * sum(map(axis, found))[None]}
        notices = ("the model does not know bouncing",) if "bouncing" in text else ()
        return Embedding("text", text, zero, zero, rows, "1", notices)

    def embed_video(self, path: str) -> Embedding:
        return self._of_file("video", path, "v_text", "v_sound")

    def embed_audio(self, path: str) -> Embedding:
        return self._of_file("audio", path, "a_video")

    def _of_file(self, modality: str, path: str, *spaces: str) -> Embedding:
        if Path(path).read_bytes() == b"broken":
            raise DataError(f"{path}: not a media file")
        self.read.append(Path(path))
        number = next(n for n, topic in enumerate(TOPICS) if topic in Path(path).name)
        zero = np.zeros(1)
        return _embedding(modality, path, zero, zero + SECONDS, axis(number)[None], *spaces)


def finder(path: Path) -> Finder:
    """Searches an index with the stand-in."""
    return Finder(Gallery(path), StandIn())
