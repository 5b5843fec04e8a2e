"""What FastAPI cannot derive for the OpenAPI description: bodies read by hand, and problems."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from bundle.imaging.formats import NAMES
from service.api.problems import MEDIA_TYPE, PROBLEMS, describe

_BINARY = {"type": "string", "format": "binary"}
_BASE64 = "^(data:[^,]*;base64,)?([A-Za-z0-9+/]{4})+([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": f"{NAMES}. A raw body may have any image content type, or none.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {**_BINARY, "description": "The image file."}},
                "additionalProperties": False,
            }
        },
        # Generators of clients know this one and no image/..., which is accepted too.
        "application/octet-stream": {"schema": _BINARY},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {
                        "type": "string",
                        "contentEncoding": "base64",
                        "pattern": _BASE64,
                        "description": "The image file in base64, or a data: URL with it.",
                    }
                },
                "additionalProperties": False,
            }
        },
    },
}

BATCH_BODY: dict[str, Any] = {
    "required": True,
    "description": f"Files: {NAMES}.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": _BINARY,
                        "description": "One part per image.",
                    }
                },
                "additionalProperties": False,
            }
        }
    },
}

SUCCESS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Cache-Status": {
                "description": "RFC 9211; only with a response cache (SERVICE_CACHE_MB).",
                "schema": {"type": "string"},
                "example": "resnet-service; hit",
            },
            "Server-Timing": {
                "description": "The `timing_ms` of the body.",
                "schema": {"type": "string"},
                "example": "decode;dur=3.5, queue;dur=0.5, inference;dur=10.2, total;dur=14.8",
            },
        }
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the problems with these statuses and 500, each with an example."""
    return {status: _problems(status) for status in (*statuses, 500)}


def _problems(status: int) -> dict[str, Any]:
    meanings = {
        error: cleandoc(error.__doc__ or "")
        for error, kind in PROBLEMS.items()
        if kind.status == status
    }
    examples = {
        error.code: {"value": describe(error, meaning, "0b9f4a1c").model_dump()}
        for error, meaning in meanings.items()
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "; ".join(f"`{error.code}`: {text}" for error, text in meanings.items()),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
