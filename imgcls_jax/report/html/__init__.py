"""A report on runs as one HTML page that needs nothing else: no network, no other file."""
