# seg_jax on CPUs, with exactly what requirements.lock names.
#   docker build -t seg_jax .
#   docker run --rm -v "$PWD":/work seg_jax train unet_synthetic      # runs/, data/ in the current folder
FROM python:3.12-slim

COPY requirements.txt requirements.lock /tmp/
RUN pip install --no-cache-dir -c /tmp/requirements.lock -r /tmp/requirements.txt
COPY . /tmp/seg_jax
RUN pip install --no-cache-dir --no-deps /tmp/seg_jax && rm -r /tmp/seg_jax /tmp/requirements.*

# Compiled programs are kept in the mounted folder, so that the next container does not compile them again.
ENV JAX_COMPILATION_CACHE_DIR=/work/.cache/xla NUMBA_CACHE_DIR=/work/.cache/numba
WORKDIR /work
ENTRYPOINT ["seg_jax"]
CMD ["--help"]
