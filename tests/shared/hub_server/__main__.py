"""Run the hub by hand, to see what publishing does: tokens are printed, requests shown."""

import tempfile
import threading

from .server import serve

WRITE, READ = "hf_" + "w" * 30, "hf_" + "r" * 30


def main() -> None:
    with serve({WRITE: ("alice", "write"), READ: ("alice", "read")}, port=8999) as hub:
        hub.cas_url = f"local://{tempfile.mkdtemp(prefix='hub-xet-')}"
        hub.before = lambda request: print(request.method, request.path, len(request.body))
        print(f"HF_ENDPOINT={hub.url} HF_TOKEN={WRITE}  (one that may only read: {READ})")
        threading.Event().wait()


if __name__ == "__main__":
    main()
