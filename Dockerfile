# C2F-DFT with everything but the tests, for restoring and training; docs/troubleshooting.md has the
# commands that build and run it.
# 3.10 to 3.12: BasicSR 1.4.2 does not build on 3.13.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# cpu, or the CUDA version of one of PyTorch's indexes: cu126, cu128, ...
ARG COMPUTE=cpu
ARG EXTRAS=page,hub,metrics,export,mat,plot,baselines
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# The kernels are compiled by the machine that runs the container; OpenCV wants the libraries.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# In a layer of its own, so that a change of the project does not download PyTorch again. Its
# version follows the index, and torchvision's follows PyTorch's.
# hadolint ignore=DL3013
RUN pip install setuptools wheel \
    && pip install --index-url "https://download.pytorch.org/whl/${COMPUTE}" torch torchvision \
    && pip install --no-build-isolation basicsr==1.4.2

COPY . /opt/c2fdft
RUN pip install --no-build-isolation "/opt/c2fdft[${EXTRAS}]" \
    && useradd --create-home --uid 1000 user \
    && mkdir /work \
    && chown user /work

USER 1000
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["c2fdft"]
CMD ["--help"]
