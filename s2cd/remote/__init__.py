"""Files that lie elsewhere: ``s3://BUCKET/KEY``, and ``https://…`` to be read.

- A `Remote` is a path by name only, so that what names files takes it as well; whatever would open
  it as a file of this machine is refused in one line.
- Pixels are read by GDAL, range by range; all else goes by fsspec (the extra ``[s3]``).
- Who asks is told by AWS's own environment variables, in each process and so in each worker:
  ``AWS_ACCESS_KEY_ID`` and its kin, ``AWS_ENDPOINT_URL``, ``AWS_NO_SIGN_REQUEST``. Nothing of it
  is ever part of a name, a message or what is sent to workers.
- A version of a file is its size with its ETag, or its time. GDAL keeps what it has read of a name,
  so what it keeps is dropped when another version is seen.
- An object store has no locks that a killed process gives back. What is written while a result is
  made bears a digest of what it depends on, so that two runs at once cannot mix; the result is
  uploaded whole, and on the condition that none is there where none is to be replaced.
"""

from s2cd.remote.path import Remote, path_of
from s2cd.remote.ranges import drop_kept, gdal_name, gdal_options, turn_of, unreadable
from s2cd.remote.server import opened, remove_all, state, told, upload, zarr_store

__all__ = [
    "Remote",
    "drop_kept",
    "gdal_name",
    "gdal_options",
    "opened",
    "path_of",
    "remove_all",
    "state",
    "told",
    "turn_of",
    "unreadable",
    "upload",
    "zarr_store",
]
