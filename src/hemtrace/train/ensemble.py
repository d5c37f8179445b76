"""The models of the folds and seeds -> the one that is used."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hemtrace.model import Ensemble, load_model, save_model
from hemtrace.model.net import Net
from hemtrace.tracking import Tracker

_RUN = re.compile(r"fold(\d+)_seed(\d+)")


def join_models(paths: Sequence[Path], out: Path) -> None:
    """Write the ensemble of several models; of one model a copy.

    An ensemble has a record of its own in MLflow, so that it can be found, and its evaluation with
    it.
    """
    if len(paths) == 1:
        part = out.with_name(out.name + ".part")
        shutil.copyfile(paths[0], part)
        part.replace(out)
        return
    loaded = [load_model(path) for path in paths]
    members = [net for net, _ in loaded if isinstance(net, Net)]
    spec = loaded[0][1].model_copy(update={"members": len(members)})
    save_model(out, Ensemble(members), spec)
    with Tracker(spec, f"ensemble of {len(members)}") as record:
        record.finish(out)


def join_histories(paths: Sequence[Path]) -> pl.DataFrame:
    """Put the histories below each other, with columns fold and seed from their folders' names."""
    tables = []
    for path in paths:
        match = _RUN.fullmatch(path.parent.name)
        fold, seed = map(int, match.groups()) if match else (0, 0)
        tables.append(
            pl.read_parquet(path).select(
                pl.lit(fold).alias("fold"), pl.lit(seed).alias("seed"), pl.all()
            )
        )
    return pl.concat(tables, how="vertical_relaxed")
