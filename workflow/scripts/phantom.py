"""Make the synthetic head CT."""

from pathlib import Path

from hemtrace.job import job
from hemtrace.params import PhantomParams
from hemtrace.phantom import generate


def make_phantom() -> None:
    with job(snakemake.log[0]):
        generate(
            Path(snakemake.output.labels).parent,
            PhantomParams(**snakemake.params.phantom),
            snakemake.params.seed,
            workers=snakemake.threads,
        )


if __name__ == "__main__":  # its worker processes import this script again
    make_phantom()
