"""hemtrace: reproducible, traceable detection of intracranial haemorrhage on head CT."""

__version__ = "0.1.0"
