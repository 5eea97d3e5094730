"""Turns media files into a data set: sharded records, a card, and a list of what failed.

    python -m vatt.data.ingest --input my_videos --output_dir data/my_set
    python -m vatt.data.ingest --manifest clips.csv --output_dir data/my_set

writes into the output folder `<split>-00000-of-00016.tfrecord`, `card.yaml`, `labels.txt` (the
classes in order), `manifest.json` (counts; bytes and SHA-256 of each shard), `failures.csv` (the
clips that could not be used, and why), `notices.csv` (what was put right or left out),
`dataset.html` (all of this to look at) and `ingest.log`.
The input may have any of the forms in `vatt.data.ingest.sources`.

Clips go to shards by a hash of what they are, so that neither the order of the input nor the
number of workers changes a byte. A shard appears when it is complete; starting the same command
again makes only the missing ones. With other splits as input, the command adds them to the set.
Exit code: 0 all clips stored, 3 some failed (others are stored).
"""
