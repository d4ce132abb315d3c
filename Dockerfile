# Image of a node: the binary alone, without a shell, as a user without rights.
#
#   docker build -t hookyard .
#   docker run -p 8080:8080 -v hookyard:/var/lib/hookyard -e HOOKYARD_ADMIN__TOKEN=… hookyard

FROM rust:1-slim-bookworm AS build
# The TLS library needs a C compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --locked --profile dist --bin hookyard && cp target/dist/hookyard /hookyard
RUN mkdir -m 700 /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /hookyard /usr/local/bin/hookyard
# 65532 is the user `nonroot` of the image.
COPY --from=build --chown=65532:65532 /data /var/lib/hookyard
ENV HOOKYARD_SERVER__BIND=0.0.0.0:8080 \
    HOOKYARD_STORE__PATH=/var/lib/hookyard \
    HOOKYARD_TELEMETRY__LOG=json
USER 65532:65532
VOLUME /var/lib/hookyard
EXPOSE 8080
# A start with a large store takes longer than one check; an unready node recovers by itself.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["hookyard", "health"]
ENTRYPOINT ["hookyard"]
CMD ["serve"]
