"""A row of a shard: everything that reading its file told. The catalog adds labels and status."""

import polars as pl

Schema = dict[str, pl.DataType | type[pl.DataType]]

ROW_SCHEMA: Schema = {
    "slice": pl.String,
    "file": pl.String,
    "frame": pl.Int32,
    "reason": pl.String,
    "detail": pl.String,
    "patient": pl.String,
    "study": pl.String,
    "series": pl.String,
    "instance": pl.String,
    "encoding": pl.String,
    "lossy": pl.Boolean,
    "bits_stored": pl.Int32,
    "signed": pl.Boolean,
    "slope": pl.Float64,
    "intercept": pl.Float64,
    "rows": pl.Int32,
    "columns": pl.Int32,
    "spacing_mm": pl.Float64,
    "spacing_across_mm": pl.Float64,
    "thickness_mm": pl.Float64,
    "z_mm": pl.Float64,
    "tilt_deg": pl.Float64,
    "orientation": pl.String,
    "manufacturer": pl.String,
    "kernel": pl.String,
    "padded": pl.Boolean,
    "repaired": pl.Boolean,
    "air_share": pl.Float32,
    "soft_share": pl.Float32,
    "bone_share": pl.Float32,
    # The square of the source that the picture shows, in its pixels; may reach beyond its edges.
    "crop_top": pl.Int32,
    "crop_left": pl.Int32,
    "crop_side": pl.Int32,
    "pixel_blake3": pl.String,
    "image_blake3": pl.String,
    "shard": pl.Int32,
    "row": pl.Int32,
}
