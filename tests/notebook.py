"""Runs the code of a notebook without Jupyter: its cells in order, in one namespace.

    python -m tests.notebook docs/tour.ipynb

does so in a folder of its own and writes what the cells print and show back into the notebook, and
all of it as a page of Markdown with pictures beside it (docs/tour.md) for the documentation.
With --page it writes the page of what stands in the notebook.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(source: str, name: str, namespace: dict[str, Any]) -> tuple[str, Any]:
    """Runs a cell and returns what it prints and the value of its last line, as Jupyter does."""
    body = ast.parse(source, name).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        value = None if last is None else eval(compile(last, name, "eval"), namespace)
    return printed.getvalue(), value


def outputs(printed: str, value: Any, count: int) -> list[dict[str, Any]]:
    """Returns the outputs of a cell in the notebook's format."""
    made: list[dict[str, Any]] = []
    if printed:
        text = printed.splitlines(keepends=True)
        made.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        data: dict[str, Any] = {"text/plain": [repr(value)]}
        if isinstance(value, Image.Image):
            file = io.BytesIO()
            value.save(file, "png", optimize=True)
            data = {
                "image/png": base64.b64encode(file.getvalue()).decode(),
                "text/plain": [f"<picture of {value.width} x {value.height} pixels>"],
            }
        kind = {"output_type": "execute_result", "execution_count": count}
        made.append({**kind, "data": data, "metadata": {}})
    return made


def page(notebook: dict[str, Any], name: str) -> dict[str, bytes]:
    """Returns the files of a notebook as a page, by their names: <name>.md and its pictures."""
    files: dict[str, bytes] = {}
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", [])})
            shown = "".join(data["text/plain"]).rstrip("\n")
            if "image/png" in data:
                picture = f"{name}-{cell['execution_count']}.png"
                files[picture] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{shown.strip('<>')}]({picture})")
            else:
                parts.append(f"```text\n{shown}\n```")
    title, _, rest = parts[0].partition("\n")
    parts[0] = f"{title}\n\nAs a notebook: [{name}.ipynb]({name}.ipynb).\n{rest}"
    files[f"{name}.md"] = ("\n\n".join(parts) + "\n").encode()
    return files


def write_page(path: Path) -> None:
    """Writes a notebook as a page beside it."""
    for name, content in page(json.loads(path.read_text()), path.stem).items():
        path.with_name(name).write_bytes(content)


def refresh(path: Path) -> None:
    """Runs a notebook and writes the outputs into it."""
    notebook, namespace = json.loads(path.read_text()), {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for count, cell in enumerate(code(notebook), 1):
            found = execute("".join(cell["source"]), f"cell {count}", namespace)
            cell["execution_count"], cell["outputs"] = count, outputs(*found, count)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    *options, name = sys.argv[1:]
    if options != ["--page"]:
        refresh(Path(name).resolve())
    write_page(Path(name).resolve())
