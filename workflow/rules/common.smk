# Parameters are checked here, before any job starts; the helpers below serve all stages.
import os
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from hemtrace.compare.systems import all_trainings, shuffled_params, system_params
from hemtrace.dicom.source import newest_change
from hemtrace.errors import HemtraceError
from hemtrace.job import FAILURE
from hemtrace.leftovers import digest_of, find_lost, prepare_run
from hemtrace.params import parse_params
from hemtrace.preflight import check_heat_map, check_inputs, check_place

try:
    P = parse_params(config)
    COMPARED = system_params(P)
    SHUFFLED = shuffled_params(P)
    check_place(Path.cwd())
    check_inputs(P.ingest)
    check_heat_map(P)
    RAW = Path(P.ingest.raw or "data/raw").expanduser()
    IMAGES = RAW / P.ingest.images
    # The main process alone asks for what decides whether a job runs.
    CHANGED_NS, CSV_DIGEST = 0, ""
    if workflow.is_main_process:
        if not P.is_phantom:
            CHANGED_NS = newest_change(IMAGES)
            CSV_DIGEST = digest_of(RAW / P.ingest.labels) if P.ingest.labels else ""
        for done in prepare_run(Path.cwd(), CHANGED_NS):
            print(f"hemtrace: {done}", file=sys.stderr)
except HemtraceError as error:
    raise WorkflowError(str(error)) from None

# More than any machine has: Snakemake gives such a job all cores that it may use. The number itself
# (workflow.cores) is not known to `snakemake --report`.
ALL_CORES = 1024

# In the environment of a run that goes on: the lost products that the run before made again.
MADE_AGAIN = "HEMTRACE_MADE_AGAIN"

# What reads the shards: a stage after ingest need not run again when the making of them changes.
STORE_MODULES = [
    "shards/images.py",
    "shards/check.py",
    "shards/context.py",
    "shards/partition.py",
]


wildcard_constraints:
    shard=r"\d{4}",


def section(name):
    """A section of the parameters with its defaults, as plain values that Snakemake can compare."""
    return getattr(P, name).model_dump(mode="json")


def modules(*patterns):
    """The library files that a stage runs: editing one of them reruns the stage."""
    return sorted(str(path) for p in patterns for path in Path("src/hemtrace").glob(p))


def weights_files(train):
    """The file that a training starts from: an input, so that another content trains again."""
    is_packaged = (train.weights_file or "").startswith("package:")
    return [train.weights_file] if train.weights_file and not is_packaged else []


def path_of(output):
    """The path of another stage's output, as text: by a reference to the output itself Snakemake
    would reach its rule even where --allowed-rules leaves that out."""
    return str(output)


def check_trainings():
    """Stop before the first job if a training that is due could not begin: Snakemake removes what an
    earlier one left when its job begins."""
    due = set()
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "train_run":
            due.add("train")
        elif job.rule.name == "evaluate_shuffled_train":
            due.add("evaluate.shuffled")
        elif job.rule.name == "compare_train":
            due.add(f"compare.systems, {job.wildcards.system}")
    if not due:
        return
    from hemtrace.train.check import (
        check_training,
    )  # it takes torch some seconds to be there

    try:
        for name, params in all_trainings(P).items():
            if name in due:
                check_training(name, params, P.ingest.view, download=True)
    except HemtraceError as error:
        raise WorkflowError(f"hemtrace: {error}") from None


def go_on(made):
    """Run the same command once more; this process goes on holding the lock of the folder."""
    command = [sys.executable, "-m", "snakemake", *sys.argv[1:], "--nolock"]
    if subprocess.run(
        command, env=os.environ | {MADE_AGAIN: " ".join(made)}
    ).returncode:
        raise WorkflowError(
            "The lost products are there again; the rest failed, see above."
        )


def explain_failure(snakemake_log):
    """The sentence of the failed job, so that it is the last thing on the screen."""
    if FAILURE.is_file():
        return FAILURE.read_text().strip()
    logs = [snakemake_log] if isinstance(snakemake_log, str) else snakemake_log
    return (
        "hemtrace: a job failed. Its own log is named above; the whole story: "
        f"{', '.join(map(str, logs))}. If a product is damaged, `hemtrace verify` names it. A job "
        "that ends without a word was killed, most often for lack of memory; run again: a "
        "training goes on where it was."
    )
