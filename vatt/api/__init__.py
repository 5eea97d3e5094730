"""Models in Python: load one, embed videos, sounds and sentences, compare them, classify.

    model = vatt.load("runs/toy")
    found = model.embed_video(["a.mp4", "b.mp4"])
    model.similarity(model.embed_text("a red circle"), found)        # float32 [2]

docs/embedding.md says the rest. Importing this module does not import TensorFlow.
"""

from vatt.api.loading import load

__all__ = ["load"]
