"""Builds the vocabulary of the word tokenizer from captions, and says how well one fits a set.

    python -m vatt.data.vocabulary --card runs/toy_corpus/records/toy_howto --output words.txt
    python -m vatt.data.vocabulary --manifest clips.csv --captions talk.srt --output words.txt
    python -m vatt.data.vocabulary --words dict.npy --output howto100m_cased_en.txt

One word per line, its id being the line number from 0: the special words first, then the words of
the captions by falling frequency (equal ones in alphabetical order). Words are found by the
tokenizer's own operations.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from vatt.data import archives
from vatt.data.arguments import whole
from vatt.ended import ended
from vatt.errors import DataError, short
from vatt.files import make_folder, replace_text
from vatt.quiet import import_tensorflow_quietly

if TYPE_CHECKING:
    from vatt.data.cards import Card
    from vatt.data.text import Vocabulary

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CHUNK = 4096  # captions tokenised at once
SAMPLE = 256  # records of a set that `check_words` looks at
MANY = 0.2  # share of unknown words from which on it warns
_SHARDS = 4  # from which those records are
_SHOWN = 5


def captions_of_card(folder: str | Path) -> Iterator[bytes]:
    """Every caption in the shards of every split of a data set."""
    tf = import_tensorflow_quietly()

    from vatt.data import cards, parsing
    from vatt.data.features import RECORD

    path = Path(folder)
    card = cards.read(path if path.is_file() else path / cards.CARD_FILE)
    schema = RECORD.renamed(card.fields)
    for split in card.splits:
        shards = [str(shard) for shard in card.shards(split)]
        records = tf.data.TFRecordDataset(shards, buffer_size=1 << 20).map(
            lambda record: parsing.unchecked(record, schema, card.record_type).captions
        )
        try:
            for captions in records.as_numpy_iterator():
                yield from captions
        except tf.errors.OpError as error:
            raise DataError(
                f"{card.folder}: a record of split '{split}' cannot be read "
                f"({error.message.splitlines()[0]}). python -m vatt.data.check {card.folder} says "
                "which"
            ) from error


def captions_of_manifest(path: str | Path) -> Iterator[bytes]:
    """The captions in a manifest as ingest reads it, and in the files it names, each file once."""
    from vatt.data.ingest import manifest

    rows = {row.line: row for row in manifest.read_manifest(path)}  # not once for each split
    for row in rows.values():
        if row.caption:
            yield row.caption.encode()
    for _, captions in dict.fromkeys((row.source, row.timed_captions) for row in rows.values()):
        for _, _, sentence in captions:
            yield sentence.encode()
    for name in dict.fromkeys(row.captions for row in rows.values() if row.captions):
        try:
            file = manifest.locate(Path(path).parent, name)
        except ValueError as error:
            raise DataError(f"{path}: captions '{name}': {error}") from None
        yield from captions_of_file(file)


def captions_of_file(path: str | Path) -> Iterator[bytes]:
    """The sentences of a .vtt, .srt, .csv or .txt file of captions."""
    from vatt.data.ingest import captions

    for _, _, sentence in captions.read_captions(path):
        yield sentence.encode()


def count_words(captions: Iterable[bytes], cased: bool = False) -> Counter[str]:
    """How often each word occurs, found as the word tokenizer, or the `cased` one, finds them."""
    tf = import_tensorflow_quietly()

    from vatt.data import text

    counts: Counter[str] = Counter()

    def count(chunk: Sequence[bytes]) -> None:
        told = tf.constant(chunk)
        split = text.split_cased_words(told) if cased else text.split_words(text.normalise(told))
        words = split.flat_values.numpy()
        counts.update(word.decode("utf-8", "replace") for word in words.tolist())

    chunk: list[bytes] = []
    for caption in captions:
        chunk.append(caption)
        if len(chunk) == CHUNK:
            count(chunk)
            chunk = []
    if chunk:
        count(chunk)
    return counts


def check_words(card: Card, split: str, vocabulary: Vocabulary, field: str) -> None:
    """Logs which share of the words in the captions of a split a vocabulary lacks, by a sample.

    Args:
      card: of the data set.
      split: or several, joined.
      vocabulary: of the configuration.
      field: where the configuration names it.

    Raises:
      DataError: it lacks all of them: the captions would say nothing.
    """
    tf = import_tensorflow_quietly()

    from vatt.data import text

    counts = count_words(_sample(card, split), vocabulary.kind == text.CASED_TOKENIZER)
    if not counts:
        return
    words = [word for word, _ in counts.most_common()]
    ids = text.tokenizer(vocabulary)(tf.constant(words), None).numpy()
    unknown = [w for w, row in zip(words, ids, strict=True) if vocabulary.unk_id in row]
    share = sum(counts[word] for word in unknown) / counts.total()
    said = (
        f"data set '{card.name}': {100 * share:.1f} % of the words in its captions are not in the "
        f"vocabulary {vocabulary.path}"
    )
    remedy = (
        f", such as: {', '.join(unknown[:_SHOWN])}. Make one from its captions by 'python -m "
        f"vatt.data.vocabulary --card {card.folder} --output words.txt' and name it in {field}"
    )
    if share == 1:
        raise DataError(said + remedy)
    if share > MANY:
        logging.warning("%s", said + remedy)
    else:
        logging.info("%s", said)


def unknown_words(vocabulary: Vocabulary, captions: Sequence[str]) -> list[list[str]]:
    """Returns the words of each caption that the vocabulary lacks, each once.

    A BERT vocabulary, which knows pieces of words, lacks none.
    """
    tf = import_tensorflow_quietly()

    from vatt.data import text

    if vocabulary.kind == text.BERT_TOKENIZER:
        return [[] for _ in captions]
    given = tf.constant(list(captions), tf.string)
    cased = vocabulary.kind == text.CASED_TOKENIZER
    words = text.split_cased_words(given) if cased else text.split_words(text.normalise(given))
    known = set(vocabulary.words)
    rows = ([word.decode(errors="replace") for word in row] for row in words.numpy())
    return [[word for word in dict.fromkeys(row) if word not in known] for row in rows]


def _sample(card: Card, split: str) -> Iterator[bytes]:
    """Captions of the first records of some shards; what cannot be read is passed over."""
    tf = import_tensorflow_quietly()

    from vatt.data import clips, factories, framing
    from vatt.data.features import RECORD, splits_of

    if factories.find(card.name):  # made in code: there are no files
        return
    schema = RECORD.renamed(card.fields)
    shards = sorted({shard for name in splits_of(split) for shard in card.shards(name)})
    shards = shards[:: -(-len(shards) // _SHARDS)]
    for shard in shards:
        for record in itertools.islice(framing.walk(shard), SAMPLE // len(shards)):
            if not record.problem:
                with contextlib.suppress(tf.errors.OpError):
                    found = clips.parse(record.data, schema, card.record_type)
                    yield from found.captions.numpy().tolist()


def choose_words(
    counts: Counter[str],
    min_count: int = 1,
    max_size: int | None = None,
    special: Sequence[str] = SPECIAL,
) -> list[str]:
    """Special words, then words seen at least `min_count` times, commonest first."""
    common = [word for word, count in counts.items() if count >= min_count and word not in special]
    common.sort(key=lambda word: (-counts[word], word))
    words = [*special, *common]
    return words if max_size is None else words[:max_size]


def write_words(words: Sequence[str], path: str | Path) -> None:
    """Writes one word per line, the whole file or nothing."""
    path = Path(path)
    make_folder(path.parent)
    replace_text(path, "".join(f"{word}\n" for word in words))


def build(
    card_folders: Sequence[str] = (),
    manifests: Sequence[str] = (),
    caption_files: Sequence[str] = (),
    *,
    min_count: int = 1,
    max_size: int | None = None,
    cased: bool = False,
) -> tuple[list[str], Counter[str]]:
    """Returns the words chosen from all sources together, and all counts.

    `cased`: for the tokenizer that keeps case and knows one special word, that of padding.

    Raises:
      DataError: a source that cannot be read, or no caption in any of them.
    """
    special = SPECIAL[:1] if cased else SPECIAL
    if max_size is not None and max_size <= len(special):
        raise DataError(
            f"max_size is {max_size}; it must be more than the {len(special)} special words."
        )
    counts: Counter[str] = Counter()
    for sources, read in (
        (card_folders, captions_of_card),
        (manifests, captions_of_manifest),
        (caption_files, captions_of_file),
    ):
        for source in sources:
            counts += count_words(read(source), cased)
    if not counts:
        raise DataError("There is no caption with a word in it in the sources given.")
    return choose_words(counts, min_count, max_size, special), counts


def words_of_array(path: str | Path) -> list[str]:
    """The words in a .npy file, as GDT publishes them, after the one of padding.

    Raises:
      DataError: no such file, or no list of words.
    """
    try:
        array = archives.mapped(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a .npy file with an array of texts: {error}") from error
    if array.ndim != 1 or array.dtype.kind != "U":
        found = f"{array.dtype} {list(array.shape)}"
        raise DataError(f"{path} holds {found}; accepted: one list of texts, each a word")
    words = [SPECIAL[0], *array.tolist()]
    for number, word in enumerate(words):
        if len(word.split()) != 1 or word.strip() != word:
            raise DataError(f"{path}: entry {number} is {short(word)!r}; accepted: one word")
        if word in SPECIAL[:1] and number:
            raise DataError(f"{path}: entry {number} is {word}, which stands for padding")
    return words


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.vocabulary",
        description="Builds a word vocabulary from captions. Sources may be combined and repeated.",
    )
    parser.add_argument("--card", nargs="+", default=[], help="folders with card.yaml and shards")
    parser.add_argument(
        "--manifest",
        nargs="+",
        default=[],
        help="tables of clips (.csv, .tsv, .jsonl), as for ingest",
    )
    parser.add_argument(
        "--captions", nargs="+", default=[], help=".vtt, .srt, .csv or .txt caption files"
    )
    parser.add_argument(
        "--words",
        metavar="DICT.npy",
        help="a published array of words, taken as it is, for text_tokenizer CasedWordTokenizer",
    )
    parser.add_argument("--output", required=True, help="file to write")
    parser.add_argument(
        "--min_count", type=whole(0, 10**9), default=1, help="leave out words seen less often (1)"
    )
    parser.add_argument(
        "--max_size", type=whole(1, 10**9), help="words at most, with the special ones (all)"
    )
    parser.add_argument(
        "--cased",
        action="store_true",
        help="for text_tokenizer CasedWordTokenizer: words as they are written",
    )
    parsed = parser.parse_args(arguments)
    sources = bool(parsed.card or parsed.manifest or parsed.captions)
    if sources == bool(parsed.words):
        parser.error("give at least one of --card, --manifest, --captions, or else --words")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return ended(lambda: _run(_arguments(arguments)), "stopped")


def _run(options: argparse.Namespace) -> int:
    if options.words:
        words = words_of_array(options.words)
        write_words(words, options.output)
        print(f"{options.output}: {len(words)} words (1 special).")
        return 0
    words, counts = build(
        options.card,
        options.manifest,
        options.captions,
        min_count=options.min_count,
        max_size=options.max_size,
        cased=options.cased,
    )
    write_words(words, options.output)
    covered = sum(counts[word] for word in words)
    total = sum(counts.values())
    special = 1 if options.cased else len(SPECIAL)
    print(
        f"{options.output}: {len(words)} words ({special} special), which cover "
        f"{100 * covered / total:.2f} % of the {total} words in the captions."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
