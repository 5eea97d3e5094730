"""Pictures and examples of one retrieval evaluation, kept as one .npz file without pickled objects.

    path = save(folder / "toy_retrieval-2000.npz", arrays)
    arrays = load(path)

The arrays (Q queries of a kind, K results each, M clips that some query shows, F frames per strip):

    dataset, step, num_clips            scalars
    <kind>/num_queries, <kind>/num_gallery   scalars: clips asked with, and those to be found
    clips/index int64 [M]               clip numbers, ascending; the rows of everything in clips/
    clips/caption, clips/label_text, clips/source   unicode [M]
    clips/jpeg uint8 [bytes], clips/jpeg_offsets int64 [M + 1]   one JPEG strip of frames per clip
    clips/envelope float16 [M, bins, 2] lowest and highest sample of each stretch of the sound
    <kind>/query int64 [Q]              clip number of each query; see below for <kind>
    <kind>/top int64 [Q, K]             clip numbers of the results, best first
    <kind>/score float32 [Q, K], <kind>/hit bool [Q, K], <kind>/rank float64 [Q] (NaN: no rank)

A kind is called `<query>_<target>` by what is given and what is looked for, in the order in which
kinds shall be shown: text_video, video_text, audio_video, ... Modalities that are embedded together
are joined by "+": text+video_audio. The name of a modality holds neither "_" nor "+". Query and
result are clip numbers throughout, whichever part of the clip is meant. Pictures, outlines and
kinds that an evaluation did not have are absent.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from vatt.data.archives import Archive
from vatt.errors import DataError
from vatt.files import make_folder, replacing

ENVELOPE_BINS = 96
MAX_RATIO, SMALL = 100, 2**26  # of bytes to those of the file, and bytes beside: more is no figure
STRIP_HEIGHT = 96  # pixels; larger frames are shrunk to it, smaller ones kept


def save(path: Path | str, arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes `arrays` as a compressed .npz; a reader never sees half a file."""
    path = Path(path)
    make_folder(path.parent)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load(path: Path | str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Reads what `save` wrote: all of it, or the arrays of these names that are there.

    Raises:
      DataError: the file is missing, damaged, holds pickled objects or unpacks to far more bytes.
    """
    try:
        with Archive(path) as archive:
            wanted = [name for name in archive.headers if names is None or name in names]
            size = sum(archive.headers[name].bytes for name in wanted)
            if size > MAX_RATIO * os.path.getsize(path) + SMALL:
                raise ValueError(f"it unpacks to {size} bytes")
            return {name: archive.array(name) for name in wanted}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable artefact ({error})") from error


def strip_jpeg(frames: np.ndarray, quality: int = 82) -> bytes:
    """Frames uint8 [frames, height, width, 3] side by side as one JPEG."""
    from PIL import Image

    frames = np.asarray(frames, np.uint8)
    count, height, width, _ = frames.shape
    strip = Image.fromarray(frames.transpose(1, 0, 2, 3).reshape(height, count * width, 3))
    if height > STRIP_HEIGHT:
        strip = strip.resize((round(count * width * STRIP_HEIGHT / height), STRIP_HEIGHT))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def envelope(audio: np.ndarray, bins: int = ENVELOPE_BINS) -> np.ndarray:
    """Lowest and highest value in `bins` equal stretches of a sound: float16 [bins, 2].

    Args:
      audio: waveform [samples, 1], or spectrogram [time, mel, 1], whose mean over the mel axis is
        drawn as a symmetric outline.
      bins: number of stretches; fewer if the sound has fewer samples.
    """
    audio = np.nan_to_num(np.asarray(audio, np.float32))
    if audio.ndim == 3:
        level = audio.mean(axis=(1, 2))
        low, high = -level, level
    else:
        low = high = audio.reshape(-1)
    edges = np.linspace(0, len(low), min(bins, max(1, len(low))) + 1).astype(int)[:-1]
    if not len(low):
        return np.zeros((1, 2), np.float16)
    outline = np.stack([np.minimum.reduceat(low, edges), np.maximum.reduceat(high, edges)], axis=1)
    return np.clip(outline, -6e4, 6e4).astype(np.float16)


def spectrogram(audio: np.ndarray, columns: int = 128, bands: int = 64) -> np.ndarray:
    """Picture of a sound: uint8 [frequency, time], the lowest frequency first, 255 the loudest.

    Args:
      audio: waveform [samples, 1], drawn on a logarithmic axis of frequency over 70 dB; or
        spectrogram [time, mel, 1], drawn as it is from its lowest to its highest value.
      columns: columns of the picture of a waveform.
      bands: most rows of the picture of a waveform.
    """
    audio = np.nan_to_num(np.asarray(audio, np.float32))
    if audio.ndim == 3:
        picture = audio[..., 0].T  # [mel, time]
        low, high = picture.min(initial=np.inf), picture.max(initial=-np.inf)
    else:
        samples = audio.reshape(-1)
        length = 1 << int(np.clip(np.log2(max(len(samples), 1)) - 2, 5, 10))  # 32 to 1024 samples
        samples = np.pad(samples, (0, max(0, length - len(samples))))
        starts = np.linspace(0, len(samples) - length, columns).astype(int)
        frames = samples[starts[:, None] + np.arange(length)]  # [columns, length]
        power = np.abs(np.fft.rfft(frames * np.hanning(length), axis=1)) ** 2
        edges = np.unique(np.geomspace(1, length // 2, bands + 1).astype(int))[:-1]
        power = np.maximum.reduceat(power, edges, axis=1).T  # [bands, columns]
        picture = 10.0 * np.log10(power + 1e-12)
        high = max(picture.max(), -50.0)  # silence stays dark
        low = high - 70.0
    share = np.clip((picture - low) / max(high - low, 1e-6), 0.0, 1.0)
    return np.round(255 * share).astype(np.uint8)


def clip_jpeg(arrays: Mapping[str, np.ndarray], row: int) -> bytes:
    """JPEG of row `row` of clips/; empty if the evaluation had no thumbnails."""
    if "clips/jpeg_offsets" not in arrays:
        return b""
    start, end = arrays["clips/jpeg_offsets"][row : row + 2]
    return arrays["clips/jpeg"][start:end].tobytes()
