"""Project files are found from anywhere; a name that is nowhere says where it was sought."""

from __future__ import annotations

from pathlib import Path

import pytest

from vatt import assets
from vatt.errors import UserError


def test_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert assets.find("configs/pretrain/toy.yaml").read_text().startswith("#")


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs/pretrain/toy.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert assets.find("configs/pretrain/toy.yaml").read_text() == "mine"
    assert assets.find(tmp_path / own).read_text() == "mine"


def test_vocabularies_of_ones_own_come_before_the_projects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = assets.find_misc("toy_en", ".txt")
    assert project == assets.find_misc("misc_data/toy_en.txt", ".txt")
    own = tmp_path / "own" / "toy_en.txt"
    own.parent.mkdir()
    own.write_text("mine")
    monkeypatch.setenv(assets.MISC_DIR, str(own.parent))
    assert assets.find_misc("toy_en", ".txt") == assets.find_misc("toy_en.txt", ".txt") == own
    assert assets.find_misc(project, ".txt") == project
    with pytest.raises(
        UserError,
        match=r"toy_em: no such file; looked for .*own/toy_em.txt, .*"
        r"misc_data/toy_em.txt. Did you mean 'toy_en'",
    ):
        assets.find_misc("toy_em", ".txt")


def test_a_missing_file_names_the_nearest():
    with pytest.raises(UserError, match=r"looked for .*Did you mean 'configs/pretrain/toy.yaml'\?"):
        assets.find("configs/pretrain/toyy.yaml")


def test_a_folder_is_not_a_file():
    with pytest.raises(UserError, match="is a folder"):
        assets.find("/")


def test_without_a_checkout_the_copy_in_the_package_is_used(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "vatt"
    file = package / "asset_files" / "configs" / "pretrain" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("installed")
    stranger = tmp_path / "site-packages" / "configs" / "pretrain" / "x.yaml"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("another package's")
    monkeypatch.setattr(assets, "_PACKAGE", package)
    assert assets.find("configs/pretrain/x.yaml").read_text() == "installed"
    assert assets.available("configs") == ["configs/pretrain/x.yaml"]
