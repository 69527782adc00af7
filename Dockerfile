# Backstay in a container: non-root, no shell needed, works with a read-only root file system.
#
#   docker build -t backstay .
#   docker run -p 6432:6432 -e BACKSTAY_POSTGRES_UPSTREAM=postgresql://app:secret@db:5432/app backstay
#
# With a file: mount it as /etc/backstay/backstay.yaml (read-only is fine); then the file says where to listen.

ARG PYTHON=3.13
ARG DEBIAN=bookworm

# The full image has the C compiler that turns the data path into machine code (setup.py).
FROM python:${PYTHON}-${DEBIAN} AS build
WORKDIR /src
# Only what the wheel is made of, so that a change of the tests or docs builds nothing again.
COPY pyproject.toml setup.py README.md LICENSE ./
COPY proxy ./proxy
# The environment gets no pip of its own: nothing installs anything at run time. Bytecode is compiled
# here, once, because the root file system may be read-only later.
RUN python -m venv --without-pip /opt/backstay \
    && BACKSTAY_COMPILE=1 pip --python /opt/backstay/bin/python install --no-cache-dir --disable-pip-version-check --compile .

FROM python:${PYTHON}-slim-${DEBIAN}
LABEL org.opencontainers.image.title="backstay" \
      org.opencontainers.image.description="Connection-resilience proxy for PostgreSQL and Redis" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/backstay /opt/backstay
# In a container loopback is the container alone: without a settings file, listen on every interface.
ENV PATH=/opt/backstay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BACKSTAY_LISTEN_HOST=*
# A number, so that Kubernetes can see that it is not root. No such user need exist.
USER 65532:65532
WORKDIR /
EXPOSE 6432 6380 9127
# Drain: sessions end at their next boundary, drain_s (30 s) at most. Give `docker stop -t 40`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9127/healthz', timeout=2)"]
# Signals reach Backstay itself (exec form): it is process 1, and reaps what it starts. No init needed.
ENTRYPOINT ["backstay"]
CMD ["run"]
