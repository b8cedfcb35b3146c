"""Self-induction vision transformer for anomaly detection over many product categories."""
