"""Reads a data set end to end and says what is in it and what is wrong with it.

    python -m vatt.data.check data/my_set --contact_sheet sheet.png

Every record is read and every frame decoded. Shards are compared with `manifest.json` and the card,
and splits with each other: the same source, or the same content under another name, in two of them
is leakage. A record is bad if the set cannot use it for any of its tasks. Writes `check.json` and
`bad_records.csv` beside the card. Exit code: 0 all is well, 3 something is wrong.
"""
