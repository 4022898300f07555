# The edge, and the control plane, on Debian 13 with a libvips of its own:  docker build -t calotype .
#
# Debian 13 has libvips 8.16; this builds 8.18, with everything that an edge reads and writes and nothing else. The codecs are
# Debian's, so that their security updates come with a new build of the image. Nothing under the GPL or AGPL is in it that the
# edge runs: no x265 (HEIC is read, not written), no libimagequant (quantizr writes palettes), no poppler, no ImageMagick.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-trixie AS rust


FROM debian:trixie-slim AS libvips

# Both archives are pinned by what is in them. Debian's pool keeps the newest version only; its snapshots keep all.
ARG VIPS_VERSION=8.18.7
ARG VIPS_SHA256=5024b4b36f20e722c267f4a9bfbdbbafb3b37d48d7125cf425c55bbf76cc9286
ARG VIPS_POOL=http://deb.debian.org/debian/pool/main/v/vips
ARG VIPS_SNAPSHOT=http://snapshot.debian.org/archive/debian/20261125T000000Z/pool/main/v/vips
# The newest one whose C header the cbindgen of Debian 13 can write.
ARG QUANTIZR_VERSION=1.4.2
ARG QUANTIZR_SHA256=84e2f78ed4e6c7c5cf8f080e8f4683796749934204c4c25c0a222518ba178d39
ARG QUANTIZR_URL=https://static.crates.io/crates/quantizr/quantizr-${QUANTIZR_VERSION}.crate

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# hadolint ignore=DL3008 # security updates are wanted; what decides the pixels is pinned above
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential ca-certificates cargo cargo-c curl meson ninja-build pkg-config \
      libcgif-dev libexif-dev libexpat1-dev libglib2.0-dev libheif-dev libhwy-dev libjpeg62-turbo-dev libjxl-dev \
      liblcms2-dev librsvg2-dev libspng-dev libtiff-dev libwebp-dev zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*

# Palettes, which GIF and small PNGs need.
WORKDIR /src/quantizr
RUN curl -fsSL --retry 3 -o /src/quantizr.crate "$QUANTIZR_URL" \
 && echo "$QUANTIZR_SHA256  /src/quantizr.crate" | sha256sum -c - \
 && tar -xzf /src/quantizr.crate --strip-components=1 \
 && cargo cinstall --release --features capi --prefix=/usr/local --libdir=/usr/local/lib --library-type=cdylib \
 && rm -rf target && ldconfig

WORKDIR /src/vips
RUN for place in "$VIPS_POOL" "$VIPS_SNAPSHOT"; do \
      if curl -fsSL --retry 3 -o /src/vips.tar.gz "$place/vips_$VIPS_VERSION.orig.tar.gz"; then break; fi; \
    done \
 && echo "$VIPS_SHA256  /src/vips.tar.gz" | sha256sum -c - \
 && tar -xzf /src/vips.tar.gz --strip-components=1 \
 && meson setup build --prefix=/usr/local --libdir=lib --buildtype=release --auto-features=disabled \
      -Ddeprecated=false -Dexamples=false -Dcplusplus=false \
      -Dcgif=enabled -Dexif=enabled -Dheif=enabled -Dhighway=enabled -Djpeg=enabled -Djpeg-xl=enabled -Dlcms=enabled \
      -Dquantizr=enabled -Drsvg=enabled -Dspng=enabled -Dtiff=enabled -Dwebp=enabled -Dzlib=enabled \
      -Dnsgif=true -Dppm=false -Danalyze=false -Dradiance=false \
 && ninja -C build install \
 && rm -rf build && ldconfig


FROM libvips AS build

# hadolint ignore=DL3008 # tools of the build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake git \
 && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src/calotype
COPY . .
RUN cargo build --release --locked -p proxy -p control-plane -p cli \
 && install -D -t /out target/release/proxy target/release/control-plane target/release/calotype \
 && rm -rf target


FROM debian:trixie-slim

# hadolint ignore=DL3008 # security updates are wanted
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates fonts-dejavu-core \
      libcgif0 libexif12 libexpat1 libglib2.0-0t64 libheif1 libheif-plugin-aomdec libheif-plugin-aomenc libheif-plugin-dav1d \
      libheif-plugin-libde265 libhwy1t64 libjpeg62-turbo libjxl0.11 liblcms2-2 librsvg2-2 libspng0 libtiff6 libwebp7 \
      libwebpdemux2 libwebpmux3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin calotype \
 && install -d -o calotype -g calotype -m 0700 /var/cache/calotype /var/lib/calotype \
 && install -d -m 0755 /etc/calotype

COPY --from=libvips /usr/local/lib/ /usr/local/lib/
COPY --from=build /out/ /usr/local/bin/
# The last thing built: an image whose libraries are not all there is no image.
RUN ldconfig && proxy --version && control-plane --version && calotype --version

# The environment wins over a settings file, so --check-health finds the admin port whatever else is set.
ENV CALOTYPE_PROXY__LISTEN=0.0.0.0:8080 \
    CALOTYPE_PROXY__ADMIN_LISTEN=0.0.0.0:9180 \
    CALOTYPE_PROXY__POLICY_FILE=/etc/calotype/policy.toml \
    CALOTYPE_PROXY__CACHE__DIR=/var/cache/calotype

USER 10001:10001
VOLUME /var/cache/calotype
EXPOSE 8080 9180
# The edge drains on SIGTERM. It starts no processes, so there are none to reap, and it handles the signal itself once it serves:
# no init is needed as PID 1. Give it drain_seconds + 12 s before SIGKILL (docker stop --timeout 30).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["proxy", "--check-health"]
# The control plane is the same image with --entrypoint control-plane.
ENTRYPOINT ["proxy"]
