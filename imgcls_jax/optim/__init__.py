"""Losses, learning-rate schedules, optimizers, averages of parameters, and sharpness-aware minimization."""
