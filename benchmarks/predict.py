"""1,000 slices through prediction against its parts alone: do reading, windowing, network overlap?

The parts are timed in the same run, turn by turn with the whole: reading files to Hounsfield units,
windowing them to pictures, and the network on those pictures in the chunks of prediction. Uses the
finished default run in this folder, or `--folder` and `--model`.

    python benchmarks/predict.py [--slices 1000] [--rounds 3]
"""

import argparse
import time
from pathlib import Path

import numpy as np
from common import Figure, report

from hemtrace.dicom import PUBLIC_SALT, Slice
from hemtrace.engine import CHUNK, open_engine
from hemtrace.predict.paths import Archive
from hemtrace.predict.run import PredictedFiles
from hemtrace.predict.verdict import find_operating
from hemtrace.shards import make_pictures


def main() -> None:
    """Time the parts and the whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/raw/stage_2_train"))
    parser.add_argument("--model", type=Path, default=Path("models/model.safetensors"))
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", default="auto")
    given = parser.parse_args()
    engine = open_engine(given.model, given.runtime)
    operating = find_operating(given.model, engine.model_sha256)
    seconds = dict.fromkeys(("read", "window", "infer", "whole"), np.inf)
    with Archive([given.folder]) as archive:
        names = archive.names[: given.slices]
        held = {name: list(archive.read(name)) for name in names}  # also warms the disk's cache
        count = sum(isinstance(one, Slice) for found in held.values() for one in found)
        view = engine.spec.view
        made = make_pictures(held.__getitem__, names, view, PUBLIC_SALT, quiet=True)
        pictures = np.stack([picture for _, picture in made if picture is not None])
        engine.run(pictures[:CHUNK])
        engine.run(pictures[:1])

        def read() -> None:
            for name in names:
                for _ in archive.read(name):
                    pass

        def window() -> None:
            for _ in make_pictures(held.__getitem__, names, view, PUBLIC_SALT, quiet=True):
                pass

        def infer() -> None:
            for start in range(0, len(pictures), CHUNK):
                engine.run(pictures[start : start + CHUNK])

        def whole() -> None:
            with PredictedFiles(
                archive.read, names, engine, operating, keep_maps=False
            ) as predicted:
                for _ in predicted.studies():
                    pass

        for _ in range(given.rounds):
            for name, part in {
                "read": read, "window": window, "infer": infer, "whole": whole,
            }.items():  # fmt: skip
                started = time.perf_counter()
                part()
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    parts = {name: seconds[name] for name in ("read", "window", "infer")}
    figures = [Figure(f"{name} alone", value, "s") for name, value in parts.items()]
    figures += [
        Figure("whole", seconds["whole"], "s"),
        Figure("sum of parts / whole", sum(parts.values()) / seconds["whole"], "", at_least=0.9),
        Figure("longest part / whole", max(parts.values()) / seconds["whole"], ""),
        Figure("whole", count / seconds["whole"], "slices/s"),
    ]
    report(
        "predict", figures, f"{count} slices, {engine.runtime}; {given.rounds} rounds, the best."
    )


if __name__ == "__main__":
    main()
