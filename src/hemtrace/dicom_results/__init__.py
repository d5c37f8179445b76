"""Results as DICOM objects: a structured report, heat map captures, parametric maps.

Nothing of a patient is told anywhere but in the objects themselves, whose headers repeat what the
slices said.
"""

from hemtrace.dicom_results.identity import ModelIdentity
from hemtrace.dicom_results.results import make_results, write_results

__all__ = ["ModelIdentity", "make_results", "write_results"]
