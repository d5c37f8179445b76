"""Write the pages a reviewer reads, and the model card."""

from pathlib import Path

from hemtrace.external.results import find_results
from hemtrace.job import job
from hemtrace.params import parse_params
from hemtrace.provenance import file_digest
from hemtrace.report import ReportInputs, ReportPages, build_report

with job(snakemake.log[0]):
    given = snakemake.input
    inputs = ReportInputs(
        catalog=Path(given.catalog),
        flow=Path(given.flow),
        splits=Path(given.splits),
        study=Path(given.study),
        model=Path(given.model),
        history=Path(given.history),
        metrics=Path(given.evaluation),
        robustness=Path(given.robustness),
        familiarity=Path(given.familiarity),
        comparison=Path(given.comparison),
        localisation=Path(given.localisation),
        figures=tuple(Path(path) for path in given.figures),
        external=tuple(find_results(Path(), file_digest(Path(given.model)))),
    )
    pages = ReportPages(**{name: Path(path) for name, path in snakemake.output.items()})
    # All of them, for the page on provenance; the rule's own section decides whether it runs again.
    build_report(inputs, parse_params(snakemake.config), pages)
    print(f"{pages.page}: {pages.page.stat().st_size / 1e6:.1f} MB")
