"""Structure: imports point one way, TensorFlow stays in its rooms, nothing unsafe, all declared."""

from __future__ import annotations

import ast
import configparser
import graphlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import parsed
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "vatt"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each room may import from the rooms of lower levels, and from its own. `methods` is the look-up,
# which imports methods only when it is asked for one; `methods.*` are the methods.
LEVELS = {
    "__init__": 0, "errors": 0, "notices": 0, "printing": 0, "quiet": 0, "typing": 0, "pages": 0,
    "assets": 1, "files": 1, "methods": 1,
    "ended": 2, "locks": 2,
    "configs": 3, "stores": 3,
    "data": 4, "modeling": 4, "objectives": 4,
    "training": 5, "evaluation": 5,
    "evaluators": 6, "reporting": 6, "zoo": 6,
    "methods.*": 7,
    "experiments": 8,
    "api": 9,
    "export": 10, "search": 10,
    "main": 11,
    "tools": 12,
    "commands": 13, "__main__": 14,
}  # fmt: skip
# Rooms for all methods, which know none of them. Tools may have things to say about one.
GENERIC = set(LEVELS) - {"methods.*", "tools"}
# The same inside vatt/data: the modules that read sets, and the packages beside them.
DATA_LEVELS = {"media": 0, "": 1, "toy": 2, "ingest": 2, "check": 3, "vocabulary": 3}
NO_TENSORFLOW = ("configs", "modeling", "objectives")
# Nor do a method's configuration, model and objective, so that they also run on another backend.
NO_TENSORFLOW_IN_METHODS = ("__init__", "config", "model", "heads", "objective")
# Stateless random numbers of the backend, and how many replicas there are.
WITH_TENSORFLOW = {"modeling/random.py", "modeling/replicas.py"}
# Distribution names where they differ from the module's.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tensorflow_probability": "tensorflow-probability",
}
# Another backend, and extras: `beam`, `onnx`, `litert`, `mteb`, `mlflow`, `stores`, `wandb`.
OPTIONAL = {"jax", "apache_beam", "onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"}
OPTIONAL |= {"datasets", "mteb", "torch", "mlflow", "obstore", "wandb"}


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yields (module, line) of every import in a file, also those inside functions."""
    for node in parsed.nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def _room(path: Path) -> str:
    return _room_of(path.relative_to(PACKAGE).with_suffix("").parts)


def _room_of(parts: Sequence[str]) -> str:
    """Returns the room of a module (or a name in one) by its parts below `vatt`."""
    in_method = parts[0] == "methods" and parts[1:2] and (PACKAGE / "methods" / parts[1]).is_dir()
    return "methods.*" if in_method else parts[0]


def _lazy_type_checking(path: Path) -> set[int]:
    """Returns the lines under `if TYPE_CHECKING:`, which never run."""
    lines: set[int] = set()
    for node in parsed.nodes(path):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            lines.update(range(node.lineno, node.end_lineno + 1))
    return lines


def test_every_room_has_a_level():
    assert {_room(path) for path in FILES} <= set(LEVELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = _room(path)
    unrun = _lazy_type_checking(path) if room == "methods" else set()  # types of the contract
    for module, line in _imports(path):
        parts = module.split(".")
        if parts[0] != "vatt" or parts[1] == "__version__" or line in unrun:
            continue
        target = _room_of(parts[1:])
        allowed = target == room or LEVELS[target] < LEVELS[room]
        assert allowed, f"{path}:{line}: {room} must not import {module}"
        generic = room in GENERIC and target == "methods.*"
        assert not generic, f"{path}:{line}: {room} knows no method, but imports {module}"


METHODS = sorted(p.name for p in (PACKAGE / "methods").iterdir() if (p / "__init__.py").exists())


@pytest.mark.parametrize("name", METHODS)
def test_methods_do_not_import_each_other(name):
    for path in (PACKAGE / "methods" / name).rglob("*.py"):
        for module, line in _imports(path):
            parts = module.split(".")
            other = parts[:2] == ["vatt", "methods"] and parts[2:3] not in ([name], [])
            assert not (other and parts[2] in METHODS), f"{path}:{line}: {module}"


def test_generic_rooms_do_not_branch_on_the_name_of_a_method():
    """No string constant outside the methods' folders is the name of a preset or a method."""
    from vatt import methods

    names = {name for method in methods.known() for name in (method.name, *method.presets)}
    names -= {"vatt"}  # also the package
    tables = [PACKAGE / "configs" / "registry.py", PACKAGE / "methods" / "__init__.py"]
    for path in FILES:
        if _room(path) not in GENERIC or path in tables:
            continue
        docs = _docstrings(path)
        for node in parsed.nodes(path):
            if isinstance(node, ast.Constant) and id(node) not in docs and node.value in names:
                raise AssertionError(f"{path}:{node.lineno}: {node.value!r}")


def _docstrings(path: Path) -> set[int]:
    return {id(n.value) for n in parsed.nodes(path) if isinstance(n, ast.Expr)}


