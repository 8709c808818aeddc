"""What a Hugging Face token looks like, for detect-secrets (`nox -s secrets`)."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class HuggingFaceTokenDetector(RegexBasedDetector):
    """User access tokens, `hf_` and 34 letters, and organisation tokens, `api_org_`."""

    secret_type = "Hugging Face token"  # noqa: S105 - a kind of secret  # pragma: allowlist secret
    denylist = (re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{34,}\b"),)
