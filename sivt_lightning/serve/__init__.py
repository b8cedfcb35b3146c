"""A trained model behind a port."""
