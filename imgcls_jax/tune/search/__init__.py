"""Search for the best settings of a config: many trials, of any number of processes and machines."""
