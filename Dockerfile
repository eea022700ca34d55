# autodistil on CPUs: docker build --tag autodistil .
# docker run --rm --volume "$PWD:/home/student" --user "$(id -u):$(id -g)" autodistil search --budget 500MFLOPs

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
ARG EXTRAS=quickstart,data,onnx,openvino,sentence-transformers
# The CPU build of torch; the default one for Linux brings several GB of CUDA libraries.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /tmp/wheels/autodistil-*.whl)[${EXTRAS}]" \
    && rm -r /tmp/wheels

# Whoever runs it owns what it writes: caches lie beside the runs, in the mounted folder.
ENV HOME=/home/student HF_HOME=/home/student/.cache/huggingface AUTODISTIL_CACHE=/home/student/.cache/autodistil RAY_USAGE_STATS_ENABLED=0
RUN useradd --uid 1000 --no-create-home --home-dir /home/student student && mkdir --mode 777 /home/student
USER 1000
WORKDIR /home/student
ENTRYPOINT ["autodistil"]
CMD ["--help"]
