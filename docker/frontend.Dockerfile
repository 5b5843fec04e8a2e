# The page: docker build -f docker/frontend.Dockerfile .   (arguments as in service.Dockerfile)
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
RUN --mount=type=cache,target=/root/.cache/uv install.sh frontend,otel
COPY frontend frontend
COPY .streamlit .streamlit
RUN python -m compileall -q --invalidation-mode unchecked-hash frontend

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY --from=build /app/.streamlit .streamlit
COPY --from=build /app/frontend frontend
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_PORT=8501
USER 10001:10001
EXPOSE 8501
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"STREAMLIT_SERVER_PORT\"]}/_stcore/health', timeout=3)"]
CMD ["python", "-m", "streamlit", "run", "frontend/app.py"]
