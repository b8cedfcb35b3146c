"""A trained model as one file for other runtimes."""
