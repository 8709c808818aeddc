"""No token, key or password in a tracked file: detect-secrets over what git knows.

Run it as `nox -s secrets`.  Of hexadecimal strings only pinned commits and content hashes are
here, so they pass, as models' names do.  A made-up token in a test says so:
`# pragma: allowlist secret`.  Two processes take every other file each.
"""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

from detect_secrets.pre_commit_hook import main as scan

PLUGINS = ("--disable-plugin", "HexHighEntropyString", "--plugin", "ci/checks/hf_token.py")
MODELS = (
    "--exclude-secrets",
    r"HuggingFaceTB/[\w.-]+",
)  # a name of letters of both cases, digits, /


def main() -> int:
    """Scan the tracked files; the exit code is 0 when nothing was found."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    files = listed.stdout.strip("\0").split("\0")
    with ProcessPoolExecutor(2) as pool:
        found = any(pool.map(scan, ([*PLUGINS, *MODELS, *files[n::2]] for n in (0, 1))))
    print(f"{len(files)} files looked through, {'see above' if found else 'no secret found'}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
