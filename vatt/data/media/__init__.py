"""Decodes a piece of a media file: frames at a wished rate as JPEG, and sound as one mono waveform.

    clip = read_clip("talk.mp4", start=5.0, end=8.2, fps=10, min_side=256, sample_rate=48000)

Conventions
- Time 0 is where a player starts: the container's start time, or 0 if that is negative.
- Frame k is the picture a player shows in the middle of its interval, at `start + (k + 0.5) / fps`,
  chosen by time stamps: constant and variable frame rates alike. Before the first picture, it is
  the first.
- Rotation, mirroring and non-square pixels are applied. The shorter side is reduced to `min_side`;
  pictures are never enlarged. Transparency is dropped, interlaced pictures stay as they are.
- Sound is the mean of the channels, resampled, with `round((end - start) * sample_rate)` samples;
  sample 0 is at `start`. Where the file has no sound there is silence.
- A file may reach `SLACK` seconds less far than the clip: the last picture stays, then. Without a
  wished end, a file whose sound is longer than its pictures ends with the pictures.
- A still image (JPEG, PNG, WebP, BMP, GIF with one picture) has no extent in time: one frame,
  `start` = `end` = 0, no sound. A JPEG file that needs no change is stored as it is.

Only local files in common containers are opened: playlists and other formats that name further
files are refused, and sizes are checked before anything is decoded.
"""

from vatt.data.media.clip import SLACK, MediaClip, MediaError
from vatt.data.media.reading import length, read_clip
from vatt.data.media.subtitles import first_stamp, read_subtitles

__all__ = [
    "SLACK",
    "MediaClip",
    "MediaError",
    "first_stamp",
    "length",
    "read_clip",
    "read_subtitles",
]
