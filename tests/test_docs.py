"""The README and the pages of `docs/`: links lead somewhere, commands exist, the site is built."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from vatt import commands

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FILES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *PAGES]
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(path: Path) -> set[str]:
    """What GitHub and the site call the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def _nav(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    for child in entry.values() if isinstance(entry, dict) else entry:
        yield from _nav(child)


def broken(path: Path) -> list[str]:
    """Returns the links of a file that lead nowhere; those of the site must not leave it."""
    wrong = []
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        outside = DOCS in path.parents and DOCS not in target.parents
        if outside or not target.exists() or (anchor and anchor not in _anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_links_lead_somewhere(path):
    assert broken(path) == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[a](#a-heading) [b](#none) [c](none.md) [d](https://x)\n")
    assert broken(page) == ["#none", "none.md"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_every_page_is_in_the_navigation_once():
    listed = list(_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in PAGES)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_commands_that_are_named_exist(path):
    text = path.read_text()
    for module in set(re.findall(r"python -m (vatt[\w.]*\w)", text)):
        assert importlib.util.find_spec(module), module
    words = re.findall(r"(?:^|`)vatt ([a-z]+)\b", text, re.MULTILINE)
    assert set(words) <= set(commands.COMMANDS)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing(tmp_path):
    for module in ("zensical", "mkdocstrings"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; requirements-dev.txt has it")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "vatt").symlink_to(ROOT / "vatt")
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    site = tmp_path / "site"
    for path in PAGES:
        page = (site / path.relative_to(DOCS).with_suffix(".html")).read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\s\">]+)", page)
        loaded += re.findall(
            r"<link[^>]* rel=\"?(?:stylesheet|icon)[^>]* href=\"?([^\s\">]+)", page
        )
        assert loaded
        assert [link for link in loaded if "//" in link] == []
    reference = (site / "api" / "models.html").read_text()
    for name in ("load", "embed_video", "embed_text", "similarity", "classify", "Embedding"):
        assert re.search(rf'id="[\w.]*\.{name}"', reference), name
    assert "median rank" in (site / "search.json").read_text()
