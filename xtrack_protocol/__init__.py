"""XTrack: a wire protocol for machine-learning experiment tracking."""
