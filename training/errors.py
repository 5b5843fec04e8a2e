"""The errors of training.

    TrainingError
        DataError          folder → images: the data set can't be used as it is
        ConfigError        command → run: an option is unknown, out of range, or not the run's
        WeightsError       weights → network: not available, not readable, or another network's
        StorageError       run → disk: a checkpoint or a bundle could not be written
        DeviceError        run → devices: one of several training processes died

The command line prints their text and exits with 1; anything else is a defect and keeps its
traceback.
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base class of every error that a user of the training commands can cause and fix."""


class DataError(TrainingError):
    """The data set can't be used, for example because of an empty class or an unreadable image."""


class ConfigError(TrainingError):
    """An option is unknown or out of range, or the run folder has a run with other options."""


class WeightsError(TrainingError):
    """Weights can't be downloaded or read, have a wrong hash, or are those of another network."""


class StorageError(TrainingError):
    """A checkpoint or a bundle could not be written, most often because the disk is full."""


class DeviceError(TrainingError):
    """One of the processes that train on several devices was killed."""
