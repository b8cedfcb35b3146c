"""The method in pure torch: frozen backbone, self-induction reconstructor, detector."""
