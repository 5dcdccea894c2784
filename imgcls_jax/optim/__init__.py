"""Learning-rate schedules, optimisers, averages of parameters, and sharpness-aware minimisation."""
