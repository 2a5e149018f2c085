# The relay: runs outbox tables as it is, and is the base of an image with your application.
# No directive for another build front end stands above: it would be fetched from a registry for every build.

ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# Of a company: its package index, and the certificate (PEM) of the authority that signs the index's own.
# A login for the index comes from a secret, which stays in no layer: --secret id=netrc,src=$HOME/.netrc
ARG PIP_INDEX_URL=""
ARG CA_CERTIFICATE=""
RUN if [ -n "$CA_CERTIFICATE" ]; then \
        { cat /etc/ssl/certs/ca-certificates.crt; echo "$CA_CERTIFICATE"; } > /etc/build-ca.pem \
        && printf '[global]\ncert = /etc/build-ca.pem\n' > /etc/pip.conf; \
    fi
WORKDIR /source
COPY deploy/image/requirements.txt deploy/image/build-requirements.txt deploy/image/
# What is installed is what the lock lists, file by file (make lock).
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    python3 -m venv /opt/signalbus && python3 -m venv /tools \
    && /tools/bin/pip install --quiet --no-cache-dir --require-hashes --requirement deploy/image/build-requirements.txt \
    && /opt/signalbus/bin/pip install --quiet --no-cache-dir --require-hashes --requirement deploy/image/requirements.txt
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY signalbus_core signalbus_core
COPY relay relay
COPY docs/runbook.md docs/runbook.md
COPY deploy/prometheus/signalbus.rules.yml deploy/prometheus/signalbus.rules.yml
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/signalbus/bin/pip install --quiet --no-cache-dir --no-index --no-deps /wheels/*.whl

# What the image is made of: docker build --target sbom --output dist .
FROM build AS inventory
ARG PIP_INDEX_URL=""
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    /tools/bin/pip install --quiet --no-cache-dir 'cyclonedx-bom==7.*' \
    && /tools/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
        --output-file /signalbus-relay.cdx.json /opt/signalbus/bin/python

FROM scratch AS sbom
COPY --from=inventory /signalbus-relay.cdx.json /

FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="signalbus-relay" \
    org.opencontainers.image.description="Sends the signals of an outbox in PostgreSQL to RabbitMQ" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"

# The packages belong to the user of the image, so that an image built on it can install more without becoming root.
# A read-only root file system keeps them as they are while the relay runs.
COPY --from=build --chown=10001:10001 /opt/signalbus /opt/signalbus
COPY deploy/image/healthcheck.py /opt/healthcheck.py

ENV PATH=/opt/signalbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SIGNALBUS_RELAY_HTTP=0.0.0.0:9109
WORKDIR /app
USER 10001:10001
EXPOSE 9109
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["python3", "-S", "/opt/healthcheck.py"]
ENTRYPOINT ["signalbus-relay"]
CMD ["run"]
