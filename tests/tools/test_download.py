"""The command lines of the zoo: what they print, how they end."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from tests.file_server import file_server
from vatt import zoo
from vatt.errors import EXIT_DATA, EXIT_USAGE
from vatt.tools import convert_checkpoint, download
from vatt.tools import zoo as listing
from vatt.zoo import cache, fetching


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    with file_server() as served:
        served.files["/gdt_K400.pth"] = b"w" * 3000
        yield served


def test_the_list_has_every_checkpoint_on_a_line(server, capsys):
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["NAME", "ARCHITECTURE"]
    assert [line.split()[0] for line in lines[1 : len(zoo.known()) + 1]] == list(zoo.known())
    [line] = [line for line in lines if line.startswith("gdt_ht100m ")]
    assert line.split()[1:3] == ["gdt_text", "HowTo100M"] and line.endswith("can be fetched")


def test_words_and_one_name(server, capsys):
    assert listing.main(["eao", "youcook2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("eao_tva_youcook2\n") and "configs/finetune/eao_youcook2.yaml" in out
    assert listing.main(["GDT-K400"]) == 0
    assert "https://dl.fbaipublicfiles.com/GDT/gdt_K400.pth" in capsys.readouterr().out
    assert listing.main(["gdt_k40x"]) == EXIT_USAGE
    assert "Did you mean 'gdt_k400'?" in capsys.readouterr().err


def test_fetched_shown_and_listed(server, capsys, tmp_path):
    address = f"{server.url}/gdt_K400.pth"
    assert download.main(["gdt_k400", "--url", address]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "cache/gdt_k400/gdt_K400.pth"
    assert path.read_bytes() == b"w" * 3000
    assert out.startswith(f"gdt_k400 is in {path} (from {address}, 20")
    assert download.main(["gdt_k400", "--url", f"{server.url}/other.pth"]) == 0
    assert f"(from {address}, 20" in capsys.readouterr().out  # as it was
    assert f"--task=pretrain --model_arch=gdt_av --override_checkpoint={path}" in out
    assert re.search(r"gdt_K400\.pth: 100%.*2\.93k/2\.93k \[00:00<00:00", err)
    assert listing.main(["gdt"]) == 0
    [line] = [row for row in capsys.readouterr().out.splitlines() if row.startswith("gdt_k400")]
    assert line.endswith("here")


def test_conversion_is_asked_for_with_what_the_table_knows(server, monkeypatch, tmp_path):
    server.files |= {"/ckpt-5.index": b"i", "/ckpt-5.data-00000-of-00001": b"d"}
    asked = []
    monkeypatch.setattr(convert_checkpoint, "main", lambda given: asked.append(given) or 5)
    command = ["vatt_ma_medium_k400", "--url", f"{server.url}/ckpt-5", "--convert", "runs/k400"]
    assert download.main(command) == 5
    assert asked == [
        [
            str(tmp_path / "cache/vatt_ma_medium_k400/ckpt-5"),
            "runs/k400",
            "--model_arch=vit_medium",
            "--config_file=configs/finetune/kinetics400.yaml",
            "--params_override=model_config={pre_projection: true, post_projection: true}",
        ]
    ]


def test_the_command_that_is_shown_can_be_typed(server, capsys):
    server.files |= {"/ckpt-5.index": b"i", "/ckpt-5.data-00000-of-00001": b"d"}
    assert download.main(["vatt_ma_medium_mit", "--url", f"{server.url}/ckpt-5"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])
    assert command[:3] == ["python", "-m", "vatt.tools.convert_checkpoint"]
    assert command[-1].startswith("--params_override=model_config={pre_projection: true, ")


def test_methods_that_are_not_here(server, capsys, monkeypatch):
    row = zoo.known()["eao_tva"].model_copy(update={"method": "of_tomorrow"})
    monkeypatch.setattr(zoo, "known", lambda: {row.name: row})
    server.files["/m.pth"] = b"w"
    command = ["eao_tva", "--url", f"{server.url}/m.pth"]
    assert download.main([*command, "--convert", "x"]) == EXIT_USAGE
    assert "does not have the method 'of_tomorrow'" in capsys.readouterr().err
    assert server.asked == []
    assert download.main(command) == 0
    assert "can be fetched, but not loaded or converted" in capsys.readouterr().out


def test_errors_are_one_line(server, capsys):
    server.states = [404]
    assert download.main(["gdt_k400", "--url", f"{server.url}/gdt_K400.pth"]) == EXIT_DATA
    assert capsys.readouterr().err == (
        f"error: {server.url}/gdt_K400.pth: the server says 404 Not Found\n"
    )
    for command in (["gdt_k4000"], ["vatt_bbs"], ["stica_k400"], ["gdt_k400", "--url", "x"]):
        assert download.main(command) in (EXIT_USAGE, EXIT_DATA)
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1


def test_neither_starts_tensorflow():
    program = (
        "import sys; from vatt.tools import download, zoo; zoo.main(['gdt']); "
        "download.main(['x']); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