def test_there_are_no_circles():
    """Of the imports that run when a module is imported."""
    modules = {".".join(("vatt", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        unrun, inner = _lazy_type_checking(path), _inside_functions(path)
        found = (module for module, line in _imports(path) if line not in unrun | inner)
        targets = {m if m in modules else m.rpartition(".")[0] for m in found}
        graph[name] = {target for target in targets & modules.keys() if target != name}
    # A package's own modules import it implicitly; what it re-exports is no circle.
    for name, targets in graph.items():
        graph[name] = {t for t in targets if not name.startswith(f"{t}.")}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def _inside_functions(path: Path) -> set[int]:
    lines: set[int] = set()
    for node in parsed.nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines.update(range(node.lineno, node.end_lineno + 1))
    return lines


def _part(module: Sequence[str]) -> str:
    """Returns the package (or tool) of vatt/data that a module below it belongs to; "" if none."""
    return module[0] if module[0] in DATA_LEVELS else ""


@pytest.mark.parametrize(
    "path",
    sorted((PACKAGE / "data").rglob("*.py")),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_inside_data_point_one_way(path):
    part = _part(path.relative_to(PACKAGE / "data").with_suffix("").parts)
    for module, line in _imports(path):
        if module.startswith("vatt.data."):
            target = _part(module.split(".")[2:])
            allowed = target == part or DATA_LEVELS[target] < DATA_LEVELS[part]
            assert allowed, f"{path}:{line}: {part or 'reading'} must not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_models_and_losses_do_not_import_tensorflow(path):
    room, name = _room(path), path.relative_to(PACKAGE).as_posix()
    of_method = room == "methods.*" and path.stem in NO_TENSORFLOW_IN_METHODS
    if not (of_method or room in NO_TENSORFLOW) or name in WITH_TENSORFLOW:
        return
    unrun = _lazy_type_checking(path)
    banned = {"tensorflow", "keras"} if room == "configs" else {"tensorflow"}
    for module, line in _imports(path):
        assert module.split(".")[0] not in banned or line in unrun, f"{path}:{line}: {module}"


UNPICKLERS = ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib")
RUNS_TEXT = ("eval", "exec", "builtins.eval", "builtins.exec", "os.system", "os.popen",
             "subprocess.getoutput", "subprocess.getstatusoutput")  # fmt: skip
LOADS_ANYTHING = ("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load")
OFF_UNLESS_GIVEN = ("shell", "allow_pickle", "enable_unsafe_deserialization")


def unsafe(path: Path) -> list[str]:
    """Returns what in a file could run or unpickle what others wrote."""
    found = [
        f"{path}:{line}: {module}"
        for module, line in _imports(path)
        if module.split(".")[0] in UNPICKLERS or module in RUNS_TEXT + LOADS_ANYTHING
    ]
    for name, call in parsed.calls(path):
        options = [k for k in call.keywords if k.arg in (*OFF_UNLESS_GIVEN, "safe_mode")]
        given = {option.arg: ast.unparse(option.value) for option in options}
        if (
            name in RUNS_TEXT + LOADS_ANYTHING
            or any(given.get(option, "False") != "False" for option in OFF_UNLESS_GIVEN)
            or given.get("safe_mode", "True") != "True"
            or (name in ("np.load", "numpy.load") and len(call.args) > 2)  # allow_pickle by place
        ):
            found.append(f"{path}:{call.lineno}: {name}(...)")
    for node in parsed.nodes(path):
        if isinstance(node, ast.Attribute) and node.attr in ("FullLoader", "UnsafeLoader"):
            found.append(f"{path}:{node.lineno}: {node.attr}")
    return found


def test_nothing_unsafe_in_the_package():
    assert [hit for path in FILES for hit in unsafe(path)] == []


def test_the_search_for_unsafe_code_finds_it(tmp_path):
    lines = [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec('1')",
        "subprocess.run('x', shell=True)",
        "np.load('x', allow_pickle=True)",
        "yaml.load(text)",
        "x = yaml.FullLoader",
        "os.system('x')",
        "from os import system",
        "np.load('x', None, True)",
        "np.load('x', allow_pickle=flag)",
        "keras.models.load_model('x', safe_mode=False)",
    ]
    for line in lines:
        file = tmp_path / "x.py"
        file.write_text(line + "\n")
        assert unsafe(file), line
    file.write_text("np.load('x', allow_pickle=False)\nsubprocess.run(['x'], shell=False)\n")
    assert unsafe(file) == []


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    lines = parser["options"]["install_requires"].split()
    names = [re.match(r"[A-Za-z0-9_.-]+", line).group() for line in lines]
    return {_canonical(name): line for name, line in zip(names, lines, strict=True)}


def _pinned() -> dict[str, str]:
    pins = {}
    for line in (REPOSITORY / "requirements.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            name, version = line.split("==")
            pins[_canonical(name)] = version.strip()
    return pins


def test_what_is_imported_is_declared_and_pinned():
    imported = {module.split(".")[0] for path in FILES for module, _ in _imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - {"vatt"} - OPTIONAL
    needed = {_canonical(DISTRIBUTIONS.get(name, name)) for name in third_party}
    assert needed <= set(_declared()), "add to install_requires in setup.cfg"
    assert needed <= set(_pinned()), "add to requirements.txt"


def test_pins_lie_in_the_declared_ranges():
    from packaging.requirements import Requirement

    pins = _pinned()
    for name, line in _declared().items():
        assert Requirement(line).specifier.contains(pins[name]), (
            f"{line} does not allow {pins[name]}"
        )


def test_the_wheel_lists_every_package():
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    listed = {name for name in parser["options"]["packages"].split() if ".asset_files" not in name}
    folders = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in FILES}
    assert listed == folders
    assert all((PACKAGE.parent / Path(*name.split("."), "__init__.py")).exists() for name in listed)
