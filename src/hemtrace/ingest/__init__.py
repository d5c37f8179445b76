"""DICOM tree and label CSV -> the list of files, and the catalog with one row a picture.

The shards between the two are made by the package `shards`, a job each.
"""
