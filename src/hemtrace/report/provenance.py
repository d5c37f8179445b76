"""The page that redoes a run: what it was made from, on what and how long.

Times and hardware differ from run to run, so they stand here and nowhere else: `index.html` is the
same whenever its products are.
"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from hemtrace.report.cells import Table
from hemtrace.report.render import SYNTHETIC, make_environment, resource

# What decides the figures; the others are folded away.
_MAIN = (
    *("hemtrace", "torch", "timm", "numpy", "scipy", "scikit-learn", "polars", "pydicom"),
    *("opencv-python-headless", "grad-cam", "matplotlib", "snakemake", "dvc", "mlflow"),
)


def render_provenance(found: Mapping[str, Any], title: str) -> str:
    """Render `provenance.html`: one file that needs nothing else.

    Parameters
    ----------
    found
        What `made_from.gather_provenance` gives.
    title
        Of the report.
    """
    template = make_environment(autoescape=True).get_template("provenance.html.j2")
    return template.render(
        found=found,
        title=title,
        commit=found["commit"].removesuffix("-dirty"),
        is_dirty=found["commit"].endswith("-dirty"),
        tables=_build_tables(found),
        synthetic_banner=SYNTHETIC,
        style=Markup(resource("report.css")),
    )


def _build_tables(found: Mapping[str, Any]) -> dict[str, Table]:
    main = [entry for entry in found["libraries"] if entry[0] in _MAIN]
    seconds = sum(row["seconds"] for row in found["times"])
    digests = [*found["digests"]]
    if found["shards"] is not None:
        digests.append(
            (f"data/shards, {found['shards']['number']} shards", found["shards"]["sha256"])
        )
    for name, key in (("requirements.lock", "lock_sha256"), ("dvc.lock", "dvc_lock_sha256")):
        digests.append((name, found[key] or "not there"))
    changed = [row for row in found["parameters"] if row["differs"]]
    return {
        "versions": Table(
            ("What", "Version"),
            [
                ("code, commit", found["commit"]),
                ("model trained by commit", found["model_commit"]),
                ("Python", found["python"]),
                *(_library_row(*entry) for entry in main),
            ],
            text=True,
        ),
        "libraries": Table(
            ("Package", "Version"),
            [_library_row(*entry) for entry in found["libraries"]],
            text=True,
        ),
        "digests": Table(("File", "SHA-256"), digests, text=True, note=_tell_data(found)),
        "changed": Table(
            ("Parameter", "Value", "Default"),
            [(row["name"], row["value"], row["default"]) for row in changed],
            text=True,
        ),
        "parameters": Table(
            ("Parameter", "Value", "Meaning"),
            [
                (
                    row["name"],
                    row["value"]
                    + (f"\nchanged; default {row['default']}" if row["differs"] else ""),
                    row["meaning"],
                )
                for row in found["parameters"]
            ],
            text=True,
        ),
        "hardware": Table(("What", "Value"), found["hardware"], text=True),
        "times": Table(
            ("Rule", "Jobs", "Seconds", "Peak memory, MB"),
            [
                *(
                    (
                        row["rule"],
                        f"{row['jobs']:,}",
                        f"{row['seconds']:,.1f}",
                        "unknown" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}",
                    )
                    for row in found["times"]
                ),
                ("all", "", f"{seconds:,.1f}", ""),
            ],
            note="Newest measurement of each job, by Snakemake; jobs may run side by side. The "
            "report itself is not over when this is written.",
        ),
        "trainings": Table(
            ("Training", "Run in MLflow", "SHA-256 of its model"),
            [
                (row["name"], row["run"] or "not in this project's database", row["sha256"])
                for row in found["trainings"]
            ],
            text=True,
        ),
    }


def _library_row(name: str, installed: str, locked: str) -> tuple[str, str]:
    return name, installed + (f"\nrequirements.lock: {locked}" if locked else "")


def _tell_data(found: Mapping[str, Any]) -> str:
    if found["data_digest"] is None:
        return f"The model was trained on data of digest {found['model_data_digest']}."
    same = found["data_digest"] == found["model_data_digest"]
    return (
        f"Data digest (slices, labels, partitions): {found['data_digest']}; that of the model is "
        + ("the same." if same else f"NOT the same: {found['model_data_digest']}.")
    )
