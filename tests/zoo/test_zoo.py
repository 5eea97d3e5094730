"""The table of published checkpoints: complete, loadable where it says so, nothing invented."""

from __future__ import annotations

import shlex

import pytest

from vatt import configs, methods, zoo
from vatt.errors import DataError, UserError
from vatt.zoo import cache, fetching

TABLE = zoo.known()
OURS = [row for row in TABLE.values() if row.loadable]


def test_every_published_row_is_there():
    """Counted in the tables of the papers' READMEs."""
    count = {}
    for row in TABLE.values():
        count[row.method, row.task] = count.get((row.method, row.task), 0) + 1
    assert count == {
        ("vatt", "pretrain"): 4,
        ("vatt", "finetune"): 15,
        ("gdt", "pretrain"): 3,
        ("stica", "pretrain"): 1,
        ("av_mae", "pretrain"): 3,
        ("av_mae", "finetune"): 7,
        ("eao", "pretrain"): 6,  # two of them fine-tuned for retrieval
    }


def test_figures_are_those_of_the_papers():
    assert TABLE["vatt_lbs_k400"].figures == {"top-1": 82.1, "top-5": 95.5}
    assert TABLE["vatt_ma_medium_audioset"].figures == {"mAP": 39.3, "AUC": 97.0, "d-prime": 2.884}
    assert TABLE["gdt_ig65m"].published == "UCF-101 top-1 95.2, HMDB-51 top-1 72.8"
    assert TABLE["av_mae_audioset_to_av"].published == "mAP 51.8"


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.name)
def test_the_options_of_ours_make_a_configuration(row):
    given = dict(option.removeprefix("--").split("=", 1) for option in row.options())
    cfg = configs.resolve(task=row.task, **given)
    assert cfg.model_arch.lower() == row.architecture
    if row.task == "pretrain":
        assert type(cfg).method == row.method
    elif "agnostic" in row.model or "MA" in row.model:
        assert cfg.model.pre_projection and cfg.model.post_projection


def test_names_are_no_architectures_and_addresses_are_addresses():
    presets = {name for method in methods.known() for name in method.presets}
    assert not presets & set(TABLE)
    for row in TABLE.values():
        assert row.page.startswith("https://") and row.file != ""
        if row.address:
            fetching.check(row.address)
            assert row.address.startswith("https://")
            assert row.address.endswith(f"/{row.file}")
        assert set(row.sizes) | set(row.sha256) <= {row.file}


def test_names_are_found_however_they_are_spelt():
    assert zoo.find(" GDT-K400 ") is TABLE["gdt_k400"]
    with pytest.raises(UserError, match=r"called 'gdt_k40'. Did you mean 'gdt_k400'"):
        zoo.find("gdt_k40")


def test_words():
    assert [row.name for row in zoo.having(["GDT", "kinetics"])] == ["gdt_k400", "stica_k400"]
    assert zoo.having(["gdt", "audioset"]) == [] and len(zoo.having([])) == len(TABLE)


@pytest.mark.parametrize(
    "text", ["", "[1]", "checkpoints: 3", "checkpoints: {a: {x: 1}}", "{", "a: b"]
)
def test_a_damaged_table(tmp_path, monkeypatch, text):
    (tmp_path / "misc_data").mkdir()
    (tmp_path / "misc_data/zoo.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"zoo\.yaml: no table of checkpoints") as caught:
        zoo.known.__wrapped__()
    assert "\n" not in str(caught.value)


def test_the_folder(tmp_path, monkeypatch):
    for name in (cache.ENVIRONMENT_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache/vatt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == tmp_path / ".cache/vatt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg/vatt"
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, "~/mine")
    assert cache.folder() == tmp_path / "mine"
    assert cache.folder(tmp_path / "given") == tmp_path / "given"


def test_every_option_can_be_typed():
    assert shlex.split(shlex.join(TABLE["vatt_ma_medium_mit"].options()))[2].count("true") == 2
