# The image of the nodes on Kubernetes, and with SkyPilot (--skypilot.image); on Slurm with pyxis (--slurm.container):
#
#     docker build --tag registry.example.org/acn-lm:latest .
#     docker push registry.example.org/acn-lm:latest
#
# pyproject.toml has the versions; torch from PyPI brings the libraries of CUDA, and the node has the driver.
FROM python:3.12-slim-bookworm

# g++: torch.compile; openssh-client: deepspeed's launcher
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ openssh-client \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/acn-lm
COPY . .
RUN pip install --no-cache-dir ".[s3]"

# a folder of its own: no module is found there before the installed ones
WORKDIR /workspace
ENV PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 PYTHONSAFEPATH=1

# No ENTRYPOINT: the manifests and SkyPilot start a shell. By itself:  docker run --gpus all IMAGE acn pretrain ...
CMD ["acn", "--help"]
