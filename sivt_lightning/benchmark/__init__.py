"""What a model costs: counts, times and memory."""
