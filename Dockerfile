# The image for who builds by Docker or Podman:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v0.1.0 .
#
# `make images` builds the same without either, and is what releases are made by.
# The programs come out the same, byte for byte, with the same version of Go; the
# layers around them do not, as each tool packs them in its own way.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api ./api
COPY cmd ./cmd
COPY internal ./internal
ARG TARGETARCH
ARG VERSION=devel
RUN CGO_ENABLED=0 GOOS=linux GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -buildid= -X github.com/fairlead-lb/fairlead/internal/version.version=$VERSION" \
    -o /out/ ./cmd/controller ./cmd/speaker

# Nothing but the programs: they need no shell, no libraries, and no certificates,
# as the API server's authority comes with the service account.
FROM scratch
ARG VERSION=devel
LABEL org.opencontainers.image.title="Fairlead" \
      org.opencontainers.image.description="Addresses for Services of type LoadBalancer on bare metal" \
      org.opencontainers.image.source="https://github.com/fairlead-lb/fairlead" \
      org.opencontainers.image.documentation="https://github.com/fairlead-lb/fairlead/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build --chmod=0555 /out/controller /out/speaker /
WORKDIR /
USER 65532:65532
