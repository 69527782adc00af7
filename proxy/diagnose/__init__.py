"""`backstay diagnose`: connect as the application would, measure, and say what to change."""
