"""The openvino package, imported so that it tells nobody."""

from __future__ import annotations

import sys
from typing import Any

from utils.errors import MissingPackageError

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The package.

    Its import sends Intel a message about its use, through a package of its own that it does
    without where that is missing. So it is missing here, unless somebody imported it before.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # how an import is barred
    try:
        import openvino  # an extra
    except ImportError:
        raise MissingPackageError(
            "OpenVINO files need openvino: pip install -r requirements-deploy.txt"
        ) from None
    return openvino
