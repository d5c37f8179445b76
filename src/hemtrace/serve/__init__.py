"""The web page and its API: a person drops files and reads a verdict.

The modules in the order in which data flow: `settings`, `problems`, `guards` (who may ask),
`store` (private folders), `uploads` and `unpack` (bytes to files), `jobs` (work and its events),
`prediction` (the model at work), `answers`, `pictures`, `nifti`, `summary`, `exports` (what is
told), `routes`, `app`, `run`. The page itself lies in `page/`.
"""

from hemtrace.serve.app import create_app
from hemtrace.serve.settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app"]
