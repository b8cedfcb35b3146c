"""How a model is trained: module, optimizer, run folder, checkpoints, the callbacks of `fit`."""
