"""VATT: Transformers that learn from raw video, audio and text without labels."""

__version__ = "0.1.0"
