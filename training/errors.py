"""What can go wrong while a model is trained.

    TrainingError
        DataError          folder → images: the data set can't be used as it is
        ConfigError        command → run: an option is unknown, out of range or contradicts a run that exists
        WeightsError       weights → network: they can't be had, can't be read, or are another network's
        StorageError       run → disk: a checkpoint or a bundle could not be written
        DeviceError        run → devices: one of several training processes is gone

The command line prints the text of these and exits with 1; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base class of every error that a user of the training scripts can cause and mend."""


class DataError(TrainingError):
    """The data set can't be used: no classes, an empty class, an unreadable image, splits that disagree."""


class ConfigError(TrainingError):
    """An option is unknown or out of range, or the run folder belongs to a run with other options."""


class WeightsError(TrainingError):
    """Weights can't be downloaded or read, have another hash than promised, or are those of another network."""


class StorageError(TrainingError):
    """A checkpoint or a bundle could not be written, most often because the disk is full."""


class DeviceError(TrainingError):
    """One of the processes that train on several devices was killed."""
