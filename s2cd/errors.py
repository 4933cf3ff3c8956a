"""The errors that a user can act on: one line that says what, where, and what to do."""


class S2cdError(Exception):
    """Something that the user can mend; the message is one line."""


class ResultExistsError(S2cdError):
    """A result is there already and was not to be replaced."""


class UnwritableError(S2cdError):
    """A result could not be written: with more space, the same command succeeds."""


class LostError(S2cdError):
    """Those who computed were lost: with others, the same command continues."""


class NoOverlapError(S2cdError):
    """Two rasters, or a raster and an area, do not meet on the ground."""


class SourceError(S2cdError):
    """A server could not be reached, or what it sent cannot be kept."""


class NotThereError(SourceError):
    """A server says that what was asked for does not exist there."""


class SpoiledError(SourceError):
    """A server answers, again and again, with something other than what it should be."""


class RefusedError(SourceError):
    """A server refuses who asks: credentials are missing, wrong, or not enough."""


class UsageError(S2cdError):
    """The command's words contradict each other; the command line exits with 2."""
