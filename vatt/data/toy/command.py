"""The command line of the toy corpus: which sets, and their files and manifests."""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vatt import locks
from vatt.data.arguments import MOST_WORKERS, real, whole
from vatt.ended import ended
from vatt.errors import UserError, nearest
from vatt.files import make_folder, read_json, replace_text

if TYPE_CHECKING:
    from vatt.data.toy.sets import VideoPlan

FORMAT = 2  # raised when the same seed gives other files than before
_SETS = ("toy_howto", "toy_audioset", "toy_retrieval", "toy_actions", "toy_sounds")
_COLUMNS = ("path", "start", "end", "split", "label", "caption", "captions")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.toy", description="Render the toy corpus as media files."
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--sets",
        default="all",
        help=f"comma-separated; known: {', '.join(_SETS)} (%(default)s)",
    )
    parser.add_argument(
        "--scale", type=real(1e-6, 100), default=1.0, help="factor on the number of videos (1)"
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**31 - 1), default=0, help="of everything random (0)"
    )
    parser.add_argument("--workers", type=whole(1, MOST_WORKERS), help="processes (one per core)")
    return parser.parse_args(argv)


def chosen_sets(text: str) -> tuple[str, ...]:
    """Returns the sets named in `text`, in order, each once.

    Raises:
      UserError: a name is unknown.
    """
    if text.strip().lower() == "all":
        return _SETS
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in _SETS:
            raise UserError(
                f"--sets: '{name}' is not a toy set; known: all, {', '.join(_SETS)}."
                f"{nearest(name, _SETS)}"
            )
    if not names:
        raise UserError(f"--sets: names no set; known: all, {', '.join(_SETS)}.")
    return names


def write_manifest(path: Path, plans: list[VideoPlan]) -> int:
    """Writes one row per clip and returns the number of clips."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    count = 0
    for plan in plans:
        narrated = len(plan.captions) > 1
        begin = 0.0
        for scene in plan.scenes:
            end = begin + scene.duration
            writer.writerow(
                [
                    f"videos/{plan.name}.mp4",
                    f"{begin:.3f}",
                    f"{end:.3f}",
                    ";".join(plan.splits),
                    ";".join(plan.labels),
                    "" if narrated or not plan.captions else plan.captions[0].text,
                    f"captions/{plan.name}.vtt" if narrated else "",
                ]
            )
            begin, count = end, count + 1
    replace_text(path, text.getvalue())
    return count


def _guard_settings(folder: Path, settings: dict) -> None:
    """Refuses to mix files of different settings in one folder."""
    path = folder / "settings.json"
    if path.exists():
        try:
            found = dict(read_json(path))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}): what that folder holds is not known. "
                "Give another --output_dir, or remove that folder."
            ) from None
        changed = [f"{k} {found.get(k)} -> {v}" for k, v in settings.items() if found.get(k) != v]
        if changed:
            raise UserError(
                f"{folder} holds a corpus made with other settings ({'; '.join(changed)}). "
                "Give another --output_dir, or remove that folder."
            )
        return
    make_folder(folder)
    replace_text(path, json.dumps(settings, indent=1) + "\n")


def render_set(name: str, output_dir: Path, seed: int, scale: float, workers: int) -> dict:
    """Renders what is missing of one set and returns counts for the summary.

    Raises:
      UserError: the folder holds files of other settings, or another process works there.
    """
    from vatt.data.toy.sets import plan
    from vatt.data.toy.video import make_video
    from vatt.data.workers import progress, run_jobs

    folder = output_dir / name
    _guard_settings(folder, {"set": name, "format": FORMAT, "seed": seed, "scale": scale})
    with locks.held(folder / ".render.lock", "another rendering"):
        for part in ("videos", "captions"):
            make_folder(folder / part)
            for left_over in (folder / part).glob("*.partial"):
                left_over.unlink()
        plans = plan(name, seed, scale)
        missing = [p for p in plans if not (folder / "videos" / f"{p.name}.mp4").exists()]
        done = len(plans) - len(missing)
        started = time.monotonic()
        with progress(len(plans), done, name, "video") as bar:
            for _ in run_jobs(make_video, ((p, folder) for p in missing), workers):
                bar.update()
        clips = write_manifest(folder / "manifest.csv", plans)
    return {
        "set": name,
        "videos": len(plans),
        "made": len(missing),
        "clips": clips,
        "seconds": time.monotonic() - started,
        "manifest": folder / "manifest.csv",
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    stopped = "stopped; finished videos are kept, the same command continues."
    return ended(lambda: _run(parse_arguments(argv)), stopped)


def _run(arguments: argparse.Namespace) -> int:
    names = chosen_sets(arguments.sets)
    from vatt.data.workers import available_cores

    workers = arguments.workers or available_cores()
    for name in names:
        row = render_set(name, arguments.output_dir, arguments.seed, arguments.scale, workers)
        print(
            f"{row['set']}: {row['videos']} videos ({row['made']} new), {row['clips']} clips, "
            f"{row['seconds']:.1f} s -> {row['manifest']}"
        )
    return 0
