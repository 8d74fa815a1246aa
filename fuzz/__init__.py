"""Hostile bytes for everything that reads bytes: `python -m fuzz --seconds 60 --seed 7`."""
