"""Features of a frozen backbone, computed once and kept: where (`store`), for what (`key`), and how (`fill`)."""
