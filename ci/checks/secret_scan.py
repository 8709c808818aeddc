"""No token, key or password in a tracked file: detect-secrets over what git knows.

Run it as `nox -s secrets`.  Of hexadecimal strings only pinned commits and content hashes are
here, so they pass, as models' names do.  A made-up token in a test says so:
`# pragma: allowlist secret`.
"""

import subprocess
import sys

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
    found = scan([*PLUGINS, *MODELS, *files])
    print(f"{len(files)} files looked through, {'see above' if found else 'no secret found'}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
