"""Start a verb on a cluster by an engine that exists: submitit, SkyPilot or a JobSet on GKE.

A job writes RUN/launch: `job.json` (engine, id, command, source), `source/` (the code it runs), the
engine's own file and the logs. Nothing here schedules: the engine does.
"""
