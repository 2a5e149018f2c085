# The relay: runs outbox tables as it is, and is the base of an image with your application.
# No directive for another build front end stands above: it would be fetched from a registry for every build.

ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY signalbus_core signalbus_core
COPY relay relay
COPY docs/runbook.md docs/runbook.md
COPY deploy/prometheus/signalbus.rules.yml deploy/prometheus/signalbus.rules.yml
RUN python3 -m venv /opt/signalbus \
    && /opt/signalbus/bin/pip wheel --quiet --no-cache-dir --wheel-dir /wheels '.[otel]' \
    && /opt/signalbus/bin/pip install --quiet --no-cache-dir --no-index --find-links /wheels 'signalbus[otel]'

# What the image is made of: docker build --target sbom --output dist .
FROM build AS inventory
RUN python3 -m venv /inventory \
    && /inventory/bin/pip install --quiet --no-cache-dir 'cyclonedx-bom==7.*' \
    && /inventory/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
        --output-file /signalbus-relay.cdx.json /opt/signalbus/bin/python

FROM scratch AS sbom
COPY --from=inventory /signalbus-relay.cdx.json /

FROM ${BASE_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="signalbus-relay" \
    org.opencontainers.image.description="Sends the signals of an outbox in PostgreSQL to RabbitMQ" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}"

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
