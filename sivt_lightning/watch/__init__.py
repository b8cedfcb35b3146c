"""A folder judged as it fills."""
