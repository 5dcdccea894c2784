"""What a run shows: tables on the console, plots in the work directory."""
