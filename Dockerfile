# evenreel in a container, as a user without rights.
#
#   docker build -t evenreel .                                         # for a CPU
#   docker build -t evenreel --build-arg TORCH_INDEX= .                # for an NVIDIA GPU: PyTorch's usual build, with CUDA
#   docker run --rm -v "$PWD:/clips" evenreel                          # the demo, into ./demo
#   docker run --rm --gpus all -v "$PWD:/clips" evenreel edit in.mp4 --prompt "..." -o out.mp4
FROM python:3.12-slim

# Where PyTorch's build without CUDA comes from; empty: the usual one.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[metrics]' \
    && rm -rf /src \
    && useradd --create-home evenreel \
    && mkdir /clips && chown evenreel /clips

USER evenreel
WORKDIR /clips
ENTRYPOINT ["evenreel"]
CMD ["demo"]
