"""The parts of the OpenAPI description that FastAPI can't derive: bodies that are read by hand, and problems."""

from __future__ import annotations

from typing import Any

from service.api.problems import MEDIA_TYPE
from service.errors import catalogue

_BINARY = {"type": "string", "format": "binary"}

IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": "JPEG, PNG, WebP, GIF, BMP or TIFF.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {**_BINARY, "description": "The image file."}},
            }
        },
        **{
            f"image/{kind}": {"schema": _BINARY}
            for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff")
        },
        "application/octet-stream": {"schema": _BINARY},
    },
}

BATCH_BODY: dict[str, Any] = {
    "required": True,
    "description": "JPEG, PNG, WebP, GIF, BMP or TIFF files.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": _BINARY,
                        "description": "One part for each image.",
                    }
                },
            }
        }
    },
}

CACHE_STATUS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Cache-Status": {
                "description": "RFC 9211, where answers are kept (SERVICE_CACHE_MB): whether this one was.",
                "schema": {"type": "string"},
                "example": "resnet-service; hit",
            }
        }
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems with these statuses, each with its codes and an example."""
    entries: dict[int | str, dict[str, Any]] = {}
    for status in (*statuses, 500):
        codes = {
            code: (title, meaning)
            for code, (s, title, meaning) in catalogue().items()
            if s == status
        }
        entries[status] = {
            "description": "; ".join(
                f"`{code}`: {meaning}" for code, (_, meaning) in codes.items()
            ),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        code: {
                            "value": {
                                "type": f"urn:problem:{code}",
                                "title": title,
                                "status": status,
                                "detail": meaning,
                                "instance": "urn:request:0b9f4a1c",
                                "code": code,
                                "error": meaning,
                                "request_id": "0b9f4a1c",
                            }
                        }
                        for code, (title, meaning) in codes.items()
                    },
                }
            },
        }
    return entries
