"""What else is made of a pair's map, by whoever asks for a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s2cd.detection.detect import Request


@dataclass(frozen=True)
class Extra:
    """A further result of each pair.

    Attributes:
        role: What the record calls it.
        file: Its name in the pair's folder.
        write: Writes it, once the map is there, from what was asked of the pair and to where. A
            function of a module, which another process can import.
    """

    role: str
    file: str
    write: Callable[[Request, Path], None]

    def path(self, request: Request) -> Path:
        """Where it is for a pair."""
        return request.change.with_name(self.file)
