"""List the files, deal them out to shards, and see that these will fit on the disk."""

import os
import time
from pathlib import Path

from hemtrace.ingest.listing import list_files
from hemtrace.job import drop_strangers, job
from hemtrace.preflight import check_room
from hemtrace.writing import write_table

with job(snakemake.log[0]):
    began = time.time_ns()
    files = list_files(Path(snakemake.params.images), snakemake.params.shards)
    check_room(Path("data"), files.height * snakemake.params.slice_bytes)
    write_table(files, Path(snakemake.output[0]))
    # What comes while it is made is newer than the list; the clock of another machine may be ahead.
    stands_for = max(began, snakemake.params.changed_ns)
    os.utime(snakemake.output[0], ns=(stands_for, stands_for))
    shards = range(snakemake.params.shards)
    drop_strangers(Path("data/shards"), [f"{number:04d}" for number in shards])
    print(f"{files.height} files, {files['bytes'].sum() / 1e6:.0f} MB")
