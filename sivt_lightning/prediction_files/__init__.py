"""The files of a prediction: table, pictures, page, and those of an earlier run."""
