"""Write the page that reviewers read, and the model card."""

from pathlib import Path

from hemtrace.job import job
from hemtrace.params import ReportParams
from hemtrace.report import ReportInputs, build_report

with job(snakemake.log[0]):
    given = snakemake.input
    inputs = ReportInputs(
        catalog=Path(given.catalog),
        flow=Path(given.flow),
        splits=Path(given.splits),
        model=Path(given.model),
        history=Path(given.history),
        metrics=Path(given.evaluation),
        comparison=Path(given.comparison),
        localisation=Path(given.localisation),
        figures=tuple(Path(path) for path in given.figures),
    )
    page, card = Path(snakemake.output.page), Path(snakemake.output.card)
    build_report(inputs, ReportParams(**snakemake.params.report), page, card)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
