"""The leaf everybody imports: errors, records, configuration, artefact store, telemetry."""
