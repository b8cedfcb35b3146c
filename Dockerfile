# The server of one model for CPUs, which is mounted at /model:
#   docker build --tag sivt .
#   docker run --rm --publish 8000:8000 --env SIVT_TOKEN --volume "$PWD/model:/model:ro" sivt
# What follows the image's name replaces all of CMD: name --model and --host again beside other options. To keep parts
# and marks: --volume sivt-state:/state, and --state /state at the end.
# With `--build-arg PIP_INDEX_URL=...` of an index that has CPU builds of torch and torchvision the image is a fifth of
# the size.
FROM python:3.12-slim-bookworm AS build
ARG PIP_INDEX_URL
WORKDIR /source
RUN python -m venv /opt/sivt
COPY pyproject.toml README.md LICENSE ./
COPY sivt_lightning ./sivt_lightning
COPY configs ./configs
RUN /opt/sivt/bin/pip install --no-cache-dir ".[serve,openvino,onnx]"

FROM python:3.12-slim-bookworm
ENV PATH=/opt/sivt/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home sivt && install --directory --owner=10001 /state
COPY --from=build /opt/sivt /opt/sivt
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sivt", "serve"]
CMD ["--model", "/model/model.xml", "--host", "0.0.0.0", "--port", "8000"]
