"""Golden photos: what a tested model says of them, and whether the deployed one says the same."""
