# One image for every process of the shop: the command says which of them it is.
#   docker build -t proxyless .
#   docker run --rm proxyless python -m services.orders --help

FROM python:3.13-slim AS build
WORKDIR /source
RUN ["python", "-m", "venv", "/app"]
# The packages first: they change less often than the code.
COPY requirements.lock ./
RUN ["/app/bin/pip", "install", "--no-cache-dir", "--require-hashes", "-r", "requirements.lock"]
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY discovery discovery
COPY mesh mesh
COPY gateway gateway
COPY services services
COPY protos protos
RUN ["/app/bin/pip", "install", "--no-cache-dir", "--no-deps", "--no-build-isolation", "."]

FROM python:3.13-slim
LABEL org.opencontainers.image.title="proxyless" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /state --create-home mesh
COPY --from=build /app /app
ENV PATH="/app/bin:$PATH" \
    PYTHONUNBUFFERED="1" \
    PYTHONDONTWRITEBYTECODE="1" \
    MALLOC_ARENA_MAX="2"
USER mesh
WORKDIR /state
VOLUME ["/state"]
EXPOSE 50051 50052 50053 50054 8080
# What a service answers on the port of orders; docker-compose.yml gives each its own.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-m", "mesh.server.probe", "127.0.0.1:50051"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "services.orders", "--host", "0.0.0.0", "--port", "50051"]
