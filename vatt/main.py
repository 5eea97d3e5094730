r"""Trains and evaluates: pretraining, fine-tuning, evaluation of the checkpoints of a run.

  python -m vatt.main --mode=train_and_eval --config_file=configs/pretrain/toy.yaml \
      --model_dir=runs/toy --data_dir=runs/toy_corpus/records

  python -m vatt.main --mode=eval --model_dir=runs/toy

With --mode=eval and no --config_file, the config.yaml that training wrote into model_dir is used.
Order, later ones win: preset of task and model_arch, config file, params_override (in the order
given), other flags. Exit codes: 0 done, 2 bad flags or configuration, or the folder is in use, 3
data, or a file that cannot be written, 4 diverged, 5 checkpoint, 6 another worker ended, 42 stopped
by a signal after saving (the same command continues), 130 interrupted before there was anything to
save.
"""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from vatt import __version__
from vatt.errors import EXIT_DATA, EXIT_INTERRUPTED, UserError
from vatt.files import OF_WRITING, cannot_write, in_a_store
from vatt.printing import escape_what_cannot_be_shown, show

if TYPE_CHECKING:  # a wrong flag needs no more than absl
    from vatt.configs import ExperimentConfig
    from vatt.training.stored_runs import StoredRun

_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-?")
_VERSION = ("--version", "-version")
_NO_FOLDER = "model_dir is missing: name the folder of the run, --model_dir=runs/mine"

FLAGS = flags.FlagValues()


def _define(name: str, text: str) -> None:
    flags.DEFINE_string(name, None, text, flag_values=FLAGS)


