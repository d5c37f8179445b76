"""Synthetic head CT with haemorrhages, in the layout of the RSNA 2019 data set.

The modules in the order in which data flow: `plan` (who has what), `anatomy` and its parts (the
head), `lesions`, `scanner` (slices of HU), `dicomfile` (bytes), `generate` (the tree on disk).
"""

from hemtrace.phantom.generate import generate

__all__ = ["generate"]
