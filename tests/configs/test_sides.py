"""What embeddings of one or several modalities are called."""

from __future__ import annotations

import pytest

from vatt.configs import sides


@pytest.mark.parametrize(
    ("side", "modalities", "short", "title"),
    [
        ("text", ("text",), "txt", "text"),
        ("audio", ("audio",), "audio", "audio"),
        ("video&audio", ("video", "audio"), "vidaudio", "video & audio"),
        ("text&video&audio", ("text", "video", "audio"), "txtvidaudio", "text & video & audio"),
        ("text+video", ("text", "video"), "text+video", "text + video"),
    ],
)
def test_names_of_sides(side, modalities, short, title):
    assert sides.modalities(side) == modalities
    assert sides.short(side) == short
    assert sides.title(side) == title
