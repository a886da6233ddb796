"""What the readers of damaged images raise, before what is wrong has a better name."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, MemoryError),
    *(LookupError, ArithmeticError, AttributeError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
