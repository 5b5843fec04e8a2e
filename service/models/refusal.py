"""Why a model is refused, and what to do about it, in words for clients."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from bundle.errors import RuntimeUnavailable, SignersInvalid, WorkerDied, without_folders
from service.errors import InternalError, ModelRefused, SignatureRefused

LOOKS = "the service looks for changes every SERVICE_WATCH_S seconds and on SIGHUP."
# By the code of a refusal; the cause of the others is the bundle.
REMEDIES = {
    WorkerDied.code: "Give the model more time (SERVICE_LOAD_TIMEOUT_S) or memory, "
    "or set SERVICE_RUNTIME to source, and restart the service.",
    InternalError.code: "Report it, and restart the service.",
    SignatureRefused.code: f"Replace the bundle, or add who signed it to SERVICE_SIGNERS; {LOOKS}",
    SignersInvalid.code: f"Fix what SERVICE_SIGNERS names; {LOOKS}",
    RuntimeUnavailable.code: "Fix that, or set SERVICE_RUNTIME and SERVICE_DEVICE to what "
    "the bundle and this machine have, and restart the service.",
}
UNREADABLE = os.strerror(errno.EACCES)


def for_clients(text: str, models_dir: Path) -> str:
    """The text without folders of this machine; the log has them.

    Args:
        text: may name files.
        models_dir: the model repository; what lies in it is named from there.
    """
    for root in {str(models_dir.absolute()), os.path.realpath(models_dir)}:
        text = re.sub(rf"(?<![\w.:/]){re.escape(root)}/", "", text)
        text = re.sub(rf"(?<![\w.:/]){re.escape(root)}(?!\w)", "the model repository", text)
    return without_folders(text)


def refusal(model: str, reason: str, code: str | None = None) -> ModelRefused:
    """The error for a request to a refused model.

    Args:
        model: its name, and its version if known.
        reason: what is wrong with it.
        code: of the error that it was refused for.
    """
    bundle = "Let the service's user read it" if UNREADABLE in reason else "Replace the bundle"
    remedy = REMEDIES.get(code or "", f"{bundle}; {LOOKS}")
    error = SignatureRefused if code == SignatureRefused.code else ModelRefused
    # Most reasons end with what was received, and without a full stop.
    return error(
        f"The model {model} is refused{f' ({code})' if code else ''}: {reason.removesuffix('.')}. "
        f"{remedy}"
    )
