"""A trained model in use: the file that holds it, its thresholds, what is said of an image."""
