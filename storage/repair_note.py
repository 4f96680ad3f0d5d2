"""What is being repaired, noted beside the segments until it is on disk.

A repair writes over bytes that lie far below what opening a log writes again. If the sync of such a write fails, the
process ends; the next one reads good bytes, which are in the page cache alone, and no sync ever puts them on disk
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020, section 3.3). So where they lie is
noted before they are written, and whoever opens the log writes them once more.
"""

from __future__ import annotations

from typing import Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.segment import LOG_SUFFIX

REPAIR_NAME: Final = "repair"
KIND: Final = "repair"
VERSION: Final = 1


class RepairNote:
    """The note in the directory of one log. All positions and sizes are in bytes."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._path = f"{directory}/{REPAIR_NAME}"

    def begin(self, stem: str, position: int, size: int) -> None:
        """Note that bytes of that segment are about to be written; on disk when this returns. Raises OSError."""
        value = {"position_bytes": position, "segment": stem, "size_bytes": size}
        self._files.replace(self._path, encode(KIND, VERSION, value))

    def end(self) -> None:
        """Forget the note: those bytes are on disk. A crash may undo this; it does no harm. Raises OSError."""
        self._files.remove(self._path)

    def finish(self) -> None:
        """Write once more what is noted, as it is read, and forget the note. Nothing if nothing is noted.

        What a torn write left damaged stays as it is, and so does everything if the note cannot be read: damage is
        found when it is read, and repaired then. Raises OSError.
        """
        try:
            content = self._files.read_all(self._path)
        except FileNotFoundError:
            return
        try:
            noted = decode(KIND, VERSION, content, self._path)
            path = f"{self._directory}/{noted['segment']}{LOG_SUFFIX}"
            position, size = int(noted["position_bytes"]), int(noted["size_bytes"])
        except (DamagedFileError, KeyError, TypeError, ValueError):
            pass
        else:
            self._write_again(path, position, size)
        self.end()

    def _write_again(self, path: str, position: int, size: int) -> None:
        if not self._files.exists(path):
            return  # retention or a truncation has removed it since
        file = self._files.open(path)
        try:
            there = file.read(position, size)
            if there:
                file.overwrite(position, [there])
                file.sync()
        finally:
            file.close()
