"""Golden numbers of published code; `python -m tests.golden DIR` compares with them.

A method is a package here with two constants, looked up by `tests.golden.__main__`:

- `HANDLERS`: pattern of a file's path below DIR -> function from the file to comparisons; the first
  pattern that fits counts.
- `INPUTS`: patterns of files that only others refer to.
"""
