"""How large the bleeding is: on a slice and in a patient, from the phantom's masks."""

from pathlib import Path

import cv2
import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError

_PIXEL_MM2 = pl.col("spacing_mm") * pl.col("spacing_across_mm")


def measure_lesions(phantom: Path, catalog: pl.DataFrame) -> pl.DataFrame:
    """Measure the bleeding on each slice and in each patient from the phantom's masks.

    Area: marked pixels times the area of a pixel. Volume of a patient: the areas of all slices,
    also of those that are not used, times the distance of slices, which is the median of the
    catalog's `gap_mm` over the patient's slices (the slice thickness where it is unknown). Only
    what is marked counts: blood on slices that no reader would call is not.

    Parameters
    ----------
    phantom
        `phantom.parquet`: slice, patient, mask.
    catalog
        Product of ingest.

    Returns
    -------
    slice, area_mm2, volume_ml: a row a slice with a mask. Null where the size of a pixel or the
    distance of slices is unknown.

    Raises
    ------
    HemtraceError
        If a mask cannot be read.
    """
    masks = pl.read_parquet(phantom, columns=["slice", "patient", "mask"]).drop_nulls("mask")
    pixels = []
    for name, png in masks.select("slice", "mask").iter_rows():
        bits = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if bits is None:
            raise HemtraceError(
                f"{phantom}: the mask of the slice {name} is no PNG; make the phantom anew."
            )
        pixels.append(int(np.count_nonzero(bits)))
    own = catalog.select("slice", "patient", own_area=_PIXEL_MM2)
    # A file whose header tells no geometry takes that of its patient.
    usual = (
        catalog.drop_nulls("patient")
        .group_by("patient")
        .agg(
            usual_area=_PIXEL_MM2.median(),
            distance_mm=pl.coalesce(
                pl.col("gap_mm").filter(pl.col("gap_mm") > 0).median(),
                pl.col("thickness_mm").median(),
            ),
        )
    )
    # The phantom knows its patients by other names than the catalog; slices join the two.
    person = pl.col("patient").drop_nulls().first().over("person")
    table = (
        masks.select("slice", person="patient")
        .with_columns(pixels=pl.Series(pixels, dtype=pl.Int64))
        .join(own, on="slice", how="left")
        .with_columns(patient=person)
        .join(usual, on="patient", how="left")
        .with_columns(area_mm2=pl.col("pixels") * pl.coalesce("own_area", "usual_area"))
    )
    volume = pl.col("area_mm2") * pl.col("distance_mm") / 1000
    is_whole = volume.is_not_null().all().over("person")
    return table.select(
        "slice", "area_mm2", volume_ml=pl.when(is_whole).then(volume.sum().over("person"))
    ).sort("slice")
