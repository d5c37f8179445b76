"""Draw the galleries, and score the heat maps on the phantom's masks."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate.calibrate import calibrate_table
from hemtrace.evaluate.operating import read_operating
from hemtrace.explain.stage import Products, explain
from hemtrace.job import job
from hemtrace.model import load_spec
from hemtrace.params import ExplainParams
from hemtrace.provenance import file_digest
from hemtrace.shards import TestSlices, ValSlices, open_partition

with job(snakemake.log[0]):
    given, made = snakemake.input, snakemake.output
    model = Path(given.model)
    operating = read_operating(Path(given.operating), file_digest(model))
    points = operating.points["slices"][operating.default_point]
    catalog, splits, predictions = (
        pl.read_parquet(path) for path in (given.catalog, given.splits, given.predictions)
    )
    shards, has_context = Path(given.shards[0]).parent, load_spec(model).has_context
    test, validation = (
        open_partition(kind, catalog, splits, shards, has_context)
        for kind in (TestSlices, ValSlices)
    )
    figures = {Path(path).stem: Path(path) for path in made.figures}
    explain(
        model,
        test,
        validation,
        catalog,
        calibrate_table(operating.calibration, predictions),
        Path(given.masks) if given.get("masks") else None,
        ExplainParams(**snakemake.params.explain),
        {label: point.threshold for label, point in points.items()},
        snakemake.params.seed,
        Products(
            localisation=Path(made.localisation),
            regions=Path(made.regions),
            volumes=Path(made.volumes),
            gallery_bleeds=figures["gallery_bleeds"],
            gallery_clear=figures["gallery_clear"],
            gallery_subtypes=figures["gallery_subtypes"],
            gallery_worst=figures["gallery_worst"],
            localisation_figure=figures["localisation"],
            randomisation_figure=figures["randomisation"],
        ),
    )
