"""Records of features, sound and captions become tokens (`vatt.configs.tokens`).

| module | what it is for |
|---|---|
| `video` | vectors of one or two streams become so many tokens; which are of a time |
| `sound` | windows of a stored spectrogram: their times, cut and filled up |
| `spectrogram` | the spectrogram of a waveform, in decibels below the loudest |
| `words`, `bpe` | vectors of words; ids of CLIP's tokenizer |
| `narrated` | clips of a long video where something is said |
| `seconds`, `cuts` | a clip for every second of a video; parts of a video one after another |
| `rows` | a record becomes rows of a batch |

Functions of tensors are those that training runs, in graphs; they also take arrays.
"""
