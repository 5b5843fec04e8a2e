"""How much a request, an image and a queue may take."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bundle.imaging.decode import MAX_PIXELS, ImageLimits
from service.options.types import Positive, Seconds


class LimitOptions(BaseModel):
    """How much a request, an image and a queue may take."""

    max_image_bytes: Positive = Field(
        default=20_000_000, description="Maximum size of an image file, in bytes."
    )
    max_image_pixels: Positive = Field(
        default=50_000_000,
        le=MAX_PIXELS,
        description="Maximum pixels of an image (width x height).",
    )
    max_image_side: Positive = Field(
        default=16_384, description="Maximum side of an image, in pixels."
    )
    max_aspect_ratio: float = Field(
        default=50.0, ge=1, allow_inf_nan=False, description="Maximum aspect ratio of an image."
    )
    max_jpeg_scans: Positive = Field(
        default=100, description="Maximum scans of a progressive JPEG."
    )
    decode_timeout_s: Seconds = Field(
        default=5,
        description="Decode timeout per image in a decoder, in seconds; the decoder is killed.",
    )
    decode_workers: Positive | None = Field(
        default=None,
        description="Most decoder processes at once; they start when needed. Unset: one per core.",
    )
    decode_memory_mb: int = Field(
        default=1024,
        ge=256,
        description="Memory limit of a decoder, on top of what it uses at start, in MB.",
    )
    inference_timeout_s: Seconds = Field(
        default=30, description="Inference timeout per image, queueing included, in seconds."
    )
    max_batch: Positive = Field(
        default=32,
        description="Maximum batch size; the bundle's measured optimum applies if smaller.",
    )
    queue_size: Positive = Field(
        default=256, description="Queue length per model; further requests get 429."
    )
    max_files: Positive = Field(
        default=64,
        description="Maximum files per /predict/batch request, capped at the queue length.",
    )
    max_request_bytes: Positive = Field(
        default=100_000_000, description="Maximum body size of /predict/batch, in bytes."
    )
    cache_mb: int = Field(
        default=0,
        ge=0,
        description="Memory of the response cache, in MB; 0: no cache.",
    )

    @property
    def batch_files(self) -> int:
        """Maximum files per batch request: more than the queue length would never be admitted."""
        return min(self.max_files, self.queue_size)

    @property
    def image_limits(self) -> ImageLimits:
        """The limits checked before an image is decoded."""
        return ImageLimits(
            max_bytes=self.max_image_bytes,
            max_pixels=self.max_image_pixels,
            max_side=self.max_image_side,
            max_aspect_ratio=self.max_aspect_ratio,
            max_jpeg_scans=self.max_jpeg_scans,
        )
