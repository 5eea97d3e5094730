"""Decodes a piece of a media file: frames at a wished rate as JPEG, and sound as one mono waveform.

    clip = read_clip("talk.mp4", start=5.0, end=8.2, fps=10, min_side=256, sample_rate=48000)

Conventions
- Time 0 is where a player starts: the container's start time, or 0 if that is negative.
- Frame k is the picture a player shows in the middle of its interval, at `start + (k + 0.5) / fps`,
  chosen by time stamps: constant and variable frame rates alike. Before the first picture, it is
  the first.
- Rotation, mirroring and non-square pixels are applied. The shorter side is reduced to `min_side`;
  pictures are never enlarged. Where their size changes, all are stored at the size of the first.
- Of interlaced pictures (as their decoder marks them) one field is scaled to what is stored; PQ and
  HLG are tone-mapped to BT.709 with white at 203 cd/m2; what is transparent is laid on white.
- Sound is the mean of the channels, resampled, with `round((end - start) * sample_rate)` samples;
  sample 0 is at `start`. Where the file has no sound there is silence. Channels that cancel each
  other out (two: a correlation below -0.9) become the first of them; `downmix` says otherwise.
  Samples follow each other without a gap as long as time stamps are off by less than 50 ms.
- A file may reach `SLACK` seconds less far than the clip: the last picture stays, then. Without a
  wished end, a file whose sound is longer than its pictures ends with the pictures; but a single
  picture at the start stays as long as the sound.
- Joined transport or program streams are one recording after the other. Pictures of program
  streams are counted, as only some of them have time stamps.
- A still image (JPEG, PNG, WebP, BMP, GIF with one picture) has no extent in time: one frame,
  `start` = `end` = 0, no sound. A JPEG file that needs no change is stored as it is. An animated
  GIF is a clip, unless a `still` is asked for.

What is damaged, missing or changed beyond this list is told in `MediaClip.notices`.

Only local files in common containers are opened: playlists and other formats that name further
files are refused, and sizes are checked before anything is decoded.
"""

from vatt.data.media.clip import SLACK, MediaClip, MediaError
from vatt.data.media.reading import length, measured, read_clip
from vatt.data.media.subtitles import first_stamp, read_subtitles

__all__ = [
    "SLACK",
    "MediaClip",
    "MediaError",
    "first_stamp",
    "length",
    "measured",
    "read_clip",
    "read_subtitles",
]
