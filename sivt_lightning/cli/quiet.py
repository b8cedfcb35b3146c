"""What other packages say that is no news to anybody here."""

import logging
import warnings


def quiet_lightning() -> None:
    """Silences what Lightning says to every user of every project; its warnings about this one stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*AMP with fp16 is not supported on CPU",  # an error of ours says so
        ".*LeafSpec.*is deprecated",  # Lightning 2.6 against torch >= 2.10, nothing of ours
        ".*smaller than the logging interval",  # small data sets; the figures of each epoch are logged all the same
        ".*module\\(s\\) in eval mode at the start of training",  # the frozen backbone is meant to be
        ".*ended before the epoch ended and your dataloader is not resumable",  # it goes by Lightning's own count
        ".*Total length of `DataLoader` across ranks is zero",  # an earlier prediction has done all images
        ".*callbacks used to create the checkpoint need to be provided",  # a test needs none of a training's
        ".*does not have many workers",  # the data module chooses them from the CPUs there are
        ".*The dirpath has changed",  # BestCheckpoint copes with that, and last.ckpt keeps no score
        ".*Experiment logs directory .* exists and is not empty",  # AppendingCSVLogger deletes nothing
        ".*Checkpoint directory .* exists and is not empty",  # a continued run goes on in its own directory
    ):
        warnings.filterwarnings("ignore", message=message)
