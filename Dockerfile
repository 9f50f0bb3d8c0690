# Two images from one file:
#   docker build --target runtime  --tag model-runtime .
#   docker build --target operator --tag model-runtime-operator .
# `make images` does it with buildah and pushes them to the development cluster. docs/develop-runtimes.md tells how to build upon them.
ARG BASE_IMAGE=docker.io/library/python:3.12-slim

# --- What builds: never part of an image -------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS builder
# Set by those behind a proxy or a registry of their own.
ARG SSL_CERT_FILE
ARG PIP_CERT
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_VERSION=0.13.9
RUN python3 -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"
ENV PATH=/uv/bin:$PATH \
    UV_PROJECT_ENVIRONMENT=/opt/model-runtime \
    UV_PYTHON=python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    PYTHONHASHSEED=0 \
    SOURCE_DATE_EPOCH=315532800
# Bytecode is checked neither by time nor by source: the files are read-only, and the images' times are all the same.
WORKDIR /source
COPY pyproject.toml uv.lock ./

# dumb-init is process 1: it passes signals on long before Python could, and reaps. It may be run and not be read, so that the
# kernel hides its environment, which is the server's, from the model.
FROM builder AS runtime-dependencies
ARG SSL_CERT_FILE
ARG UV_DEFAULT_INDEX
RUN --mount=type=cache,target=/root/.cache/uv uv sync --quiet --locked --no-default-groups --group image --no-install-project --extra runtime --extra tracing \
    && chmod 0111 /opt/model-runtime/bin/dumb-init

FROM builder AS operator-dependencies
ARG SSL_CERT_FILE
ARG UV_DEFAULT_INDEX
RUN --mount=type=cache,target=/root/.cache/uv uv sync --quiet --locked --no-default-groups --group image --no-install-project --extra operator \
    && chmod 0111 /opt/model-runtime/bin/dumb-init

# Our own packages alone, laid out as they lie in the environment: a change of them changes one small layer. uv_cache.json is uv's note
# of when it was built, and would make each build another.
FROM runtime-dependencies AS package
ARG SSL_CERT_FILE
ARG UV_DEFAULT_INDEX
COPY README.md LICENSE CHANGELOG.md ./
COPY runtime runtime
COPY operator operator
RUN uv build --quiet --no-cache --wheel --out-dir /wheels \
    && uv pip install --quiet --no-cache --python /opt/model-runtime/bin/python --no-deps --no-index --find-links /wheels --prefix /package model-runtime \
    && find /package -name uv_cache.json -delete \
    && find /package -name RECORD -exec sed -i '/uv_cache.json/d' {} +

# --- What both images are -----------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS image
ARG VERSION=0.0.0
LABEL org.opencontainers.image.vendor="ModelRuntime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Any numeric user works, with a read-only root and nothing but /tmp to write to.
ENV PATH=/opt/model-runtime/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /

FROM image AS operator
LABEL org.opencontainers.image.title="model-runtime-operator" \
      org.opencontainers.image.description="Turns ModelRuntime objects into serving Deployments, and says truthfully how they are."
COPY --from=operator-dependencies /opt/model-runtime /opt/model-runtime
COPY --from=package /package /opt/model-runtime
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/opt/model-runtime/bin/dumb-init", "--single-child", "--", "/opt/model-runtime/bin/python", "-m", "model_runtime_operator"]

# The last target is the default one.
FROM image AS runtime
LABEL org.opencontainers.image.title="model-runtime" \
      org.opencontainers.image.description="Serves the model below /model over gRPC, for every era of Hydrosphere." \
      DEPLOYMENT_TYPE="APP"
COPY --from=runtime-dependencies /opt/model-runtime /opt/model-runtime
# An install-command of Hydrosphere's (`pip install …`) runs as this image's user, and belongs to the model, never to the runtime:
# pip's target is where the model's libraries are looked for.
RUN mkdir -m 0777 /model /model/files /model/lib
COPY --from=package /package /opt/model-runtime
ENV APP_PORT=9090 \
    MODEL_DIR=/model \
    PIP_TARGET=/model/lib \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
EXPOSE 9090
USER 65532:65532
# Kubernetes ignores it and asks over gRPC itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/model-runtime/bin/python", "-m", "model_runtime.server.healthcheck"]
ENTRYPOINT ["/opt/model-runtime/bin/dumb-init", "--single-child", "--", "/opt/model-runtime/bin/model-runtime"]
CMD ["serve"]
