"""Search in an index of embeddings: by a sentence, a sound, a video, or several of them together.

    from vatt import search

    finder = search.load("embeddings.npz")      # with the model that the index names
    found = finder.search("a red star jumps", top=5)
    for hit in found.hits:
        print(hit.score, hit.file, hit.start, hit.end)

docs/search.md says the rest. Importing this module does not import TensorFlow.
"""

from vatt.search.loading import load

__all__ = ["load"]
