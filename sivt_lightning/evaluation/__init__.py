"""What a model is worth on labelled photos: figures, verdicts, tables, pages, comparisons."""
