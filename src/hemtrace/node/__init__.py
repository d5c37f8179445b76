"""A node beside a PACS: studies come in, results go back, once each, even after a crash.

`receive` and `watch` hand every object to `intake`, which keeps it before anything is promised.
`queue` is the one place that remembers: each step of a study is a transaction of SQLite. `answer`
predicts one study at a time, `send` delivers what came of it, `page` shows the worklist, and `run`
holds them together. Nothing of a patient stands in a log: a study is named by its number.
"""
