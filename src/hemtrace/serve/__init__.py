"""The web page and its API: a person drops files and reads a verdict.

The modules in the order in which data flow: `settings`, `problems`, `guards` (who may ask), `store`
(private folders), `uploads` and `unpack` (bytes to files), `jobs` (work and its states), `schemas`
(shapes of answers), `events`, `sample`, `service` (what lives as long as the server), `pixels`,
`readers`, `prediction` (the model at work), `sides`, `nifti`, `pictures`, `answers`, `summary`,
`exports` (what is told), `addresses`, `routes`, `downloads`, `app`, `run`. From `pixels` to
`exports` torch and its like are loaded: these are imported where they are used, so that the page is
there at once.
The page itself lies in `page/`.
"""

from hemtrace.serve.app import create_app
from hemtrace.serve.settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app"]
