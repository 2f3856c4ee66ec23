"""The leaf everybody imports: errors, records, configuration, artefact store, telemetry. Imports nothing of the project."""
