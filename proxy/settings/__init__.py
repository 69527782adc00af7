"""Settings: model, loading with positions, upstream URLs."""
