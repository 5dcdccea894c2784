"""Measure what each part of a recipe contributes: train with factors on and off, over paired seeds."""
