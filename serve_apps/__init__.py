"""The serving graph. Nothing but the CLI imports this folder."""

# The code a running service consists of, as paths below the project root: a change of any of it is a new version.
SERVED_CODE = ("cluster/core", "actors", "serve_apps", "data_jobs", "train_jobs/answering")
