"""Renders the toy corpus: real media files with manifests, ready for `vatt.data.ingest`.

    python -m vatt.data.toy --output_dir runs/toy/media
    python -m vatt.data.toy --output_dir runs/toy/media --sets all

writes for each set `<output_dir>/<set>/videos/*.mp4` (H.264 at 25 fps, AAC at 48 kHz),
`captions/*.vtt` for the narrated set, and `manifest.csv`. The files depend on seed and scale only.
Finished files are kept when the command is interrupted and skipped when it is started again.
"""
