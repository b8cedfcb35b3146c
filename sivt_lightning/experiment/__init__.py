"""Tables of settings, and the trainings that they ask for."""
