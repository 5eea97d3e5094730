"""From a loaded model to a folder with its files, a card and what they were proven by."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from vatt import __version__
from vatt.api import building
from vatt.api.model import Model
from vatt.api.naming import Named
from vatt.data import text
from vatt.data.features import TEXT
from vatt.export import called, card, formats, places, samples, signatures, verification
from vatt.export.formats import Format
from vatt.export.signatures import Signature
from vatt.files import writing

LABELS_FILE, VOCABULARY_FILE = "labels.txt", "vocabulary.txt"
WORDS_FILE, RULES_FILE = "words.py", "words.json"
_SPACE = (
    "[\t-\r \x1c-\x1f\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]+"  # text.WIDE_SPACE
)


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
      folder: where.
      files: in it, by name, with their sizes in bytes.
      errors: largest error by "function/output".
      clips: where the clips are from on which it was compared.
    """

    folder: Path
    files: Mapping[str, int]
    errors: Mapping[str, float]
    clips: str


def export(
    named: Named,
    folder: Path,
    name: str,
    *,
    clips: Sequence[Path] = (),
    overwrite: bool = False,
) -> Exported:
    """Writes a model in the format `name`; the folder appears when all is proven, or not at all.

    Args:
      named: the model, of `naming.find` with `formats.PRECISION`.
      folder: to be made.
      name: one of `formats.FORMATS`.
      clips: media files to compare on; none takes clips of the run's sets.
      overwrite: whether an earlier export there is replaced.

    Raises:
      UserError: a package is missing, the folder is there, a format cannot hold the model, or what
        was written does not give the live model's numbers.
    """
    formats.check(name)
    places.check(folder, overwrite)
    form = formats.FORMATS[name]
    model = building.build(named)
    functions = [*signatures.of_model(model, form), *called.of_model(model, form)]
    calls, where = samples.calls(model, named, clips, form)
    with places.replacing(folder, overwrite) as partial:
        with writing(folder, tf.errors.OpError):
            form.write(functions, partial)
        _beside(model, form, partial)
        modules = _modules(model, form)
        errors = verification.errors(name, partial, calls, modules)
        facts = _facts(model, form, functions, errors, where, modules)
        _write(partial / places.MARK, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        _write(partial / card.FILE, card.text(model, named, form, functions, facts))
        files = {
            str(path.relative_to(partial)): path.stat().st_size
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
    return Exported(folder, files, errors, where)


def _beside(model: Model, form: Format, folder: Path) -> None:
    """Writes names of classes, and what makes numbers of words where sentences cannot go in."""
    if model.labels:
        _write(folder / LABELS_FILE, "".join(f"{label}\n" for label in model.labels))
    if TEXT not in model.modalities:
        return
    _, reader, sentences = model.parts
    _, vocabulary = sentences.tokenizer()
    if form.strings or vocabulary.kind == text.BERT_TOKENIZER:
        _write(folder / VOCABULARY_FILE, vocabulary.text)
        return
    cfg = reader.input
    marks = {"use_bos": cfg.use_bos, "use_eos": cfg.use_eos}
    write_words(folder, vocabulary, longest=cfg.max_num_words, **marks)


def write_words(
    folder: Path,
    vocabulary: text.Vocabulary,
    *,
    longest: int,
    use_bos: bool = False,
    use_eos: bool = False,
) -> None:
    """Writes vocabulary.txt, and words.py with its rules, which makes numbers of sentences."""
    rules = {
        "cased": vocabulary.kind == text.CASED_TOKENIZER,
        "space": _SPACE,
        "words": len(vocabulary),
        "longest": longest,
        "padding": vocabulary.pad_id,
        "unknown": vocabulary.unk_id,
        "before": [vocabulary.bos_id] if use_bos else [],
        "after": [vocabulary.eos_id] if use_eos else [],
    }
    _write(folder / VOCABULARY_FILE, vocabulary.text)
    _write(folder / RULES_FILE, json.dumps(rules, indent=1) + "\n")
    shutil.copyfile(Path(__file__).with_name(WORDS_FILE), folder / WORDS_FILE)


def _modules(model: Model, form: Format) -> list[str]:
    """What must be imported before the files can be read."""
    if not form.strings or TEXT not in model.modalities:
        return []
    _, vocabulary = model.parts[2].tokenizer()
    return ["tensorflow_text"] if vocabulary.kind == text.BERT_TOKENIZER else []


def _facts(
    model: Model,
    form: Format,
    functions: Sequence[Signature],
    errors: Mapping[str, float],
    where: str,
    modules: Sequence[str],
) -> dict[str, object]:
    """What `export.json` says: the functions, the recipe of the model, and how it was proven."""

    def described(values: Mapping[str, signatures.Value]) -> dict[str, object]:
        return {name: dataclasses.asdict(value) for name, value in values.items()}

    return {
        "vatt": __version__,
        "format": form.name,
        "import_first": list(modules),
        "functions": {
            one.name: {"inputs": described(one.inputs), "outputs": described(one.outputs)}
            for one in functions
        },
        "recipe": model.recipe,
        "compared": {"clips": where, "largest_errors": dict(errors)},
    }


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