_define("task", "pretrain (default) or finetune.")
_define("mode", "train (default), eval, or train_and_eval.")
_define("model_dir", "Folder of the run: checkpoints, logs, report. Required.")
_define("model_arch", "Preset of the model, such as Tx_FAC (default) or tx_fac_tiny.")
_define(
    "override_checkpoint", "Checkpoint to start from (train) or the only one to evaluate (eval)."
)
_define(
    "config_file",
    "YAML file of the experiment. With --mode=eval the default is config.yaml in model_dir, where "
    "there is one.",
)
_define("strategy_type", "auto (default), tpu, mirrored, multi_worker_mirrored or one_device.")
_define("tpu", "Address or name of the TPU.")
_define("data_dir", "Folder with one folder per data set; default $VATT_DATA_DIR.")
flags.DEFINE_multi_string(
    "params_override",
    [],
    "Changes to the configuration: 'train.input.batch_size=16,seed=1', or a YAML mapping "
    "'{train: {input: {batch_size: 16}}}'. May be given several times.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "import",
    [],
    "Modules to import first, separated by commas: they can bring a method (docs/"
    "adding-a-method.md) or register data sets made in code (vatt.data.factories).",
    flag_values=FLAGS,
)
_define(
    "folds",
    "Run a fine-tuning for each fold of its set, in folders fold_<number> of model_dir, and write "
    "mean and standard deviation of the figures: all, or numbers such as 1,3.",
)
_define(
    "seeds",
    "Run the command once for each of these seeds, one after another, in folders seed<number> of "
    "model_dir, and print mean, standard deviation and each figure; they are also in seeds.json, "
    "seeds.csv and report.html. Numbers and ranges: 0,1,2 or 0-9.",
)
_define(
    "tracker",
    "Experiment trackers that are told what the run logs, joined by commas: mlflow, wandb. Each is "
    "an extra to install, and is set up by its own environment variables.",
)
flags.DEFINE_bool("verbose", False, "Keep TensorFlow's start-up messages.", flag_values=FLAGS)
flags.DEFINE_bool(
    "allow_config_change",
    False,
    "Resume a run although its configuration differs from the one asked for.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "fresh_start",
    False,
    "Begin again at step 0; the files of an earlier run in model_dir are moved aside.",
    flag_values=FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv` (program name first) and returns the exit code."""
    escape_what_cannot_be_shown()
    if any(argument in _HELP for argument in argv[1:]):
        show(_help())
        return 0
    if any(argument in _VERSION for argument in argv[1:]):
        print(f"vatt {__version__}")
        return 0
    try:
        return _run(argv)
    except UserError as error:
        return _refuse(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in OF_WRITING:
            raise
        return _refuse(
            str(cannot_write(error.filename or FLAGS.model_dir or ".", error)), EXIT_DATA
        )
    except KeyboardInterrupt:
        return _refuse("interrupted", EXIT_INTERRUPTED)


def read_flags(argv: Sequence[str]) -> None:
    """Gives `FLAGS` the values that a command line says, program name first.

    Raises:
      UserError: something that is no flag, or a value that a flag does not take.
    """
    FLAGS.unparse_flags()
    try:
        rest = FLAGS(list(argv))[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}: flags are written --name=value")


def configured() -> ExperimentConfig:
    """Returns the configuration of the run that `FLAGS` ask for.

    Raises:
      UserError: it has mistakes, or no folder.
    """
    _import_modules(FLAGS["import"].value)
    config = _configuration(FLAGS.model_dir)
    if not config.model_dir:
        raise UserError(_NO_FOLDER)
    return config


def _run(argv: Sequence[str]) -> int:
    read_flags(argv)

    from vatt.training import tracking

    trackers = tracking.chosen(FLAGS.tracker)
    if FLAGS.seeds is not None:
        return _run_seeds()
    config = configured()

    from vatt.training import stored_runs

    if FLAGS.folds is not None:
        _refuse_store(config.model_dir)
    _show_log_lines()
    if in_a_store(config.model_dir) and config.mode != "eval":
        from vatt.experiments import beforehand

        beforehand.check_sets(config)  # before the run is brought here, which takes its time
    with stored_runs.opened(config) as stored:
        return _run_config(config, argv, trackers, stored)


def _run_config(
    config: ExperimentConfig, argv: Sequence[str], trackers: Sequence[str], stored: StoredRun | None
) -> int:
    from vatt.experiments import beforehand

    beforehand.check(config, fresh_start=FLAGS.fresh_start)

    from vatt.quiet import import_tensorflow_quietly  # heavy from here on

    import_tensorflow_quietly(verbose=FLAGS.verbose)
    _show_log_lines()
    options = {
        "command": list(argv),
        "allow_config_change": FLAGS.allow_config_change,
        "fresh_start": FLAGS.fresh_start,
        "trackers": trackers,
    }
    if FLAGS.folds is not None:
        from vatt.experiments import folds

        return folds.run(config, FLAGS.folds, **options)
    from vatt.experiments import executor

    return executor.run(config, stored=stored, **options)


def _run_seeds() -> int:
    from vatt.experiments import seeds

    chosen = seeds.chosen(FLAGS.seeds, FLAGS.params_override)
    _import_modules(FLAGS["import"].value)
    folder = FLAGS.model_dir or _configuration(None).model_dir
    if not folder:
        raise UserError(_NO_FOLDER)
    _refuse_store(folder)
    _show_log_lines()
    return seeds.run(folder, chosen, _configuration, _given_flags(), fresh_start=FLAGS.fresh_start)


def _refuse_store(model_dir: str) -> None:
    if in_a_store(model_dir):
        raise UserError(
            f"model_dir: {model_dir}: runs of several seeds or folds have a folder of this machine "
            "or of a network file system; a store takes one run at a time"
        )


def _given_flags() -> list[str]:
    """Returns the flags that the runs of all seeds have in common, each with its value."""
    arguments = []
    for name in sorted(set(FLAGS) - {"seeds", "model_dir", "flagfile", "undefok"}):
        flag = FLAGS[name]
        values = flag.value if isinstance(flag, flags.MultiFlag) else [flag.value]
        for value in values if flag.present else ():
            text = ",".join(value) if isinstance(value, list) else value
            arguments.append(f"--{name}={text}")
    return arguments


def _configuration(model_dir: str | None, *overrides: str) -> ExperimentConfig:
    """Returns what the flags ask for, with another folder and further overrides."""
    from vatt import configs

    config_file, overrides = FLAGS.config_file, [*FLAGS.params_override, *overrides]
    own = _config_of_run(model_dir)
    if not config_file and own is not None:
        # What training started from is not what is to be evaluated: only the flag says that.
        config_file, overrides = str(own), ["checkpoint_path=null", *overrides]
    return configs.resolve(
        task=FLAGS.task,
        mode=FLAGS.mode,
        model_arch=FLAGS.model_arch,
        config_file=config_file,
        params_override=overrides,
        model_dir=model_dir,
        override_checkpoint=FLAGS.override_checkpoint,
        strategy_type=FLAGS.strategy_type,
        tpu=FLAGS.tpu,
        data_dir=FLAGS.data_dir,
    )


def _import_modules(modules: Sequence[str]) -> None:
    """Imports what a run brings itself: methods, backbones, data sets made in code."""
    if not modules:
        return
    from vatt import methods
    from vatt.quiet import import_tensorflow_quietly

    import_tensorflow_quietly(verbose=FLAGS.verbose)  # they may import it, which is loud
    from vatt.data import factories

    factories.import_modules(modules)
    for module in modules:
        methods.add(module)


def _show_log_lines() -> None:
    """Prints what the run logs as plain lines on the error stream, which absl would hold back."""
    logger = logging.getLogger("absl")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
        logger.propagate = False
    logger.setLevel(logging.INFO)


class _Lines(logging.StreamHandler):
    """Writes to the error stream of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        self.stream = sys.stderr
        super().emit(record)


def _config_of_run(model_dir: str | None) -> Path | None:
    """Returns the configuration that training left in a folder, if it is to be evaluated."""
    if (FLAGS.mode or "").lower() != "eval" or not model_dir:
        return None
    if in_a_store(model_dir):
        from vatt.training import stored_runs

        return stored_runs.config_file(model_dir)
    file = Path(model_dir) / "config.yaml"
    return file.absolute() if os.path.isfile(file) else None


def _help() -> str:
    lines = [__doc__, "Flags:"]
    for name in sorted(set(FLAGS) - {"flagfile", "undefok"}):
        text = textwrap.fill(
            FLAGS[name].help, 90, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        lines.append(f"  --{name}\n{text}")
    lines += ["  --help", "      This text.", "  --version", "      The version of vatt."]
    return "\n".join(lines)


def _refuse(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    entry()
