# Image of the MLflow server, the Ray nodes and the studies in docker-compose.yml. constraints.txt pins the versions that
# the tests ran with.
FROM python:3.11.14-slim-bookworm

# cpu, or gpu to add NVIDIA's libraries to TensorFlow; the host then needs the driver and the NVIDIA Container Toolkit.
ARG DEVICE=cpu
# Extras in pyproject.toml. strategy=optuna_gp also needs gp, which installs PyTorch (several gigabytes).
ARG EXTRAS=boosting,cmaes,hyperopt,imbalanced,ray,server

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /src
COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY conf ./conf
COPY hpo ./hpo
COPY search_spaces ./search_spaces
RUN case "$DEVICE" in \
      cpu) tensorflow="tensorflow" ;; \
      gpu) tensorflow="tensorflow[and-cuda]" ;; \
      *) echo "DEVICE is cpu or gpu, not $DEVICE" >&2; exit 1 ;; \
    esac \
    && pip install --constraint constraints.txt "$tensorflow" ".[$EXTRAS]" \
    && useradd --create-home --uid 1000 hpo \
    && mkdir /studies /artifacts \
    && chown hpo:hpo /studies /artifacts

# Volumes mounted here get the owner of these folders.
WORKDIR /studies
USER 1000
CMD ["python", "-m", "hpo", "--help"]
