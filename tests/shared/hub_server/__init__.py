"""A hub on 127.0.0.1 that speaks what `huggingface_hub` asks: a contract server for tests.

It was written from the client's requests (huggingface_hub 1.33 and 2.4): it shows that our code
and the client agree with that contract, not that huggingface.co keeps to it.  It stores real bytes
and checks every hash it is given, so a test can read back what arrived.

    state       repositories, commits, contents, and the levers that a test pulls
    repositories  who am I, create, look, branch, tag, commit, download
    lfs         contents by LFS, whole or in parts
    xet         contents by Xet: tokens for a store in a folder, and what arrived in it
    server      HTTP, and the table of routes

By hand: `cd tests/shared && python -m hub_server`.
"""

from .server import serve
from .state import Blob, Failure, Hub, RefusalError, Repo

__all__ = ["Blob", "Failure", "Hub", "RefusalError", "Repo", "serve"]
