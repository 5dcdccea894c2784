"""The experiments of five coursework reports, each a config: run here, and compared with what the reports state."""
