"""Synthetic head CT with haemorrhages, in the layout of the RSNA 2019 data set.

The modules in the order in which data flow: `plan` (who has what), `traits` (a person), `atlas`
(the average brain), `head`, `brain` and `skull` (tissue in space), `lesions` and `bleeding`
(bleeds and their volumes), `geometry`, `render`, `image`, `scanner` (slices of HU), `dicomfile`
(bytes), `generate` (the tree on disk). `shapes` has what several of them draw with, `build_atlas`
says where the atlas is from.
"""

from hemtrace.phantom.generate import generate

__all__ = ["generate"]
