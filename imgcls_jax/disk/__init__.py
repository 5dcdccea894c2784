"""What is written to disk: output files, whole or not at all, and the folder of caches."""
