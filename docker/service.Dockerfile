# The HTTP service: docker build -f docker/service.Dockerfile .
#
#   BASE_IMAGE   any image with Python 3.11 to 3.13 and glibc
#   GPU          "yes" includes CUDA; "no" builds the smallest image that runs on a CPU
#   PIP_...      a package index other than the default one, at build time
ARG BASE_IMAGE=python:3.11-slim-bookworm

# The dependencies alone, so that a change of the ruff settings does not reinstall everything.
FROM ${BASE_IMAGE} AS project
COPY pyproject.toml /all.toml
RUN sed '/^\[tool\./,$d' /all.toml > /pyproject.toml

FROM ${BASE_IMAGE} AS build
WORKDIR /app
ARG GPU=no
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip pip install -c requirements.lock uv
COPY --from=project /pyproject.toml ./
COPY docker/cpu-excludes.txt scripts/environment.py ./
COPY docker/install.sh /usr/local/bin/
RUN --mount=type=cache,target=/root/.cache/uv install.sh service,otel,torch,tensorflow,openvino,signing
COPY bundle bundle
COPY service service
RUN python -m compileall -q --invalidation-mode unchecked-hash bundle service

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY --from=build /app/bundle bundle
COPY --from=build /app/service service
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SERVICE_HOST=0.0.0.0 \
    SERVICE_PORT=8000 \
    SERVICE_MODELS_DIR=/models
USER 10001:10001
EXPOSE 8000
# Ready, not merely alive: dependent services wait until the models are loaded and tested.
HEALTHCHECK --interval=5s --timeout=4s --start-period=180s --retries=3 \
    CMD ["python", "-m", "service.network.health"]
CMD ["python", "-m", "service"]
