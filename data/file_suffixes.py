"""Which files are images or videos, by the ends of their names."""

from __future__ import annotations

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = HEIF_SUFFIXES | frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg"}
    | {".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
UNREADABLE_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcm", ".dds", ".dng", ".erf", ".exr", ".hdr"}
    | {".ico", ".iiq", ".jxl", ".jxr", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pam", ".pcx"}
    | {".pef", ".pfm", ".psb", ".psd", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srw", ".svg"}
    | {".tga", ".xcf"}
)
# Suffixes that a folder is searched for; some of these files are then skipped with a reason.
LISTED_SUFFIXES = IMAGE_SUFFIXES | UNREADABLE_SUFFIXES
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
# What lies beside images in most data sets, and nobody expects to be looked at.
COMPANION_SUFFIXES = frozenset(
    {".aae", ".cache", ".csv", ".db", ".ini", ".json", ".jsonl", ".log", ".md", ".md5", ".npy"}
    | {".npz", ".py", ".sha256", ".streams", ".txt", ".xml", ".xmp", ".yaml", ".yml"}
)
