# mtdeblur in a container, for processors:
#   docker build -t mtdeblur .
#   docker run --rm -v "$PWD:/photos" -u "$(id -u):$(id -g)" mtdeblur deblur photo.jpg
#   docker run --rm -p 127.0.0.1:8765:8765 mtdeblur serve --host 0.0.0.0
# For NVIDIA's GPUs, build with --build-arg TORCH_OPTIONS= and run with --gpus all.
FROM python:3.11-slim-bookworm

# Where PyTorch comes from; empty for the CUDA build.
ARG TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# PyTorch first: this layer stays when only the project changes.
WORKDIR /build
COPY constraints.txt ./
RUN pip install -c constraints.txt torch $TORCH_OPTIONS

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install -c constraints.txt '.[data,formats,openvino,serve]' && rm -r /build/src

# Any user may run it: caches and temporary files are in folders that all may write.
ENV HOME=/tmp XDG_CACHE_HOME=/tmp/cache
RUN mkdir /photos && chmod 1777 /photos
WORKDIR /photos
USER 1000:1000
EXPOSE 8765
ENTRYPOINT ["mtdeblur"]
CMD ["--help"]
